"""Math-Shepherd's raw layout: one text with a tag behind each step, and the same text with + and - in their place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import from_ratings, rating_of_sign, signs_of
from prmkit.data.formats.format import Format, LabelledSolution, text_field
from prmkit.data.formats.reading import read
from prmkit.data.jsonlines import MalformedRecordError

TAG = "ки"
_MARK = "\0"  # stands for the tag where both texts must be of one length
_ANSWER = "The answer is:"


def _recognises(record: Any) -> bool:
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("input"), str)
        and isinstance(record.get("label"), str)
        and TAG in record["input"]
    )


def _parse(
    record: Any, solution_id: str, counts: Counter[str], *, step_tag: str = TAG, numbering: str = "keep"
) -> Iterable[LabelledSolution]:
    if not isinstance(step_tag, str) or not step_tag or numbering not in ("keep", "strip"):
        raise ValueError(
            f"step_tag={step_tag!r}, numbering={numbering!r}: expected a text; 'keep' or 'strip'"
        )
    text, labels = text_field(record, "input"), text_field(record, "label")
    try:
        problem, steps, signs = _aligned(text, labels, step_tag, counts)
    except _BrokenAlignment as error:
        # Known of the published file, which is large: such a row is named in the report and stops nothing.
        counts[f"rejected: {error}"] += 1
        return ()
    ratings = [rating_of_sign(sign, "the label of a step") for sign in signs]
    if numbering == "strip":
        steps = [re.sub(rf"^[Ss]tep {i}:\s*", "", step) for i, step in enumerate(steps, start=1)]
    meta = {"task": record["task"]} if isinstance(record.get("task"), str) else {}
    if _ANSWER in steps[-1]:
        meta["candidate_answer"] = steps[-1].rsplit(_ANSWER, 1)[1].strip()
    return [from_ratings(problem, steps, ratings, solution_id, meta)]


class _BrokenAlignment(Exception):  # noqa: N818 (a verdict, not an error that leaves this file)
    """The reason why a row is rejected."""


def _aligned(text: str, labels: str, tag: str, counts: Counter[str]) -> tuple[str, list[str], list[str]]:
    """Return problem, steps and signs."""
    marked = text.replace(_MARK, " ").replace(tag, _MARK)
    places = [i for i, letter in enumerate(marked) if letter == _MARK]
    if not places:
        raise _BrokenAlignment("no step tag")
    if len(marked) != len(labels):
        raise _BrokenAlignment("input and label differ in length")
    if any(labels[i] not in "+-" for i in places):
        raise _BrokenAlignment("a step tag without + or -")
    if _elsewhere(marked, places) != _elsewhere(labels.replace(_MARK, " "), places):
        raise _BrokenAlignment("input and label are different texts")
    start = _start_of_step_1(marked, places, counts)
    stray = [i for i in places if i < start]
    if len(stray) > 1 or len(stray) == len(places):
        raise _BrokenAlignment("step tags before step 1")
    if stray:
        counts["stray tags before step 1"] += 1
    *steps, rest = marked[start:].split(_MARK)
    if rest.strip():
        raise _BrokenAlignment("no tag behind the last step")
    signs = [labels[i] for i in places if i >= start]
    return marked[:start].replace(_MARK, "").strip(), [step.strip() for step in steps], signs


def _elsewhere(text: str, places: list[int]) -> str:
    letters = list(text)
    for i in places:
        letters[i] = _MARK
    return "".join(letters)


def _start_of_step_1(marked: str, places: list[int], counts: Counter[str]) -> int:
    for name in ("Step 1:", "step 1:"):
        if name in marked:
            return marked.index(name)
    question = marked.find("?", 0, places[0]) + 1
    if not question:
        raise _BrokenAlignment("nothing tells where step 1 begins")
    counts["doubtful: step 1 begins after the first question mark"] += 1
    return question


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    steps, signs = signs_of(labelled)
    numbered = [
        step if re.match(rf"Step {i}:", step) else f"Step {i}: {step}" for i, step in enumerate(steps, 1)
    ]
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
    options={"step_tag": TAG, "numbering": "keep"},
    write=_write,
)


def load_math_shepherd(
    path: Any,
    *,
    step_tag: str = TAG,
    numbering: str = "keep",
    on_error: str = "raise",
    limit: int | None = None,
    split: str = "train",
) -> StepDataset:
    r"""Load Math-Shepherd (Wang et al. 2023, arXiv:2312.08935) in its raw layout.

    ``{"input": "… Step 1: 3*4 = 12. ки\nStep 2: The answer is: 15 ки",``
    ``"label": "… Step 1: 3*4 = 12. +\nStep 2: The answer is: 15 -", "task": "GSM8K"}``

    The label of a step is the character of ``label`` where its tag stands once every tag counts as one character; signs
    are never searched for, since formulas have them too. The problem ends at the first "Step 1:", else "step 1:", else
    after the first question mark (counted as doubtful). White space around a step is no part of it.

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, Parquet; also gzipped) or a folder of such.
    step_tag : str, default="ки"
    numbering : {"keep", "strip"}, default="keep"
        Whether "Step 1:" stays in front of a step.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that is not two texts. One whose texts do not align (another number of tags and
        signs, no tag behind the last step, …) is rejected and counted in any case: the published file has such.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds -1 and +1 from rollouts: +1 means that the answer could still be reached, not that the step is
        right. A solution's ``meta`` has ``task``, and ``candidate_answer`` where the last step says "The answer is:".

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For a malformed record, or when no labelled step is left.

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
    return read(
        path,
        MATH_SHEPHERD,
        on_error=on_error,
        limit=limit,
        split=split,
        step_tag=step_tag,
        numbering=numbering,
    )
