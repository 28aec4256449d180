"""BIG-Bench-Mistake: step-by-step answers to puzzles, each with its first logical mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import known_only, scalar_as_text
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


def _recognises(record: Any) -> bool:
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("input"), str)
        and isinstance(record.get("steps"), list)
        and "mistake_index" in record
    )


def _parse(record: Any, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    problem, steps = text_field(record, "input"), texts_field(record, "steps")
    index = any_field(record, "mistake_index")
    if index is not None and (isinstance(index, bool) or not isinstance(index, int) or index < 0):
        raise MalformedRecordError(
            "mistake_index is no index", f"mistake_index is {index!r:.60}, expected 0, 1, … or null"
        )
    answers = {
        "answer": scalar_as_text(record, "target"),
        "candidate_answer": scalar_as_text(record, "answer"),
    }
    return [
        from_first_error(problem, steps, -1 if index is None else index, solution_id, known_only(answers))
    ]


BIG_BENCH_MISTAKE = Format(
    name="big_bench_mistake",
    description="BIG-Bench-Mistake's input, steps, mistake_index: the 0-based first logical mistake, or null",
    recognises=_recognises,
    parse=_parse,
)


def load_big_bench_mistake(
    path: Any, *, on_error: str = "raise", limit: int | None = None, split: str = "train"
) -> StepDataset:
    """Load BIG-Bench-Mistake (Tyen et al. 2023, arXiv:2311.08516).

    ``{"input": "Sort: b a", "steps": ["Letters: b, a.", "Order: b, a."], "answer": "b a", "target": "a b",``
    ``"mistake_index": 1}``

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, Parquet; also gzipped) or a folder of such.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds +1 for the steps before the mistake and -1 for it; nobody judged later steps, so they are no rows.
        Only logical mistakes count: a wrong answer can come without one, and a right answer with one.
        ``Solution.meta`` holds ``answer`` (``target`` of the file) and ``candidate_answer`` (``answer`` of the file).

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For a mistake that is none of the steps, or any other record that breaks the layout.

    Examples
    --------
    >>> row = {"input": "Sort: b a", "steps": ["Letters: b, a.", "Order: b, a."], "target": "a b", "mistake_index": 1}
    >>> dataset = load_big_bench_mistake([row])
    >>> dataset.y, dataset.first_errors
    (array([ 1, -1]), [1])
    """
    return read(path, BIG_BENCH_MISTAKE, on_error=on_error, limit=limit, split=split)
