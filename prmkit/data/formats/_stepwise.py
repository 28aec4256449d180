"""TRL's stepwise supervision: a prompt, its completions, and a label for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import from_ratings, probability
from prmkit.data.formats.format import Format, LabelledSolution, Rating, any_field, text_field, texts_field
from prmkit.data.formats.reading import read
from prmkit.data.jsonlines import MalformedRecordError

_COLUMNS = {"prompt", "completions", "labels"}


def _recognises(record: Any) -> bool:
    return isinstance(record, Mapping) and set(record) >= _COLUMNS


def _parse(
    record: Any,
    solution_id: str,
    _counts: Counter[str],
    *,
    threshold: float | None = None,
    ratings: bool = False,
) -> list[LabelledSolution]:
    if isinstance(record, Mapping) and "input_ids" in record and "prompt" not in record:
        raise MalformedRecordError(
            "pre-tokenised", "input_ids in place of texts: such rows are for prmkit.models.PRMTrainer alone"
        )
    if isinstance(any_field(record, "prompt"), list):
        raise MalformedRecordError(
            "conversational", "prompt is a list of turns, expected one text: that variant is not supported"
        )
    problem, steps = text_field(record, "prompt"), texts_field(record, "completions")
    labels = any_field(record, "labels")
    if not isinstance(labels, list):
        raise MalformedRecordError("labels is no list", f"labels is {type(labels).__name__} ({labels!r:.60})")
    if len({isinstance(label, float) for label in labels if label is not None}) > 1:
        raise MalformedRecordError(
            "mixed labels", f"labels mix floats with others ({labels!r:.60}): write 1.0, not 1 or true"
        )
    read_labels = [
        None if label is None else _rating(label, f"labels[{i}]", threshold, ratings, solution_id)
        for i, label in enumerate(labels)
    ]
    return [from_ratings(problem, steps, read_labels, solution_id)]


def _rating(label: Any, name: str, threshold: float | None, ratings: bool, solution_id: str) -> int | float:
    if isinstance(label, float):
        value = probability(label, name)
        return value if threshold is None else (1 if value >= threshold else -1)
    if isinstance(label, int) and ratings:
        if not isinstance(label, bool) and label in (-1, 0, 1):
            return label
        raise MalformedRecordError(
            "unknown label", f"{name} is {label!r}, expected -1, 0 or 1 (ratings=True)"
        )
    if isinstance(label, int) and label in (0, 1):  # True and False too
        return 1 if label else -1
    if isinstance(label, int) and label == -1:
        # Not one row's slip: in such a file 0 means neutral, and every row with a 0 would be read wrongly.
        raise ValueError(
            f"{solution_id}: {name} is -1, where 0 and 1 stand for wrong and right: if the labels are ratings "
            "(-1 wrong, 0 neutral, 1 right), pass ratings=True"
        )
    hint = ": -100 marks tokens, not steps; write null" if label == -100 else ""
    raise MalformedRecordError(
        "unknown label", f"{name} is {label!r:.60}, expected true, false, 0, 1, a float or null{hint}"
    )


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    if all(rating is None for rating in labelled.ratings):
        raise MalformedRecordError("no rated step", "the solution has no label to write")
    soft = any(isinstance(rating, float) for rating in labelled.ratings)
    if soft and any(isinstance(rating, int) for rating in labelled.ratings):
        raise MalformedRecordError("mixed labels", "probabilities and ratings in one solution")
    return {
        "prompt": labelled.solution.problem,
        "completions": list(labelled.solution.steps),
        "labels": [_label(rating) for rating in labelled.ratings],
    }


def _label(rating: Rating) -> bool | float | None:
    return rating if rating is None or isinstance(rating, float) else rating >= 0


STEPWISE = Format(
    name="stepwise",
    description="TRL's prompt, completions, labels: right or wrong per step, or P(right) as a float",
    recognises=_recognises,
    parse=_parse,
    options={"threshold": None, "ratings": False},
    write=_write,
)


def load_stepwise(
    path_or_dataset: Any,
    threshold: float | None = None,
    *,
    ratings: bool = False,
    on_error: str = "raise",
    limit: int | None = None,
    split: str = "train",
) -> StepDataset:
    """Load rows of TRL's stepwise supervision.

    ``{"prompt": "2 + 3 * 4?", "completions": ["3 * 4 = 12.", "2 + 12 = 15."], "labels": [true, false]}``

    Parameters
    ----------
    path_or_dataset : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, Parquet; also gzipped) or a folder of such.
    threshold : float, optional
        Floats below it become -1, others +1. By default they stay what they are, P(the step is right).
    ratings : bool, default=False
        Declares whole numbers to be ratings -1, 0, +1. Otherwise 0 and 1 are false and true, and -1 an error.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds -1 and +1, or floats in [0, 1]. A step with the label null is context and no row.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For an unknown label (-100 belongs to tokens, NaN to nobody), for unequal numbers of labels and steps, for
        undeclared ratings, where some rows hold floats and others not, or when no labelled step is left.

    Examples
    --------
    >>> row = {"prompt": "2 + 3 * 4?", "completions": ["3 * 4 = 12.", "2 + 12 = 15."], "labels": [True, False]}
    >>> X, y = load_stepwise([row])
    >>> X[1].text, y
    ('2 + 12 = 15.', array([ 1, -1]))
    >>> load_stepwise([{**row, "labels": [0.875, 0.25]}]).y
    array([0.875, 0.25 ])
    """
    check_threshold(threshold)
    return read(
        path_or_dataset,
        STEPWISE,
        on_error=on_error,
        limit=limit,
        split=split,
        threshold=threshold,
        ratings=ratings,
    )


def check_threshold(threshold: Any) -> None:
    """Raise ValueError unless it is None or a number in (0, 1]."""
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 < threshold <= 1):
        raise ValueError(f"threshold is {threshold!r}, expected a number above 0 and up to 1, or None")
