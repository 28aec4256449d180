"""Math-Shepherd's raw format: one text with a tag behind each step, and the same text with + and - in their place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Record, from_ratings, has_fields, signs_of
from prmkit.data.formats.label_words import rating_of_sign
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import MalformedRecordError

TAG = "ки"
# Stands for the tag, so that both texts have one length.
_MARK = "\0"
_ANSWER = "The answer is:"


_has_texts = has_fields({"input": str, "label": str})


def _recognises(value: object) -> bool:
    return _has_texts(value) and TAG in Record(value).text("input")


def _parse(
    record: Record, solution_id: str, counts: Counter[str], *, step_tag: str = TAG, numbering: str = "keep"
) -> Iterable[LabelledSolution]:
    if not isinstance(step_tag, str) or not step_tag or numbering not in ("keep", "strip"):
        raise ValueError(f"step_tag={step_tag!r}, numbering={numbering!r}: expected a text; 'keep' or 'strip'")
    text, labels = record.text("input"), record.text("label")
    try:
        problem, steps, signs = _aligned(text, labels, step_tag, counts)
    except _BrokenAlignment as error:
        # The published file has such rows, and it is large. The report counts them, and reading goes on.
        counts[f"rejected: {error}"] += 1
        return ()
    ratings = [rating_of_sign(sign, "the label of a step") for sign in signs]
    if numbering == "strip":
        steps = [re.sub(rf"^[Ss]tep {i}:\s*", "", step) for i, step in enumerate(steps, start=1)]
    task = record.value("task", None)
    meta = {"task": task} if isinstance(task, str) else {}
    if _ANSWER in steps[-1]:
        meta["candidate_answer"] = steps[-1].rsplit(_ANSWER, 1)[1].strip()
    return [from_ratings(problem, steps, ratings, solution_id, meta)]


def _labels_of(record: Mapping[str, Any]) -> Sequence[object]:
    """Return the signs where the tags are, or else those at the ends of lines, if the texts do not align."""
    text, labels = record.get("input"), record.get("label")
    if not isinstance(labels, str):
        return []
    marked = text.replace(_MARK, " ").replace(TAG, _MARK) if isinstance(text, str) else ""
    if len(marked) == len(labels):
        return [labels[i] for i, letter in enumerate(marked) if letter == _MARK and labels[i] in "+-"]
    return re.findall(r"[+-](?=[ \t]*$)", labels, flags=re.MULTILINE)


class _BrokenAlignment(Exception):  # noqa: N818 (a verdict, not an error that leaves this file)
    """The two texts of a row do not align, for the reason that the message names."""


def _aligned(text: str, labels: str, tag: str, counts: Counter[str]) -> tuple[str, list[str], list[str]]:
    """Return problem, steps and signs. The label of a step stands where its tag does, each tag one character long."""
    marked = text.replace(_MARK, " ").replace(tag, _MARK)
    positions = [i for i, letter in enumerate(marked) if letter == _MARK]
    if not positions:
        raise _BrokenAlignment("no step tag")
    if len(marked) != len(labels):
        raise _BrokenAlignment("input and label differ in length")
    if any(labels[i] not in "+-" for i in positions):
        raise _BrokenAlignment("a step tag without + or -")
    if _elsewhere(marked, positions) != _elsewhere(labels.replace(_MARK, " "), positions):
        raise _BrokenAlignment("input and label are different texts")
    start = _start_of_step_1(marked, positions, counts)
    stray = [i for i in positions if i < start]
    if len(stray) > 1 or len(stray) == len(positions):
        raise _BrokenAlignment("step tags before step 1")
    if stray:
        counts["stray tags before step 1"] += 1
    *steps, rest = marked[start:].split(_MARK)
    if rest.strip():
        raise _BrokenAlignment("no tag behind the last step")
    signs = [labels[i] for i in positions if i >= start]
    return marked[:start].replace(_MARK, "").strip(), [step.strip() for step in steps], signs


def _elsewhere(text: str, positions: list[int]) -> str:
    """Return a text without the characters at these positions."""
    letters = list(text)
    for i in positions:
        letters[i] = _MARK
    return "".join(letters)


def _start_of_step_1(marked: str, positions: list[int], counts: Counter[str]) -> int:
    for name in ("Step 1:", "step 1:"):
        if name in marked:
            return marked.index(name)
    question = marked.find("?", 0, positions[0]) + 1
    if not question:
        raise _BrokenAlignment("nothing tells where step 1 begins")
    counts["doubtful: step 1 begins after the first question mark"] += 1
    return question


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    steps, signs = signs_of(labelled)
    numbered = [step if re.match(rf"Step {i}:", step) else f"Step {i}: {step}" for i, step in enumerate(steps, 1)]
    if TAG in labelled.solution.problem or any(TAG in step for step in steps):
        raise MalformedRecordError("step tag within a text", f"{TAG!r} would be taken for the end of a step")

    def joined(marks: list[str]) -> str:
        lines = "\n".join(f"{step} {mark}" for step, mark in zip(numbered, marks, strict=True))
        return f"{labelled.solution.problem} {lines}"

    record = {"input": joined([TAG] * len(steps)), "label": joined(signs)}
    task = (labelled.solution.meta or {}).get("task")
    return {**record, "task": task} if isinstance(task, str) else record


MATH_SHEPHERD = Format(
    name="math_shepherd",
    description="Math-Shepherd's tagged texts: + where some rollout from the step reached the answer (noisy)",
    recognises=_recognises,
    parse=_parse,
    write=_write,
    labels_of=_labels_of,
)


@reads
def load_math_shepherd(
    source: Source,
    *,
    step_tag: str = TAG,
    numbering: Literal["keep", "strip"] = "keep",
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    r"""Load Math-Shepherd (Wang et al. 2023, arXiv:2312.08935) in its raw format.

    ``{"input": "… Step 1: 3*4 = 12. ки\nStep 2: The answer is: 15 ки",``
    ``"label": "… Step 1: 3*4 = 12. +\nStep 2: The answer is: 15 -", "task": "GSM8K"}``

    The label of a step is the character of ``label`` at the position of its tag, if every tag counts as one character.
    Signs are never searched for, because formulas have them too. The problem ends at the first "Step 1:", else at the
    first "step 1:", else after the first question mark (counted as doubtful). White space around a step is no part of
    it. Rows whose texts do not align are rejected and counted whatever ``on_error`` says, because the published file
    has such rows: another number of tags than of signs, no tag behind the last step, and others.

    Parameters
    ----------
    step_tag : str, default="ки"
        Text behind each step.
    numbering : {"keep", "strip"}, default="keep"
        Whether "Step 1:" stays in front of a step.

    Returns
    -------
    StepDataset
        ``y`` holds -1 and +1 from rollouts: +1 means that the answer could still be reached, not that the step is
        right. ``Solution.meta`` has ``task``, and ``candidate_answer`` if the last step says "The answer is:".

    Examples
    --------
    >>> row = {"input": "2 + 3 * 4? Step 1: 3 * 4 = 12. ки\nStep 2: The answer is: 15 ки",
    ...        "label": "2 + 3 * 4? Step 1: 3 * 4 = 12. +\nStep 2: The answer is: 15 -", "task": "GSM8K"}
    >>> dataset = load_math_shepherd([row])
    >>> [step.text for step in dataset.X], dataset.y
    (['Step 1: 3 * 4 = 12.', 'Step 2: The answer is: 15'], array([ 1, -1]))
    >>> dataset.X[0].problem, dataset.solutions[0].meta["candidate_answer"]
    ('2 + 3 * 4?', '15')
    """
    options = {"step_tag": step_tag, "numbering": numbering}
    return read(source, MATH_SHEPHERD, on_error=on_error, limit=limit, split=split, **options)
