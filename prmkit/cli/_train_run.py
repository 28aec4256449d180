"""The run behind ``prmkit train``: data, settings, PRMTrainer, a folder that is whole or was never touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

from prmkit.cli._train_settings import as_mapping, in_options, training_settings

_OF_A_RUN = ("prmkit.json", "training_args.bin", "checkpoint-*")
_REPLACED = (*_OF_A_RUN, "adapter_*", "*.safetensors", "*.safetensors.index.json", "eval_results.json")


def run(options: Mapping[str, Any]) -> None:
    """Train as the options of :func:`prmkit.cli._train.train` say, and print what came out.

    Raises
    ------
    typer.Exit
        With code 2, after one line in words, for whatever the user can mend.
    """
    with _errors_in_words():
        _check_options(options)
        _check_output(options["output"], resume=options["resume"], overwrite=options["overwrite"])
        from prmkit.cli import _train_report as report

        with report.quiet():
            config = _config(options)
            read, rows, kept = _data(options)
            if config.label_order is None and read.label_order is not None:
                config.label_order = list(read.label_order)
            trainer = _trainer(options, config, rows, kept)
            if options["overwrite"]:
                _clear(trainer, options["output"])
            _train(trainer, options)
            predicted = None
            if kept is not None:
                predicted = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval")
                trainer.save_metrics("eval", predicted.metrics)
            _save(trainer, options["push_to_hub"], read.hub_name)
        _say(f"\n{report.counted(trainer)}\n")
        if predicted is None:
            _say("no evaluation: --eval-fraction 0.1 or --eval-data FILE would say how good it is")
        elif is_first_process():
            _say(report.quality(trainer, predicted))
        _say(f"\n{report.how_to_score(options['output'])}")
        trainer.accelerator.wait_for_everyone()  # no process leaves while another still writes
        trainer.accelerator.end_training()


def is_first_process() -> bool:
    """Whether this process is the one that prints, as accelerate and torchrun number them."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def _config(options: Mapping[str, Any]) -> Any:
    """Check the settings before minutes go into reading."""
    from prmkit.models import PRMTrainingConfig

    evaluates = bool(options["eval_data"]) or bool(_share(options))
    return PRMTrainingConfig(**training_settings(options, evaluates=evaluates))


def _share(options: Mapping[str, Any]) -> float:
    """Return the share of the problems to keep from training."""
    if options["eval_data"] or options["streaming"]:
        return 0.0
    return 0.1 if options["eval_fraction"] is None else options["eval_fraction"]


def _trainer(options: Mapping[str, Any], config: Any, rows: Any, kept: Any) -> Any:
    from transformers import PrinterCallback

    from prmkit.cli._train_report import TalkingBar
    from prmkit.models import PRMTrainer

    trainer = PRMTrainer(
        options["model"],
        config,
        train_dataset=rows,
        eval_dataset=kept,
        peft_config=_adapter(options["lora"]),
        model_options=as_mapping(options["model_option"], "--model-option") or None,
        callbacks=[TalkingBar()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _data(options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return what was read, the rows of it to learn from, and those to evaluate on or None."""
    from prmkit.cli._train_data import problems, read_data, split_by_problem

    read = read_data(
        options["data"], split=options["split"], view=options["view"], streaming=options["streaming"]
    )
    _say(f"data: {read.description}")
    rows, kept = read.rows, None
    if options["eval_data"]:
        other = read_data(options["eval_data"], split=options["split"], view=options["view"])
        _say(f"evaluation data: {other.description}")
        kept = other.rows
        if not options["streaming"]:
            known = set(problems(kept)) & set(problems(rows))
            if known:
                _say(f"note: {len(known):,} problems of --eval-data are also learnt from: it will flatter")
    elif _share(options):
        rows, kept = split_by_problem(rows, _share(options), options["seed"])
        n_rows, n_kept = len(set(problems(rows))), len(set(problems(kept)))
        _say(f"split by problem: {n_rows:,} problems to learn from, {n_kept:,} to evaluate on")
    return read, rows, kept


def _adapter(rank: int | None) -> Any:
    if rank is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError:
        raise ImportError("--lora needs peft: pip install peft") from None
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")


def _train(trainer: Any, options: Mapping[str, Any]) -> None:
    output = options["output"]
    try:
        trainer.train(resume_from_checkpoint=options["resume"] or None)
    except KeyboardInterrupt:
        hint = ": the same command with --resume goes on" if any(output.glob("checkpoint-*")) else ""
        _fail(f"interrupted after update {trainer.state.global_step}{hint}", code=130)
    except BaseException:
        if output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        raise


def _save(trainer: Any, to_hub: bool, dataset: str | None) -> None:
    """Write the model and its card, and upload them where that is asked for."""
    if to_hub:
        _say("uploading to the Hugging Face hub")
        trainer.push_to_hub(dataset_name=dataset)  # writes both first
    else:
        trainer.save_model()
        trainer.create_model_card(dataset_name=dataset)


def _check_options(options: Mapping[str, Any]) -> None:
    if options["streaming"] and options["max_steps"] is None:
        raise ValueError("--streaming needs --max-steps: a stream does not say how long it is")
    if options["streaming"] and options["eval_fraction"]:
        raise ValueError(
            "a stream cannot be split by problem: pass --eval-data FILE in place of --eval-fraction"
        )
    if options["eval_data"] and options["eval_fraction"] is not None:
        raise ValueError("--eval-data and --eval-fraction exclude each other: choose one")
    if options["lora"] is not None and options["lora"] < 1:
        raise ValueError(f"--lora {options['lora']}, expected a rank of 1 or more")


def _check_output(folder: Path, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other: choose one")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {folder} is a file, expected a folder")
    used = folder.is_dir() and any(folder.iterdir())
    if resume and not any(folder.glob("checkpoint-*")):
        raise ValueError(f"--output {folder} holds no checkpoint to go on from: leave --resume out")
    if used and not (resume or overwrite):
        raise ValueError(
            f"--output {folder} is not empty: go on with --resume, start anew with --overwrite, or choose another"
        )
    if used and overwrite and not any(any(folder.glob(name)) for name in _OF_A_RUN):
        raise ValueError(f"--output {folder} holds something else than an earlier run: choose another")


def _clear(trainer: Any, folder: Path) -> None:
    """Remove what would be taken for a part of the new model, or resumed from."""
    if is_first_process():
        for path in {path for name in _REPLACED for path in folder.glob(name)}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    trainer.accelerator.wait_for_everyone()


@contextmanager
def _errors_in_words() -> Iterator[None]:
    """End with one line and exit code 2 for what the user can mend."""
    try:
        yield
    except (OSError, ValueError, TypeError, ImportError, FloatingPointError) as error:
        _fail(in_options(" ".join(str(error).split())))
    except (RuntimeError, KeyError) as error:
        text = " ".join(str(error).split())
        if "out of memory" in text.lower():
            _fail("out of memory: lower --tokens-per-batch or --max-length, or train adapters with --lora 16")
        if "to be installed" in text or "metric_for_best_model" in text:  # --report-to, --set
            _fail(text.strip('"'))
        raise


def _fail(message: str, code: int = 2) -> NoReturn:
    if is_first_process():
        typer.secho(f"Error: {message}", fg="red", err=True)
    raise typer.Exit(code)


def _say(text: str) -> None:
    if is_first_process():
        typer.echo(text)
