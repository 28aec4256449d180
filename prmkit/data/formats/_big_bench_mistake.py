"""BIG-Bench-Mistake: step-by-step answers to puzzles, each with its first logical mistake."""

from __future__ import annotations

from collections import Counter

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Record, error_at, from_first_error, has_fields
from prmkit.data.formats.label_words import wrong_value
from prmkit.data.formats.reading import read, reads_benchmark
from prmkit.data.formats.sources import OnError, Source


def _parse(record: Record, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    problem, steps = record.text("input"), record.texts("steps")
    index = record.value("mistake_index")
    if index is not None and (isinstance(index, bool) or not isinstance(index, int) or index < 0):
        raise wrong_value("mistake_index is no index", "mistake_index", index, "0, 1, … or null")
    # A wrong answer may come without a logical mistake, so answers are metadata and no labels.
    meta = {"answer": record.note("target"), "candidate_answer": record.note("answer")}
    first_error = -1 if index is None else index
    return [from_first_error(problem, steps, first_error, solution_id, meta)]


BIG_BENCH_MISTAKE = Format(
    name="big_bench_mistake",
    description="BIG-Bench-Mistake's input, steps, mistake_index: the 0-based first logical mistake, or null",
    recognises=has_fields({"input": str, "steps": list, "mistake_index": object}),
    parse=_parse,
    labels_of=error_at("mistake_index"),
    benchmark=True,
    unlabelled="right",
)


@reads_benchmark
def load_big_bench_mistake(
    source: Source, *, on_error: OnError = "raise", limit: int | None = None, split: str | None = None
) -> StepDataset:
    """Load BIG-Bench-Mistake (Tyen et al. 2023, arXiv:2311.08516).

    ``{"input": "Sort: b a", "steps": ["Letters: b, a.", "Order: b, a."], "answer": "b a", "target": "a b",``
    ``"mistake_index": 1}``

    Returns
    -------
    StepDataset
        ``y`` holds +1 for the steps before the mistake and -1 for it. Nobody judged later steps, so they are no rows.
        Only logical mistakes count: a wrong answer can come without one, and a right answer with one.
        ``Solution.meta`` holds ``answer`` (``target`` of the file) and ``candidate_answer`` (``answer`` of the file).

    Examples
    --------
    >>> row = {"input": "Sort: b a", "steps": ["Letters: b, a.", "Order: b, a."], "target": "a b", "mistake_index": 1}
    >>> dataset = load_big_bench_mistake([row])
    >>> dataset.y, dataset.first_errors
    (array([ 1, -1]), [1])
    """
    return read(source, BIG_BENCH_MISTAKE, on_error=on_error, limit=limit, split=split, published=True)
