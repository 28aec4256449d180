"""TRL's stepwise supervision: a prompt, its completions, and a label for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    Record,
    check_writable_ratings,
    from_ratings,
    has_fields,
    labels_at,
)
from prmkit.data.formats.label_words import Meaning, Rating, check_meaning, meaning_of, rating_of, wrong_value
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import MalformedRecordError


def _parse(
    record: Record,
    solution_id: str,
    _counts: Counter[str],
    *,
    threshold: float | None = None,
    labels: Meaning | None = None,
) -> list[LabelledSolution]:
    is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if threshold is not None and not (is_number and 0 < threshold <= 1):
        raise ValueError(f"threshold is {threshold!r}, expected a number above 0 and up to 1, or None")
    check_meaning(labels)
    if "input_ids" in record and "prompt" not in record:
        raise MalformedRecordError(
            "pre-tokenised", "input_ids in place of texts: such rows are for prmkit.models.PRMTrainer alone"
        )
    problem = _text(record.value("prompt"), "prompt", ("system", "user"))
    steps = [_text(step, f"completions[{i}]", ("assistant",)) for i, step in enumerate(record.array("completions"))]
    values = record.array("labels")
    meaning = labels or meaning_of(values, "labels")
    ratings = [_rating(value, f"labels[{i}]", threshold, meaning, solution_id) for i, value in enumerate(values)]
    lists = record.value("token_logprobs", None)
    return [from_ratings(problem, steps, ratings, solution_id, None if lists is None else {"token_logprobs": lists})]


def _text(value: object, name: str, roles: tuple[str, ...]) -> str:
    """Return a text, or the text of the turns of a conversation."""
    if not isinstance(value, (list, Mapping)):
        return Record({name: value}).text(name)
    turns = [Record(turn) for turn in ([value] if isinstance(value, Mapping) else value)]
    for i, turn in enumerate(turns):
        if (role := turn.text("role")) not in roles:
            detail = f"turn {i} of {name} is of {role!r:.40}, expected {' or '.join(map(repr, roles))}"
            raise MalformedRecordError("conversational", detail)
    if not turns:
        raise MalformedRecordError("conversational", f"{name} has no turns")
    return "\n\n".join(turn.text("content") for turn in turns)


def _rating(label: object, name: str, threshold: float | None, meaning: Meaning | None, solution_id: str) -> Rating:
    if label == -1 and not isinstance(label, float) and meaning is None:
        # Not one row's slip: in such a file 0 means neutral, and every row with a 0 would be read wrongly.
        raise ValueError(
            f"{solution_id}: {name} is -1, where 0 and 1 stand for wrong and right: if the labels are ratings "
            "(-1 wrong, 0 neutral, 1 right), pass labels='rating'"
        )
    if label == -100:
        raise wrong_value("unknown label", name, label, "a label: -100 marks tokens, not steps; write null")
    rating = rating_of(label, name, meaning, whole="binary")
    if isinstance(rating, float) and threshold is not None:
        return 1 if rating >= threshold else -1
    return rating


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    check_writable_ratings(labelled)
    lists = (labelled.solution.meta or {}).get("token_logprobs")
    return {
        "prompt": labelled.solution.problem,
        "completions": list(labelled.solution.steps),
        "labels": [_label(rating) for rating in labelled.ratings],
        **({} if lists is None else {"token_logprobs": [list(of_step) for of_step in lists]}),
    }


def _label(rating: Rating) -> bool | float | None:
    # A neutral step is right, and this format knows right and wrong alone.
    return rating if rating is None or isinstance(rating, float) else rating >= 0


STEPWISE = Format(
    name="stepwise",
    description="TRL's prompt, completions, labels: right or wrong per step, or P(right) as a float",
    recognises=has_fields({"prompt": object, "completions": object, "labels": object}),
    parse=_parse,
    write=_write,
    labels_of=labels_at("labels"),
)


@reads
def load_stepwise(
    source: Source,
    threshold: float | None = None,
    *,
    labels: Meaning | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    """Load rows of TRL's stepwise supervision.

    ``{"prompt": "2 + 3 * 4?", "completions": ["3 * 4 = 12.", "2 + 12 = 15."], "labels": [true, false]}``

    A prompt or a completion may also be a list of turns with ``role`` and ``content``. Their texts are joined by a
    blank line. A further field ``token_logprobs``, with a list per step, becomes ``Solution.meta["token_logprobs"]``.

    Parameters
    ----------
    threshold : float, optional
        Turns floats into classes: those below it become -1, the others +1. If None, they stay P(the step is right).
    labels : {"binary", "rating", "soft"}, optional
        Meaning of numbers. "binary": 0 wrong, 1 right. "rating": -1 wrong, 0 neutral, 1 right. "soft": the probability
        that the step is right. If None, floats are probabilities, also where a row or the file writes some of them as
        0 or 1. Else 0 and 1 are wrong and right, and -1 is an error. Names such as "correct" need no declaration.

    Returns
    -------
    StepDataset
        ``y`` holds -1 and +1, or floats in [0, 1]. A step with the label null is context and no row.

    Examples
    --------
    >>> row = {"prompt": "2 + 3 * 4?", "completions": ["3 * 4 = 12.", "2 + 12 = 15."], "labels": [True, False]}
    >>> X, y = load_stepwise([row])
    >>> X[1].text, y
    ('2 + 12 = 15.', array([ 1, -1]))
    >>> load_stepwise([{**row, "labels": [0.875, 0.25]}]).y
    array([0.875, 0.25 ])
    """
    options = {"threshold": threshold, "labels": labels}
    return read(source, STEPWISE, on_error=on_error, limit=limit, split=split, **options)
