"""What a run of PRMTrainer computes: exact means, the right polarity, the same with checkpointed activations."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from prmkit import PRMClassifier, Solution, flatten
from prmkit.models.losses import get_loss


def losses(trainer):
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


def weights(trainer):
    return {name: value.detach().double() for name, value in trainer.model.named_parameters()}


def farthest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


# ---- averages


SGD = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 1, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}


@pytest.mark.parametrize("loss", ["cross_entropy", "rank", "orm"])
@pytest.mark.parametrize("budget", [None, 150])
def test_accumulated_batches_are_one_large_batch(make_rows, make_trainer, loss, budget):
    rows = make_rows(12, max_steps=6)
    options = {**SGD, "loss": loss, "n_outputs": 2 if loss == "cross_entropy" else 1}
    whole = make_trainer(rows, tokens_per_batch=100_000, **options)
    outputs = torch.from_numpy(whole.predict(rows).predictions)
    labels = whole.data_collator(list(whole.train_dataset))["labels"]
    whole.train()
    if budget is None:
        parts = make_trainer(
            rows, tokens_per_batch=None, per_device_train_batch_size=5, gradient_accumulation_steps=3, **options
        )
        assert len(parts.get_train_dataloader()) == 3  # of 5, 5 and 2 solutions
    else:
        n_batches = len(make_trainer(rows, tokens_per_batch=budget).get_train_dataloader())
        parts = make_trainer(rows, tokens_per_batch=budget, gradient_accumulation_steps=n_batches, **options)
        assert n_batches > 3
    parts.train()
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-6)
    assert losses(whole)[0] == pytest.approx(float(get_loss(loss)(outputs, labels)), rel=1e-6)
    assert farthest(weights(whole), weights(parts)) < 1e-6


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "rank"])
def test_the_loss_of_an_evaluation_is_the_mean_over_all_rows(make_rows, make_trainer, loss):
    rows = make_rows(11, max_steps=6)
    n_outputs = 2 if loss == "cross_entropy" else 1
    trainer = make_trainer(rows, loss=loss, n_outputs=n_outputs, per_device_eval_batch_size=4)
    predicted = trainer.predict(rows)
    labels = torch.from_numpy(predicted.label_ids)
    expected = get_loss(loss)(torch.from_numpy(predicted.predictions), labels)
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(float(expected), rel=1e-6)
    assert predicted.metrics["test_loss"] == pytest.approx(float(expected), rel=1e-6)


def test_class_weights_weigh_the_mean(make_rows, make_trainer):
    rows = make_rows(9, max_steps=5)
    weighted = {"loss_options": {"class_weight": [3.0, 1.0]}}
    trainer = make_trainer(rows, tokens_per_batch=80, gradient_accumulation_steps=9, **SGD, **weighted)
    predicted = trainer.predict(rows)
    loss = get_loss("cross_entropy", class_weight=[3.0, 1.0])
    expected = loss(torch.from_numpy(predicted.predictions), torch.from_numpy(predicted.label_ids))
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(float(expected), rel=1e-6)


def test_out_of_memory_halves_the_budget(make_rows, make_trainer):
    trainer = make_trainer(make_rows(12), tokens_per_batch=400, per_device_train_batch_size=8)
    n_batches = len(trainer.get_train_dataloader())
    trainer._train_batch_size = 4  # what auto_find_batch_size does
    assert len(trainer.get_train_dataloader()) >= 2 * n_batches - 1


# ---- polarity


SDIEHL = [
    {"input": "What is 2 + 3?\n2 + 3 = 5 ", "value": "+", "label": 1.0},
    {"input": "What is 4 + 4?\n4 + 4 = 8 ", "value": "+", "label": 1.0},
    {"input": "What is 1 + 2 + 3?\n1 + 2 = 3 ", "value": "+", "label": 1.0},
]
"""Rows as that task has them: the text up to a step, the token that judges it, and its weight."""


def as_stepwise(rows, positive):
    return [
        {
            "prompt": row["input"].split("\n")[0],
            "completions": [row["input"].split("\n")[1].strip()],
            "labels": [positive],
        }
        for row in rows
    ]


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "bce", "n_outputs": 1},
        {"scheme": "reward_tokens"},
        {"scheme": "reward_tokens", "loss": "reward_token", "reward_tokens": ["-", "+"]},
        {"scheme": "reward_tokens", "loss": "bce", "reward_tokens": ["0", "1"]},
    ],
    ids=["separator", "reward", "reward_tokens", "reward_token_loss", "reward_token_difference"],
)
def test_all_labels_alike_drive_the_probability_to_them(make_trainer, options, positive, tmp_path):
    rows = as_stepwise(SDIEHL, positive)
    trainer = make_trainer(rows, max_steps=25, learning_rate=1e-2, label_order=[False, True], **options)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    clf = PRMClassifier.from_pretrained(tmp_path / "saved")
    X = flatten([Solution(row["prompt"], row["completions"]) for row in rows])
    column = clf.classes_.tolist().index(True)
    right = clf.predict_proba(X)[:, column]
    assert (right > 0.97).all() if positive else (right < 0.03).all()
    assert clf.predict(X).tolist() == [positive] * len(X)
    assert clf.score_solutions([X[0].solution])[0].rewards[0] == pytest.approx(right[0], abs=1e-6)


# ---- checkpointed activations, precision, dropout


@pytest.mark.parametrize(
    "options", [{"backbone": "bert"}, {}, {"scheme": "reward_tokens"}], ids=["bert", "qwen2", "lm"]
)
def test_checkpointed_activations_change_nothing(make_rows, make_trainer, options):
    rows = make_rows(6)
    found = []
    for recomputed in (True, False):
        trainer = make_trainer(rows, gradient_checkpointing=recomputed, **SGD, **options)
        trainer.train()
        assert trainer.model.is_gradient_checkpointing is recomputed
        found.append((losses(trainer), weights(trainer)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert farthest(found[0][1], found[1][1]) < 1e-7


@pytest.mark.parametrize("options", [{"backbone": "bert"}, {}, {"loss": "rank", "n_outputs": 1}])
def test_bfloat16_on_the_cpu(make_rows, make_trainer, options):
    rows = make_rows(6)
    half = make_trainer(rows, bf16=True, eval_dataset=rows, **options)
    full = make_trainer(rows, eval_dataset=rows, **options)
    half.train()
    full.train()
    assert half.args.bf16 is True
    assert {weight.dtype for weight in half.model.parameters()} == {torch.float32}
    assert losses(half) == pytest.approx(losses(full), rel=0.1)
    assert losses(half) != losses(full)
    assert np.isfinite(half.evaluate()["eval_loss"])


@pytest.mark.parametrize("disabled", [True, False])
def test_dropout(make_rows, make_trainer, make_language_model, tiny_tokenizer, disabled):
    model = make_language_model(tiny_tokenizer, "AutoModelForTokenClassification", attention_dropout=0.5)
    trainer = make_trainer(make_rows(4), model=model, tokenizer=tiny_tokenizer, disable_dropout=disabled)
    batch = trainer.data_collator(list(trainer.train_dataset))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained = trainer.compute_loss(trainer.model.train(), batch).item()
        used = trainer.compute_loss(trainer.model.eval(), batch).item()
    assert (trained == used) is disabled


# ---- the best model


def test_the_best_model_is_loaded_at_the_end(make_rows, make_trainer):
    rows = make_rows(16)
    trainer = make_trainer(
        rows,
        eval_dataset=make_rows(16, seed=3),
        max_steps=6,
        learning_rate=3e-2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_auroc",
    )
    trainer.train()
    history = [log["eval_auroc"] for log in trainer.state.log_history if "eval_auroc" in log]
    assert len(history) == 6
    assert trainer.state.best_metric == max(history)
    assert trainer.evaluate()["eval_auroc"] == pytest.approx(max(history))


def test_resuming_with_other_settings_is_refused(make_rows, make_trainer, make_tokenizer):
    rows = make_rows(4)
    make_trainer(rows, save_strategy="steps", save_steps=1).train()
    other = make_trainer(rows, step_separator=" #", save_strategy="no")
    with pytest.raises(ValueError, match="was trained with scheme"):
        other.train(resume_from_checkpoint=True)
    three = make_trainer(
        [{**row, "labels": [0] * len(row["labels"])} for row in rows], label_order=[-1, 0, 1], n_outputs=3
    )
    with pytest.raises(ValueError, match="was trained with classes"):
        three.train(resume_from_checkpoint=True)
    smooth = make_trainer(rows, loss_options={"label_smoothing": 0.1})
    with pytest.raises(ValueError, match="was trained with loss_options"):
        smooth.train(resume_from_checkpoint=True)


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(make_rows, make_trainer):
    rows = make_rows(8)
    options = {"tokens_per_batch": 120, "save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    trainer = make_trainer(rows, **options)
    trainer.train()
    expected = copy.deepcopy(weights(trainer))
    folder = trainer.args.output_dir
    (Path(folder) / "checkpoint-6" / "trainer_state.json").write_text('{"epoch": 1.0, "glo')
    resumed = make_trainer(rows, **options)
    with pytest.warns(UserWarning, match="checkpoint-6 was not written to its end"):
        resumed.train(resume_from_checkpoint=True)
    assert farthest(weights(resumed), expected) == 0
    assert resumed.state.global_step == 6
    with pytest.raises(ValueError, match="no checkpoint in"):
        make_trainer(rows, output_dir=str(Path(folder) / "empty")).train(resume_from_checkpoint=True)
