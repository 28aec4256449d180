"""Flat rows: one step and its label each, as in a table that somebody labelled by hand."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    ReadEach,
    Reading,
    Record,
    check_writable_ratings,
    from_ratings,
    has_fields,
    labels_at,
)
from prmkit.data.formats.label_words import Label, Meaning, check_meaning, map_of_labels, rating_of, wrong_value
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import Found, OnError, Source
from prmkit.data.labels import NAMES, RATINGS
from prmkit.data.step_tables import Faults, LookUp, check_names, table_of_records, warn_of_unused_numbers

_STEP_NUMBERS = ("step_number", "step_num", "step_no", "step_index", "step_idx", "step")
"""Columns that number the steps of a solution. ``step`` does so where the text stands in ``text``."""
_NUMBERS = ("step_id", "number", "order", "index", "position", "idx")
"""Columns that may number the steps of a solution, or the rows of the table."""
_SOLUTIONS = ("solution_id", "solution_index", "sample_id", "sample_index", "completion_id", "candidate_id")
_has_step = has_fields({"step": str, "label": (str, int, float)})
_has_text = has_fields({"text": str, "label": (str, int, float)})


def _recognises(value: object) -> bool:
    return _has_step(value) or _has_text(value)


def _parse(
    record: Record,
    solution_id: str,
    _counts: Counter[str],
    *,
    label_map: Mapping[Any, Any] | None = None,
    worst: Label | None = None,
    labels: Meaning | None = None,
) -> list[LabelledSolution]:
    text = record.text("step" if "step" in record else "text")
    problem, prefix = record.text("problem", ""), _prefix(record)
    rating = _look_up(label_map, worst, labels)(record.value("label"), "label")
    return [from_ratings(problem, [*prefix, text], [None] * len(prefix) + [rating], solution_id, _meta(record))]


def _meta(record: Record) -> dict[str, Any] | None:
    problem_id = record.value("problem_id", None)
    if not isinstance(problem_id, (str, int, float)):
        problem_id = record.note("problem_id")
    return None if problem_id is None else {"problem_id": problem_id}


def _look_up(label_map: Mapping[Any, Any] | None, worst: Label | None, labels: Meaning | None) -> LookUp:
    """Return the function of a label and its name that gives the rating."""
    check_meaning(labels)
    if labels is None:
        return map_of_labels(label_map, worst)
    if label_map is not None:
        raise ValueError(f"labels={labels!r} and label_map exclude each other: the map says what each label means")
    return lambda label, name: rating_of(label, name, labels)


def _together(records: Iterator[Found], read_each: ReadEach, reading: Reading) -> Iterator[LabelledSolution]:
    """Yield the solutions of rows. Rows with the number of a step and without a prefix follow each other."""
    first = next(records, None)
    if first is None:
        return
    if not isinstance(first.record, Mapping) or "prefix" in first.record:
        yield from read_each(chain([first], records))
        return
    rows: Iterable[Found] = chain([first], records)
    if any(_is_number(first.record.get(name)) for name in (*_STEP_NUMBERS, *_NUMBERS)):
        rows = list(rows)
        if (order := _order_column(rows)) is not None:
            yield from _grouped(rows, _columns(rows, order), reading)
            return
    yield from _alone(read_each(rows))


def _order_column(rows: Sequence[Found]) -> str | None:
    """Return the column that numbers the steps of each solution. None if there is none."""
    first = rows[0].record
    for name in (*_STEP_NUMBERS, *_NUMBERS):
        if not _is_number(first.get(name)) or (name == "step" and not isinstance(first.get("text"), str)):
            continue
        cells = [found.record for found in rows if isinstance(found.record, Mapping)]
        if any(cell.get("prefix") for cell in cells):
            return None
        numbers = {str(cell.get(name)) for cell in cells}
        problems = {(str(cell.get("problem")), str(cell.get("problem_id"))) for cell in cells}
        # A number of its own for each row of the table is no number of a step.
        if name in _STEP_NUMBERS or len(numbers) < len(cells) or len(problems) == 1 < len(cells):
            return name
    return None


def _is_number(value: object) -> bool:
    is_text = isinstance(value, str) and value.strip().removesuffix(".0").isdecimal()
    return is_text or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _columns(rows: Sequence[Found], order: str) -> dict[str, str | None]:
    """Return the column of each part of rows that are numbered."""
    known = dict.fromkeys(name for found in rows if isinstance(found.record, Mapping) for name in found.record)
    return {
        "problem": "problem" if "problem" in known else None,
        "problem_id": "problem_id" if "problem_id" in known else None,
        "step": "step" if isinstance(rows[0].record.get("step"), str) and order != "step" else "text",
        "order": order,
        "label": "label",
        "solution": next((name for name in _SOLUTIONS if name in known), None),
    }


def _grouped(rows: Sequence[Found], columns: Mapping[str, str | None], reading: Reading) -> Iterator[LabelledSolution]:
    """Yield the solutions of rows with one step each, as ``StepDataset.from_frame`` groups them."""
    label_map, worst, labels = (reading.options.get(name) for name in ("label_map", "worst", "labels"))
    look_up = None if label_map is None and labels is None and worst is None else _look_up(label_map, worst, labels)
    faults = Faults(reading.counts, reading.skipped)
    table = table_of_records(rows, columns, faults, look_up=look_up, on_error=reading.on_error)
    warn_of_unused_numbers(table, columns)
    reading.counts["records"] += len(rows)
    table.account.report(reading.counts)
    for one in table.solutions:
        # Where the limit cuts the table, the last solution may go on.
        is_cut = reading.limit == len(rows) and any(row.number == table.n_rows - 1 for row in one.rows)
        meta = _meta(Record(table.cells[one.rows[0].number]))
        first_error = replace(one, is_whole=one.is_whole and not is_cut).first_error()
        ratings = tuple(row.rating for row in one.rows)
        yield LabelledSolution(one.to_solution(meta), ratings, first_error)


def _alone(solutions: Iterator[LabelledSolution]) -> Iterator[LabelledSolution]:
    """Yield solutions of one step, and warn if several of them share a problem: they may belong together."""
    n_of: Counter[str] = Counter()
    for labelled in solutions:
        n_of[labelled.solution.problem] += bool(labelled.solution.problem)
        yield labelled
    several = [n for n in n_of.values() if n > 1]
    if several:
        warnings.warn(
            f"{sum(several)} rows share {len(several)} problems, and have neither a prefix nor the number of a step: "
            "each is read as a solution of one step, without the steps before it. If the rows of a problem follow each "
            "other, StepDataset.from_frame(…) reads them in the order of the table, or add a column step_number",
            UserWarning,
            stacklevel=2,
        )


def _prefix(record: Record) -> list[str]:
    prefix = record.value("prefix", [])
    if isinstance(prefix, str):  # a cell of a CSV table
        try:
            prefix = json.loads(prefix) if prefix.strip() else []
        except (ValueError, RecursionError):
            raise wrong_value("prefix is no list", "prefix", prefix, "a JSON list") from None
    return Record({"prefix": prefix}).texts("prefix")


def _write(labelled: LabelledSolution) -> list[dict[str, Any]]:
    check_writable_ratings(labelled, hard_only="flat rows hold classes")
    solution, name_of = labelled.solution, dict(zip(RATINGS, NAMES, strict=True))
    rows = [
        {
            "problem": solution.problem,
            "prefix": list(solution.steps[:index]),
            "step": solution.steps[index],
            "label": name_of[int(rating)],
        }
        for index, rating in enumerate(labelled.ratings)
        if rating is not None
    ]
    problem_id = (solution.meta or {}).get("problem_id")
    return rows if problem_id is None else [{**row, "problem_id": problem_id} for row in rows]


FLAT = Format(
    name="flat",
    description="one step per row: text and label, or problem, prefix, step and label",
    recognises=_recognises,
    parse=_parse,
    write=_write,
    labels_of=labels_at("label"),
    together=_together,
)


def table_format(columns: Mapping[str, str]) -> Format:
    """Return the format of a table with one step per row, whose columns are named."""

    def together(records: Iterator[Found], _: ReadEach, reading: Reading) -> Iterator[LabelledSolution]:
        rows = list(records)
        if rows:
            check_names(columns, None, [found.record for found in rows])
            yield from _grouped(rows, columns, reading)

    named = ", ".join(f"{part}={name!r}" for part, name in columns.items())
    return replace(FLAT, name="fields", description=f"one step per row: {named}", write=None, together=together)


@reads
def load_flat(
    source: Source,
    label_map: Mapping[Any, Any] | None = None,
    *,
    worst: str | float | bool | None = None,
    labels: Meaning | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    """Load rows of one step each.

    ``{"text": "3 * 4 = 12.", "label": "positive"}`` or
    ``{"problem": "2 + 3 * 4?", "prefix": ["3 * 4 = 12."], "step": "So 15.", "label": "negative", "problem_id": 7}``

    In CSV a prefix is a JSON list. Rows without a prefix and with the number of a step (``step_number``,
    ``step_index``, or ``step`` beside ``text``) follow each other: they become solutions as in
    ``StepDataset.from_frame``, and a row without a label is context.

    Parameters
    ----------
    label_map : mapping, optional
        Rating of each label of the file: -1, 0 or +1, or "negative", "neutral" or "positive". Other numbers only order
        the labels, and ``worst`` then says at which end the worst is. If None, labels are the three names, "+" and
        "-", or booleans. Bare numbers need a map, because 0 is wrong in some files and neutral in others.
    worst : label, optional
        Label of the worst class, where the values of ``label_map`` are class numbers such as 0, 1, 2.
    labels : {"rating", "binary", "soft"}, optional
        Meaning of numbers, in place of a map. "binary": 0 wrong, 1 right. "rating": -1 wrong, 0 neutral, 1 right.
        "soft": the probability that the step is right.

    Returns
    -------
    StepDataset
        One row per labelled record, in its order; numbered rows by solution. A text alone is a step without problem
        and prefix. ``groups`` follow ``problem_id`` if every row has one, else the problem texts.

    Warns
    -----
    UserWarning
        If rows have neither a problem nor a ``problem_id``: splitting by problem is then impossible. If several rows
        have the same problem, and neither a prefix nor a number.

    Examples
    --------
    >>> X, y = load_flat([{"problem": "2 + 3?", "step": "2 + 3 = 5.", "label": "good"}], {"good": 1, "bad": -1})
    >>> X[0].text, y
    ('2 + 3 = 5.', array([1]))
    >>> rows = [{"problem": "2 + 3?", "step": "2 + 3 = 6.", "label": "negative"}]
    >>> load_flat(rows, {"negative": 2, "neutral": 1, "positive": 0}, worst="negative").y
    array([-1])
    """
    return read(
        source, FLAT, on_error=on_error, limit=limit, split=split, label_map=label_map, worst=worst, labels=labels
    )
