"""Each preset on a tiny random model in its published layout, against the published recipe written out plainly."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from prmkit import Solution
from prmkit.features._tokens import encode_solution, reward_token_ids
from prmkit.models._presets import PRESETS, get_preset
from prmkit.models._published import load_published

PROBLEM = "What is 2 + 3 * 4?"
STEPS = ["3 * 4 = 12.", "We add 2 + 12 = 14.", "So the answer is 14."]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}<|start|>{{ message['role'] }}<|end|>\n\n"
    "{{ message['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
FOREIGN = "raise SystemExit('code of a checkpoint was run')\n"


def tiny_model(config_class, n_rows, auto="AutoModelForCausalLM", **options):
    config = config_class(
        vocab_size=n_rows,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return getattr(transformers, auto).from_config(config).eval()


def random_layers(*shapes, bias=True):
    generator = torch.Generator().manual_seed(2)

    def draw(*shape):
        return 0.2 * torch.randn(shape, generator=generator)  # no saturated scores

    return [(draw(n_out, n_in), draw(n_out) if bias else None) for n_in, n_out in shapes]


def named(layers, *names):
    pairs = {f"{name}.weight": weight for name, (weight, _) in zip(names, layers, strict=True)}
    return pairs | {
        f"{name}.bias": bias for name, (_, bias) in zip(names, layers, strict=True) if bias is not None
    }


def write(folder, model, tokenizer, head=None, prefix="", **config):
    """Save weights under their published names, with a configuration that points to code that must not run."""
    folder.mkdir()
    tokenizer.save_pretrained(folder)
    weights = {f"{prefix}{key}": value.clone() for key, value in model.state_dict().items()}
    save_file(weights | (head or {}), folder / "model.safetensors", {"format": "pt"})
    fields = model.config.to_dict() | {"dtype": "float32"} | config
    if "auto_map" in config:
        (folder / "modeling_own.py").write_text(FOREIGN)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def trl(folder, make_tokenizer):
    tokenizer = make_tokenizer(bos="<s>")
    model = tiny_model(
        transformers.Qwen2Config, len(tokenizer) + 3, "AutoModelForTokenClassification", num_labels=2
    )
    torch.nn.init.normal_(model.score.weight)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)

    def scores(tokenizer):
        ids, positions = [tokenizer.bos_token_id, *plain_ids(tokenizer, PROBLEM)], []
        for step in STEPS:
            ids += plain_ids(tokenizer, step) + plain_ids(tokenizer, "\n")
            positions.append(len(ids) - 1)
        return model(torch.tensor([ids])).logits[0, positions].softmax(-1)[:, 1]

    return scores


def math_shepherd(folder, make_tokenizer):
    tokenizer = sentencepiece_like()
    model = tiny_model(transformers.LlamaConfig, len(tokenizer))
    write(folder, model, tokenizer, architectures=["LlamaForCausalLM"])

    def scores(tokenizer):
        answer = "\n".join(f"Step {i}: {step} ки" for i, step in enumerate(STEPS, 1))
        ids = torch.tensor([tokenizer.encode(f"{PROBLEM} {answer}")])
        candidates = tokenizer.encode("+ -")[1:]
        good = model(ids).logits[:, :, candidates].softmax(-1)[:, :, 0]
        return good[ids == tokenizer.encode("ки")[-1]]

    return scores


def rlhflow(folder, make_tokenizer):
    tokenizer = make_tokenizer(bos="<s>", extra=("<|start|>", "<|end|>", "<|eot|>"))
    tokenizer.chat_template = LLAMA
    model = tiny_model(transformers.LlamaConfig, len(tokenizer))
    write(folder, model, tokenizer, architectures=["LlamaForCausalLM"])

    def scores(tokenizer):
        conversation, found = [], []
        candidates = tokenizer.convert_tokens_to_ids(["+", "-"])
        for i, step in enumerate(STEPS):  # one pass per step, the verdict is the last token but one
            text = step if i else f"{PROBLEM} {step}"
            conversation += [{"role": "user", "content": text}, {"role": "assistant", "content": "+"}]
            ids = plain_ids(tokenizer, tokenizer.apply_chat_template(conversation, tokenize=False))
            found.append(model(torch.tensor([ids])).logits[0, -3, candidates].softmax(-1)[0])
        return torch.stack(found)

    return scores


def qwen(folder, make_tokenizer):
    tokenizer = make_tokenizer(extra=("<|im_start|>", "<|im_end|>", "<extra_0>"))
    tokenizer.chat_template = CHATML
    model = tiny_model(transformers.Qwen2Config, len(tokenizer) + 5)
    layers = random_layers((32, 32), (32, 2))
    write(
        folder,
        model,
        tokenizer,
        named(layers, "score.0", "score.2"),
        architectures=["Qwen2ForProcessRewardModel"],
        auto_map={"AutoConfig": "modeling_own.Own", "AutoModel": "modeling_own.Own"},
    )

    def scores(tokenizer):
        messages = [
            {
                "role": "system",
                "content": "Please reason step by step, and put your final answer within \\boxed{}.",
            },
            {"role": "user", "content": PROBLEM},
            {"role": "assistant", "content": "<extra_0>".join(STEPS) + "<extra_0>"},
        ]
        ids = torch.tensor([plain_ids(tokenizer, tokenizer.apply_chat_template(messages, tokenize=False))])
        (inner, inner_bias), (outer, outer_bias) = layers
        hidden = (hidden_states(model, ids) @ inner.T + inner_bias).clamp(min=0)
        probabilities = (hidden @ outer.T + outer_bias).softmax(-1)
        return probabilities[ids == tokenizer.convert_tokens_to_ids("<extra_0>")][:, 1]

    return scores


def pqm(folder, make_tokenizer):
    tokenizer = with_bos(make_tokenizer(bos="<s>"))
    model = tiny_model(transformers.LlamaConfig, len(tokenizer) + 1)
    ((weight, bias),) = layers = random_layers((32, 1))
    write(
        folder,
        model,
        tokenizer,
        named(layers, "v_head.summary"),
        prefix="pretrained_model.",
        vocab_size=400,  # of the base model
    )

    def scores(tokenizer):
        tokenizer.add_special_tokens({"additional_special_tokens": ["[PRM]"]})
        query = (
            "Below is an instruction that describes a task.\n"
            "Write a response that appropriately completes the request.\n\n"
            f"### Instruction:\n{PROBLEM}\n\n### Response: Let's think step by step"
        )
        answer = " [PRM]\n".join(f"Step {i}: {step}" for i, step in enumerate(STEPS, 1)) + " [PRM]"
        ids = torch.tensor([plain_ids(tokenizer, f"{query}\n{answer}")])
        rewards = hidden_states(model, ids) @ weight[0] + bias
        return rewards[ids == tokenizer.convert_tokens_to_ids("[PRM]")]

    return scores


def skywork(folder, make_tokenizer):
    tokenizer = make_tokenizer(bos="<s>")
    model = tiny_model(transformers.Qwen2Config, len(tokenizer) + 3, tie_word_embeddings=True)
    ((weight, bias),) = layers = random_layers((32, 1))
    write(
        folder,
        model,
        tokenizer,
        named(layers, "v_head.summary"),
        architectures=["Qwen2ForPrmModel"],
        auto_map={"AutoConfig": "modeling_own.Own", "AutoModel": "modeling_own.Own"},
    )

    def scores(tokenizer):
        ids = plain_ids(tokenizer, f"<s>{PROBLEM}\n")
        flags = [False] * len(ids)
        for line in STEPS:
            step = [*plain_ids(tokenizer, line), plain_ids(tokenizer, "\n")[-1]]
            ids += step
            flags += [False] * (len(step) - 1) + [True]
        rewards = hidden_states(model, torch.tensor([ids]))[0] @ weight[0] + bias
        return rewards[torch.tensor(flags)].sigmoid()

    return scores


def reasoneval(folder, make_tokenizer):
    tokenizer = with_bos(make_tokenizer(bos="<s>"))
    model = tiny_model(transformers.MistralConfig, len(tokenizer) + 3)
    ((weight, _),) = layers = random_layers((32, 3), bias=False)
    write(
        folder,
        model,
        tokenizer,
        named(layers, "score_head"),
        architectures=["ReasonEval_34B"],
        score_dim=3,
        bias=False,
    )

    def scores(tokenizer):
        text = f"Question:\n{PROBLEM}\nAnswer:\nLet's think step by step.\n<pad>" + "".join(
            f"{step}<pad>" for step in STEPS
        )
        kept, positions = [], []
        for token in tokenizer(text)["input_ids"]:
            if token == tokenizer.pad_token_id:
                positions.append(len(kept) - 1)
            else:
                kept.append(token)
        logits = hidden_states(model, torch.tensor([kept]))[0, positions[1:]] @ weight.T
        return logits.softmax(-1)

    return scores


LAYOUTS = {
    "trl": trl,
    "math-shepherd": math_shepherd,
    "rlhflow": rlhflow,
    "qwen2.5-math-prm": qwen,
    "pqm": pqm,
    "skywork": skywork,
    "reasoneval": reasoneval,
}


@pytest.fixture
def published(tmp_path, make_tokenizer):
    """Write a checkpoint in a published layout; return its folder, and the published recipe for its scores."""

    def make(name):
        return tmp_path / name, LAYOUTS[name](tmp_path / name, make_tokenizer)

    return make


def with_bos(tokenizer):
    """Let the tokenizer open every text with BOS, as those of Llama and Mistral do."""
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


def sentencepiece_like():
    """A tokenizer with word-initial spaces, to which "+" after a space and "+" alone are different tokens."""
    texts = [
        "What is 2 + 3 * 4 ?",
        "Step 1 : 3 * 4 = 12 . ки",
        "+ - + - ки ки",
        f"{PROBLEM} {' '.join(STEPS)}",
    ]
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=list("+-:\n0123456789"),
        show_progress=False,
    )
    inner.train_from_iterator(texts * 3, trainer)
    return with_bos(
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    )


def plain_ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def hidden_states(model, ids):
    return model(ids, output_hidden_states=True).hidden_states[-1]


def scores_of(folder, preset):
    """What prmkit reads from the checkpoint: P(right) or the raw reward; all classes where there are three."""
    model, tokenizer = load_published(folder, preset)
    marked = encode_solution(tokenizer, Solution(PROBLEM, STEPS), len(STEPS), preset.scheme)
    ids = torch.as_tensor(np.asarray(marked.input_ids))[None]
    with torch.no_grad():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits[0, marked.step_positions]
    if preset.kind == "causal_lm":
        logits = logits[:, list(reward_token_ids(tokenizer, preset.scheme))]
    assert logits.shape[1] in (1, len(preset.classes))
    if preset.activation == "softmax":
        probabilities = logits.softmax(-1)
        return probabilities if len(preset.classes) > 2 else probabilities[:, 1]
    return logits[:, 0].sigmoid() if preset.activation == "sigmoid" else logits[:, 0]


@pytest.mark.parametrize("name", sorted(PRESETS))
@torch.no_grad()
def test_scores_are_those_of_the_published_recipe(published, name):
    folder, recipe = published(name)
    expected = recipe(transformers.AutoTokenizer.from_pretrained(folder))
    found = scores_of(folder, get_preset(name))
    assert found.shape == expected.shape
    assert found.shape[0] == len(STEPS)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5, rtol=0)
    assert (
        expected.flatten().unique().numel() == expected.numel()
    )  # a comparison of constants would prove nothing


@pytest.mark.parametrize("name", ["pqm", "skywork"])
def test_value_heads_load_from_either_prefix(published, name, tmp_path):
    folder, _ = published(name)
    weights = load_file(folder / "model.safetensors")
    before = scores_of(folder, get_preset(name))
    inner = "pretrained_model."
    renamed = {
        key
        if key.startswith("v_head.")
        else key[len(inner) :]
        if key.startswith(inner)
        else f"{inner}{key}": value
        for key, value in weights.items()
    }
    assert set(renamed) != set(weights)
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(scores_of(folder, get_preset(name)), before)


def test_sharded_weights_load_alike(published):
    folder, _ = published("qwen2.5-math-prm")
    preset = get_preset("qwen2.5-math-prm")
    before = scores_of(folder, preset)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(sorted(weights))}
    for shard in set(shards.values()):
        save_file(
            {key: weights[key] for key in weights if shards[key] == shard}, folder / shard, {"format": "pt"}
        )
    index = {"metadata": {}, "weight_map": shards}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(scores_of(folder, preset), before)


def test_dtype_is_that_of_all_weights(published):
    folder, _ = published("qwen2.5-math-prm")
    model, _ = load_published(folder, get_preset("qwen2.5-math-prm"), dtype="bfloat16")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert not model.training


def test_added_token_is_the_last_row(published):
    folder, _ = published("pqm")
    model, tokenizer = load_published(folder, get_preset("pqm"))
    rows = model.get_input_embeddings().weight.shape[0]
    assert tokenizer.convert_tokens_to_ids("[PRM]") == rows - 1


@pytest.mark.parametrize(
    ("saved", "asked", "hint"),
    [
        ("trl", "reasoneval", "looks like trl"),
        ("trl", "math-shepherd", "looks like trl"),
        ("skywork", "qwen2.5-math-prm", "looks like pqm or skywork"),
        ("reasoneval", "skywork", "looks like reasoneval"),
        ("qwen2.5-math-prm", "trl", "looks like qwen2.5-math-prm"),
        ("qwen2.5-math-prm", "rlhflow", "looks like qwen2.5-math-prm"),
        ("math-shepherd", "skywork", "looks like math-shepherd or rlhflow"),
        ("math-shepherd", "trl", "looks like math-shepherd or rlhflow"),
    ],
)
def test_another_layout_is_named(published, saved, asked, hint):
    folder, _ = published(saved)
    with pytest.raises(ValueError, match=hint):
        load_published(folder, get_preset(asked))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("score.2.weight"), "no score.2.weight; the checkpoint is incomplete"),
        (lambda weights: weights.pop("score.0.bias"), "no score.0.bias"),
        (
            lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"),
            "lacks 1 weights .* layers.1.mlp.up_proj",
        ),
        (lambda weights: weights.update({"score.4.weight": torch.ones(2, 2)}), "score.4.weight besides"),
        (lambda weights: weights.update({"score.2.weight": torch.ones(3, 32)}), "3 outputs, expected 2"),
        (lambda weights: weights.update({"score.0.weight": torch.ones(32, 16)}), "16 features, expected 32"),
    ],
)
def test_incomplete_or_surplus_weights_are_refused(published, change, message):
    folder, _ = published("qwen2.5-math-prm")
    change_weights(folder, change)
    with pytest.raises(ValueError, match=message):
        load_published(folder, get_preset("qwen2.5-math-prm"))


def test_incomplete_language_model_is_refused(published):
    folder, _ = published("math-shepherd")
    change_weights(folder, lambda weights: weights.pop("lm_head.weight"))
    with pytest.raises(ValueError, match="lacks 1 weights"):
        load_published(folder, get_preset("math-shepherd"))


def test_pickled_weights_are_refused(published):
    folder, _ = published("math-shepherd")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="pickled weights run code"):
        load_published(folder, get_preset("math-shepherd"))


def test_unknown_architecture_is_refused_without_running_its_code(published):
    folder, _ = published("qwen2.5-math-prm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
    with pytest.raises(ValueError, match="model_type 'own'"):
        load_published(folder, get_preset("qwen2.5-math-prm"))


def test_classifier_with_other_labels_is_refused(published):
    folder, _ = published("trl")
    config = json.loads((folder / "config.json").read_text())
    labels = {
        "id2label": {i: f"LABEL_{i}" for i in range(3)},
        "label2id": {f"LABEL_{i}": i for i in range(3)},
    }
    (folder / "config.json").write_text(json.dumps(config | labels))
    with pytest.raises(ValueError, match="3 labels"):
        load_published(folder, get_preset("trl"))


def test_tokenizer_without_the_marker_is_refused(published, make_tokenizer):
    folder, _ = published("qwen2.5-math-prm")
    make_tokenizer(extra=("<|im_start|>", "<|im_end|>")).save_pretrained(folder)
    with pytest.raises(ValueError, match="no <extra_0>"):
        load_published(folder, get_preset("qwen2.5-math-prm"))


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="choose one of math-shepherd, pqm") as caught:
        get_preset("prm")
    assert all(name in str(caught.value) for name in PRESETS)
