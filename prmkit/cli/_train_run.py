"""The run behind ``prmkit train``: data, settings, PRMTrainer, and a report on how good the model is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tqdm.auto import tqdm

from prmkit.cli._fit import keep_problems
from prmkit.cli._terminal import fail, in_words, is_first_process, say
from prmkit.cli._train_arguments import Arguments, DataArguments, ModelArguments, Parser
from prmkit.data import StepDataset, load
from prmkit.data.formats.fields import by_fields
from prmkit.data.formats.format import Format
from prmkit.data.formats.reading import iter_labelled
from prmkit.data.formats.registry import FORMATS, check_format, recognise
from prmkit.data.labels import RATINGS
from prmkit.data.problem_keys import problem_keys
from prmkit.models import PRMTrainer, PRMTrainingConfig
from prmkit.models.trainer.progress import TrainingBar, evaluation_report, metric_names
from prmkit.utils.environment import import_optional, quiet_loading, quiet_mapping

if TYPE_CHECKING:
    import datasets
    from peft import LoraConfig
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import PredictionOutput

    Rows: TypeAlias = StepDataset | datasets.IterableDataset

_FILES_OF_A_RUN = ("prmkit.json", "training_args.bin", "checkpoint-*")
_REPLACED = (*_FILES_OF_A_RUN, "adapter_*", "*.safetensors", "*.safetensors.index.json", "eval_results.json")
_N_INSPECTED = 100
_SHOWN = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC of {worst}",
    "average_precision": "average precision of {worst}",
    "brier": "Brier score (lower is better)",
    "ece": "calibration error (lower is better)",
}
_LOGGED = {"eval_loss": "loss", "eval_accuracy": "accuracy", "eval_auroc": "AUROC"}


def run(parser: Parser, typed: Sequence[str]) -> None:
    """Train as a command line says, and print how good the model is. A fault of the user's ends with code 2 and one
    line.
    """
    # Cut steps are counted at the end.
    with in_words(parser.patterns(), "interrupted before training", unsaid="labelled steps do not fit"):
        try:
            _run(parser.read(typed))
        except (RuntimeError, KeyError) as error:
            text = " ".join(str(error).split())
            if "out of memory" in text.lower():
                fail("out of memory: lower --tokens_per_batch or --max_length, or train adapters with --use_peft")
            # Missing packages of --report_to, and metrics that an evaluation does not have.
            if "to be installed" in text or "metric_for_best_model" in text:
                fail(text.strip('"'))
            raise


def _run(arguments: Arguments) -> None:
    output = Path(arguments.config["output_dir"])
    resume = _resume(arguments.config.pop("resume_from_checkpoint", None))
    _check(arguments, output, resume)
    with quiet_loading(), quiet_mapping():
        config = PRMTrainingConfig(**_settings(arguments))
        data = _read(arguments, config)
        trainer = PRMTrainer(
            arguments.model.model,
            config,
            train_dataset=data.train,
            eval_dataset=data.evaluation,
            peft_config=_adapter(arguments.model),
            callbacks=[_TalkingBar()],
        )
        _remove_printer(trainer)
        if arguments.run.overwrite_output_dir:
            _clear(trainer, output)
        _train(trainer, output, resume)
        predicted = None
        if data.evaluation is not None:
            predicted = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval")  # type: ignore[arg-type]
            trainer.save_metrics("eval", predicted.metrics)
        _save(trainer, data.hub_name)
    say(f"\n{_counted(trainer)}\n")
    if predicted is None:
        say("no evaluation: --eval_fraction 0.1 or --eval_data FILE would say how good it is")
    elif is_first_process():
        say(_quality(trainer, predicted))
    say(f"\n{_how_to_score(output)}")
    # No process leaves while another still writes.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


# ---- settings


def _settings(arguments: Arguments) -> dict[str, Any]:
    """Return the arguments of PRMTrainingConfig: those of a command line, over defaults that suit one."""
    typed = dict(arguments.config)
    for name in ("dtype", "attn_implementation"):
        if (value := getattr(arguments.model, name)) is not None:
            typed["model_kwargs"] = {**_options(typed, "model_kwargs"), name: value}
    if arguments.run.zeta is not None:
        typed["loss_options"] = {**_options(typed, "loss_options"), "zeta": arguments.run.zeta}
    when = "steps" if arguments.data.streaming else "epoch"
    return {
        "save_strategy": when,
        "eval_strategy": when if _evaluates(arguments.data) else "no",
        "save_total_limit": 2,
        "report_to": "none",
        **typed,
        # The command has a bar of its own.
        "disable_tqdm": True,
    }


def _options(typed: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a setting that is a dictionary, from JSON."""
    import json

    text = typed.get(name)
    return dict(json.loads(text)) if text else {}


def _evaluates(data: DataArguments) -> bool:
    return bool(data.eval_data or data.dataset_test_split or _share(data))


def _share(data: DataArguments) -> float:
    """Return the share of the problems to keep from training."""
    if data.eval_data or data.dataset_test_split or data.streaming:
        return 0.0
    return 0.1 if data.eval_fraction is None else data.eval_fraction


def _resume(typed: str | None) -> str | bool:
    return {"true": True, "false": False}.get(str(typed or False).lower(), typed or False)


def _adapter(model: ModelArguments) -> LoraConfig | None:
    if not model.use_peft:
        return None
    config: LoraConfig = import_optional("peft", "--use_peft").LoraConfig(
        r=model.lora_r,
        lora_alpha=model.lora_alpha,
        lora_dropout=model.lora_dropout,
        target_modules=model.lora_target_modules or "all-linear",
        modules_to_save=model.lora_modules_to_save,
        use_rslora=model.use_rslora,
        use_dora=model.use_dora,
    )
    return config


def _check(arguments: Arguments, output: Path, resume: str | bool) -> None:
    """Raise ValueError for flags that do not go together, before minutes go into reading."""
    data = arguments.data
    if data.streaming and arguments.config.get("max_steps") is None:
        raise ValueError("--streaming needs --max_steps: a stream does not say how long it is")
    if data.streaming and data.eval_fraction:
        raise ValueError("a stream cannot be split by problem: pass --eval_data FILE in place of --eval_fraction")
    if (data.eval_data or data.dataset_test_split) and data.eval_fraction is not None:
        raise ValueError("other evaluation data and --eval_fraction exclude each other: choose one")
    if not 0 <= (data.eval_fraction or 0) < 1:
        raise ValueError(f"--eval_fraction {data.eval_fraction}, expected a number between 0 and 1")
    if arguments.model.lora_r < 1:
        raise ValueError(f"--lora_r {arguments.model.lora_r}, expected a rank of 1 or more")
    overwrite = arguments.run.overwrite_output_dir
    if resume and overwrite:
        raise ValueError("--resume_from_checkpoint and --overwrite_output_dir exclude each other: choose one")
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output_dir {output} is a file, expected a folder")
    used = output.is_dir() and any(output.iterdir())
    if resume is True and not any(output.glob("checkpoint-*")):
        raise ValueError(f"--output_dir {output} holds no checkpoint to go on from: leave --resume_from_checkpoint out")
    if used and not (resume or overwrite):
        raise ValueError(
            f"--output_dir {output} is not empty: go on with --resume_from_checkpoint, start anew with "
            "--overwrite_output_dir, or choose another"
        )
    if used and overwrite and not any(any(output.glob(name)) for name in _FILES_OF_A_RUN):
        raise ValueError(f"--output_dir {output} holds something else than an earlier run: choose another")


# ---- data


@dataclass(frozen=True)
class _Data:
    """Rows to learn from, rows to evaluate on, and the name of the data on the hub."""

    train: Rows
    evaluation: StepDataset | None
    hub_name: str | None


def _read(arguments: Arguments, config: PRMTrainingConfig) -> _Data:
    """Read the data, divide it by problem, and set the order of its labels where the format tells it."""
    data = arguments.data
    names = list(data.data or ())
    rows: Rows = _stream(names, data, config) if data.streaming else _load(names, data, config)
    evaluation = None
    if data.eval_data or data.dataset_test_split:
        split = data.dataset_test_split or data.dataset_train_split
        evaluation = _load(list(data.eval_data or names), data, config, split)
        if isinstance(rows, StepDataset):
            shared = set(problem_keys(evaluation.solutions)) & set(problem_keys(rows.solutions))
            if shared:
                say(f"note: {len(shared):,} problems to evaluate on are also learnt from: it will flatter")
    elif isinstance(rows, StepDataset) and (share := _share(data)):
        rows, evaluation = keep_problems(rows, share, config.seed)
    on_hub = len(names) == 1 and names[0].count("/") == 1 and not Path(names[0]).exists()
    return _Data(rows, evaluation, names[0] if on_hub else None)


def _load(names: list[str], data: DataArguments, config: PRMTrainingConfig, split: str | None = None) -> StepDataset:
    """Read a data set as ``prmkit.data.load`` does, and say what was read."""
    source, name, options = _recognised(names, data, config, split or data.dataset_train_split)
    dataset = load(source, format=None if "fields" in options else name, **options)
    lines = [line for line in dataset.description.strip().splitlines() if not line.endswith(": 0")]
    say("\n".join(["data:", *(f"  {line}" for line in lines)]))
    if config.label_order is None and dataset.vocabulary in (None, "rating"):
        config.label_order = _rating_order(dataset.y.tolist(), name)
    return dataset


def _recognised(
    names: list[str], data: DataArguments, config: PRMTrainingConfig, split: str
) -> tuple[Any, str, dict[str, Any]]:
    """Return the source, its format, and the options of its loader."""
    source: Any = names[0] if len(names) == 1 else names
    if data.dataset_config is not None:
        import datasets

        source = datasets.load_dataset(names[0], data.dataset_config, split=split, streaming=data.streaming)
    # A local source is read whole, unless somebody names its splits. The hub's is "train" by default.
    named = split if data.dataset_test_split or split != "train" else None
    has_splits = data.dataset_config is None and named is not None
    options: dict[str, Any] = dict(data.load_options or {})  # type: ignore[arg-type]
    if data.fields:
        options["fields"] = data.fields
    if "fields" in options:
        if data.format:
            raise ValueError("--fields and --format exclude each other: a format knows its fields")
        name = "fields"
    else:
        name = check_format(data.format) if data.format else recognise(source, split=named if has_splits else None)
    if name == "prm800k":
        options = {"view": data.view, **options}
    if has_splits:
        options.setdefault("split", named)
    # Ratings -1, 0, 1 in a format of booleans must be declared, and label_order does so.
    if "labels" in _format(name, options).options and config.label_order == list(RATINGS):
        options.setdefault("labels", "rating")
    return source, name, options


def _format(name: str, options: Mapping[str, Any]) -> Format:
    return by_fields(options["fields"]) if "fields" in options else FORMATS[name]


def _rating_order(labels: Iterable[Any], name: str) -> list[Any] | None:
    """Return the ratings from worst to best, also where a data set lacks some; None for other labels."""
    values = set(labels)
    if not values <= set(RATINGS) or any(isinstance(value, float) for value in values):
        return None
    return list(RATINGS) if name == "prm800k" or 0 in values else [-1, 1]


def _stream(names: list[str], data: DataArguments, config: PRMTrainingConfig) -> datasets.IterableDataset:
    """Return the rows of a data set of any format, read while training."""
    import datasets

    source, name, options = _recognised(names, data, config, data.dataset_train_split)
    options.pop("view", None)
    # A list among the arguments would stand for one shard each.
    fixed = tuple(source) if isinstance(source, list) else source
    arguments = {"source": fixed, "name": name, "options": options}
    if config.label_order is None:
        first = [row["labels"] for row in islice(_stepwise_rows(fixed, name, options), _N_INSPECTED)]
        config.label_order = _rating_order((label for labels in first for label in labels if label is not None), name)
    say(f"data: a stream of {name} rows")
    return datasets.IterableDataset.from_generator(_stepwise_rows, gen_kwargs=arguments)


def _stepwise_rows(source: Any, name: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the labelled solutions of a source as stepwise rows."""
    records = list(source) if isinstance(source, tuple) else source
    file_format = _format(name, options)
    settings = {key: value for key, value in options.items() if key != "fields"}
    for labelled in iter_labelled(records, file_format, **settings):
        if any(rating is not None for rating in labelled.ratings):
            solution = labelled.solution
            yield {"prompt": solution.problem, "completions": list(solution.steps), "labels": list(labelled.ratings)}


# ---- run


def _remove_printer(trainer: PRMTrainer) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _train(trainer: PRMTrainer, output: Path, resume: str | bool) -> None:
    try:
        trainer.train(resume_from_checkpoint=resume or None)
    except KeyboardInterrupt:
        goes_on = any(output.glob("checkpoint-*"))
        hint = ": the same command with --resume_from_checkpoint goes on" if goes_on else ""
        fail(f"interrupted after update {trainer.state.global_step}{hint}", code=130)
    except BaseException:
        if output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        raise


def _save(trainer: PRMTrainer, dataset: str | None) -> None:
    """Write the model and its card, and upload them if that is asked for."""
    if trainer.args.push_to_hub:
        say("uploading to the Hugging Face hub")
        # This writes both first.
        trainer.push_to_hub(dataset_name=dataset)
    else:
        trainer.save_model()
        trainer.create_model_card(dataset_name=dataset)


def _clear(trainer: PRMTrainer, folder: Path) -> None:
    """Remove files that would be taken for a part of the new model, or resumed from."""
    if is_first_process():
        for path in {path for name in _REPLACED for path in folder.glob(name)}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    trainer.accelerator.wait_for_everyone()


# ---- report


class _TalkingBar(TrainingBar):
    """The bar of a run, with each evaluation on a line of its own. Without a terminal, one line per log."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss beside the bar, and every evaluation on a line of its own."""
        super().on_log(args, state, control, logs, **kwargs)
        logs = logs or {}
        text = ", ".join(f"{name} {logs[key]:.4f}" for key, name in _LOGGED.items() if key in logs)
        if "loss" in logs:
            text = f"loss {float(logs['loss']):.4f}" if self._bar.disable else ""
        elif text:
            text = f"evaluation: {text}"
        if text and state.is_world_process_zero:
            tqdm.write(f"update {state.global_step} of {state.max_steps}: {text}", file=sys.stderr)


def _counted(trainer: PRMTrainer) -> str:
    """Say how many training rows were cut."""
    report = trainer.row_report
    if report is None:
        return "rows: read from a stream while training, not counted"
    if report.n_lost_steps or report.n_without_target:
        return f"rows: {report}"
    return f"rows: {report.n_rows:,} with {report.n_steps:,} labelled steps; nothing was cut"


def _quality(trainer: PRMTrainer, predicted: PredictionOutput) -> str:
    """Return the final evaluation as a table, the majority class beside the model."""
    report = evaluation_report(predicted, targets=trainer.targets)
    worst = trainer.targets.output_classes[0]
    n_rows = len(trainer.eval_dataset)  # type: ignore[arg-type]
    lines = [
        f"evaluation on {report.n_steps:,} steps in {n_rows:,} rows, after the last update",
        f"{'':36}{'model':>8}{'majority':>10}",
    ]
    for name in metric_names(trainer.targets):
        values = [_shown(report.metrics[who][name].value) for who in ("model", "majority")]
        lines.append(f"{_SHOWN[name].format(worst=worst):36}{values[0]:>8}{values[1]:>10}")
    if trainer.targets.ranks:
        lines.append("The loss ranks steps: rewards are no probabilities, so only their order is judged.")
    return "\n".join(lines)


def _how_to_score(folder: Path) -> str:
    """Return the two lines of Python that score with a trained model."""
    return (
        f"The model is in {folder}. To score with it:\n\n"
        "    from prmkit import PRMClassifier, Solution\n"
        f'    print(PRMClassifier.from_pretrained("{folder}").score_solutions('
        '[Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])[0])'
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
