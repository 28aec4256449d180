"""RLHFlow's chats: the user says a step, the assistant answers + or -."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import from_ratings, rating_of_sign, split_problem
from prmkit.data.formats.format import Format, LabelledSolution, any_field, text_field
from prmkit.data.formats.reading import read
from prmkit.data.jsonlines import MalformedRecordError

_ROLES = ("user", "assistant")


def _recognises(record: Any) -> bool:
    return isinstance(record, Mapping) and isinstance(record.get("conversations"), list)


def _parse(
    record: Any,
    solution_id: str,
    counts: Counter[str],
    *,
    step_separator: str | re.Pattern[str] | None = None,
) -> list[LabelledSolution]:
    turns = any_field(record, "conversations")
    if not isinstance(turns, list):
        raise MalformedRecordError(
            "conversations is no list", f"it is {type(turns).__name__} ({turns!r:.60})"
        )
    if not turns or len(turns) % 2:
        raise MalformedRecordError(
            "turns do not alternate", f"{len(turns)} turns, expected a label after every step"
        )
    for i, turn in enumerate(turns):
        if text_field(turn, "role") != _ROLES[i % 2]:
            raise MalformedRecordError(
                "turns do not alternate", f"turn {i} is of {turn['role']!r:.40}, expected {_ROLES[i % 2]!r}"
            )
    texts = [text_field(turn, "content") for turn in turns]
    problem, step_1 = split_problem(texts[0], step_separator, counts)
    ratings = [rating_of_sign(text, f"turn {2 * i + 1}") for i, text in enumerate(texts[1::2])]
    return [from_ratings(problem, [step_1, *texts[2::2]], ratings, solution_id)]


RLHFLOW = Format(
    name="rlhflow",
    description="RLHFlow's chats: + or - as the assistant's answer to each step",
    recognises=_recognises,
    parse=_parse,
    options={"step_separator": None},
)


def load_rlhflow(
    path: Any,
    *,
    step_separator: str | re.Pattern[str] | None = None,
    on_error: str = "raise",
    limit: int | None = None,
    split: str = "train",
) -> StepDataset:
    """Load RLHFlow's multi-turn chats (Dong et al. 2024, arXiv:2405.07863).

    ``{"conversations": [{"role": "user", "content": "2 + 3 * 4? 3 * 4 = 12."}, {"role": "assistant", "content": "+"},``
    ``{"role": "user", "content": "2 + 12 = 15."}, {"role": "assistant", "content": "-"}]}``

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, Parquet; also gzipped) or a folder of such.
    step_separator : str or compiled regular expression, optional
        What stands between problem and step 1 in the first turn; it belongs to neither. The layout lost it, so without
        one the problem stays within step 1, and is "": such rows are counted as doubtful, and cannot be split by
        problem.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds -1 and +1.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        If user and assistant do not take turns, or the assistant says something else than + and -.

    Examples
    --------
    >>> import re
    >>> turns = [("user", "2 + 3 * 4? 3 * 4 = 12."), ("assistant", "+"), ("user", "2 + 12 = 15."), ("assistant", "-")]
    >>> row = {"conversations": [{"role": role, "content": text} for role, text in turns]}
    >>> X, y = load_rlhflow([row], step_separator=re.compile(r"(?<=[?]) "))
    >>> X[0].problem, X[1].text, y
    ('2 + 3 * 4?', '2 + 12 = 15.', array([ 1, -1]))
    """
    return read(path, RLHFLOW, on_error=on_error, limit=limit, split=split, step_separator=step_separator)
