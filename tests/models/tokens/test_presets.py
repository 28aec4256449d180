"""Each preset on a tiny random model in its published layout, against the published recipe written out plainly."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from prmkit import PRMClassifier, Solution, flatten
from prmkit.marking.encoding import encode_solution, reward_token_ids
from prmkit.models.pretrained._presets import PRESETS, get_preset
from prmkit.models.pretrained._published import load_published

SOLUTION = Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "We add 2 + 12 = 14.", "So the answer is 14."])


def saved_tokenizer(folder):
    """The tokenizer of ``tokenizer.json``. AutoTokenizer would take the usual one of the architecture."""
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def scores_of(folder, preset):
    """What prmkit reads from the checkpoint: P(right) or the raw reward; all classes where there are three."""
    model, tokenizer = load_published(folder, preset)
    marked = encode_solution(tokenizer, SOLUTION, SOLUTION.n_steps, preset.scheme)
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
    expected = recipe(saved_tokenizer(folder), SOLUTION)
    found = scores_of(folder, get_preset(name))
    assert found.shape == expected.shape
    assert found.shape[0] == SOLUTION.n_steps
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5, rtol=0)
    assert expected.flatten().unique().numel() == expected.numel()  # a comparison of constants would prove nothing


@pytest.mark.parametrize("step", ["", " ", "\n\n"])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_an_empty_step_has_a_score_or_none_and_the_others_have_theirs(published, name, step):
    """Where a layout reads a step at its own tokens, there is nowhere to read an empty one."""
    folder, _ = published(name)
    classifier = PRMClassifier.from_pretrained(folder, name, too_long="nan", show_progress=False)
    found = classifier.predict_proba(flatten([Solution("1 + 1?", ["So 2.", step, "Done."]), Solution("2?", ["Two."])]))
    unread = np.isnan(found).any(axis=1)
    assert unread.tolist() == [False, name == "reasoneval" and not step, False, False]
    same = classifier.predict_proba(flatten([Solution("1 + 1?", ["So 2.", step]), Solution("2?", ["Two."])]))
    np.testing.assert_allclose(found[[0, 1, 3]], same, atol=1e-5)
    if unread.any():
        as_if_absent = classifier.predict_proba(flatten([Solution("1 + 1?", ["So 2.", "Done."])]))
        np.testing.assert_allclose(found[[0, 2]], as_if_absent, atol=1e-5)
        strict = PRMClassifier.from_pretrained(folder, name, show_progress=False)
        with pytest.raises(ValueError, match=r"step 1 \(''\) has no token"):
            strict.predict_proba(flatten([Solution("1 + 1?", ["So 2.", step])]))


@pytest.mark.parametrize("name", ["pqm", "skywork"])
def test_value_heads_load_from_either_prefix(published, name, tmp_path):
    folder, _ = published(name)
    weights = load_file(folder / "model.safetensors")
    before = scores_of(folder, get_preset(name))
    inner = "pretrained_model."
    renamed = {
        key if key.startswith("v_head.") else key[len(inner) :] if key.startswith(inner) else f"{inner}{key}": value
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
        save_file({key: weights[key] for key in weights if shards[key] == shard}, folder / shard, {"format": "pt"})
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
        (lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"), "lacks 1 weights .* layers.1.mlp.up_proj"),
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
    labels = {"id2label": {i: f"LABEL_{i}" for i in range(3)}, "label2id": {f"LABEL_{i}": i for i in range(3)}}
    (folder / "config.json").write_text(json.dumps(config | labels))
    with pytest.raises(ValueError, match=r"its config.json says \(3,.*: they are not of the same"):
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
