"""From what is typed to the settings of a run, and back: errors name options as they are typed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import NoneType
from typing import Any, get_args, get_type_hints

_FIELDS = {
    "output": "output_dir",
    "initialization": "initialization",
    "loss": "loss",
    "scheme": "scheme",
    "separator": "step_separator",
    "reward_tokens": "reward_tokens",
    "neutral": "neutral",
    "label_order": "label_order",
    "max_length": "max_length",
    "epochs": "num_train_epochs",
    "max_steps": "max_steps",
    "learning_rate": "learning_rate",
    "tokens_per_batch": "tokens_per_batch",
    "bf16": "bf16",
    "seed": "seed",
    "push_to_hub": "push_to_hub",
    "report_to": "report_to",
}
"""Options, as Python names, and the fields of PRMTrainingConfig that they set."""


def training_settings(options: Mapping[str, Any], *, evaluates: bool) -> dict[str, Any]:
    """Return the arguments of ``PRMTrainingConfig``; what was not typed is left to its defaults.

    Parameters
    ----------
    options : mapping
        The parameters of :func:`prmkit.cli._train.train`.
    evaluates : bool
        Whether there is anything to evaluate on.

    Raises
    ------
    ValueError
        For a setting that does not exist, is typed twice, or has a value of another kind.
    """
    typed = {field: options[name] for name, field in _FIELDS.items() if options[name] is not None}
    typed["output_dir"] = str(options["output"])
    if "step_separator" in typed:  # a shell hands over a backslash and an n
        typed["step_separator"] = typed["step_separator"].replace("\\n", "\n").replace("\\t", "\t")
    for name in ("reward_tokens", "label_order"):
        if name in typed:
            values = as_list(typed[name])
            typed[name] = [str(value) for value in values] if name == "reward_tokens" else values
    loss_options = as_mapping(options["loss_option"], "--loss-option")
    if options["zeta"] is not None:
        loss_options["zeta"] = options["zeta"]
    when = "steps" if options["streaming"] else "epoch"
    return {
        "save_strategy": when,
        "eval_strategy": when if evaluates else "no",
        "save_total_limit": 2,
        **typed,
        **({"loss_options": loss_options} if loss_options else {}),
        **_more(options["more"] or (), options),
        "disable_tqdm": True,  # one bar of our own
    }


def _more(pairs: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``--set``; what has an option of its own may come either way, not both."""
    from prmkit.models import PRMTrainingConfig

    hints = get_type_hints(PRMTrainingConfig)
    fields = PRMTrainingConfig.__dataclass_fields__
    found: dict[str, Any] = {}
    for pair in pairs:
        name, text = _pair(pair, "--set")
        if name not in fields:
            near = get_close_matches(name, fields, n=3)
            hint = f"is it {' or '.join(near)}?" if near else "see prmkit.models.PRMTrainingConfig"
            raise ValueError(f"--set {name}: there is no such setting; {hint}")
        option = next((option for option, field in _FIELDS.items() if field == name), None)
        if option is not None and option not in ("seed", "report_to") and options[option]:
            raise ValueError(f"{name} is set twice: by {_spelled(option)} and by --set")
        found[name] = _of_kind(text, hints[name], f"--set {name}")
    return found


def as_mapping(pairs: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Read ``key=value`` texts, each value as JSON where it is JSON.

    Examples
    --------
    >>> as_mapping(["zeta=2.5", "class_weight=[2, 1]", "kind=plain"], "--loss-option")
    {'zeta': 2.5, 'class_weight': [2, 1], 'kind': 'plain'}
    """
    return {name: _value(text) for name, text in (_pair(pair, option) for pair in pairs or ())}


def as_list(text: str) -> list[Any]:
    """Read a list written as JSON or with commas.

    Examples
    --------
    >>> as_list("-1,0,1"), as_list("-,+"), as_list('["bad", "good"]'), as_list("bad, good")
    ([-1, 0, 1], ['-', '+'], ['bad', 'good'], ['bad', 'good'])
    """
    value = _value(text)
    return value if isinstance(value, list) else [_value(part.strip()) for part in text.split(",")]


def in_options(message: str) -> str:
    """Rename the settings that an error speaks of to what is typed.

    Examples
    --------
    >>> in_options("labels are [-1, 1], expected 0/1: pass label_order=[-1, 1]")
    'labels are [-1, 1], expected 0/1: pass --label-order [-1, 1]'
    >>> in_options("loss is 'rnk', expected one of 'rank'")
    "--loss is 'rnk', expected one of 'rank'"
    """
    for option, field in _FIELDS.items():
        message = re.sub(rf"(?<![\w.]){field}=", f"{_spelled(option)} ", message)
        message = re.sub(rf"^{field} (?=is )", f"{_spelled(option)} ", message)
    return message


def _spelled(option: str) -> str:
    return "--" + option.replace("_", "-")


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{option} {text}: expected KEY=VALUE")
    return name.strip().replace("-", "_"), value.strip()


def _value(text: str) -> Any:
    """Read JSON, and Python's True, False and None; anything else is text."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text


def _of_kind(text: str, hint: Any, what: str) -> Any:
    """Read a value of one of the kinds that a field may have."""
    kinds = {getattr(kind, "__origin__", kind) for kind in (get_args(hint) or (hint,))}
    if getattr(hint, "__origin__", None) in (list, dict):
        kinds = {hint.__origin__}
    value = _value(text)
    if type(value) is int and int not in kinds and float in kinds:
        value = float(value)
    if type(value) in kinds:
        return value
    if list in kinds and str not in kinds:
        return as_list(text)
    if kinds - {bool, int, float, list, dict, NoneType}:  # text, and what is chosen by a name
        return text
    names = sorted("none" if kind is NoneType else kind.__name__ for kind in kinds)
    raise ValueError(f"{what}={text}: expected {' or '.join(names)}")
