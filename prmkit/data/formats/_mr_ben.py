"""Mr-Ben: solutions of exam questions from several subjects, each with the first wrong of its non-blank steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import (
    correct_or,
    first_error_field,
    known_only,
    scalar_as_text,
)
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
from prmkit.data.problem_keys import problem_keys

_STEPS = "Model_Solution_Steps"
_INDEX = "Model_Solution_First_Error_Step"
_VERDICT = "Model_Solution_Correctness"


def _recognises(record: Any) -> bool:
    return isinstance(record, Mapping) and set(record) >= {"Question", _STEPS, _INDEX}


def _parse(record: Any, solution_id: str, counts: Counter[str]) -> list[LabelledSolution]:
    question, options = text_field(record, "Question"), text_field(record, "Options", None)
    is_code = isinstance(any_field(record, _STEPS), str)
    given = record[_STEPS].split("\n") if is_code else texts_field(record, _STEPS)
    steps = [step for step in given if step.strip()]
    first_error = (
        _line(record, steps) if is_code else first_error_field(record, _INDEX, _VERDICT, "incorrect")
    )
    meta = {
        "record_id": scalar_as_text(record, "Question_UUID"),
        "problem_id": f"{int(problem_keys([question])[0]):016x}",
        "subject": text_field(record, "Subject", None),
        "answer": scalar_as_text(record, "Ground_Truth_Answer") or None,
        "generator": text_field(record, "Sampled_Model", None),
    }
    problem = f"{question}\n{options}" if options else question
    labelled = from_first_error(problem, steps, first_error, solution_id, known_only(meta))
    counts["blank lines of code dropped" if is_code else "blank steps dropped"] += len(given) - len(steps)
    return [labelled]


def _line(record: Mapping[str, Any], lines: list[str]) -> int:
    """Return the line of code that the error field quotes; -1 where it is "N/A".

    Raises
    ------
    MalformedRecordError
        If no line reads so, or several do: which of them is meant is not known.
    """
    quoted, is_correct = text_field(record, _INDEX), correct_or(record, _VERDICT, "incorrect")
    if is_correct is None or is_correct != (quoted.strip() == "N/A"):
        raise MalformedRecordError(
            "contradictory first error", f"{_VERDICT} is {record[_VERDICT]!r}, {_INDEX} {quoted!r:.60}"
        )
    if is_correct:
        return -1
    same = [i for i, line in enumerate(lines) if line.rstrip() == quoted.rstrip()]
    same = same or [i for i, line in enumerate(lines) if line.strip() == quoted.strip()]
    if len(same) != 1:
        found = "no line" if not same else f"{len(same)} lines"
        raise MalformedRecordError(
            f"first error is {'no' if not same else 'more than one'} line",
            f"{found} of the code read {quoted!r:.60}",
        )
    return same[0]


MR_BEN = Format(
    name="mr_ben",
    description='Mr-Ben\'s solutions, 1-based first error among non-blank steps, or "N/A"; later ones are not judged',
    recognises=_recognises,
    parse=_parse,
)


def load_mr_ben(
    path: Any, *, on_error: str = "raise", limit: int | None = None, split: str = "train"
) -> StepDataset:
    """Load Mr-Ben (Zeng et al. 2024, arXiv:2406.13975).

    One JSON object, from a question's id to its solutions: ``{"q1": [{"Question_UUID": "q1", "Subject": "math",``
    ``"Question": "2 + 3 * 4?", "Options": "A: 14, B: 20", "Ground_Truth_Answer": "A", "Sampled_Model": "M",``
    ``"Model_Solution_Steps": ["3 * 4 = 12.", "", "2 + 12 = 15."], "Model_Solution_Correctness": "incorrect",``
    ``"Model_Solution_First_Error_Step": "2"}]}``. A list, or JSON lines, of such solutions is read too.

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON, JSON lines, Parquet; also gzipped) or a folder of such: one file per subject.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many solutions at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds +1 for the steps before the first error and -1 for that one; nobody judged later steps, so they are
        no rows. Blank steps are dropped, and the published numbers count the others. The problem is the question and
        its options; ``groups`` follow the question alone. Of ``coding``, steps are the lines of the program that are
        not blank, and the error field quotes one. ``Solution.meta`` holds ``subject``, ``answer``, ``generator``,
        ``problem_id`` and ``record_id``.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For a first error beyond the steps, one that disagrees with the verdict on the solution, or a quotation that
        is not exactly one line of the program (in the published ``coding`` some are: ``on_error="skip"``).

    Examples
    --------
    >>> row = {
    ...     "Question": "2 + 3 * 4?",
    ...     "Model_Solution_Steps": ["3 * 4 = 12.", "", "2 + 12 = 15."],
    ...     "Model_Solution_Correctness": "incorrect",
    ...     "Model_Solution_First_Error_Step": "2",
    ... }
    >>> dataset = load_mr_ben([row])
    >>> dataset.X[1].text, dataset.y
    ('2 + 12 = 15.', array([ 1, -1]))
    """
    return read(path, MR_BEN, on_error=on_error, limit=limit, split=split)
