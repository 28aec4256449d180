"""OpenRLHF's process-reward rows: one text with a placeholder behind each step, and a value per placeholder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import from_ratings, probability, split_problem
from prmkit.data.formats.format import Format, LabelledSolution, Rating, any_field, text_field
from prmkit.data.formats.reading import read
from prmkit.data.jsonlines import MalformedRecordError

_KNOWN_PLACEHOLDERS = ("[P]", "ки")
_RATINGS = {2: (1, -1), 3: (1, 0, -1)}


def _recognises(record: Any) -> bool:
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("input"), str)
        and isinstance(record.get("value"), list)
        and not isinstance(record.get("label"), list)
    )


def _parse(
    record: Any,
    solution_id: str,
    counts: Counter[str],
    *,
    input_key: str = "input",
    label_key: str = "value",
    placeholder: str | None = None,
    step_separator: str | re.Pattern[str] | None = None,
    reward_tokens: Sequence[str] = ("+", "-"),
) -> list[LabelledSolution]:
    ratings_of = _ratings_of(reward_tokens)
    text, values = text_field(record, input_key), any_field(record, label_key)
    if not isinstance(values, list):
        raise MalformedRecordError(
            f"{label_key} is no list", f"{label_key} is {type(values).__name__} ({values!r:.60})"
        )
    first, *others = text.split(_placeholder(text, placeholder))
    if len(values) != len(others):
        raise MalformedRecordError(
            "unequal counts", f"{len(values)} values for {len(others)} placeholders, expected one for each"
        )
    if len({isinstance(value, str) for value in values}) > 1:
        raise MalformedRecordError("mixed labels", f"{label_key} mixes tokens and numbers ({values!r:.60})")
    problem, step_1 = split_problem(first, step_separator, counts)
    steps = [step_1, *(other.strip() for other in others)]
    ratings: list[Rating] = [
        _rating(value, f"{label_key}[{i}]", ratings_of) for i, value in enumerate(values)
    ]
    if steps[-1]:
        counts["texts after the last placeholder, kept without a label"] += 1
        ratings.append(None)
    else:
        steps.pop()
    return [from_ratings(problem, steps, ratings, solution_id)]


def _ratings_of(reward_tokens: Sequence[str]) -> dict[str, int]:
    tokens = [reward_tokens] if isinstance(reward_tokens, str) else [str(token) for token in reward_tokens]
    if len(set(tokens)) != len(tokens) or len(tokens) not in _RATINGS:
        raise ValueError(
            f"reward_tokens is {reward_tokens!r}, expected two or three, the best first: ('+', '-')"
        )
    return dict(zip(tokens, _RATINGS[len(tokens)], strict=True))


def _placeholder(text: str, placeholder: str | None) -> str:
    known = _KNOWN_PLACEHOLDERS if placeholder is None else (placeholder,)
    found = [name for name in known if name in text]
    if len(found) == 1:
        return found[0]
    raise MalformedRecordError(
        "no placeholder" if not found else "several placeholders",
        f"the text holds {' and '.join(found) or 'none of ' + ', '.join(known)}: pass placeholder=…, the token "
        "behind each step",
    )


def _rating(value: Any, name: str, ratings_of: Mapping[str, int]) -> int | float:
    if not isinstance(value, str):
        return probability(value, name)
    if value.strip() not in ratings_of:
        raise MalformedRecordError(
            "unknown label", f"{name} is {value!r:.60}, expected one of {', '.join(map(repr, ratings_of))}"
        )
    return ratings_of[value.strip()]


OPENRLHF = Format(
    name="openrlhf",
    description="OpenRLHF's texts with placeholders: a reward token, or P(right), behind each step",
    recognises=_recognises,
    parse=_parse,
    options={
        "input_key": "input",
        "label_key": "value",
        "placeholder": None,
        "step_separator": None,
        "reward_tokens": ("+", "-"),
    },
)


def load_openrlhf(
    path: Any,
    *,
    input_key: str = "input",
    label_key: str = "value",
    placeholder: str | None = None,
    step_separator: str | re.Pattern[str] | None = None,
    reward_tokens: Sequence[str] = ("+", "-"),
    on_error: str = "raise",
    limit: int | None = None,
    split: str = "train",
) -> StepDataset:
    r"""Load process-reward rows of OpenRLHF.

    ``{"input": "2 + 3 * 4? 3 * 4 = 12. [P] 2 + 12 = 15. [P]", "value": ["+", "-"]}``

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, Parquet; also gzipped) or a folder of such.
    input_key, label_key : str
        Fields of the text and of its values.
    placeholder : str, optional
        The token behind each step. By default whichever of "[P]" and "ки" the text holds.
    step_separator : str or compiled regular expression, optional
        What stands between problem and step 1; it belongs to neither. Without it the problem stays within step 1, and
        is "": such rows are counted as doubtful, and cannot be split by problem.
    reward_tokens : sequence of str, default=("+", "-")
        Best first: +1, -1; of three tokens +1, 0, -1. Numbers are the probability of the first.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds ratings, or floats in [0, 1]. White space around a step is no part of it.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For another number of values than placeholders, an unknown token, or a number outside [0, 1].

    Examples
    --------
    >>> row = {"input": "2 + 3 * 4?\n3 * 4 = 12. [P] 2 + 12 = 15. [P]", "value": ["+", "-"]}
    >>> X, y = load_openrlhf([row], step_separator="\n")
    >>> X[0].problem, X[1].text, y
    ('2 + 3 * 4?', '2 + 12 = 15.', array([ 1, -1]))
    """
    options = {
        "input_key": input_key,
        "label_key": label_key,
        "placeholder": placeholder,
        "step_separator": step_separator,
        "reward_tokens": reward_tokens,
    }
    return read(path, OPENRLHF, on_error=on_error, limit=limit, split=split, **options)
