"""MR-GSM8K: solutions of grade-school problems and of variants of them, each with its first wrong step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import correct_or, first_error_field, known_only, scalar_as_text
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    any_field,
    from_first_error,
    text_field,
    texts_field,
)
from prmkit.data.formats.reading import read
from prmkit.data.jsonlines import MalformedRecordError

_INDEX = "model_output_solution_first_error_step"
_VERDICT = "model_output_solution_correctness"
_STEP = re.compile(r"^[ \t]*step[ \t]+(\d+)\b", re.IGNORECASE | re.MULTILINE)


def _recognises(record: Any) -> bool:
    return isinstance(record, Mapping) and set(record) >= {"question", "model_output_steps", _INDEX}


def _parse(record: Any, solution_id: str, counts: Counter[str]) -> list[LabelledSolution]:
    problem, first_error = text_field(record, "question"), first_error_field(record, _INDEX, _VERDICT)
    whole = any_field(record, "model_output_steps")
    if isinstance(whole, str):
        steps = _split(whole, first_error)
        counts["solutions given as one text, split into steps"] += 1
    else:
        steps = texts_field(record, "model_output_steps")
    if 0 <= first_error < len(steps) and not steps[first_error].strip():
        raise MalformedRecordError("first error is a blank step", f"{_INDEX} is {record[_INDEX]!r}")
    meta = {
        "record_id": scalar_as_text(record, "uuid"),
        "answer": scalar_as_text(record, "ground_truth_answer"),
        "question_type": text_field(record, "question_type", None),
        "final_answer_correct": correct_or(record, "model_output_answer_correctness", default=None),
    }
    return [from_first_error(problem, steps, first_error, solution_id, known_only(meta))]


def _split(whole: str, first_error: int) -> list[str]:
    """Return the steps of a text: what begins with "Step i", else its lines."""
    marks = list(_STEP.finditer(whole))
    if marks:
        numbers = [int(mark[1]) for mark in marks]
        if numbers != list(range(1, len(marks) + 1)):
            raise MalformedRecordError(
                "steps are not numbered from 1",
                f"the text holds the steps {', '.join(map(str, numbers))[:60]}",
            )
        starts = [0, *(mark.start() for mark in marks[1:])]  # words before "Step 1" belong to it
        return [whole[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    lines = [line.rstrip() for line in whole.strip("\r\n").split("\n")]
    if whole.strip() and not all(lines[: first_error + 1]):
        # Whether the people who counted counted it nobody knows.
        raise MalformedRecordError("blank line before the first error", f"the text is {whole!r:.60}")
    return [line for line in lines if line]


MR_GSM8K = Format(
    name="mr_gsm8k",
    description='MR-GSM8K\'s model_output_steps with the 1-based first error, or "N/A"; later steps are not judged',
    recognises=_recognises,
    parse=_parse,
)


def load_mr_gsm8k(
    path: Any, *, on_error: str = "raise", limit: int | None = None, split: str = "train"
) -> StepDataset:
    r"""Load MR-GSM8K (Zeng et al. 2023, arXiv:2312.17080).

    ``{"uuid": "u1", "question": "2 + 3 * 4?", "ground_truth_answer": 14, "question_type": "original",``
    ``"model_output_steps": ["3 * 4 = 12.", "2 + 12 = 15."], "model_output_answer_correctness": "wrong",``
    ``"model_output_solution_correctness": "wrong", "model_output_solution_first_error_step": "2"}``

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (a JSON array, JSON lines, Parquet; also gzipped) or a folder of such.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds +1 for the steps before the first error and -1 for that one; nobody judged later steps, so they are
        no rows. Steps that come as one text are cut where a line begins with "Step i", or else into lines, blank
        ones left out. ``Solution.meta`` holds ``answer``, ``question_type`` (original, POT: program code, reversed),
        ``final_answer_correct`` and ``record_id``, the ``uuid``.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For a first error beyond the steps, on a blank step, or behind a blank line of a text (did it count?), for
        "Step i" that do not run 1, 2, …, and where the first error and the verdict on the solution disagree.

    Examples
    --------
    >>> row = {
    ...     "question": "2 + 3 * 4?",
    ...     "model_output_steps": "Step 1: 3 * 4 = 12.\nStep 2: 2 + 12 = 15.",
    ...     "model_output_solution_correctness": "wrong",
    ...     "model_output_solution_first_error_step": "2",
    ... }
    >>> dataset = load_mr_gsm8k([row])
    >>> dataset.X[1].text, dataset.y
    ('Step 2: 2 + 12 = 15.', array([ 1, -1]))
    """
    return read(path, MR_GSM8K, on_error=on_error, limit=limit, split=split)
