"""What a solution lost on its way through a layout, by comparing it with what was read back."""

from __future__ import annotations

from collections.abc import Sequence

from prmkit.data._malformed import MalformedRecordError
from prmkit.data.formats._format import LabelledSolution, Rating, first_error_of

BESIDE = ("id", "meta:")
"""How losses begin that concern no label."""
_OTHER_NAMES = {"answer": "final_answer"}  # PRM800K's loader calls the reference answer so


def losses_of(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    """Return what reading back lacks.

    Raises
    ------
    MalformedRecordError
        If it would say something else than was meant: another problem or step, or another label.
    """
    if not back:
        raise MalformedRecordError("not readable", "its record would be left out in reading")
    lost = [*_texts(labelled, back), *_ratings(labelled, back)]
    longest = max(back, key=lambda one: one.solution.n_steps)
    first_error = labelled.first_error
    if first_error is not None and len(back) == 1 and longest.first_error is None:
        lost.append("the first error, which the labels alone do not tell")
    elif first_error is None and len(back) == 1 and longest.first_error != first_error_of(labelled.ratings):
        lost.append("that nobody knows the first error")
    elif None not in (first_error, longest.first_error) and first_error != longest.first_error:
        raise MalformedRecordError(
            "another first error", f"{first_error} would be read as {longest.first_error}"
        )
    meta = longest.solution.meta or {}
    lost += [
        f"meta: {key}"
        for key, value in (labelled.solution.meta or {}).items()
        if value is not None and value not in (meta.get(key), meta.get(_OTHER_NAMES.get(key, key)))
    ]
    if labelled.solution.id is not None and longest.solution.id != labelled.solution.id:
        lost.append("id")
    return lost


def _texts(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    problem, steps = labelled.solution.problem, labelled.solution.steps
    lost: list[str] = []
    for one in back:
        read = one.solution.steps
        given = steps[: len(read)]
        if (one.solution.problem, read) != (problem, given):
            numbered = tuple(f"Step {i}: {step}" for i, step in enumerate(given, start=1))
            lost += _differences(problem, given, numbered, one)
    if max(one.solution.n_steps for one in back) < len(steps):
        lost.append("steps after the last labelled one")
    if len(back) > 1:
        lost.append("the solution as one: its steps become rows")
    return list(dict.fromkeys(lost))


def _differences(
    problem: str, steps: tuple[str, ...], numbered: tuple[str, ...], one: LabelledSolution
) -> list[str]:
    def bare(texts: Sequence[str]) -> list[str]:
        return [text.strip() for text in texts]

    read, lost = one.solution.steps, []
    if bare([problem]) != bare([one.solution.problem]) or len(read) != len(steps):
        raise MalformedRecordError("another text", "problem and steps would be cut elsewhere in reading")
    gained = any(
        text.strip() not in (plain.strip(), "") and text.strip() == number.strip()
        for text, plain, number in zip(read, steps, numbered, strict=True)
    )
    for text, plain, number in zip(read, steps, numbered, strict=True):
        if text.strip() not in (plain.strip(), number.strip()):
            raise MalformedRecordError("another text", f"{plain!r:.40} would be read as {text!r:.40}")
    if gained:
        lost.append("texts as they are: steps get a number, 'Step 1: '")
    if problem != one.solution.problem or any(
        text not in (plain, number) for text, plain, number in zip(read, steps, numbered, strict=True)
    ):
        lost.append("white space around texts")
    return lost


def _ratings(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    read: list[Rating] = [None] * labelled.solution.n_steps
    for one in back:
        for i, rating in enumerate(one.ratings):
            read[i] = rating if rating is not None else read[i]
    lost = []
    for given, found in zip(labelled.ratings, read, strict=True):
        if given == found and isinstance(given, float) == isinstance(found, float):
            continue
        if given == 0 and not isinstance(given, float) and found == 1:
            lost.append("neutral steps become right")
        elif given is not None and found is None:
            lost.append("labels after the first error")
        else:
            raise MalformedRecordError("another label", f"{given} would be read as {found}")
    return list(dict.fromkeys(lost))
