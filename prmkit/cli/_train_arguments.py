"""The flags of ``prmkit train``: those of PRMTrainingConfig and TRL, read by transformers' parser, grouped for help."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn

from transformers import HfArgumentParser

from prmkit.cli._terminal import fields_of, reader_options
from prmkit.models import PRMTrainingConfig

_DESCRIPTION = """\
Fine-tune a language model or an encoder as a process reward model. The model then says of each step how right it is.

A small encoder on PRM800K, on a laptop, with the extra 'offline':
  prmkit train --model all-MiniLM-L6-v2 --data phase2_train.jsonl --learning_rate 1e-4 --output_dir prm

Adapters of a language model, with PQM's ranking loss:
  prmkit train --model Qwen/Qwen2.5-0.5B --data steps.jsonl --loss rank --zeta 4 --use_peft --lora_r 16 --output_dir prm

On all GPUs of a machine, from a stream (after an interruption: with --resume_from_checkpoint):
  accelerate launch -m prmkit.cli train --model Qwen/Qwen2.5-0.5B --data trl-lib/math_shepherd --streaming \\
    --max_steps 2000 --output_dir prm

Settings may stand in a YAML or JSON file too: prmkit train --config run.yaml --learning_rate 1e-4
A hyphen may stand for an underscore in every flag. PRMClassifier.from_pretrained(FOLDER) reads the trained model."""

_DATA = "data", "Rows are read by prmkit.data.load. Labelled steps are learnt, and cut ones are counted."
_MODEL = "model", "Encoders of the BERT family and decoder-only language models."
_MARKING = "marking and labels", "How steps and labels are written, and where a score is read."
_LOSS = "loss", None
_TRAINING = "training: the settings that are changed most", None
_OTHERS = ("all other settings of transformers.TrainingArguments", "Documented there. They work as with any Trainer.")
# The groups of flags that do not come from a dataclass of their own. All others stand under the last title.
_NAMES = {
    _MODEL: "initialization model_kwargs model_init_kwargs",
    _MARKING: "scheme step_separator reward_tokens label_order neutral max_length max_prompt_length "
    "max_completion_length too_long train_on_last_step_only",
    _LOSS: "loss loss_options zeta",
    _TRAINING: "output_dir num_train_epochs max_steps learning_rate tokens_per_batch per_device_train_batch_size "
    "gradient_accumulation_steps warmup_steps weight_decay bf16 gradient_checkpointing disable_dropout "
    "dataset_num_proc seed eval_strategy eval_steps save_strategy logging_steps report_to push_to_hub hub_model_id "
    "resume_from_checkpoint overwrite_output_dir",
}
_TEXTS = {
    "output_dir": "Folder for checkpoints and the model.",
    "num_train_epochs": "Passes over the data.",
    "max_steps": "Updates, in place of --num_train_epochs.",
    "warmup_steps": "Updates in which the learning rate rises; below 1, their share of all updates.",
    "weight_decay": "Weight decay of the optimizer.",
    "gradient_accumulation_steps": "Passes whose gradients make one update.",
    "seed": "Seed of new weights, batches and the split into parts.",
    "eval_strategy": "When to evaluate. Default: after each epoch, of a stream after --eval_steps.",
    "eval_steps": "Updates between two evaluations, with --eval_strategy steps. Default: --logging_steps.",
    "save_strategy": "When to save a checkpoint. Default: after each epoch, of a stream after --save_steps.",
    "save_total_limit": "Checkpoints that are kept. Default: 2.",
    "report_to": "Where to log: tensorboard, wandb, … Default: none.",
    "push_to_hub": "Upload the model to the Hugging Face hub.",
    "hub_model_id": "Name owner/name of the uploaded model.",
    "resume_from_checkpoint": "Go on from the last checkpoint in --output_dir, or from the named one.",
}
"""Help that is shorter than that of transformers, or says what differs in this command."""
_OTHER_WORDS = {
    "output": "--output_dir",
    "epochs": "--num_train_epochs",
    "separator": "--step_separator",
    "lora": "--use_peft --lora_r RANK",
    "resume": "--resume_from_checkpoint",
    "overwrite": "--overwrite_output_dir",
    "split": "--dataset_train_split",
    "loss_option": "--loss_options '{\"name\": value}'",
    "model_option": "--model_kwargs '{\"name\": value}'",
    "set": "the setting as a flag of its own, such as --logging_steps 5",
    "trust_remote_code": "a model whose code is in transformers: prmkit never runs code of a model",
    "load_in_4bit": "--model_kwargs with a smaller dtype: prmkit does not quantise",
    "load_in_8bit": "--model_kwargs with a smaller dtype: prmkit does not quantise",
}
"""Flags that a user may expect, and the words for them here."""


def _flag(default: Any, text: str, *aliases: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, "aliases": list(aliases), **more})


# ruff: noqa: RUF009 (_flag returns a dataclass field)
@dataclass
class DataArguments:
    """Where rows come from; TRL's names are accepted."""

    data: list[str] | None = _flag(
        None,
        "Files, folders, patterns or URLs of step labels, or the name owner/name of a Hugging Face data set. Every "
        "format that prmkit.data.load reads; the first records tell which. May be given several times.",
        "--dataset_name",
        metavar="FILE",
        action="extend",
    )
    eval_data: list[str] | None = _flag(
        None, "Data to evaluate on, read as --data is.", metavar="FILE", action="extend"
    )
    eval_fraction: float | None = _flag(
        None,
        "Without other data to evaluate on: share of the problems that is kept from training and evaluated on. Split "
        "by problem, drawn by --seed. Default: 0.1. With 0 everything is learnt.",
        metavar="SHARE",
    )
    format: str | None = _flag(None, "Format of the data, such as stepwise or processbench.", metavar="NAME")
    fields: dict[str, str] | str | None = _flag(
        None,
        "The field of each part, where the data have no known format: problem=question,steps=answer.steps.text,"
        "labels=answer.steps.good. What numbers mean stands in --load_options, as labels, base or no_error.",
        metavar="NAME=FIELD,...",
    )
    load_options: dict[str, Any] | str | None = _flag(
        None, """Options of the format's loader as JSON, such as '{"on_error": "skip"}'.""", metavar="JSON"
    )
    view: Literal["prefixes", "trajectories"] = _flag(
        "prefixes",
        "How PRM800K is read: every rated step, with alternatives as rows of their own (prefixes), or only the "
        "solution that each record follows (trajectories).",
    )
    dataset_config: str | None = _flag(None, "Configuration of a Hugging Face data set.", metavar="NAME")
    dataset_train_split: str = _flag("train", "Split of a Hugging Face data set to learn from.", metavar="NAME")
    dataset_test_split: str | None = _flag(None, "Split of a Hugging Face data set to evaluate on.", metavar="NAME")
    streaming: bool = _flag(
        False, "Read while training, for data beyond memory. Needs --max_steps.", "--dataset_streaming"
    )


@dataclass
class ModelArguments:
    """The model and its adapter, by the names of TRL's ModelConfig."""

    model: str | None = _flag(
        None,
        "Model to train: a local folder, a name on the Hugging Face hub, or all-MiniLM-L6-v2 of the extra 'offline'.",
        "--model_name_or_path",
        metavar="NAME_OR_FOLDER",
    )
    dtype: str | None = _flag(
        None, "Precision of the weights: float32 (the default), bfloat16 or auto.", "--torch_dtype", metavar="NAME"
    )
    attn_implementation: str | None = _flag(
        None, "Attention of the model, such as sdpa or flash_attention_2.", metavar="NAME"
    )
    use_peft: bool = _flag(False, "Train LoRA adapters, and the head. Needs the package peft.")
    lora_r: int = _flag(16, "Rank of the adapters.", metavar="RANK")
    lora_alpha: int = _flag(32, "Scale of the adapters.", metavar="NUMBER")
    lora_dropout: float = _flag(0.05, "Dropout of the adapters.", metavar="NUMBER")
    lora_target_modules: list[str] | None = _flag(
        None, "Modules that get adapters. Default: all linear layers.", metavar="NAME"
    )
    lora_modules_to_save: list[str] | None = _flag(
        None, "Modules that are trained as a whole, beside the head.", metavar="NAME"
    )
    use_rslora: bool = _flag(False, "Scale adapters by the square root of their rank.")
    use_dora: bool = _flag(False, "Train weight-decomposed adapters (DoRA).")


@dataclass
class RunArguments:
    """Flags of the command line alone."""

    zeta: float | None = _flag(None, "Margin of the rank losses, the same as in --loss_options.", metavar="NUMBER")
    overwrite_output_dir: bool = _flag(False, "Start anew in a folder that holds an earlier run.")


@dataclass(frozen=True)
class Arguments:
    """A command line that has been read. ``config`` holds the arguments of PRMTrainingConfig that were typed."""

    data: DataArguments
    model: ModelArguments
    run: RunArguments
    config: dict[str, Any]


_GROUP_OF = {
    **{setting.name: _DATA for setting in fields(DataArguments)},
    **{setting.name: _MODEL for setting in fields(ModelArguments)},
    **{name: group for group, names in _NAMES.items() for name in names.split()},
}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help with each flag once, not also with hyphens, in the width of the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=min(shutil.get_terminal_size().columns, 120))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = [name for name in action.option_strings if "-" not in name[2:]] or action.option_strings
        value = "" if action.nargs == 0 else f" {self._format_args(action, action.dest.upper())}"
        return ", ".join(names) + value


class Parser(HfArgumentParser):
    """transformers' parser, which keeps only what was typed, puts flags into groups, and names the nearest flag."""

    def __init__(self) -> None:
        self._by_title: dict[str, argparse._ArgumentGroup] = {}
        super().__init__(
            (DataArguments, ModelArguments, PRMTrainingConfig, RunArguments),  # type: ignore[arg-type]
            prog="prmkit train",
            usage="prmkit train --model NAME_OR_FOLDER --data FILE --output_dir FOLDER [settings]",
            description=_DESCRIPTION,
            formatter_class=_Help,
            add_help=False,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add a flag to its group, with its default in the help."""
        if not self._by_title:
            for title, text in (_DATA, _MODEL, _MARKING, _LOSS, _TRAINING, _OTHERS):
                self._by_title[title] = self.add_argument_group(title, text)
        name = settings.get("dest") or str(names[0]).lstrip("-")
        default = settings.pop("default", None)
        # Only typed settings reach the configuration, so that its own defaults hold.
        settings["default"] = argparse.SUPPRESS
        group = _GROUP_OF.get(name, _OTHERS)
        # Help texts are docstrings: a terminal shows the name of a cross-reference alone.
        text = re.sub(r":[a-z:]+:`~?([^`]+)`", r"\1", _TEXTS.get(name) or str(settings.get("help") or ""))
        if settings.get("action") == "store_false":
            text = f"The opposite of --{name}."
        elif group is _OTHERS:
            text = re.split(r"(?<=[a-z)])\. ", text)[0].rstrip(".") + "."
        if default not in (None, False, "") and "efault" not in text and "action" not in settings:
            text += f" Default: {default}."
        settings["help"] = text.replace("%%", "%").replace("%", "%%")
        kind = getattr(settings.get("type"), "__name__", "")
        value = {"int": "NUMBER", "float": "NUMBER", "string_to_bool": "BOOL"}.get(kind, "VALUE")
        if name == "resume_from_checkpoint":
            settings |= {"nargs": "?", "const": "True", "metavar": "FOLDER"}
        elif settings.get("action") != "store_false" and len(" ".join(settings.get("choices", ()))) < 50:
            settings.setdefault("metavar", None if "choices" in settings else value)
        elif "choices" in settings:
            settings["metavar"] = "NAME"
        return self._by_title[group[0]].add_argument(*names, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError in place of leaving the program."""
        # argparse names each spelling: --max_length/--max-length.
        raise ValueError(re.sub(r"(--\w+)(/--[\w-]+)+", r"\1", message).replace("argument ", ""))

    def read(self, arguments: Sequence[str]) -> Arguments:
        """Return the settings that were typed, or stand in the file of ``--config``. A ValueError names a fault."""
        typed = self._with_file(list(arguments))
        values, rest = self.parse_known_args(_with_signs_attached(typed))
        settings = vars(values)
        if rest:
            self._refuse(rest[0])
        result = Arguments(
            DataArguments(**_taken(settings, DataArguments)),
            ModelArguments(**_taken(settings, ModelArguments)),
            RunArguments(**_taken(settings, RunArguments)),
            settings,
        )
        missing = [
            f"--{name}"
            for name, value in (
                ("model", result.model.model),
                ("data", result.data.data),
                ("output_dir", settings.get("output_dir")),
            )
            if not value
        ]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing: prmkit train --help shows an example")
        if isinstance(settings.get("step_separator"), str):
            # A shell hands over a backslash and an n.
            settings["step_separator"] = settings["step_separator"].replace("\\n", "\n").replace("\\t", "\t")
        if isinstance(result.data.load_options, str):
            result.data.load_options = _json_object(result.data.load_options, "--load_options")
        if isinstance(typed_fields := result.data.fields, str):
            # A file of settings may hold a mapping.
            is_json = typed_fields.startswith("{")
            result.data.fields = _json_object(typed_fields, "--fields") if is_json else fields_of(typed_fields)
        return result

    def flags(self) -> list[str]:
        """Return every flag by its first spelling, without the hyphens."""
        return [action.option_strings[0].lstrip("-") for action in self._actions]

    def patterns(self) -> dict[str, str]:
        """Return how each setting is typed, also an option of a loader, for `in_flags` of the terminal."""
        readers = reader_options() | {"on_error", "limit"}
        return {
            "labels='rating'": "--label_order -1,0,1",
            # The flag of this name belongs to the model.
            "step_separator='…'": """--load_options '{"step_separator": "…"}'""",
            **{name: f"--load_options '{{{{\"{name}\": {{json}}}}}}'" for name in sorted(readers)},
            **{name: f"--{name} {{}}" for name in self.flags()},
        }

    def _with_file(self, arguments: list[str]) -> list[str]:
        """Put the settings of the file of ``--config`` in front of the typed ones, which then overrule them."""
        spelled = [argument.partition("=")[0] for argument in arguments]
        if "--config" not in spelled:
            return arguments
        position = spelled.index("--config")
        joined, after = arguments[position].partition("=")[2], arguments[position + 1 :]
        if not (joined or after):
            raise ValueError("--config needs a file, such as --config run.yaml")
        file = Path(joined or after.pop(0))
        import yaml

        # JSON is YAML too.
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(settings, Mapping):
            raise ValueError(f"{file} holds {type(settings).__name__}, expected settings such as loss: rank")
        front: list[str] = []
        for name, value in settings.items():
            if value is None:
                continue
            if isinstance(value, list) and name in ("reward_tokens", "label_order"):
                value = json.dumps(value)
            parts = value if isinstance(value, list) else [value]
            front.append(f"--{name}")
            front += [json.dumps(part) if isinstance(part, (dict, bool)) else str(part) for part in parts]
        return [*front, *arguments[:position], *after]

    def _refuse(self, argument: str) -> NoReturn:
        """Raise a ValueError for an argument that is no flag, with the nearest flag."""
        if not argument.startswith("--"):
            raise ValueError(f"{argument} belongs to no flag: prmkit train --help lists them")
        name = argument[2:].partition("=")[0].replace("-", "_")
        if name in _OTHER_WORDS:
            raise ValueError(f"there is no flag --{name}: type {_OTHER_WORDS[name]}")
        near = get_close_matches(name, dict.fromkeys(self.flags()), n=3)
        hint = f"is it --{' or --'.join(near)}?" if near else "prmkit train --help lists them"
        raise ValueError(f"there is no flag --{name}: {hint}")


def _with_signs_attached(arguments: list[str]) -> list[str]:
    """Write ``--label_order=-1,0,1`` for ``--label_order -1,0,1``, which argparse would take for a flag."""
    attached: list[str] = []
    for argument in arguments:
        is_value = argument.startswith("-") and not argument.startswith("--")
        if is_value and attached and attached[-1].startswith("--") and "=" not in attached[-1]:
            attached[-1] += f"={argument}"
        else:
            attached.append(argument)
    return attached


def _taken(settings: dict[str, Any], kind: type) -> dict[str, Any]:
    """Take the settings of a dataclass out of those that were typed."""
    return {name: settings.pop(name) for name in (setting.name for setting in fields(kind)) if name in settings}


def _json_object(text: str, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f'{flag} is {text}, expected JSON such as {{"on_error": "skip"}}')
    return value
