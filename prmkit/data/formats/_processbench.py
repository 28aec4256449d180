"""ProcessBench: solutions of competition problems, each with the first wrong step that people found in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import known_only
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
        and isinstance(record.get("problem"), str)
        and isinstance(record.get("steps"), list)
        and isinstance(record.get("label"), int)
        and not {"labels", "step", "text", "prefix"} & set(record)
    )


def _parse(record: Any, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    problem, steps = text_field(record, "problem"), texts_field(record, "steps")
    label = any_field(record, "label")
    if isinstance(label, bool) or not isinstance(label, int):
        raise MalformedRecordError(
            "label is no index", f"label is {label!r:.60}, expected the 0-based first error, or -1"
        )
    correct = any_field(record, "final_answer_correct", None)
    if correct is not None and not isinstance(correct, bool):
        raise MalformedRecordError(
            "final_answer_correct is no boolean", f"final_answer_correct is {correct!r:.60}"
        )
    meta = known_only({"generator": text_field(record, "generator", None), "final_answer_correct": correct})
    own_id = text_field(record, "id", None)
    return [from_first_error(problem, steps, label, solution_id if own_id is None else own_id, meta)]


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    solution = labelled.solution
    if labelled.first_error is None:
        raise MalformedRecordError(
            "unknown first error", "the labels do not tell which step is the first wrong one"
        )
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
    recognises=_recognises,
    parse=_parse,
    write=_write,
    as_one=True,
)


def load_processbench(
    path: Any, *, on_error: str = "raise", limit: int | None = None, split: str = "train"
) -> StepDataset:
    """Load ProcessBench (Zheng et al. 2024, arXiv:2412.06559).

    ``{"id": "gsm8k-7", "generator": "M", "problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "2 + 12 = 15."],``
    ``"final_answer_correct": false, "label": 1}``

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (a JSON array, JSON lines, Parquet; also gzipped) or a folder of such.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most. The published files begin with the wrong final answers, so that is no sample.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds +1 for the steps before ``label`` and -1 for that one; nobody judged later steps, so they are no
        rows. +1 means "not wrong": neutral steps are among them. ``first_errors`` are the labels. ``Solution.meta``
        holds ``generator`` and ``final_answer_correct``: a right answer may follow a wrong step, so that is no label.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For a label that is none of the steps, or any other record that breaks the layout.

    Examples
    --------
    >>> row = {"id": "a", "problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "2 + 12 = 15.", "So 15."], "label": 1}
    >>> dataset = load_processbench([row])
    >>> dataset.y, dataset.first_errors
    (array([ 1, -1]), [1])
    """
    return read(path, PROCESSBENCH, on_error=on_error, limit=limit, split=split)
