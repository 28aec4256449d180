"""MR-GSM8K and Mr-Ben: solutions of exam questions, each with its first wrong step, published by one group."""

from __future__ import annotations

import re
from collections import Counter

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Record, error_at, from_first_error, has_fields
from prmkit.data.formats.reading import read, reads_benchmark
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import ContradictoryRecordError
from prmkit.data.problem_keys import problem_keys

_GSM8K_INDEX = "model_output_solution_first_error_step"
_GSM8K_VERDICT = "model_output_solution_correctness"
_GSM8K_STEP = re.compile(r"^[ \t]*step[ \t]+(\d+)\b", re.IGNORECASE | re.MULTILINE)
_STEPS = "Model_Solution_Steps"
_INDEX = "Model_Solution_First_Error_Step"
_VERDICT = "Model_Solution_Correctness"


def _parse_gsm8k(record: Record, solution_id: str, counts: Counter[str]) -> list[LabelledSolution]:
    problem = record.text("question")
    first_error = record.first_error(_GSM8K_INDEX, _GSM8K_VERDICT)
    texts = record.value("model_output_steps")
    if isinstance(texts, str):
        steps = _split(texts, first_error)
        counts["solutions given as one text, split into steps"] += 1
    else:
        steps = record.texts("model_output_steps")
    if 0 <= first_error < len(steps) and not steps[first_error].strip():
        raise ContradictoryRecordError(
            "first error is a blank step", f"{_GSM8K_INDEX} is {record.value(_GSM8K_INDEX)!r}"
        )
    meta = {
        "record_id": record.note("uuid"),
        "answer": record.note("ground_truth_answer"),
        "question_type": record.note("question_type"),
        "final_answer_correct": record.flag("model_output_answer_correctness", counts),
    }
    return [from_first_error(problem, steps, first_error, solution_id, meta)]


def _split(text: str, first_error: int) -> list[str]:
    """Return the steps of a text: the parts that begin with "Step i", or else its lines."""
    marks = list(_GSM8K_STEP.finditer(text))
    if marks:
        numbers = [int(mark[1]) for mark in marks]
        if numbers != list(range(1, len(marks) + 1)):
            raise ContradictoryRecordError(
                "steps are not numbered from 1", f"the text holds the steps {', '.join(map(str, numbers))[:60]}"
            )
        starts = [0, *(mark.start() for mark in marks[1:])]  # words before "Step 1" belong to it
        return [text[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    lines = [line.rstrip() for line in text.strip("\r\n").split("\n")]
    if text.strip() and not all(lines[: first_error + 1]):
        # Nobody knows whether the people who counted the steps counted this line.
        raise ContradictoryRecordError("blank line before the first error", f"the text is {text!r:.60}")
    return [line for line in lines if line]


MR_GSM8K = Format(
    name="mr_gsm8k",
    description='MR-GSM8K\'s model_output_steps with the 1-based first error, or "N/A"; later steps are not judged',
    recognises=has_fields({"question": object, "model_output_steps": object, _GSM8K_INDEX: object}),
    parse=_parse_gsm8k,
    labels_of=error_at(_GSM8K_INDEX),
    benchmark=True,
    unlabelled="right",
)


@reads_benchmark
def load_mr_gsm8k(
    source: Source, *, on_error: OnError = "raise", limit: int | None = None, split: str | None = None
) -> StepDataset:
    r"""Load MR-GSM8K (Zeng et al. 2023, arXiv:2312.17080).

    ``{"uuid": "u1", "question": "2 + 3 * 4?", "ground_truth_answer": 14, "question_type": "original",``
    ``"model_output_steps": ["3 * 4 = 12.", "2 + 12 = 15."], "model_output_answer_correctness": "wrong",``
    ``"model_output_solution_correctness": "wrong", "model_output_solution_first_error_step": "2"}``

    Returns
    -------
    StepDataset
        ``y`` holds +1 for the steps before the first error and -1 for that step. Nobody judged later steps, so they
        are no rows. Steps that come as one text are cut where a line begins with "Step i", or else into lines, and
        blank lines are left out. A first error behind a blank line is refused, because nobody knows whether that line
        was counted. ``Solution.meta`` holds ``answer``, ``question_type`` (original, reversed, or POT for program
        code), ``final_answer_correct`` and ``record_id``, the ``uuid`` of the file.

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
    return read(source, MR_GSM8K, on_error=on_error, limit=limit, split=split, published=True)


def _parse_ben(record: Record, solution_id: str, counts: Counter[str]) -> list[LabelledSolution]:
    question, choices = record.text("Question"), record.note("Options") if record.value("Options", None) else None
    texts = record.value(_STEPS)
    is_code = isinstance(texts, str)
    texts = texts.split("\n") if is_code else record.texts(_STEPS)
    # The published numbers count the steps that are not blank.
    steps = [step for step in texts if step.strip()]
    first_error = _line(record, steps) if is_code else record.first_error(_INDEX, _VERDICT, "incorrect")
    meta = {
        "record_id": record.note("Question_UUID"),
        "problem_id": f"{int(problem_keys([question])[0]):016x}",
        "subject": record.note("Subject"),
        "answer": record.note("Ground_Truth_Answer") or None,
        "generator": record.note("Sampled_Model"),
    }
    # Solutions of one question are of one problem, whatever its choices, so problem_id leaves them out.
    problem = f"{question}\n{choices}" if choices else question
    labelled = from_first_error(problem, steps, first_error, solution_id, meta)
    counts["blank lines of code dropped" if is_code else "blank steps dropped"] += len(texts) - len(steps)
    return [labelled]


def _line(record: Record, lines: list[str]) -> int:
    """Return the line of code that the error field quotes, -1 if it is "N/A".

    Raises
    ------
    ContradictoryRecordError
        If no line reads so, or several do: then nobody knows which of them is the error.
    """
    quotation, is_correct = record.text(_INDEX), record.is_correct(_VERDICT, "incorrect")
    if is_correct is None or is_correct != (quotation.strip() == "N/A"):
        raise ContradictoryRecordError(
            "contradictory first error", f"{_VERDICT} is {record.value(_VERDICT)!r}, {_INDEX} {quotation!r:.60}"
        )
    if is_correct:
        return -1
    # Indentation tells equal statements of different blocks apart, but some quotations lost it.
    same = [i for i, line in enumerate(lines) if line.rstrip() == quotation.rstrip()]
    same = same or [i for i, line in enumerate(lines) if line.strip() == quotation.strip()]
    if len(same) != 1:
        raise ContradictoryRecordError(
            f"first error is {'no' if not same else 'more than one'} line",
            f"{len(same) or 'no'} line{'s' if same else ''} of the code read {quotation!r:.60}",
        )
    return same[0]


MR_BEN = Format(
    name="mr_ben",
    description='Mr-Ben\'s solutions, 1-based first error among non-blank steps, or "N/A"; later ones are not judged',
    recognises=has_fields({"Question": object, _STEPS: object, _INDEX: object}),
    parse=_parse_ben,
    labels_of=error_at(_INDEX),
    benchmark=True,
    unlabelled="right",
)


@reads_benchmark
def load_mr_ben(
    source: Source, *, on_error: OnError = "raise", limit: int | None = None, split: str | None = None
) -> StepDataset:
    """Load Mr-Ben (Zeng et al. 2024, arXiv:2406.13975).

    A file is one JSON object, from the id of a question to its solutions: ``{"q1": [{"Question_UUID": "q1",``
    ``"Subject": "math", "Question": "2 + 3 * 4?", "Options": "A: 14, B: 20", "Ground_Truth_Answer": "A",``
    ``"Sampled_Model": "M", "Model_Solution_Steps": ["3 * 4 = 12.", "", "2 + 12 = 15."],``
    ``"Model_Solution_Correctness": "incorrect", "Model_Solution_First_Error_Step": "2"}]}``. A list of such solutions,
    or JSON lines, are read too. There is one file per subject.

    Returns
    -------
    StepDataset
        ``y`` holds +1 for the steps before the first error and -1 for that step. Nobody judged later steps, so they
        are no rows. Blank steps are dropped, because the published numbers do not count them. The problem is the
        question and its options, and ``groups`` follow the question alone. In ``coding``, steps are the lines of the
        program that are not blank, and the error field quotes one of them.
        ``Solution.meta`` holds ``subject``, ``answer``, ``generator``, ``problem_id`` and ``record_id``.

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
    return read(source, MR_BEN, on_error=on_error, limit=limit, split=split, published=True)
