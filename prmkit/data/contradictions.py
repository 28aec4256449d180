"""Where the record of a sample contradicts its text: an answer that was cut, another answer, a false right or wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, TypeAlias, TypedDict

from prmkit.data.answers.equivalence import AnswerComparison
from prmkit.data.answers.extraction import ExtractedAnswer, extract_answer, normal_answer, numbers_in

Contradictions: TypeAlias = Literal["keep", "text", "drop"]

ANSWERS = "recorded answers that contradict the text"
CUT = "of these, cut at a thousands separator"
CORRECT = "records of right or wrong that contradict the answer"
LEFT_OUT = "samples left out, since their record contradicts their text"

_NUMBER = re.compile(r"-?\d+(?:/\d+)?")
_SEPARATED = re.compile(r"\d(?:,|\{,\}|\\,|,\\!|[\u2009\u202f])\d{3}")


class Contradiction(TypedDict):
    """What contradicts the text of a sample. It stands in ``meta["contradiction"]``, and JSON can hold it."""

    kind: Literal["cut", "answer", "correct"]
    said: str
    recorded: str | None
    in_text: str | None
    recorded_correct: bool | None
    correct_by_text: bool | None


def check_mode(contradictions: str) -> None:
    """Raise a ValueError if a way to treat contradictions is unknown."""
    if contradictions not in ("keep", "text", "drop"):
        raise ValueError(f"contradictions is {contradictions!r}, expected 'keep', 'text' or 'drop'")


def found_in(text: str, extract: Callable[[str], str | None] | None) -> ExtractedAnswer:
    """Return the answer in a text, by a function of the user or by `extract_answer`."""
    return extract_answer(text) if extract is None else ExtractedAnswer(extract(text), None)


def contradiction_of(
    found: ExtractedAnswer,
    last_step: str,
    answer: str | None,
    is_right: bool | None,
    reference: str | None,
    comparison: AnswerComparison,
) -> tuple[str | None, Contradiction | None]:
    """Return the answer that the text gives, and what contradicts it in the record.

    ``found`` is what was read from the text. ``answer`` and ``is_right`` are recorded, None where nothing is. If the
    record of the answer may be true, it is believed.
    """
    believed, told = found.answer if answer is None else answer, []
    kind: Literal["cut", "answer", "correct"] = "correct"
    if answer is not None and found.answer is not None and comparison.agree(answer, found.answer) is False:
        whole = _whole_of(answer, found, last_step)
        # A number with a separator at the end of a text is its answer, though its last digits stand alone elsewhere.
        is_sure = whole == found.answer and _SEPARATED.search(whole) is not None
        if is_sure or not _may_mean(found, answer, last_step):
            kind, believed = ("answer", found.answer) if whole is None else ("cut", whole)
            cut = "" if whole is None else ", so it was cut at a thousands separator"
            told.append(f"the recorded answer is {answer!r}, and the text says {believed!r}{cut}")
    judged = None
    if reference is not None and is_right is not None:
        judged = comparison.agree(believed, reference)
        # A text may give the right answer before its last number.
        is_doubtful = is_right and answer is None and _may_mean(found, reference, last_step)
        if is_doubtful:
            judged = None
        elif judged is (not is_right):
            word = "right" if is_right else "wrong"
            told.append(f"it is recorded as {word}, the answer is {believed!r} and the reference answer {reference!r}")
    if not told:
        return believed, None
    return believed, Contradiction(
        kind=kind,
        said="; ".join(told),
        recorded=answer,
        in_text=believed,
        recorded_correct=is_right,
        correct_by_text=judged,
    )


def count_contradiction(one: Contradiction, counts: Counter[str]) -> None:
    """Count a contradiction by what is contradicted."""
    counts[ANSWERS] += one["kind"] != "correct"
    counts[CUT] += one["kind"] == "cut"
    counts[CORRECT] += one["correct_by_text"] is not None and one["recorded_correct"] is not one["correct_by_text"]


def _whole_of(answer: str, found: ExtractedAnswer, last_step: str) -> str | None:
    """Return the number in a text of which a recorded answer is the part before or behind a thousands separator."""
    places = [found.answer or ""]
    if found.rule in ("last_number", "sentence", "line"):
        places += reversed(numbers_in(last_step if found.rule == "last_number" else places[0]))
    return next((whole for whole in places if _is_part(answer, whole)), None)


def _is_part(answer: str, whole: str) -> bool:
    part, number = (normal_answer(text).lstrip("-") for text in (answer, whole))
    if not (_NUMBER.fullmatch(part) and _NUMBER.fullmatch(number)):
        return False
    a, b = Fraction(part), Fraction(number)
    unit = 1000
    while unit <= b:
        if a < unit and (b - a) % unit == 0:
            return True
        # Small numbers are the beginning of many others.
        if a == b // unit and _SEPARATED.search(whole):
            return True
        unit *= 1000
    return False


def _may_mean(found: ExtractedAnswer, answer: str, last_step: str) -> bool:
    """Tell whether a text may give a recorded answer, though it was read otherwise.

    The last number of a text need not be its answer, and a sentence may say more than its answer.
    """
    if found.rule not in ("last_number", "sentence", "line"):
        return False
    place = last_step if found.rule == "last_number" else found.answer or ""
    plain = normal_answer(answer)
    if not _NUMBER.fullmatch(plain):
        return found.rule == "last_number" or answer.strip().casefold() in place.casefold()
    return plain in map(normal_answer, numbers_in(place))
