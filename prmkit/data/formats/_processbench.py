"""ProcessBench: solutions of competition problems, each with the first wrong step that people found in it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Record, error_at, from_first_error, has_fields
from prmkit.data.formats.label_words import wrong_value
from prmkit.data.formats.reading import read, reads_benchmark
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import MalformedRecordError


def _parse(record: Record, solution_id: str, counts: Counter[str]) -> list[LabelledSolution]:
    problem, steps = record.text("problem"), record.texts("steps")
    label = record.value("label")
    if isinstance(label, bool) or not isinstance(label, int):
        raise wrong_value("label is no index", "label", label, "the 0-based first error, or -1")
    # A right final answer may follow a wrong step, so it is metadata and no label.
    meta = {"generator": record.note("generator"), "final_answer_correct": record.flag("final_answer_correct", counts)}
    own_id = record.note("id")
    solution_id = solution_id if own_id is None else own_id
    return [from_first_error(problem, steps, label, solution_id, meta)]


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    solution = labelled.solution
    if labelled.first_error is None:
        raise MalformedRecordError("unknown first error", "the labels do not tell which step is the first wrong one")
    meta = solution.meta or {}
    return {
        "id": solution.id,
        "generator": meta.get("generator"),
        "problem": solution.problem,
        "steps": list(solution.steps),
        "final_answer_correct": meta.get("final_answer_correct"),
        "label": labelled.first_error,
    }


PROCESSBENCH = Format(
    name="processbench",
    description="ProcessBench's problem, steps, label: the 0-based first error, later steps are not judged",
    # Rows of the formats rated and flat have these fields too.
    recognises=has_fields({"problem": str, "steps": list, "label": int}, without=("labels", "step", "text", "prefix")),
    parse=_parse,
    write=_write,
    unlabelled="right",
    # The published files are JSON arrays.
    json_array=True,
    labels_of=error_at("label"),
    benchmark=True,
)


@reads_benchmark
def load_processbench(
    source: Source, *, on_error: OnError = "raise", limit: int | None = None, split: str | None = None
) -> StepDataset:
    """Load ProcessBench (Zheng et al. 2024, arXiv:2412.06559).

    ``{"id": "gsm8k-7", "generator": "M", "problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "2 + 12 = 15."],``
    ``"final_answer_correct": false, "label": 1}``

    The published files begin with the solutions whose final answer is wrong, so ``limit`` gives no random sample.

    Returns
    -------
    StepDataset
        ``y`` holds +1 for the steps before ``label`` and -1 for that step. Nobody judged later steps, so they are no
        rows. +1 means "not wrong", so neutral steps are among them. ``first_errors`` are the labels. ``Solution.meta``
        holds ``generator`` and ``final_answer_correct``. A right answer may follow a wrong step.

    Examples
    --------
    >>> row = {"id": "a", "problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "2 + 12 = 15.", "So 15."], "label": 1}
    >>> dataset = load_processbench([row])
    >>> dataset.y, dataset.first_errors
    (array([ 1, -1]), [1])
    """
    return read(source, PROCESSBENCH, on_error=on_error, limit=limit, split=split, published=True)
