"""The exported guarantee that a saved model is the trained one, over architectures, schemes and adapters."""

import warnings

import pytest
import torch
import transformers

from prmkit import Solution, flatten
from prmkit.models import PRMTrainer, TokenPRM, check_saved_equals_trained

peft = pytest.importorskip("peft")

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
# A name, the class of its configuration, its settings beside SIZES, and whether it reads from left to right.
ARCHITECTURES = {
    "bert": ("BertConfig", {}, False),
    "modernbert": ("ModernBertConfig", {}, False),
    "deberta-v2": ("DebertaV2Config", {}, False),
    "albert": ("AlbertConfig", {"embedding_size": 16}, False),
    "mpnet": ("MPNetConfig", {"max_position_embeddings": 514}, False),
    "roberta": ("RobertaConfig", {"max_position_embeddings": 514}, False),
    "distilbert": ("DistilBertConfig", {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}, False),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4}, True),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2}, True),
    "gemma3": ("Gemma3TextConfig", {"num_key_value_heads": 2, "head_dim": 8}, True),
    "olmo2": ("Olmo2Config", {"num_key_value_heads": 2}, True),
    "granite": ("GraniteConfig", {"num_key_value_heads": 2}, True),
    "opt": ("OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 16}, True),
}
SCHEMES = ("separator", "special_token", "prefix", "reward_tokens")
WITHOUT_SEQUENCES = ("olmo2", "granite")  # transformers has no sequence classifier of these


def combinations():
    """All schemes that an architecture can have: one without an adapter, the rest with it. One of each is quick.

    The scheme without an adapter changes from one architecture to the next.
    """
    for place, (name, (_, _, is_causal)) in enumerate(ARCHITECTURES.items()):
        schemes = [s for s in SCHEMES if is_causal or s != "reward_tokens"]
        schemes = [s for s in schemes if s != "prefix" or name not in WITHOUT_SEQUENCES]
        for i, scheme in enumerate(schemes):
            plain_quick = scheme == "separator" and place % 3 == 0
            plain = i == (place + 1) % len(schemes)
            for adapter in [None] * (plain or plain_quick) + ["lora"] * (not plain):
                quick = i == place % len(schemes) if adapter else plain_quick
                marks = [] if quick else [pytest.mark.slow]
                yield pytest.param(name, scheme, adapter, marks=marks, id=f"{name}-{scheme}-{adapter}")


@pytest.fixture
def bare(tmp_path, make_tokenizer):
    """A random model without the head of a task, as embedding models are published, with its tokenizer."""

    def make(name, scheme):
        kind, settings, _ = ARCHITECTURES[name]
        tokenizer = make_tokenizer()
        own = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
        own |= {"max_position_embeddings": 512, "initializer_range": 0.3, "init_std": 0.3}
        if name == "modernbert":
            own |= {"cls_token_id": 1, "sep_token_id": 1}
        config = getattr(transformers, kind)(**{**own, **SIZES, **settings})
        auto = transformers.AutoModelForCausalLM if scheme == "reward_tokens" else transformers.AutoModel
        with torch.random.fork_rng():
            torch.manual_seed(0)
            auto.from_config(config).save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return make


def solutions_of(rows):
    return [Solution(row["prompt"], row["completions"]) for row in rows]


@pytest.mark.filterwarnings("ignore:.*has no activation checkpointing:UserWarning")
@pytest.mark.parametrize(("name", "scheme", "adapter"), list(combinations()))
def test_a_saved_model_is_the_trained_one(bare, make_rows, settings, name, scheme, adapter):
    rows = make_rows(5)
    args = settings(scheme=scheme, max_steps=3, learning_rate=1e-2, tokens_per_batch=200)
    adapter = peft.LoraConfig(r=4, target_modules="all-linear") if adapter else None
    trainer = PRMTrainer(bare(name, scheme), args, train_dataset=rows, peft_config=adapter)
    trainer.train()
    check_saved_equals_trained(trainer, solutions_of(rows))


def lora():
    return peft.LoraConfig(r=4, target_modules="all-linear")


def test_the_check_finds_a_layer_that_is_read_back_otherwise(bare, make_rows, settings, monkeypatch):
    rows = make_rows(4)
    trainer = PRMTrainer(bare("modernbert", "separator"), settings(), train_dataset=rows, peft_config=lora())
    save_model = trainer.save_model

    def change_and_save(folder):
        with torch.no_grad():
            trainer.model.base_model.model.head.dense.modules_to_save["default"].weight.normal_()
        save_model(folder)

    check_saved_equals_trained(trainer, solutions_of(rows))
    monkeypatch.setattr(trainer, "save_model", change_and_save)
    with pytest.raises(AssertionError, match=r"read back otherwise than it was trained: step .* differs by"):
        check_saved_equals_trained(trainer, solutions_of(rows))
    with pytest.raises(ValueError, match="1 of 2 steps fit into the model"):
        check_saved_equals_trained(trainer, [Solution("Add.", ["1 + 1 = 2", "and 1 " * 300])])


def test_a_model_object_with_new_layers(bare, make_rows, settings):
    """Its base, read again, has other random layers: the adapter holds those of the object."""
    base, rows = bare("modernbert", "separator"), make_rows(4)
    model = transformers.AutoModelForTokenClassification.from_pretrained(base, num_labels=2)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(base)
    options = {"train_dataset": rows, "processing_class": tokenizer, "peft_config": lora()}
    trainer = PRMTrainer(model, settings(learning_rate=1e-2), **options)
    trainer.train()
    check_saved_equals_trained(trainer, solutions_of(rows))
    changed = transformers.AutoModelForTokenClassification.from_pretrained(base, num_labels=2)
    with torch.no_grad():
        changed.model.layers[0].mlp.Wi.weight.mul_(2)
    with pytest.raises(ValueError, match=r"not its base .*: 1 weights differ, such as model.layers.0.mlp.Wi.weight"):
        PRMTrainer(changed, settings(), **options)


def test_an_adapter_is_read_in_the_precision_of_its_training(bare, make_rows, settings):
    base, rows = bare("qwen2", "separator"), make_rows(4)
    transformers.AutoModel.from_pretrained(base).bfloat16().save_pretrained(base)
    trainer = PRMTrainer(base, settings(), train_dataset=rows, peft_config=lora())
    trainer.train()
    check_saved_equals_trained(trainer, solutions_of(rows))


def test_an_adapter_that_lacks_a_new_layer_is_refused(bare, make_rows, settings, tmp_path):
    from safetensors.torch import load_file, save_file

    trainer = PRMTrainer(
        bare("deberta-v2", "prefix"), settings(scheme="prefix"), train_dataset=make_rows(4), peft_config=lora()
    )
    trainer.save_model(tmp_path / "adapter")
    generator = torch.get_rng_state()
    TokenPRM.from_pretrained(tmp_path / "adapter")
    assert torch.equal(torch.get_rng_state(), generator), "reading draws nothing from the caller's generator"
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, file)
    with pytest.raises(ValueError, match=r"none of them holds pooler.dense.bias, so its scores would be random"):
        TokenPRM.from_pretrained(tmp_path / "adapter")
    file.unlink()
    with pytest.raises(ValueError, match="pickled weights are not read"):
        TokenPRM.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow) for kind in ("rslora", "dora", "ia3", "loha")]
    + ["biases", "own modules"],
)
def test_other_adapters(bare, make_rows, settings, kind):
    everywhere = {"target_modules": "all-linear"}
    adapter = {
        "rslora": lambda: peft.LoraConfig(r=4, use_rslora=True, **everywhere),
        "dora": lambda: peft.LoraConfig(r=4, use_dora=True, **everywhere),
        "ia3": lambda: peft.IA3Config(target_modules=["query", "Wqkv"], feedforward_modules=[]),
        "loha": lambda: peft.LoHaConfig(r=2, target_modules=["Wqkv"]),
        "biases": lambda: peft.LoraConfig(r=4, bias="all", **everywhere),
        "own modules": lambda: peft.LoraConfig(r=4, target_modules=["Wqkv"], modules_to_save=["final_norm"]),
    }[kind]()
    rows = make_rows(4)
    args = settings(learning_rate=1e-2, scheme="special_token")
    trainer = PRMTrainer(bare("modernbert", "separator"), args, train_dataset=rows, peft_config=adapter)
    trainer.train()
    check_saved_equals_trained(trainer, solutions_of(rows))


def test_an_adapter_that_no_model_can_take_in_is_refused(bare, make_rows, settings):
    prompts = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="TOKEN_CLS")
    with pytest.raises(ValueError, match=r"PromptTuningConfig adds tokens .* choose an adapter of weights, such as"):
        PRMTrainer(bare("modernbert", "separator"), settings(), train_dataset=make_rows(3), peft_config=prompts)


def test_an_adapter_on_the_hub(bare, make_rows, settings, tmp_path, monkeypatch):
    import huggingface_hub

    rows, base = make_rows(4), bare("modernbert", "separator")
    trainer = PRMTrainer(base, settings(), train_dataset=rows, peft_config=lora())
    trainer.save_model(tmp_path / "adapter")
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repo, **_: {"me/prm": str(tmp_path / "adapter")}[repo]
    )
    steps = flatten(solutions_of(rows))
    expected = TokenPRM.from_pretrained(tmp_path / "adapter").predict_proba(steps)
    assert (TokenPRM.from_pretrained("me/prm").predict_proba(steps) == expected).all()


@pytest.mark.parametrize("name", ["albert", "mpnet"])
def test_an_architecture_without_activation_checkpointing_trains(bare, make_rows, settings, name):
    rows = make_rows(4)
    with pytest.warns(UserWarning, match=f"a {name} has no activation checkpointing: training without"):
        trainer = PRMTrainer(bare(name, "separator"), settings(), train_dataset=rows)
    trainer.train()
    assert trainer.state.global_step == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        PRMTrainer(bare(name, "separator"), settings(gradient_checkpointing=False), train_dataset=rows)


@pytest.mark.parametrize("name", ["gemma3", "olmo2", "granite", "opt"])
def test_a_head_of_our_own_has_the_form_of_transformers(bare, make_rows, settings, tmp_path, name):
    """It is saved as safetensors under the names that transformers would give, and survives a pickle."""
    import pickle

    rows = make_rows(4)
    trainer = PRMTrainer(bare(name, "separator"), settings(), train_dataset=rows)
    trainer.save_model(tmp_path / "saved")
    kind = type(trainer.model).__name__
    assert kind.endswith("ForTokenClassification")
    assert trainer.model.config.architectures == [kind]
    head = TokenPRM.from_pretrained(tmp_path / "saved")
    assert {"score.weight", "score.bias"} <= set(head.module_.state_dict())
    steps = flatten(solutions_of(rows))
    again = pickle.loads(pickle.dumps(head))
    assert (again.predict_proba(steps) == head.predict_proba(steps)).all()
    trl = TokenPRM.from_pretrained(tmp_path / "saved", "trl")
    assert (trl.predict_proba(steps) == head.predict_proba(steps)).all()
