"""Tables of steps: rows that follow each other become solutions, and each fault is named by its row."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any, TypeAlias

import numpy as np

from prmkit.data.formats.label_words import (
    Meaning,
    Rating,
    check_meaning,
    map_of_labels,
    meaning_of_column,
    rating_of,
    wrong_type,
    wrong_value,
)
from prmkit.data.formats.sources import (
    MALFORMED,
    Found,
    LabelAccount,
    OnError,
    Source,
    check_reading,
    iter_records,
    name_of,
    named_skips,
    warn_of_skipped,
)
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.labels import is_blank, is_missing, ratings_to_first_error
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution, Step
from prmkit.data.solution_lines import typed_column

LookUp: TypeAlias = Callable[[object, str], Rating]
"""A function of a label and its name that returns the rating, as `map_of_labels` makes it."""
_N_ROWS_NAMED = 8
"""Number of rows that one fault names."""
_GAP = "Rows without a label belong into the table too: they are context"
_PASS_STEP = "Pass step='…', the column of the texts, and order='…', the column of their numbers"
_PASS_SOLUTION = "name the column that tells them apart, StepDataset.from_frame(…, solution='…')"


@dataclass(slots=True)
class TableRow:
    """A row of a table: a step, and what tells where it belongs.

    Parameters
    ----------
    number : int
        Place in the table, from 0. A number is left out where a row could not be read.
    place : str
        Name of the row in messages.
    id : str
        Id of the row, for a solution without a name of its own.
    problem : str
        Text of the problem.
    key : hashable
        What is equal for two rows of the same problem. None until the keys of all problems are made.
    solution : str or None
        Name of the solution among those of its problem. None if the table has no column for it.
    order : int or None
        Number of the step in its solution. None if the table has no column for it.
    text : str or None
        Text of the step. None if the row has none.
    rating : int, float or None
        Label of the step.
    """

    number: int
    place: str
    id: str
    problem: str
    key: Hashable
    solution: str | None
    order: int | None
    text: str | None
    rating: Rating = None


@dataclass
class Faults:
    """What is wrong in a table: raised all at once, or counted and named.

    Parameters
    ----------
    counts : Counter
        Filled with the number of rows by the kind of their fault.
    named : list of str
        Filled with a line per fault that names its rows. Equal faults share a line.
    """

    counts: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)
    _rows: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, reason: str, detail: str, rows: Sequence[TableRow] | str) -> None:
        """Add a fault, and the rows that it costs: their step, or their label."""
        places = [rows] if isinstance(rows, str) else [row.place for row in rows]
        self.counts[f"{MALFORMED}{reason}"] += len(places)
        fault = f"{reason}: {detail}"
        line, same = self._rows.setdefault(fault, (len(self.named), []))
        same += places
        more = f" and {len(same) - _N_ROWS_NAMED} more" if len(same) > _N_ROWS_NAMED else ""
        self.named[line : line + 1] = [f"{', '.join(same[:_N_ROWS_NAMED])}{more}: {fault}"]

    def settle(self, on_error: OnError) -> None:
        """Raise ValueError for the faults so far, unless they are to be skipped."""
        if self.named and on_error == "raise":
            n_rows = len({place for _, places in self._rows.values() for place in places})
            found = "\n".join(f"{line.removeprefix('skipped: ')}." for line in named_skips(self.named))
            raise ValueError(
                f"{n_rows} rows of the table are not right:\n{found}\n"
                "Mend them, or pass on_error='skip': such rows are then left out and counted, and a solution ends "
                "where a step is missing."
            )


@dataclass(frozen=True, slots=True)
class TableSolution:
    """The rows of one solution in the order of its steps, and whether the table holds the solution to its end."""

    rows: list[TableRow]
    is_whole: bool

    def to_solution(self, meta: Mapping[str, Any] | None = None) -> Solution:
        """Return the solution."""
        first = self.rows[0]
        name = first.id if first.solution is None else first.solution
        return Solution(first.problem, [str(row.text) for row in self.rows], id=name, meta=meta)

    def first_error(self) -> int | None:
        """Return the first error, as far as the labels tell it."""
        hard = [None if isinstance(row.rating, float) else row.rating for row in self.rows]
        return ratings_to_first_error(hard if self.is_whole else [*hard, None])


def solutions_of_rows(rows: Sequence[TableRow], lost: set[int], faults: Faults) -> list[TableSolution]:
    """Group the rows of a table into solutions, in the order of their first rows.

    Rows of a problem are one solution if they have one name. Without names, a step with the first number begins a new
    solution. Without numbers, rows that stand together are one solution. A solution ends before a step that is missing
    or has several texts: later steps would lack their context.

    Parameters
    ----------
    rows : list of TableRow
        Rows in the order of the table.
    lost : set of int
        Numbers of rows that could not be read at all.
    faults : Faults
        Filled with what is wrong.
    """
    by_problem: dict[Hashable, list[TableRow]] = {}
    for row in rows:
        by_problem.setdefault((row.key, row.solution), []).append(row)
    lowest = Counter(
        min(row.order for row in part if row.order is not None)
        for part in by_problem.values()
        if part[0].order is not None
    )
    start = 0 if lowest[0] >= max(lowest[1], 1) else 1
    solutions = []
    for part in by_problem.values():
        for sequence in _sequences(part, start, faults):
            found = (
                _in_order(sequence, start, faults)
                if sequence[0].order is not None
                else _together(sequence, lost, faults)
            )
            if found.rows:
                solutions.append(found)
    solutions.sort(key=lambda one: min(row.number for row in one.rows))
    return solutions


def _sequences(rows: list[TableRow], start: int, faults: Faults) -> Iterator[list[TableRow]]:
    """Yield the rows of each solution of a problem."""
    are_numbered = rows[0].order is not None
    if rows[0].solution is not None or (are_numbered and sum(row.order == start for row in rows) <= 1):
        yield rows
        return
    # Only rows that stand together can be told apart, where a problem has several solutions without a name.
    runs = _runs(rows)
    if not are_numbered:
        yield runs[0]
        for run in runs[1:]:
            detail = (
                f"rows of the problem stand at several places of the table ({runs[0][0].place}, {run[0].place}). If "
                f"these are several solutions, {_PASS_SOLUTION}, or order='…', the number of the step"
            )
            faults.add("scattered rows", detail, run)
        return
    for run in runs:
        part: list[TableRow] = []
        for row in run:
            is_first = row.order == start and not (part and part[-1].order == start and part[-1].text == row.text)
            if is_first and part:
                yield part
                part = []
            part.append(row)
        yield part


def _runs(rows: list[TableRow]) -> list[list[TableRow]]:
    """Return the rows in parts without a row of another problem between them."""
    places = enumerate(rows)
    return [[row for _, row in run] for _, run in groupby(places, key=lambda pair: pair[1].number - pair[0])]


def _in_order(rows: list[TableRow], start: int, faults: Faults) -> TableSolution:
    """Return the rows of a solution by their numbers, up to the first step that is missing."""
    kept: list[TableRow] = []
    in_order = sorted(rows, key=lambda row: row.order or 0)
    n_seen = 0
    for expected, (number, group) in enumerate(groupby(in_order, key=lambda row: row.order), start):
        same, n_before = list(group), n_seen
        n_seen += len(same)
        same = [row for row in same if row.text is not None] or same
        if number != expected:
            after = f" after step {expected - 1} ({kept[-1].place})" if kept else ""
            detail = f"step {number} comes{after}, expected step {expected}. {_GAP}"
            if not kept and rows[0].solution is None:
                detail += f". If solutions of the problem are mixed, {_PASS_SOLUTION}"
            faults.add("gap in the order", detail, in_order[n_before:])
            return TableSolution(kept, is_whole=False)
        texts = {row.text for row in same}
        if texts == {None}:
            _leave_out_after(in_order[n_seen:], same[0], faults)
            return TableSolution(kept, is_whole=False)
        if len(texts) > 1:
            detail = f"step {number} has {len(texts)} texts. If these are several solutions, {_PASS_SOLUTION}"
            faults.add("several texts for a step", detail, in_order[n_before:])
            return TableSolution(kept, is_whole=False)
        kept.append(_one_of(same, faults))
    return TableSolution(kept, is_whole=True)


def _one_of(same: list[TableRow], faults: Faults) -> TableRow:
    """Return the row of a step among rows with the same number and text."""
    if len(same) == 1:
        return same[0]
    labelled = [row for row in same if row.rating is not None] or same
    first = labelled[0]
    if len({row.rating for row in labelled}) > 1:
        faults.add("contradictory labels", f"step {first.order} stands there with different labels", same)
        return replace(first, rating=None)
    repeated = [row for row in same if row is not first]
    faults.add("repeated row", f"step {first.order} stands in {first.place} already, with the same text", repeated)
    return first


def _together(rows: list[TableRow], lost: set[int], faults: Faults) -> TableSolution:
    """Return the rows of a solution in the order of the table, up to the first that could not be read."""
    for i, row in enumerate(rows):
        if row.text is None:
            _leave_out_after(rows[i + 1 :], row, faults)
            return TableSolution(rows[:i], is_whole=False)
        between = range(rows[i - 1].number + 1 if i else row.number, row.number)
        if between and all(number in lost for number in between):
            faults.add("step missing", "a row before it could not be read, and may be a step of the solution", rows[i:])
            return TableSolution(rows[:i], is_whole=False)
    return TableSolution(rows, is_whole=True)


def _leave_out_after(rows: list[TableRow], row: TableRow, faults: Faults) -> None:
    if rows:
        faults.add("step missing", f"the step before has no text ({row.place})", rows)


@dataclass
class StepTable:
    """What a table holds: its solutions, and the cells of its rows.

    Parameters
    ----------
    solutions : list of TableSolution
        Solutions in the order of their first rows.
    cells : dict of int to mapping
        The cells of each row that could be read, by its number.
    n_rows : int
        Number of rows of the table.
    faults : Faults
        Faults that were skipped.
    account : LabelAccount
        Labels that were read and lost.
    """

    solutions: list[TableSolution]
    cells: dict[int, Mapping[str, Any]]
    n_rows: int
    faults: Faults
    account: LabelAccount

    def to_solutions(self) -> list[Solution]:
        """Return the solutions, with what a generator told of the tokens of each step as metadata."""
        found = []
        for one in self.solutions:
            lists = [self.cells[row.number].get("token_logprobs") for row in one.rows]
            told = any(part is not None for part in lists)
            found.append(one.to_solution({"token_logprobs": lists} if told else None))
        return found


def read_step_table(
    frame: Source,
    columns: Mapping[str, str | None],
    *,
    look_up: LookUp | None = None,
    labels: Meaning | None = None,
    on_error: OnError = "raise",
    split: str | None = None,
) -> StepTable:
    """Read a table with one step per row. ``columns`` names those of problem, step, order, solution and label.

    Raises
    ------
    ValueError
        If a column is missing, if nothing tells what the labels mean, or if rows have a fault that is not skipped.
    """
    check_reading(on_error, None)
    check_meaning(labels)
    faults = Faults()
    records = list(iter_records(frame, split=split, on_error=on_error, counts=faults.counts))
    if not records:
        raise ValueError(f"{name_of(frame)} holds no rows, expected one per step")
    check_names(columns, frame, [found.record for found in records])
    table = table_of_records(records, columns, faults, look_up=look_up, labels=labels, on_error=on_error)
    warn_of_unused_numbers(table, columns)
    return table


def warn_of_unused_numbers(table: StepTable, columns: Mapping[str, str | None]) -> None:
    """Warn if a column counts the steps, and begins again within what was read as one solution."""
    if columns.get("order") is not None or columns.get("solution") is not None:
        return
    records = iter(table.cells.values())
    names = set(next(records, ())) - set(columns.values())
    for cells in records:
        names &= cells.keys()
    for name in sorted(names, key=str):
        begins_again = False
        for one in table.solutions:
            numbers = [_counted(table.cells[row.number][name]) for row in one.rows]
            # Each number follows the one before, or is the first again.
            if numbers[0] is None or not all(b in (numbers[0], (a or 0) + 1) for a, b in pairwise(numbers)):
                break
            begins_again = begins_again or numbers.count(numbers[0]) > 1 < len(set(numbers))
        else:
            if begins_again:
                warnings.warn(
                    f"the column {name!r} counts from its first number again within rows that were read as one "
                    f"solution. If it numbers the steps, pass order={name!r}: then these are several solutions",
                    UserWarning,
                    stacklevel=5,
                )


def _counted(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if str(value).strip().isdecimal() else None


def table_of_records(
    records: Iterable[Found],
    columns: Mapping[str, str | None],
    faults: Faults,
    *,
    look_up: LookUp | None = None,
    labels: Meaning | None = None,
    on_error: OnError = "raise",
) -> StepTable:
    """Group records with one step each. ``columns`` may name a ``problem_id``, which then tells problems apart.

    Raises
    ------
    ValueError
        If nothing tells what the labels mean, or if rows have a fault that is not skipped.
    """
    named = {part: name for part, name in columns.items() if name is not None}
    label = named.get("label")
    cells: dict[int, Mapping[str, Any]] = {}
    rows: list[TableRow] = []
    n_rows = 0
    for number, found in _numbered(records):
        n_rows = number + 1
        try:
            rows.append(_row(found, number, _place(found), named))
            cells[number] = found.record
        except MalformedRecordError as error:
            faults.add(error.reason, str(error).removeprefix(f"{error.reason}: "), _place(found))
    _refuse_numbers_as_steps(rows, named["step"])
    for row in rows:
        if row.text is None:
            faults.add("without a text", f"{named['step']} is empty", [row])
    raw = (
        {}
        if label is None
        else {row.number: None if is_blank(cell := cells[row.number].get(label)) else cell for row in rows}
    )
    unknown = _rate(rows, raw, label or "", look_up, labels, faults)
    rated = {row.number for row in rows if row.rating is not None}
    for row, key in zip(rows, problem_keys([row.problem for row in rows]).tolist(), strict=True):
        row.key = key if row.key is None else row.key
    solutions = solutions_of_rows(rows, set(range(n_rows)) - {row.number for row in rows}, faults)
    faults.settle(on_error)
    account = LabelAccount()
    kept = {row.number for one in solutions for row in one.rows if row.rating is not None}
    without_label = unknown | (rated - kept)
    for is_lost in (False, True):
        account.add((value for number, value in raw.items() if (number in without_label) == is_lost), lost=is_lost)
    return StepTable(solutions, cells, n_rows, faults, account)


def table_arguments(
    frame: Source,
    columns: Mapping[str, str | None],
    *,
    label_map: Mapping[Any, Any] | None,
    labels: Meaning | None,
    on_error: OnError,
    split: str | None,
) -> dict[str, Any]:
    """Return the arguments that make a data set of a table. See ``StepDataset.from_frame``."""
    if labels is not None and label_map is not None:
        raise ValueError(f"labels={labels!r} and label_map exclude each other: the map says what each label means")
    look_up = None if label_map is None else map_of_labels(label_map)
    table = read_step_table(frame, columns, look_up=look_up, labels=labels, on_error=on_error, split=split)
    solutions = table.to_solutions()
    rows = sorted(
        (
            (row, Step(made, index))
            for one, made in zip(table.solutions, solutions, strict=True)
            for index, row in enumerate(one.rows)
            if row.rating is not None
        ),
        key=lambda pair: pair[0].number,
    )
    counts: Counter[str] = Counter({"rows": table.n_rows})
    counts.update(table.faults.counts)
    table.account.report(counts)
    n_steps = sum(len(one.rows) for one in table.solutions)
    counts["solutions"], counts["labelled steps"], counts["steps without a label"] = (
        len(solutions),
        len(rows),
        n_steps - len(rows),
    )
    named = ", ".join(f"{part}={name!r}" for part, name in columns.items() if name is not None)
    lines = [f"table of steps: {named}", f"from {name_of(frame)}", *(f"{reason}: {n}" for reason, n in counts.items())]
    description = "\n".join([*lines, *named_skips(table.faults.named)])
    if not rows:
        raise ValueError(f"no labelled step is left, expected at least one. What was read:\n{description}")
    warn_of_skipped(counts, rows=True)
    others = [
        name
        for name in dict.fromkeys(n for record in table.cells.values() for n in record)
        if name not in columns.values()
    ]
    cells = {str(name): typed_column([table.cells[row.number].get(name) for row, _ in rows]) for name in others}
    is_soft = any(isinstance(row.rating, float) for row, _ in rows)
    return {
        "X": [one for _, one in rows],
        "y": np.array([row.rating for row, _ in rows]),
        "solutions": solutions,
        "description": description,
        "first_errors": [one.first_error() for one in table.solutions],
        "rows": {**cells, "table_row": np.array([row.number for row, _ in rows])},
        "counts": dict(counts),
        "vocabulary": "soft" if is_soft else "rating",
    }


def _numbered(records: Iterable[Found]) -> Iterator[tuple[int, Found]]:
    """Yield records and their places in the table, from 0. A line that was passed over takes a place too."""
    number, before = -1, -1
    for found in records:
        last = found.solution_id.rpartition(":")[2]
        line = int(last) if last.isdecimal() else -1
        number += line - before if 0 <= before < line else 1
        before = line
        yield number, found


def _place(found: Found) -> str:
    return found.place.replace("record", "row", 1) if found.place.startswith("record") else found.place


def check_names(columns: Mapping[str, str | None], frame: Source | None, records: list[Any]) -> None:
    """Raise ValueError if a column is missing, stands twice in the table, or is named for two parts."""
    named = {part: name for part, name in columns.items() if name is not None}
    known = dict.fromkeys(name for record in records if isinstance(record, Mapping) for name in record)
    shown = ", ".join(map(repr, known)) or f"none, but {type(records[0]).__name__}"
    twice = Counter(named.values())
    in_frame = getattr(frame, "column_names", getattr(frame, "columns", None))
    if missing := {part: name for part, name in named.items() if name not in known}:
        in_index = set(missing.values()) & set(getattr(getattr(frame, "index", None), "names", None) or ())
        parts = ", ".join(f"{part}='…'" for part in missing)
        hint = f"its index has the name: pass frame.reset_index(), or {parts}" if in_index else f"pass {parts}"
        marks = [mark for mark in ";\t|" if len(known) == 1 and mark in str(next(iter(known)))]
        hint += (
            f". If {marks[0]!r} separates columns, read it with pandas.read_csv(…, sep={marks[0]!r})" if marks else ""
        )
        names = ", ".join(map(repr, missing.values()))
        raise ValueError(f"the table has no column {names}; its columns are {shown}: {hint}")
    for name in named.values():
        if twice[name] > 1:
            parts = " and ".join(other for other, of_other in named.items() if of_other == name)
            raise ValueError(f"the column {name!r} is named for {parts}, expected a column for each")
        if sum(isinstance(other, str) and other == name for other in ([] if in_frame is None else in_frame)) > 1:
            raise ValueError(f"the table has two columns {name!r}: drop or rename one")


def _row(found: Found, number: int, place: str, named: Mapping[str, str]) -> TableRow:
    """Return a row without its label. Raise MalformedRecordError if it has no place among the steps."""
    cells = found.record
    if not isinstance(cells, Mapping):
        detail = f"{cells!r:.60} has not one cell per column" if isinstance(cells, list) else f"{cells!r:.60}"
        raise MalformedRecordError("no row", detail)
    own_id = cells.get(named["problem_id"]) if "problem_id" in named else None
    is_told = own_id is not None or "problem" not in named
    problem = (
        "" if is_told and is_missing(cells.get(named.get("problem", ""))) else _name(cells, named["problem"], "problem")
    )
    key = None if own_id is None else ("id", str(own_id))
    solution = _name(cells, named["solution"], "solution") if "solution" in named else None
    order = _order(cells, named["order"]) if "order" in named else None
    name = named["step"]
    text = None if is_missing(cells.get(name)) else cells[name]
    if text is not None and not isinstance(text, str):
        error = wrong_type("step is no text", name, text)
        raise MalformedRecordError(error.reason, f"{name} is {type(text).__name__} ({text!r:.60}). {_PASS_STEP}")
    return TableRow(number, place, found.solution_id, problem, key, solution, order, text)


def _name(cells: Mapping[str, Any], name: str, part: str) -> str:
    """Return a text, or a number as text."""
    value = cells.get(name)
    if is_blank(value):
        raise MalformedRecordError(f"without a {part}", f"{name} is empty")
    if isinstance(value, (list, Mapping)):
        raise wrong_type(f"{part} is no text", name, value)
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _order(cells: Mapping[str, Any], name: str) -> int:
    value: Any = cells.get(name)
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}(\.0*)?\s*", value):
        value = float(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or value != value or value in (float("inf"), -float("inf")) or value != int(value) or value < 0:
        raise wrong_value("without a number", name, value, "the number of the step in its solution, from 0 or 1")
    return int(value)


def _refuse_numbers_as_steps(rows: Sequence[TableRow], step: str) -> None:
    texts = [row.text for row in rows if row.text is not None]
    if len(texts) > 1 and all(re.fullmatch(r"\s*\d{1,3}\s*", text) for text in texts):
        raise ValueError(f"the column {step!r} holds numbers alone, expected the texts of the steps. {_PASS_STEP}")


def _rate(
    rows: list[TableRow],
    labels: Mapping[int, object],
    name: str,
    look_up: LookUp | None,
    meaning: Meaning | None,
    faults: Faults,
) -> set[int]:
    """Set the rating of each row, and return the numbers of those whose label is unknown."""
    if look_up is None and meaning is None:
        meaning = meaning_of_column([label for label in labels.values() if label is not None], name)
    seen = list(dict.fromkeys(repr(label) for label in labels.values() if label is not None))[:_N_ROWS_NAMED]
    hint = f". Pass label_map={{{', '.join(f'{label}: …' for label in seen)}}} with -1, 0, 1 or None for each"
    unknown: set[int] = set()
    # A column has few distinct labels. True, 1 and 1.0 are different ones.
    known: dict[tuple[type, object], Rating] = {}
    for row in rows:
        if (label := labels.get(row.number)) is None:
            continue
        key = type(label), label if isinstance(label, (str, int, float)) else id(label)
        try:
            if key not in known:
                known[key] = rating_of(label, name, meaning) if look_up is None else look_up(label, name)
            row.rating = known[key]
        except MalformedRecordError as error:
            advice = hint if isinstance(label, str) and not (look_up or meaning) else ""
            faults.add(error.reason, str(error).removeprefix(f"{error.reason}: ") + advice, [row])
            unknown.add(row.number)
    return unknown
