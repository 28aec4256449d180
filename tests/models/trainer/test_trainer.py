"""PRMTrainer: what it takes, what it refuses, and that every loss and scheme learns from every kind of label."""

import warnings

import datasets
import numpy as np
import pytest
import torch
import transformers

from prmkit import Solution, StepDataset, flatten
from prmkit.marking.scheme import MarkingScheme
from prmkit.metrics import step_report
from prmkit.models import PRMTrainer, PRMTrainingConfig
from prmkit.models.losses._registry import loss_names

RATINGS = [-1, 0, 1]


def as_rating(right, chance):
    return -1 if not right else 0 if chance < 0.3 else 1


def as_chance(right, chance):
    return 0.5 + chance / 2 if right else chance / 2


def losses(trainer):
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


# ---- TRL's defaults


def test_defaults_are_those_of_trl(tmp_path):
    config = PRMTrainingConfig(output_dir=str(tmp_path))
    found = (config.max_length, config.max_completion_length, config.train_on_last_step_only)
    assert found == (1024, None, False)
    assert (config.learning_rate, config.logging_steps, config.gradient_checkpointing) == (1e-5, 10, True)
    assert (config.disable_dropout, config.dataset_num_proc) == (True, None)
    assert config.bf16 is (torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
    # TRL's line break, unless the tokenizer drops it: no text could say both.
    assert config.step_separator is None
    assert config.marking(2) == MarkingScheme("separator")


def test_rows_are_tokenised_as_by_trl(make_rows, make_trainer, trl_row):
    trainer = make_trainer(make_rows(3))
    row = make_rows(3)[1]
    expected = trl_row(row, trainer.processing_class, "\n", 1024, None, False, False)
    found = trainer.train_dataset[1]
    assert (found["input_ids"], found["labels"]) == (expected["input_ids"], expected["labels"])


def test_a_deberta_is_trained_in_float32(make_rows, settings, tiny_tokenizer):
    """Its attention fails under autocast: no raw error from inside a forward pass."""
    config = transformers.DebertaConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    model = transformers.DebertaForTokenClassification(config)
    with pytest.warns(UserWarning, match="deberta cannot be trained in half precision"):
        trainer = PRMTrainer(model, settings(bf16=True), train_dataset=make_rows(4), processing_class=tiny_tokenizer)
    assert np.isfinite(trainer.train().training_loss)


def test_bfloat16_without_hardware_falls_back_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="training in float32"):
        config = PRMTrainingConfig(output_dir=str(tmp_path), bf16=True)
    assert config.bf16 is False


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (8, 8192)),
        ({"per_device_train_batch_size": 4}, (4, None)),
        ({"tokens_per_batch": 300}, (8, 300)),
        ({"per_device_train_batch_size": 4, "tokens_per_batch": 300}, (4, 300)),
    ],
)
def test_a_batch_size_is_not_overruled_by_the_default_budget(tmp_path, settings, expected):
    config = PRMTrainingConfig(output_dir=str(tmp_path), use_cpu=True, **settings)
    assert (config.per_device_train_batch_size, config.tokens_per_batch) == expected


def test_model_init_kwargs_is_trls_name_of_model_kwargs(tmp_path):
    small = {"num_hidden_layers": 1}
    assert PRMTrainingConfig(output_dir=str(tmp_path), model_init_kwargs=small).model_kwargs == small
    with pytest.raises(ValueError, match="two names of one setting: pass model_kwargs"):
        PRMTrainingConfig(output_dir=str(tmp_path), model_init_kwargs=small, model_kwargs=small)


def test_model_kwargs_choose_precision_and_attention(make_rows, settings):
    tiny = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    options = {**tiny, "dtype": "bfloat16", "attn_implementation": "eager"}
    args = settings(initialization="random", model_kwargs=options)
    model = PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=make_rows(3)).model
    assert (model.dtype, model.config._attn_implementation) == (torch.bfloat16, "eager")
    assert options["dtype"] == "bfloat16"  # the caller's dictionary stays as it is


def test_one_gpu_per_process(tmp_path, monkeypatch):
    config = PRMTrainingConfig(output_dir=str(tmp_path), per_device_train_batch_size=8, use_cpu=True)
    monkeypatch.setattr(config, "_n_gpu", 4)
    assert config.n_gpu == 1
    assert config.train_batch_size == 8
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.warns(UserWarning, match="4 GPUs, and this process uses one"):
        PRMTrainingConfig(output_dir=str(tmp_path))


@pytest.mark.parametrize("metric", ["brier", "eval_ece", "eval_math_brier", "loss"])
def test_the_lowest_error_is_best(tmp_path, metric):
    assert not PRMTrainingConfig(output_dir=str(tmp_path), metric_for_best_model=metric).greater_is_better
    assert PRMTrainingConfig(output_dir=str(tmp_path), metric_for_best_model="auroc").greater_is_better


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "expected one of 'cross_entropy'"),
        ({"scheme": "turns"}, "expected one of 'separator'"),
        ({"neutral": "maybe"}, "'positive', 'negative', 'drop'"),
        ({"max_length": 0}, "expected a number of tokens, or None"),
        ({"initialization": "zeros"}, "'pretrained', 'random'"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        PRMTrainingConfig(output_dir=str(tmp_path), **change)


# ---- data sets of every kind


def test_every_kind_of_data_set_trains_to_the_same_loss(make_rows, make_trainer):
    rows = make_rows(6)
    hf = datasets.Dataset.from_list(rows)
    X = flatten([Solution(row["prompt"], row["completions"]) for row in rows])
    kinds = [rows, hf, StepDataset(X, [label for row in rows for label in row["labels"]])]
    found = [losses_of(make_trainer(kind)) for kind in kinds]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[0] == pytest.approx(found[2], rel=1e-6)


def losses_of(trainer):
    trainer.train()
    return losses(trainer)


@pytest.mark.parametrize("backbone", ["qwen2", "bert"])
def test_pretokenised_rows_are_used_as_they_are(make_rows, make_trainer, backbone):
    first = make_trainer(make_rows(6), backbone=backbone)
    again = make_trainer(first.train_dataset, backbone=backbone)
    assert again.train_dataset.to_list() == first.train_dataset.to_list()
    assert losses_of(first) == losses_of(again)


def test_an_encoder_needs_the_blocks_of_pretokenised_rows(make_rows, make_trainer):
    rows = make_trainer(make_rows(4), backbone="bert").train_dataset.remove_columns("blocks")
    with pytest.raises(ValueError, match="need a column blocks"):
        make_trainer(rows, backbone="bert").train()


def test_a_stream_trains_for_max_steps(make_rows, make_trainer):
    stream = datasets.Dataset.from_list(make_rows(10)).to_iterable_dataset()
    trainer = make_trainer(stream, max_steps=5, per_device_train_batch_size=3)
    assert len(losses_of(trainer)) == 5
    assert np.isfinite(losses(trainer)).all()
    assert trainer.row_report is None


def test_several_evaluation_sets(make_rows, make_trainer):
    parts = {"easy": make_rows(4, seed=1, max_steps=1), "hard": datasets.Dataset.from_list(make_rows(4, seed=2))}
    trainer = make_trainer(make_rows(4), eval_dataset=parts)
    found = trainer.evaluate()
    assert {"eval_easy_loss", "eval_hard_auroc", "eval_hard_majority_accuracy"} <= set(found)


def test_raw_rows_can_be_evaluated_and_predicted(make_rows, make_trainer):
    trainer = make_trainer(make_rows(4), eval_dataset=make_rows(5, seed=1))
    assert trainer.evaluate(make_rows(5, seed=1))["eval_loss"] == trainer.evaluate()["eval_loss"]
    predicted = trainer.predict(make_rows(5, seed=1))
    longest = max(len(row["labels"]) for row in make_rows(5, seed=1))
    assert predicted.predictions.shape == (5, longest, 2)
    assert predicted.metrics["test_loss"] == pytest.approx(trainer.evaluate()["eval_loss"])


def test_an_evaluation_set_alone_is_enough(make_rows, make_trainer):
    assert make_trainer(None, eval_dataset={"a": make_rows(4)}).evaluate()["eval_a_loss"] > 0


def test_last_step_alone(make_rows, make_trainer):
    rows = make_rows(6)
    trainer = make_trainer(rows, eval_dataset=rows, train_on_last_step_only=True)
    assert [sum(label != -100 for label in row["labels"]) for row in trainer.train_dataset] == [1] * 6
    assert sum(label != -100 for row in trainer.eval_dataset for label in row["labels"]) > 6


# ---- every loss, label and scheme


@pytest.mark.parametrize("loss", [loss for loss in loss_names() if loss != "reward_token"])
@pytest.mark.parametrize("labels", ["two", "positive", "negative", "drop"])
def test_every_loss_takes_every_label(make_rows, make_trainer, loss, labels):
    three = {"neutral": labels, "label_order": RATINGS} if labels != "two" else {}
    rows = make_rows(8, label=as_rating) if three else make_rows(8)
    n_outputs = {"cross_entropy": 3 if three else 2, "soft_cross_entropy": 2}.get(loss, 1)
    trainer = make_trainer(rows, n_outputs=n_outputs, loss=loss, eval_dataset=rows, max_steps=1, **three)
    found = [*losses_of(trainer), trainer.evaluate()["eval_loss"]]
    assert np.isfinite(found).all()
    assert all(value > 0 for value in found)
    assert trainer.targets.output_classes == ((False, True) if not three else (-1, 1) if n_outputs < 3 else (-1, 0, 1))
    assert ("eval_accuracy" in trainer.evaluate()) is not loss.endswith("rank")


@pytest.mark.parametrize("policy", ["positive", "negative", "drop"])
def test_the_neutral_policy_decides_what_is_learnt(make_rows, make_trainer, policy):
    rows = [{**row, "labels": [0] * len(row["labels"])} for row in make_rows(4)]
    rows.append({**rows[0], "labels": [-1] + [None] * (len(rows[0]["labels"]) - 1)})
    options = {"n_outputs": 1, "loss": "bce", "neutral": policy, "label_order": RATINGS}
    trainer = make_trainer(rows, **options)
    batch = trainer.data_collator(list(trainer.train_dataset))
    targets = trainer.targets.of_labels(batch["labels"])
    n_neutral = sum(len(row["labels"]) for row in rows[:4])
    expected = {"positive": (n_neutral, 1), "negative": (0, n_neutral + 1), "drop": (0, 1)}[policy]
    assert (int((targets == 1).sum()), int((targets == 0).sum())) == expected
    assert len(trainer.train_dataset) == (1 if policy == "drop" else 5)
    if policy == "drop":
        with pytest.raises(ValueError, match="all labelled steps are neutral"):
            make_trainer(rows[:4], **options)


@pytest.mark.parametrize("loss", ["bce", "mse", "soft_cross_entropy"])
def test_soft_labels_are_learnt_as_they_are(make_trainer, loss):
    rows = [{"prompt": "2 + 3?", "completions": ["It is 5.", "So 6."], "labels": [0.8, 0.25]}]
    trainer = make_trainer(
        rows, loss=loss, n_outputs=2 if loss == "soft_cross_entropy" else 1, max_steps=60, learning_rate=1e-2
    )
    assert trainer.classes is None
    trainer.train()
    found = torch.from_numpy(trainer.predict(rows).predictions[0])
    right = found.softmax(-1)[:, 1] if found.ndim == 2 else found.sigmoid()
    assert right.tolist() == pytest.approx([0.8, 0.25], abs=0.02)


def test_hard_losses_refuse_soft_labels(make_rows, make_trainer):
    with pytest.raises(ValueError, match="takes no soft labels: choose 'bce'"):
        make_trainer(make_rows(3, label=as_chance), loss="rank", n_outputs=1)


@pytest.mark.parametrize("full_vocabulary", [False, True])
@pytest.mark.parametrize("labels", ["two", "three", "soft"])
def test_reward_tokens(make_rows, make_trainer, full_vocabulary, labels):
    label = {"two": lambda right, chance: right, "three": as_rating, "soft": as_chance}[labels]
    rows = make_rows(6, label=label)
    order = {"label_order": RATINGS} if labels == "three" else {}
    trainer = make_trainer(
        rows,
        scheme="reward_tokens",
        loss="reward_token",
        loss_options={"full_vocabulary": full_vocabulary},
        eval_dataset=rows,
        max_steps=10,
        **order,
    )
    found = losses_of(trainer)
    assert found[-1] < found[0]
    assert trainer.predict(rows).predictions.shape[-1] == (3 if labels == "three" else 2)


@pytest.mark.parametrize("backbone", ["qwen2", "bert"])
@pytest.mark.parametrize("scheme", ["special_token", "prefix"])
def test_other_schemes_learn(make_rows, make_trainer, scheme, backbone):
    rows = make_rows(3)
    trainer = make_trainer(rows, scheme=scheme, backbone=backbone, max_steps=25, learning_rate=1e-2)
    assert len(trainer.train_dataset) == (sum(len(row["labels"]) for row in rows) if scheme == "prefix" else 3)
    found = losses_of(trainer)
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": "prefix", "loss": "rank"}, "compares the steps of a solution"),
        ({"loss": "reward_token"}, "needs scheme='reward_tokens'"),
        ({"scheme": "reward_tokens", "reward_tokens": ["-", "0", "+"]}, "for 2 classes"),
        ({"loss_options": {"zeta": 1.0}}, "has no option zeta"),
        ({"scheme": "reward_tokens", "loss": "reward_token", "reward_tokens": ["Wrong", "+"]}, "reward token 'Wrong'"),
    ],
)
def test_what_does_not_fit_together_is_named(make_rows, make_trainer, change, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(make_rows(3), **change)


# ---- bad input


def test_lost_labels_are_counted_and_reported(make_trainer):
    short = {"prompt": "Add.", "completions": ["1 + 1 = 2"] * 3, "labels": [True, False, True]}
    long = {**short, "completions": ["1 + 1 = 2", "1 + " * 100, "1"]}
    longest = {**short, "completions": ["1 + " * 100] * 3}
    with pytest.warns(UserWarning, match=r"5 of 9 labelled steps do not fit .*1 row without any target"):
        trainer = make_trainer([short, long, longest], max_length=60)
    assert (trainer.row_report.n_lost_steps, trainer.row_report.n_without_target) == (5, 1)
    assert len(trainer.train_dataset) == 2
    with pytest.raises(ValueError, match="none of 1 rows keeps a target"):
        make_trainer([longest], max_length=60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [True]}, "row 1 has 1 labels for 2 steps"),
        ({"labels": [True, False, True]}, "row 1 has 3 labels for 2 steps"),
        ({"completions": [], "labels": []}, "row 1 has no steps"),
        ({"prompt": "Add. " * 200}, "row 1: its prompt alone has"),
        ({"labels": [None, None], "completions": ["2", 3]}, "row 1: a text is int"),
    ],
)
def test_bad_rows_are_named(make_trainer, change, message):
    row = {"prompt": "Add.", "completions": ["1 + 1 = 2", "2 + 1 = 3"], "labels": [True, False]}
    with pytest.raises((ValueError, TypeError), match=message):
        make_trainer([row, row | change], max_length=200, too_long="raise")


def test_ratings_with_two_classes_are_refused(make_trainer):
    row = {"prompt": "Add.", "completions": ["1 + 1 = 2", "2 + 1 = 3"], "labels": [1, -1]}
    with pytest.raises(ValueError, match=r"labels are \[-1, 1\].*say which is worst, label_order=\[-1, 1\]"):
        make_trainer([row])
    with pytest.raises(ValueError, match="ratings need three classes"):
        make_trainer([row], label_order=[0, 1])


def test_a_tokenizer_without_pad_token_pads_with_eos(make_rows, make_trainer, make_tokenizer):
    padded = make_trainer(make_rows(5), tokenizer=make_tokenizer())
    unpadded = make_trainer(make_rows(5), tokenizer=make_tokenizer(pad=None))
    assert unpadded.processing_class.pad_token_id == unpadded.processing_class.eos_token_id
    assert unpadded.model.config.pad_token_id == unpadded.processing_class.eos_token_id
    assert np.isfinite(losses_of(unpadded)).all()
    assert len(losses_of(padded)) == 2
    with pytest.raises(ValueError, match="neither a pad nor an EOS token"):
        make_trainer(make_rows(5), tokenizer=make_tokenizer(pad=None, eos=None), model=padded.model)


def test_a_separator_that_the_tokenizer_does_not_know(make_rows, make_trainer):
    with pytest.raises(ValueError, match=r"separator '\\n' has no token in this tokenizer: choose another"):
        make_trainer(make_rows(3), backbone="bert", step_separator="\n")
    assert make_trainer(make_rows(3), backbone="bert").scheme.step_separator == "[SEP]"  # left at its default
    with pytest.raises(ValueError, match="step_separator is ''"):
        make_trainer(make_rows(3), step_separator="")
    with pytest.raises(ValueError, match="is unknown to this tokenizer"):
        make_trainer(make_rows(3), backbone="bert", step_separator="☃☃")


@pytest.mark.parametrize(
    ("kind", "outputs", "changes", "message"),
    [
        ("AutoModelForCausalLM", {}, {}, "needs one of AutoModelForTokenClassification"),
        ("AutoModelForSequenceClassification", {}, {}, "needs one of AutoModelForTokenClassification"),
        ("AutoModelForTokenClassification", {}, {"scheme": "prefix"}, "AutoModelForSequenceClassification"),
        ("AutoModelForTokenClassification", {}, {"scheme": "reward_tokens"}, "AutoModelForCausalLM"),
        ("AutoModelForTokenClassification", {"num_labels": 3}, {}, "3 outputs, and labels and loss need 2"),
        ("AutoModelForTokenClassification", {}, {"loss": "rank"}, "load it with num_labels=1"),
    ],
)
def test_a_model_with_another_head_is_refused(
    make_rows, make_trainer, tiny_tokenizer, make_language_model, kind, outputs, changes, message
):
    model = make_language_model(tiny_tokenizer, kind, **outputs)
    with pytest.raises(ValueError, match=message):
        make_trainer(make_rows(3), model=model, tokenizer=tiny_tokenizer, **changes)


def test_what_is_missing_is_named(make_rows, make_trainer, settings, tiny_tokenizer, make_language_model):
    model = make_language_model(tiny_tokenizer, "AutoModelForTokenClassification")
    with pytest.raises(ValueError, match="pass it as processing_class"):
        PRMTrainer(model, settings(), train_dataset=make_rows(2))
    with pytest.raises(ValueError, match="pass a model or a model_init"):
        PRMTrainer(args=settings(), train_dataset=make_rows(2), processing_class=tiny_tokenizer)
    with pytest.raises(TypeError, match="expected PRMTrainingConfig"):
        PRMTrainer(model, {"max_steps": 1}, train_dataset=make_rows(2), processing_class=tiny_tokenizer)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(make_rows, make_trainer, value):
    trainer = make_trainer(make_rows(4))
    with torch.no_grad():
        trainer.model.score.bias.fill_(value)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        trainer.train()


def test_an_update_without_target_is_an_error(make_trainer):
    row = {"prompt": "Add.", "completions": ["1 + 1 = 3"], "labels": [False]}
    trainer = make_trainer([row], loss_options={"class_weight": [0.0, 1.0]})
    with pytest.raises(ValueError, match="no step of this update has a target"):
        trainer.train()


# ---- metrics


@pytest.mark.parametrize("labels", ["two", "three"])
def test_default_metrics_are_those_of_the_step_report(make_rows, make_trainer, labels):
    three = labels == "three"
    rows = make_rows(20, label=as_rating) if three else make_rows(20)
    options = {"label_order": RATINGS, "n_outputs": 3} if three else {}
    trainer = make_trainer(rows, eval_dataset=rows, **options)
    predicted = trainer.predict(rows)
    known = predicted.label_ids != -100
    proba = torch.from_numpy(predicted.predictions[known]).double().softmax(-1).numpy()
    classes = list(range(proba.shape[1]))
    report = step_report(predicted.label_ids[known], proba, classes=classes, label_order=classes).metrics
    found = trainer.evaluate()
    for name in ("accuracy", "macro_f1", "auroc", "average_precision", "brier", "ece"):
        assert found[f"eval_{name}"] == pytest.approx(report["model"][name].value, abs=1e-9)
    assert found["eval_majority_accuracy"] == pytest.approx(report["majority"]["accuracy"].value)


def test_own_metrics_callbacks_optimizers_and_logits(make_rows, make_trainer, tiny_tokenizer, make_language_model):
    from transformers import TrainerCallback

    seen = []

    class Count(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            seen.append(state.global_step)

    model = make_language_model(tiny_tokenizer, "AutoModelForTokenClassification")
    before = model.score.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rows = make_rows(5)
    trainer = make_trainer(
        rows,
        model=model,
        tokenizer=tiny_tokenizer,
        eval_dataset=rows,
        callbacks=[Count()],
        optimizers=(optimizer, None),
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        compute_metrics=lambda evaluated: {
            "n": float((evaluated.label_ids != -100).sum()),
            "d": evaluated.predictions.ndim,
        },
    )
    trainer.train()
    assert seen == [1, 2]
    assert torch.equal(model.score.weight, before)  # the learning rate is zero
    found = trainer.evaluate()
    assert (found["eval_n"], found["eval_d"]) == (sum(len(row["labels"]) for row in rows), 2)


def test_model_init_is_adapted_each_time(make_rows, make_trainer, tiny_tokenizer, make_language_model):
    trials = []

    def model_init(trial=None):
        trials.append(trial)
        return make_language_model(
            tiny_tokenizer, "AutoModelForTokenClassification", attention_dropout=0.0 if trial is None else 0.5
        )

    trainer = make_trainer(make_rows(5), tokenizer=tiny_tokenizer, model_init=model_init, scheme="special_token")
    rows = len(tiny_tokenizer)
    first = losses_of(trainer)
    trainer.state.log_history.clear()
    again = losses_of(trainer)
    assert first == again
    assert set(trainer.model.config.id2label.values()) == {"False", "True"}
    searched = trainer.call_model_init({"learning_rate": 0.1})
    assert trials[-1] == {"learning_rate": 0.1}
    assert {layer.self_attn.attention_dropout for layer in searched.model.layers} == {0.0}
    assert searched.config.id2label == trainer.model.config.id2label
    assert searched.get_input_embeddings().weight.shape[0] >= rows


# ---- no noise


def test_a_run_warns_of_nothing(make_rows, make_trainer, recwarn, capfd, monkeypatch):
    from transformers.utils import logging

    logging.enable_propagation()
    rows = make_rows(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for backbone in ("qwen2", "bert"):
            trainer = make_trainer(rows, backbone=backbone, eval_dataset=rows, eval_strategy="steps", eval_steps=1)
            trainer.train()
    logging.disable_propagation()
    error = capfd.readouterr().err
    assert not [line for line in error.splitlines() if "Tokenizing" not in line and line.strip()], error


@pytest.mark.slow
def test_several_processes_tokenise_alike(make_rows, make_trainer):
    rows = datasets.Dataset.from_list(make_rows(8))
    alone, several = make_trainer(rows), make_trainer(rows, dataset_num_proc=2)
    assert several.train_dataset.to_list() == alone.train_dataset.to_list()
    assert several.row_report == alone.row_report
