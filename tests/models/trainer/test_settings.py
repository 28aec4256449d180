"""Every setting of transformers.TrainingArguments is honoured, refused or warned about: field by field."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import HfArgumentParser, TrainerCallback, TrainingArguments

from prmkit.marking import MarkingScheme
from prmkit.models import PRMConfig, PRMTrainer, PRMTrainingConfig, RewardDataCollator

FIELDS = {field.name: field for field in dataclasses.fields(TrainingArguments)}
OURS = {
    "per_device_train_batch_size": "the number of rows of a forward pass, in place of a budget of tokens",
    "gradient_accumulation_steps": "the number of forward passes of an update, with and without a budget",
    "train_sampling_strategy": "the order of the rows, in place of a budget of tokens",
    "dataloader_drop_last": "fixed batches alone can be incomplete",
    "dataloader_num_workers": "handed to the data loader of the budget too",
    "dataloader_multiprocessing_context": "handed to the data loader of the budget too",
    "dataloader_in_order": "handed to the data loader of the budget too",
    "dataloader_persistent_workers": "handed to the data loader of the budget too",
    "dataloader_prefetch_factor": "handed to the data loader of the budget too",
    "dataloader_pin_memory": "off without a GPU, since there is nothing to pin for",
    "learning_rate": "another default, as in TRL",
    "logging_steps": "another default, as in TRL",
    "gradient_checkpointing": "another default, as in TRL; falls back, with a warning, where a model has none",
    "gradient_checkpointing_kwargs": "another default, which works with adapters",
    "activation_checkpointing": "the new name of gradient_checkpointing",
    "activation_checkpointing_kwargs": "the new name of gradient_checkpointing_kwargs",
    "bf16": "on by default where the GPU can; a warning where it cannot",
    "fp16": "not together with the bf16 that is on by default",
    "use_cpu": "a group of processes without a GPU computes on CPUs",
    "remove_unused_columns": "rows have no column that is not used",
    "greater_is_better": "known for the metrics of prmkit",
    "metric_for_best_model": "the metrics of prmkit are known",
    "eval_do_concat_batches": "the metrics of prmkit read both forms",
    "resume_from_checkpoint": "train() reads it, which transformers leaves to scripts",
    "logging_nan_inf_filter": "a loss that is not finite stops the run, so nothing is left to filter",
    "use_cache": "a forward pass over whole solutions keeps no keys and values",
    "average_tokens_across_devices": "the mean is over all devices; a warning where that is not asked for",
    "accelerator_config": "refused where it would divide the batches of a budget twice",
}
REFUSED = {
    "label_smoothing_factor": (0.1, "no effect on the losses of steps"),
    "label_names": (["rating"], "the labels are the column 'labels'"),
}
WARNED = {"length_column_name": ("n_tokens", "lengths are those of the tokens")}
# Values for fields whose type does not tell another one than the default.
OTHER = {
    "output_dir": "elsewhere",
    "lr_scheduler_type": "cosine",
    "lr_scheduler_kwargs": {"num_cycles": 1},
    "optim": "sgd",
    "optim_args": "a=1",
    "logging_strategy": "epoch",
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "hub_strategy": "end",
    "include_num_input_tokens_seen": "all",
    "log_level": "error",
    "log_level_replica": "error",
    "report_to": ["none"],
    "debug": "underflow_overflow",
    "include_for_metrics": ["inputs"],
    "load_best_model_at_end": None,  # goes with the strategies
    "dataloader_multiprocessing_context": None,
    "torch_compile": None,  # compiles
    "torch_compile_mode": None,
    "torch_compile_backend": None,
    "tf32": None,  # needs a GPU that has it
    "fsdp": None,
    "fsdp_config": None,
    "deepspeed": None,
    "parallelism_config": None,
    "ddp_backend": None,
    "hub_token": None,
    "local_rank": None,
    "enable_jit_checkpoint": None,
    "use_liger_kernel": None,  # another package
    "bf16_full_eval": True,
}


def another(name):
    if name in OTHER:
        return OTHER[name]
    default = FIELDS[name].default
    if isinstance(default, bool):
        return not default
    if isinstance(default, (int, float)):
        return default + 1
    kind = str(FIELDS[name].type)
    return 3 if "int" in kind else 0.5 if "float" in kind else True if "bool" in kind else "something"


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_no_setting_is_silent(settings, name):
    """It reaches transformers' trainer as it was given, or it is ours and tested below, or the user is told."""
    if name in REFUSED:
        value, words = REFUSED[name]
        with pytest.raises(ValueError, match=words):
            settings(**{name: value})
    elif name in WARNED:
        value, words = WARNED[name]
        with pytest.warns(UserWarning, match=words):
            settings(**{name: value})
    elif name in OURS:
        assert OURS[name]
    elif (value := another(name)) is not None:
        kept = getattr(settings(**{name: value}), name)
        kept = getattr(kept, "value", kept)
        assert kept == value or (name == "report_to" and kept == []) or (name == "debug" and kept[0].value == value)


def test_the_tables_name_fields():
    newer = {"activation_checkpointing", "activation_checkpointing_kwargs", "train_sampling_strategy"}
    newer |= {"dataloader_multiprocessing_context", "dataloader_in_order", "length_column_name"}
    assert {*OURS, *REFUSED, *WARNED} <= FIELDS.keys() | newer


def test_a_mean_per_device_is_told(make_rows, make_trainer, monkeypatch):
    trainer = make_trainer(make_rows(3), average_tokens_across_devices=False)
    monkeypatch.setattr(PRMTrainingConfig, "world_size", 2)
    with pytest.warns(UserWarning, match="the mean over the targets of all devices"):
        trainer.args.fit_model(trainer.model)


# ---- batches


def batches_of(trainer):
    return [len(batch["input_ids"]) for batch in trainer.get_train_dataloader()]


@pytest.mark.parametrize(("size", "accumulation", "n_updates"), [(4, 1, 5), (4, 2, 3), (2, 5, 2), (100, 1, 1)])
def test_explicit_batch_sizes_count_updates_as_in_trl(make_rows, make_trainer, size, accumulation, n_updates):
    options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
    trainer = make_trainer(make_rows(20), max_steps=-1, num_train_epochs=1, **options)
    assert set(batches_of(trainer)) <= {size, 20 % size or size}
    trainer.train()
    assert trainer.state.global_step == n_updates


def test_a_budget_beside_a_batch_size_is_told(settings):
    with pytest.warns(
        UserWarning, match=r"tokens_per_batch=500 decides .* per_device_train_batch_size=4 is for a stream"
    ):
        config = settings(tokens_per_batch=500, per_device_train_batch_size=4)
    assert (config.tokens_per_batch, config.per_device_train_batch_size) == (500, 4)


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_copy_of_the_settings_says_nothing(settings):
    for config in (settings(), settings(per_device_train_batch_size=4), settings(gradient_accumulation_steps=2)):
        copy = dataclasses.replace(config)
        assert copy.tokens_per_batch == config.tokens_per_batch
        assert copy.per_device_train_batch_size == config.per_device_train_batch_size


def test_an_order_of_rows_takes_the_place_of_the_budget(make_rows, make_trainer):
    rows = make_rows(12)
    trainer = make_trainer(rows, train_sampling_strategy="sequential", per_device_train_batch_size=5)
    seen = [row for batch in trainer.get_train_dataloader() for row in batch["input_ids"].tolist()]
    pad = trainer.processing_class.pad_token_id
    assert [[i for i in row if i != pad] for row in seen] == [row["input_ids"] for row in trainer.train_dataset]
    assert batches_of(make_trainer(rows, train_sampling_strategy="sequential")) == [8, 4]
    assert sum(batches_of(make_trainer(rows, train_sampling_strategy="group_by_length"))) == 12
    with pytest.raises(ValueError, match=r"'sequential' orders rows, and tokens_per_batch=100 makes"):
        make_trainer(rows, train_sampling_strategy="sequential", tokens_per_batch=100)


def test_the_last_incomplete_batch(make_rows, make_trainer):
    rows = make_rows(10)
    assert batches_of(make_trainer(rows, per_device_train_batch_size=4, dataloader_drop_last=True)) == [4, 4]
    assert sum(batches_of(make_trainer(rows, tokens_per_batch=100, dataloader_drop_last=True))) == 10


@pytest.mark.parametrize("name", ["dispatch_batches", "split_batches"])
def test_batches_are_not_divided_twice(settings, name):
    with pytest.raises(ValueError, match=f"accelerator_config: {name}=True divides batches again"):
        settings(accelerator_config={name: True})
    assert settings(accelerator_config={name: True}, per_device_train_batch_size=4).tokens_per_batch is None


def test_the_loader_of_a_budget_has_the_settings_of_any_loader(make_rows, make_trainer):
    options = {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 3, "dataloader_persistent_workers": True}
    options |= {"dataloader_multiprocessing_context": "forkserver", "dataloader_in_order": False}
    loader = make_trainer(make_rows(6), **options).get_train_dataloader()
    assert (loader.num_workers, loader.prefetch_factor, loader.persistent_workers) == (1, 3, True)
    assert loader.multiprocessing_context.get_start_method() == "forkserver"
    assert (loader.in_order, loader.worker_init_fn is not None) == (False, True)


# ---- evaluation, checkpoints, logs


def test_evaluations_in_batches(make_rows, make_trainer):
    rows = make_rows(9)
    whole = make_trainer(rows, eval_dataset=rows, per_device_eval_batch_size=2).evaluate()
    apart = make_trainer(rows, eval_dataset=rows, per_device_eval_batch_size=2, eval_do_concat_batches=False).evaluate()
    names = [name for name in whole if "time" not in name and "second" not in name]
    assert len(names) > 5
    assert [apart[name] for name in names] == pytest.approx([whole[name] for name in names])
    with pytest.raises(ValueError, match="must take a `compute_result`"):
        make_trainer(rows, eval_dataset=rows, batch_eval_metrics=True)


def test_own_metrics_get_what_they_ask_for(make_rows, make_trainer):
    seen = {}

    def metrics(evaluated, compute_result=None):
        seen.update(inputs=np.shape(evaluated.inputs), losses=np.shape(evaluated.losses), result=compute_result)
        return {"n": 1.0}

    rows = make_rows(5)
    options = {"eval_dataset": rows, "compute_metrics": metrics}
    make_trainer(rows, include_for_metrics=["inputs", "loss"], **options).evaluate()
    assert len(seen["inputs"]) == 2
    assert seen["inputs"][0] == 5
    assert seen["losses"][0] == 5
    assert make_trainer(rows, batch_eval_metrics=True, **options).evaluate()["eval_n"] == 1.0
    assert seen["result"] is True


@pytest.mark.parametrize("asked", [True, "True", "checkpoint-2"])
def test_the_setting_of_a_checkpoint_is_read(make_rows, make_trainer, settings, asked):
    rows = make_rows(5)
    first = make_trainer(rows, save_strategy="steps", save_steps=2, max_steps=2)
    first.train()
    value = asked if asked in (True, "True") else f"{first.args.output_dir}/{asked}"
    second = make_trainer(rows, save_strategy="no", max_steps=3, resume_from_checkpoint=value)
    steps = []

    class Note(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            steps.append(state.global_step)

    second.add_callback(Note())
    second.train()
    assert steps == [2]


def test_noise_and_counts_of_tokens(make_rows, make_trainer):
    rows = make_rows(5)
    plain, noisy = (make_trainer(rows, max_steps=1, **more) for more in ({}, {"neftune_noise_alpha": 5.0}))
    for trainer in (plain, noisy):
        trainer.train()
    losses = [[log["loss"] for log in trainer.state.log_history if "loss" in log] for trainer in (plain, noisy)]
    assert losses[0] != losses[1]
    counted = make_trainer(rows, max_steps=1, include_num_input_tokens_seen="non_padding")
    counted.train()
    assert counted.state.num_input_tokens_seen == sum(len(row["input_ids"]) for row in counted.train_dataset)


# ---- schemes and names


def test_a_marking_scheme_as_setting(make_rows, make_trainer, settings):
    scheme = MarkingScheme(step="Step {number}: {step}", step_separator="\n\n")
    trainer = make_trainer(make_rows(3), scheme=scheme)
    assert trainer.scheme == scheme
    text = trainer.processing_class.decode(trainer.train_dataset[0]["input_ids"])
    assert "Step 1: " in text
    assert json.loads(trainer.args.to_json_string())["scheme"]["step"] == "Step {number}: {step}"
    with pytest.raises(ValueError, match=r"step_separator beside scheme=MarkingScheme\(…\)"):
        settings(scheme=scheme, step_separator=" #")
    words = MarkingScheme("reward_tokens", step_separator=" #")
    trainer = make_trainer(make_rows(3), scheme=words, loss="reward_token")
    assert trainer.scheme.reward_tokens == ("-", "+")


def test_names_of_trl():
    assert PRMConfig is PRMTrainingConfig
    parser = HfArgumentParser(PRMConfig)
    (args,) = parser.parse_args_into_dataclasses(
        ["--output_dir", "prm", "--use_cpu", "--loss", "theory-rank", "--loss_options", '{"zeta": 2}']
    )
    assert (args.loss, args.loss_options) == ("theory_rank", {"zeta": 2})


# ---- data in other layouts


SUMS = [("2 + 3?", ["2 + 3 = 5.", "So 5."], [True, True]), ("4 + 4?", ["4 + 4 = 9.", "So 8."], [False, True])]
SIGNS = {True: "+", False: "-"}
RAW = {
    "sdiehl": [{"input": p, "value": s, "label": [SIGNS[label] for label in labels]} for p, s, labels in SUMS],
    "stepwise": [{"prompt": p, "completions": s, "labels": labels} for p, s, labels in SUMS],
}


def targets_of(trainer, rows):
    """What the trainer learns from each row: its text, and the position of its targets among all classes."""
    best = len(trainer.classes) - 1
    return [
        (trainer.processing_class.decode(row["input_ids"]), [label == best for label in row["labels"] if label != -100])
        for row in rows
    ]


@pytest.mark.parametrize("kind", ["list", "tuple", "DataFrame", "Parquet", "Dataset", "Table"])
@pytest.mark.parametrize("layout", sorted(RAW))
def test_raw_rows_go_straight_into_the_trainer(make_trainer, tmp_path, layout, kind):
    import datasets
    import pandas as pd
    import pyarrow as pa

    rows, expected = RAW[layout], make_trainer(RAW["stepwise"])
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    data = {
        "list": lambda: rows,
        "tuple": lambda: tuple(rows),
        "DataFrame": lambda: pd.DataFrame(rows),
        "Parquet": lambda: pd.read_parquet(tmp_path / "rows.parquet"),
        "Dataset": lambda: datasets.Dataset.from_list(rows),
        "Table": lambda: pa.Table.from_pylist(rows),
    }[kind]()
    trainer = make_trainer(data, eval_dataset=data)
    assert targets_of(trainer, trainer.train_dataset) == targets_of(expected, expected.train_dataset)
    assert targets_of(trainer, trainer.eval_dataset) == targets_of(expected, expected.train_dataset)
    assert trainer.evaluate(data)["eval_loss"] == pytest.approx(trainer.evaluate()["eval_loss"])


@pytest.mark.parametrize(("wrong", "right"), [("-", "+"), ("negative", "positive")])
def test_flat_rows_go_straight_into_the_trainer(make_trainer, wrong, right):
    import pandas as pd

    rows = [{"text": "2 + 3 = 5", "label": right}, {"text": "2 + 3 = 6", "label": wrong}]
    for data in (rows, pd.DataFrame(rows)):
        trainer = make_trainer(data)
        assert [labels for _, labels in targets_of(trainer, trainer.train_dataset)] == [[True], [False]]
        assert "2 + 3 = 6" in trainer.processing_class.decode(trainer.train_dataset[1]["input_ids"])


def test_rows_of_no_layout_are_named(make_trainer):
    with pytest.raises(ValueError, match="fits no known"):
        make_trainer([{"colour": "red", "shape": "round"}])


@pytest.mark.parametrize("backbone", ["qwen2", "bert"])
def test_the_collator_of_sdiehl(make_rows, make_trainer, settings, make_tokenizer, backbone):
    """Its name and its one argument: the trainer sets what labels and model need."""
    rows = make_rows(4, label=lambda right, chance: chance)
    plain = make_trainer(rows, backbone=backbone, loss="bce", n_outputs=1)
    own = RewardDataCollator(plain.processing_class)
    trainer = PRMTrainer(plain.model, plain.args, own, train_dataset=rows, processing_class=plain.processing_class)
    expected, found = (next(iter(one.get_train_dataloader())) for one in (plain, trainer))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    unpadded = RewardDataCollator(make_tokenizer(pad=None))
    assert unpadded.pad_token_id == make_tokenizer(pad=None).eos_token_id


@pytest.mark.parametrize("text", ['["-", "+"]', "['-', '+']", "-,+", "-, +"])
def test_lists_as_they_are_typed(settings, text):
    """As JSON, as an error prints them, and with commas."""
    assert settings(label_order=text).label_order == ["-", "+"]
    assert settings(scheme="reward_tokens", reward_tokens=text).reward_tokens == ["-", "+"]
