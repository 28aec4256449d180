"""Block-causal attention: a token sees the problem and the steps up to its own, whatever the architecture."""

import pytest
import torch
import transformers

from prmkit.features.passes.block_causal import block_causal, check_block_causal, is_causal

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
DISTILBERT = {"vocab_size": 60, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48}
MODERNBERT = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "global_attn_every_n_layers": 3,
    "local_attention": 6,
}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16}
BUCKETS = {**RELATIVE, "position_buckets": 4, "norm_rel_ebd": "layer_norm", "share_att_key": True}
ENCODERS = {
    "bert": ("Bert", SIZES),
    "bert-eager": ("Bert", {**SIZES, "attn_implementation": "eager"}),
    "roberta": ("Roberta", {**SIZES, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {**SIZES, "pad_token_id": 1}),
    "distilbert": ("DistilBert", DISTILBERT),
    "electra": ("Electra", {**SIZES, "embedding_size": 16}),
    "albert": ("Albert", {**SIZES, "embedding_size": 16}),
    "mpnet": ("MPNet", {**SIZES, "pad_token_id": 1}),
    "modernbert": ("ModernBert", {**SIZES, **MODERNBERT}),
    "modernbert-eager": ("ModernBert", {**SIZES, **MODERNBERT, "attn_implementation": "eager"}),
    "deberta": ("Deberta", SIZES),
    "deberta-relative": ("Deberta", {**SIZES, **RELATIVE}),
    "deberta-v2": ("DebertaV2", {**SIZES, "num_hidden_layers": 2}),
    "deberta-v2-relative": ("DebertaV2", {**SIZES, **RELATIVE}),
    "deberta-v2-buckets": ("DebertaV2", {**SIZES, **BUCKETS}),
}
BLOCKS = torch.tensor([[0] * 5 + [1] * 4 + [2] * 6 + [3] * 3])


def build(kind, sizes, seed=0, head="AutoModel"):
    """A small encoder with weights large enough for differences to show."""
    sizes = dict(sizes)
    attention = sizes.pop("attn_implementation", None)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, head).from_config(config, attn_implementation=attention)
        for weight in model.parameters():
            if weight.ndim > 1:  # normalisation stays as it is
                torch.nn.init.normal_(weight, 0, 0.3)
    return model.eval()


def ids_for(blocks, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 60, blocks.shape, generator=generator)


def padded(ids, n_more, pad):
    return torch.nn.functional.pad(ids, (0, n_more), value=pad)


@torch.no_grad()
def states(model, ids, blocks=None):
    """Last hidden states; without blocks, the model's own attention."""
    if blocks is None:
        return model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    with block_causal(model, blocks) as mask:
        return model(input_ids=ids, **mask)[0]


def gap(one, other):
    return (one - other).abs().max().item()


@pytest.fixture(params=ENCODERS, scope="module")
def encoder(request):
    return build(*ENCODERS[request.param])


def test_a_cut_solution_has_the_outputs_of_the_whole_one(encoder):
    ids = ids_for(BLOCKS)
    whole, unmasked = states(encoder, ids, BLOCKS), states(encoder, ids)
    for end in (5, 9, 15):
        cut = states(encoder, ids[:, :end], BLOCKS[:, :end])
        assert gap(whole[:, :end], cut) <= 1e-5
        assert gap(unmasked[:, :end], states(encoder, ids[:, :end])) > 0.05  # the test can fail


def test_within_a_block_and_backwards_all_is_seen(encoder):
    ids = ids_for(BLOCKS)
    whole = states(encoder, ids, BLOCKS)
    for changed in (0, 8):  # the first token of the problem, the last of the first step
        other = ids.clone()
        other[0, changed] = 5 + (ids[0, changed] - 4) % 55
        moved = (states(encoder, other, BLOCKS) - whole)[0].abs().amax(dim=1)
        start = int((BLOCKS[0] == BLOCKS[0, changed]).nonzero()[0])
        assert (moved[start:] > 1e-4).all()
        assert (moved[:start] == 0).all()


def test_padding_and_company_change_nothing(encoder):
    ids, pad = ids_for(BLOCKS), encoder.config.pad_token_id
    alone = states(encoder, ids, BLOCKS)
    short = torch.tensor([[0] * 3 + [1] * 4])
    short_ids = ids_for(short, seed=1)
    batch = torch.cat([padded(short_ids, 15, pad), padded(ids, 4, pad)])
    both = states(encoder, batch, torch.cat([padded(short, 15, -1), padded(BLOCKS, 4, -1)]))
    assert torch.isfinite(both).all()
    assert gap(both[1, :18], alone[0]) <= 1e-5
    assert gap(both[0, :7], states(encoder, short_ids, short)[0]) <= 1e-5


def test_one_block_is_the_plain_model(encoder):
    ids = ids_for(BLOCKS)
    plain = states(encoder, ids)
    assert gap(states(encoder, ids, torch.zeros_like(BLOCKS)), plain) <= 1e-5
    batch, blocks = padded(ids, 4, encoder.config.pad_token_id), padded(torch.zeros_like(BLOCKS), 4, -1)
    assert gap(states(encoder, batch, blocks)[:, :18], plain) <= 1e-5


def test_the_check_passes_and_leaves_everything_as_found(encoder):
    encoder.train()
    frozen = next(iter(encoder.children()))
    frozen.eval()
    before = torch.random.get_rng_state()
    check_block_causal(encoder)
    assert torch.equal(before, torch.random.get_rng_state())
    assert encoder.training
    assert not frozen.training
    assert all(weight.grad is None for weight in encoder.parameters())
    assert not any(module._forward_pre_hooks for module in encoder.modules())
    encoder.eval()


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "modernbert", "deberta", "deberta-v2-buckets"])
def test_gradients_are_finite_in_training_with_checkpoints(name):
    kind, sizes = ENCODERS[name]
    batch = padded(ids_for(BLOCKS), 3, 0)
    blocks = padded(BLOCKS, 3, -1)
    gradients = []
    for checkpointing in (False, True):
        model = build(kind, sizes, head="AutoModelForTokenClassification").train()
        for layer in model.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable()
        with block_causal(model, blocks) as mask:
            logits = model(input_ids=batch, **mask).logits
        logits[:, :18].square().mean().backward()  # outside the context, as a trainer does
        gradients.append(model.get_input_embeddings().weight.grad)
    assert torch.isfinite(gradients[0]).all()
    assert gradients[0].abs().max() > 1e-4
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["bert", "bert-eager", "mpnet", "modernbert", "modernbert-eager", "deberta-v2-buckets"]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["weights", "autocast", "autocast inside"])
def test_half_precision(name, dtype, how):
    model = build(*ENCODERS[name])
    blocks = padded(BLOCKS, 3, -1)
    if how == "weights":
        model = model.to(dtype)
    elif how == "autocast inside":  # as accelerate does: the mask is made before it is known
        model.forward = torch.autocast("cpu", dtype)(model.forward)
    with torch.autocast("cpu", dtype, enabled=how == "autocast"):
        ids, other = padded(ids_for(BLOCKS), 3, 0), padded(ids_for(BLOCKS), 3, 0)
        other[0, 9:] = padded(ids_for(BLOCKS, seed=5), 3, 0)[0, 9:]
        check_block_causal(model)
        whole, changed = states(model, ids, blocks), states(model, other, blocks)
        unmasked = gap(states(model, ids)[:, :9], states(model, other)[:, :9])
    assert torch.isfinite(whole).all()
    assert torch.equal(whole[:, :9], changed[:, :9])
    assert unmasked > 0.05


def test_modernbert_keeps_its_local_windows():
    model = build("ModernBert", {**SIZES, **MODERNBERT, "global_attn_every_n_layers": 100, "num_hidden_layers": 2})
    model.config.layer_types[0] = model.layers[0].attention_type = "sliding_attention"  # none sees all
    ids = ids_for(BLOCKS)
    whole = states(model, ids, BLOCKS)
    other = ids.clone()
    other[0, 0] = 5 + (ids[0, 0] - 4) % 55
    moved = (states(model, other, BLOCKS) - whole)[0].abs().amax(dim=1)
    assert (moved[:7] > 1e-4)[[0, 1, 2, 3, 6]].all()  # two layers that see three tokens to either side
    assert (moved[7:] == 0).all()


def test_the_check_tries_the_window(monkeypatch):
    model = build(*ENCODERS["modernbert"])
    monkeypatch.setattr("prmkit.features.passes.block_causal.local_window", lambda config: config.sliding_window + 1)
    with pytest.raises(ValueError, match="modernbert reads a block-causal mask in another way"):
        check_block_causal(model)


def test_heads_and_wrappers():
    peft = pytest.importorskip("peft")
    ids = ids_for(BLOCKS)
    for name in ("bert", "modernbert", "deberta-v2-buckets"):
        kind, sizes = ENCODERS[name]
        plain = build(kind, sizes, head="AutoModelForTokenClassification")
        options = peft.LoraConfig(
            task_type="TOKEN_CLS",
            r=2,
            target_modules="all-linear",
            exclude_modules=["classifier"],
            init_lora_weights=False,
        )
        torch.manual_seed(0)  # the adapter is drawn, and with it the rounding
        model = peft.get_peft_model(plain, options).eval()
        assert not is_causal(model)
        check_block_causal(model)
        whole = states(model, ids, BLOCKS)
        assert whole.shape == (1, 18, 2)
        assert gap(whole[:, :9], states(model, ids[:, :9], BLOCKS[:, :9])) <= 1e-5


def test_prompt_tuning_is_refused():
    peft = pytest.importorskip("peft")
    model = build("Bert", SIZES, head="AutoModelForTokenClassification")
    model = peft.get_peft_model(model, peft.PromptTuningConfig(task_type="TOKEN_CLS", num_virtual_tokens=3))
    with pytest.raises(ValueError, match="bert does not take a block-causal mask"):
        check_block_causal(model)


def test_several_devices():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        for name in ("bert", "modernbert", "deberta-v2-relative"):
            inner = build(*ENCODERS[name])
            model = torch.nn.parallel.DistributedDataParallel(inner, find_unused_parameters=True)
            check_block_causal(model)
            assert not is_causal(model)
            assert gap(states(model, ids_for(BLOCKS), BLOCKS), states(inner, ids_for(BLOCKS), BLOCKS)) == 0
    finally:
        torch.distributed.destroy_process_group()


def test_decoders_need_no_mask():
    language_model = build("Qwen2", {**SIZES, "num_key_value_heads": 2}, head="AutoModelForTokenClassification")
    decoder = build("Bert", {**SIZES, "is_decoder": True})
    for model in (language_model, decoder):
        assert is_causal(model)
        check_block_causal(model)
        with block_causal(model, padded(BLOCKS, 2, -1)) as mask:
            assert mask["attention_mask"].tolist() == [[1] * 18 + [0] * 2]


@pytest.mark.parametrize(
    ("kind", "options", "causal"),
    [
        ("GPT2", {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 9}, True),
        ("Gemma", {**SIZES, "head_dim": 8, "num_key_value_heads": 2}, True),
        ("Gemma", {**SIZES, "head_dim": 8, "num_key_value_heads": 2, "use_bidirectional_attention": True}, False),
        ("Gemma3Text", {**SIZES, "head_dim": 8, "use_bidirectional_attention": True}, False),
        ("Llama", {**SIZES, "is_causal": False}, False),
        ("BertGeneration", SIZES, False),
        ("BertGeneration", {**SIZES, "is_decoder": True}, True),
        ("XLM", {"vocab_size": 9, "emb_dim": 8, "n_layers": 1, "n_heads": 2}, False),
        ("XLM", {"vocab_size": 9, "emb_dim": 8, "n_layers": 1, "n_heads": 2, "causal": True}, True),
        ("EuroBert", {**SIZES, "pad_token_id": 0, "num_key_value_heads": 4}, False),
        ("ModernBertDecoder", {**SIZES, **MODERNBERT}, True),
    ],
)
def test_is_causal_says_what_the_model_does(kind, options, causal):
    model = build(kind, options)
    assert is_causal(model) is causal
    ids = ids_for(BLOCKS) % 9
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % 9
    assert (gap(states(model, ids)[:, :-1], states(model, other)[:, :-1]) == 0) is causal


def test_encoder_decoders_and_xlnet_are_refused():
    bart = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 60}
    bart.update(encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8)
    t5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 60}
    xlnet = {"d_model": 8, "n_layer": 1, "n_head": 2, "d_inner": 8, "vocab_size": 60}
    for kind, sizes in (("Bart", bart), ("T5", t5), ("XLNet", xlnet)):
        model = build(kind, sizes)
        for refused in (is_causal, check_block_causal):
            with pytest.raises(ValueError, match=rf"{kind.lower()} cannot answer.*decoder-only.*scheme='prefix'"):
                refused(model)
        with pytest.raises(ValueError, match="cannot answer"), block_causal(model, BLOCKS):
            pass


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("FNet", {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}),
        ("ConvBert", {**SIZES, "embedding_size": 16}),
        ("MobileBert", {**SIZES, "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}),
        ("Longformer", {**SIZES, "attention_window": 4, "pad_token_id": 1}),
        ("Canine", {k: v for k, v in SIZES.items() if k != "vocab_size"}),
        ("Funnel", {"vocab_size": 60, "block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 16}),
    ],
)
def test_architectures_that_look_ahead_all_the_same_are_refused(kind, sizes):
    model = build(kind, sizes, head="AutoModelForTokenClassification")
    with pytest.raises(ValueError, match=rf"(?i)^{kind} .*decoder-only model, or scheme='prefix'"):
        check_block_causal(model)


def test_bigbird_is_taken_without_its_sparse_attention():
    with pytest.raises(ValueError, match="big_bird with attention_type='original_full'"):
        check_block_causal(build("BigBird", SIZES))
    check_block_causal(build("BigBird", {**SIZES, "attention_type": "original_full"}))


def test_the_encoder_of_t5_and_a_decoder_made_bidirectional_are_taken():
    t5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 2, "num_heads": 2, "vocab_size": 60}
    gemma = {**SIZES, "head_dim": 8, "num_key_value_heads": 2, "use_bidirectional_attention": True}
    for kind, sizes in (("T5", t5), ("Gemma", gemma)):
        model = build(kind, sizes, head="AutoModelForTokenClassification")
        assert not is_causal(model)
        check_block_causal(model)
    with pytest.raises(ValueError, match="gemma3_text reads a block-causal mask in another way"):  # another window
        check_block_causal(build("Gemma3Text", {**gemma, "sliding_window": 6}))


def test_deberta_with_a_convolution_is_refused():
    model = build("DebertaV2", {**SIZES, "conv_kernel_size": 3, "conv_act": "gelu"})
    with pytest.raises(ValueError, match=r"deberta-v2 with a convolution.*scheme='prefix'"):
        check_block_causal(model)
    with pytest.raises(ValueError, match="convolution"), block_causal(model, BLOCKS):
        pass


def test_flash_attention_is_refused():
    model = build(*ENCODERS["bert"])
    for name in ("flash_attention_2", "flex_attention"):
        model.config._attn_implementation_internal = name
        for call in (lambda: check_block_causal(model), lambda: states(model, ids_for(BLOCKS), BLOCKS)):
            with pytest.raises(ValueError, match=rf"{name}.*attn_implementation='sdpa'"):
                call()


@pytest.mark.parametrize(
    ("blocks", "found"),
    [
        (torch.zeros(5, dtype=torch.long), "shape"),
        (torch.zeros(1, 5), "float32"),
        (torch.tensor([[-1, 0, 0, 1]]), "pad on the right"),
        (torch.tensor([[0, 0, -1, 1]]), "pad on the right"),
    ],
)
def test_wrong_blocks(blocks, found):
    with pytest.raises(ValueError, match=found), block_causal(build(*ENCODERS["bert"]), blocks):
        pass


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="Linear without a config"):
        is_causal(torch.nn.Linear(2, 2))


def test_the_hook_goes_when_the_pass_fails():
    model = build(*ENCODERS["deberta"])
    with pytest.raises(RuntimeError, match="stop"), block_causal(model, BLOCKS):
        raise RuntimeError("stop")
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_real_weights():
    from prmkit.features.encoding.model_path import resolve_model

    try:
        folder = resolve_model("all-MiniLM-L6-v2")
    except OSError as error:
        pytest.skip(f"no MiniLM weights: {error}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype="float32").eval()
    check_block_causal(model)
    parts = [
        "What is 2 + 3 * 4?",
        "First multiply: 3 * 4 = 12. [SEP]",
        "Then add: 2 + 12 = 15. [SEP]",
        "So the answer is 15. [SEP]",
    ]
    tokens = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts]
    ids = torch.tensor([[token for part in tokens for token in part]])
    blocks = torch.tensor([[b for b, part in enumerate(tokens) for _ in part]])
    end = len(tokens[0]) + len(tokens[1])
    whole, cut = states(model, ids, blocks), states(model, ids[:, :end], blocks[:, :end])
    assert gap(whole[:, :end], cut) <= 1e-5
    assert gap(states(model, ids)[:, :end], states(model, ids[:, :end])) > 0.2
