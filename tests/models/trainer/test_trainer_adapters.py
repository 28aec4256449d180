"""PRMTrainer with adapters: the head and new embeddings are learnt and saved, the base model stays as it was."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from prmkit import PRMClassifier, Solution, flatten
from prmkit.models import PRMTrainer

peft = pytest.importorskip("peft")


@pytest.fixture
def base(tmp_path, make_tokenizer, make_language_model):
    tokenizer = make_tokenizer()
    make_language_model(tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def lora(**options):
    return peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], **options)


@pytest.mark.parametrize(
    ("options", "typed"),
    [
        ({}, True),
        ({}, False),
        ({"scheme": "special_token"}, True),
        ({"scheme": "special_token"}, False),
        ({"scheme": "reward_tokens", "loss": "reward_token"}, True),
        ({"loss": "rank"}, False),
        ({"scheme": "prefix"}, True),
    ],
)
def test_lora(make_rows, settings, base, tmp_path, options, typed):
    rows = make_rows(5)
    kinds = {"reward_tokens": "CAUSAL_LM", "prefix": "SEQ_CLS"}
    config = lora(task_type=kinds.get(options.get("scheme"), "TOKEN_CLS")) if typed else lora()
    args = settings(max_steps=4, learning_rate=1e-2, **options)
    trainer = PRMTrainer(base, args, train_dataset=rows, peft_config=config)
    assert config.modules_to_save is None or "score" in config.modules_to_save  # the caller's stays as it is
    model = trainer.model
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.save_model(tmp_path / "adapter")
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert any("lora_B" in name for name in moved)
    assert all(
        float((value - before[name]).abs().max()) <= 1e-12
        for name, value in model.named_parameters()
        if not value.requires_grad
    )
    if options.get("scheme") != "reward_tokens":
        assert any("score" in name for name in moved)
    assert any("embed_tokens" in name for name in moved) is (options.get("scheme") == "special_token")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()

    steps = flatten([Solution(row["prompt"], row["completions"]) for row in rows])
    clf = PRMClassifier.from_pretrained(tmp_path / "adapter")
    predicted = trainer.predict(rows)
    outputs = torch.from_numpy(predicted.predictions[predicted.label_ids != -100])
    right = outputs.softmax(-1)[:, 1] if outputs.ndim == 2 else outputs.sigmoid()
    np.testing.assert_allclose(clf.predict_proba(steps)[:, 1], right.numpy(), atol=1e-5)


def test_a_marker_beyond_the_vocabulary(make_rows, settings, tmp_path, make_tokenizer, make_language_model):
    """The embeddings are enlarged: the new row must come back too."""
    tokenizer = make_tokenizer()
    model = make_language_model(tokenizer)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rows = make_rows(4)
    args = settings(max_steps=4, learning_rate=1e-2, scheme="special_token")
    trainer = PRMTrainer(tmp_path / "base", args, train_dataset=rows, peft_config=lora())
    trainer.train()
    trainer.save_model(tmp_path / "adapter")
    predicted = trainer.predict(rows)
    right = torch.from_numpy(predicted.predictions[predicted.label_ids != -100]).softmax(-1)[:, 1]
    clf = PRMClassifier.from_pretrained(tmp_path / "adapter")
    steps = flatten([Solution(row["prompt"], row["completions"]) for row in rows])
    np.testing.assert_allclose(clf.predict_proba(steps)[:, 1], right.numpy(), atol=1e-5)


def test_resuming_an_adapter(make_rows, settings, base):
    rows = make_rows(6)
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "tokens_per_batch": 120}
    whole = PRMTrainer(base, settings(**options), train_dataset=rows, peft_config=lora())
    whole.train()
    resumed = PRMTrainer(base, settings(**options), train_dataset=rows, peft_config=lora())
    resumed.train(resume_from_checkpoint=whole.args.output_dir + "/checkpoint-2")
    found = dict(resumed.model.named_parameters())
    for name, value in whole.model.named_parameters():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-7)


def test_the_card_names_the_library(make_rows, settings, base):
    trainer = PRMTrainer(base, settings(), train_dataset=make_rows(4), peft_config=lora())
    trainer.create_model_card()
    assert "library_name: peft" in (Path(trainer.args.output_dir) / "README.md").read_text()


def test_an_adapter_needs_a_base_that_can_be_found_again(make_rows, settings, base):
    options = {"train_dataset": make_rows(4), "peft_config": lora()}
    with pytest.raises(ValueError, match="leave out model_kwargs"):
        PRMTrainer(base, settings(model_kwargs={"num_hidden_layers": 1}), **options)
    with pytest.raises(ValueError, match="leave out model_kwargs and initialization"):
        PRMTrainer(base, settings(initialization="random"), **options)


def saved_adapter(base, args, rows, folder, **options):
    trainer = PRMTrainer(base, args, train_dataset=rows, peft_config=lora(), **options)
    trainer.save_model(folder)
    return trainer


def test_a_local_base_is_found_from_anywhere(make_rows, settings, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_adapter("./base", settings(), make_rows(4), tmp_path / "adapter")
    fields = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == str(base)
    monkeypatch.chdir("/")
    clf = PRMClassifier.from_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="holds an adapter, which can score but is no model to train"):
        clone(clf).fit(["a", "b"], [0, 1])
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"adapter in {tmp_path / 'adapter'} .* its base {base}: no folder at"):
        PRMClassifier.from_pretrained(tmp_path / "adapter")


def test_a_base_without_a_name(make_rows, settings, tmp_path, make_tokenizer, make_language_model):
    tokenizer = make_tokenizer()
    model = make_language_model(tokenizer, "AutoModelForTokenClassification", num_labels=2)
    rows = make_rows(4)
    with pytest.warns(UserWarning, match=r"has no name.*merge_and_unload\(\)"):
        trainer = saved_adapter(model, settings(), rows, tmp_path / "adapter", processing_class=tokenizer)
    with pytest.raises(ValueError, match=r"names no base model.*merge_and_unload\(\)"):
        PRMClassifier.from_pretrained(tmp_path / "adapter")
    predicted = trainer.predict(rows)
    trainer.model = trainer.model.merge_and_unload()  # as the error says
    trainer.save_model(tmp_path / "whole")
    clf = PRMClassifier.from_pretrained(tmp_path / "whole")
    right = torch.from_numpy(predicted.predictions[predicted.label_ids != -100]).softmax(-1)[:, 1]
    steps = flatten([Solution(row["prompt"], row["completions"]) for row in rows])
    np.testing.assert_allclose(clf.predict_proba(steps)[:, 1], right.numpy(), atol=1e-5)


def test_a_damaged_adapter(make_rows, settings, base, tmp_path):
    saved_adapter(base, settings(), make_rows(4), tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"adapter in .*adapter_model\.safetensors is damaged"):
        PRMClassifier.from_pretrained(tmp_path / "adapter")
