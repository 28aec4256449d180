"""A format: how one way of writing step labels is recognised, read and written. Every format file builds on this."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from prmkit.data.formats.label_words import Rating, wrong_type, wrong_value
from prmkit.data.formats.sources import Found, OnError
from prmkit.data.jsonlines import ContradictoryRecordError, MalformedRecordError
from prmkit.data.labels import first_error_to_ratings, ratings_to_first_error
from prmkit.data.solution import Solution

if TYPE_CHECKING:
    from prmkit.data.dataset import StepDataset

_T = TypeVar("_T")


@dataclass(frozen=True)
class LabelledSolution:
    """One solution with the labels that a format gives it.

    Parameters
    ----------
    solution : Solution
        Problem and steps. Its ``meta`` may hold ``answer`` (the reference), ``candidate_answer``, ``generator``,
        ``error_type`` and others.
    ratings : tuple of (int, float or None)
        Rating of each step.
    first_error : int or None
        0-based index of the first wrong step, -1 if no step is wrong, None if it is unknown.
    """

    solution: Solution
    ratings: tuple[Rating, ...]
    first_error: int | None


@dataclass(frozen=True)
class Reading:
    """How a source is read, and the account to fill.

    Parameters
    ----------
    on_error : {"raise", "skip"}
        What to do with a record that breaks the format.
    limit : int or None
        Largest number of records.
    counts : Counter
        Numbers of records that were read and left out.
    skipped : list of str
        Place and reason of each record that was left out.
    options : mapping
        Options of the format.
    """

    on_error: OnError
    limit: int | None
    counts: Counter[str]
    skipped: list[str]
    options: Mapping[str, Any]


ReadEach: TypeAlias = Callable[[Iterable[Found]], Iterator[LabelledSolution]]


@dataclass(frozen=True)
class Format:
    """One way of writing step labels.

    Parameters
    ----------
    name : str
        Name of the format in ``load(path, format=name)`` and ``prmkit convert --to name``.
    description : str
        One line about the fields and the meaning of a label. Command-line help and error messages show it.
    recognises : callable
        ``recognises(value)`` tells whether a JSON value can be a record of this format and of no other. `has_fields`
        makes such a function.
    parse : callable
        ``parse(record, solution_id, counts, **options)`` returns the solutions of a `Record`. It raises
        `MalformedRecordError` for a record that breaks the format, and ValueError for a senseless option. It adds to
        ``counts`` whatever it leaves out or finds doubtful. Its keyword-only parameters are the options of the format.
    write : callable, optional
        ``write(labelled)`` returns the record of a solution, or a list of records. It raises `MalformedRecordError`
        if the format cannot hold the solution. If None, prmkit reads the format and does not write it.
    unlabelled : {"unknown", "right"}, default="unknown"
        Meaning of an unlabelled step before the first wrong step, as in `ratings_to_first_error`. With "right", the
        format promises that all steps before its first error are right.
    across : callable, optional
        ``across(solutions, counts)`` gets all solutions of a source as a stream and yields those to keep. It is for a
        format that repeats a solution in several records.
    together : callable, optional
        ``together(records, read_each, reading)`` yields the solutions of records that belong together, such as rows of
        a table. ``read_each(records)`` parses them one by one, as without it. ``reading`` is a `Reading`.
    reader : callable, optional
        ``reader(source, **options)`` reads a whole source as a `StepDataset`. If None, records are read one by one.
        It is for a format that merges its records.
    json_array : bool, default=False
        Whether a file is written as one JSON array. Otherwise each line holds one record.
    labels_of : callable, optional
        ``labels_of(record)`` returns the labels in a record as they are written, for an account of those that skipped
        records take along. `labels_at` and `error_at` make such functions.
    benchmark : bool, default=False
        Whether the format is that of a published benchmark, of which some rows contradict themselves. Its loader and
        ``evaluate`` count, leave out and name such rows. ``load`` raises, because a file may be your own.

    Attributes
    ----------
    options : dict
        Options of ``parse`` and their defaults.
    """

    name: str
    description: str
    recognises: Callable[[object], bool]
    parse: Callable[..., Iterable[LabelledSolution]]
    write: Callable[[LabelledSolution], dict[str, Any] | list[dict[str, Any]]] | None = None
    unlabelled: Literal["unknown", "right"] = "unknown"
    across: Callable[[Iterator[LabelledSolution], Counter[str]], Iterator[LabelledSolution]] | None = None
    together: Callable[[Iterator[Found], ReadEach, Reading], Iterator[LabelledSolution]] | None = None
    reader: Callable[..., StepDataset] | None = None
    json_array: bool = False
    labels_of: Callable[[Mapping[str, Any]], Sequence[object]] | None = None
    benchmark: bool = False

    @cached_property
    def options(self) -> dict[str, Any]:
        """Return the keyword-only parameters of ``parse`` with their defaults."""
        parameters = inspect.signature(self.parse).parameters.values()
        return {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}

    def solutions_of(
        self, record: object, solution_id: str, counts: Counter[str], **options: Any
    ) -> list[LabelledSolution]:
        """Parse the JSON value of a record, and complete its first errors by the package's one rule."""
        solutions = list(self.parse(Record(record), solution_id, counts, **options))
        if self.unlabelled == "unknown":
            return solutions
        return [
            replace(labelled, first_error=first_error_of(labelled.ratings, self.unlabelled))
            if labelled.first_error is None
            else labelled
            for labelled in solutions
        ]


def labels_at(name: str) -> Callable[[Mapping[str, Any]], Sequence[object]]:
    """Make a function for ``Format(labels_of=…)`` that returns the labels of all steps."""

    def labels_of(record: Mapping[str, Any]) -> Sequence[object]:
        value = from_cell(record.get(name))
        return value if isinstance(value, list) else [] if value is None else [value]

    return labels_of


def error_at(name: str) -> Callable[[Mapping[str, Any]], Sequence[object]]:
    """Make a function for ``Format(labels_of=…)`` that tells whether a solution has an error."""

    def labels_of(record: Mapping[str, Any]) -> Sequence[object]:
        if name not in record:
            return []
        value = record[name]
        return ["no error" if value in (-1, None, [], "-1") or str(value).strip() == "N/A" else "an error"]

    return labels_of


def first_error_of(ratings: Sequence[Rating], unlabelled: Literal["unknown", "right"] = "unknown") -> int | None:
    """Apply `ratings_to_first_error`. A probability says as little of a first error as no label."""
    hard = [None if isinstance(rating, float) else rating for rating in ratings]
    return ratings_to_first_error(hard, unlabelled=unlabelled)


def from_ratings(
    problem: str,
    steps: Sequence[str],
    ratings: Sequence[Rating],
    solution_id: str,
    meta: Mapping[str, Any] | None = None,
) -> LabelledSolution:
    """Return a solution whose steps are rated one by one.

    Raises
    ------
    MalformedRecordError
        If there are no steps, or another number of ratings than of steps.
    """
    solution = _solution(problem, steps, solution_id, meta)
    if len(ratings) != len(steps):
        raise ContradictoryRecordError("unequal lengths", f"{len(ratings)} labels for {len(steps)} steps")
    return LabelledSolution(solution, tuple(ratings), first_error_of(ratings))


def from_first_error(
    problem: str, steps: Sequence[str], first_error: int, solution_id: str, meta: Mapping[str, Any] | None = None
) -> LabelledSolution:
    """Return a solution whose first error is known: the steps before it are right, later ones are not judged.

    Raises
    ------
    MalformedRecordError
        If there are no steps, or the first error is none of them.
    """
    solution = _solution(problem, steps, solution_id, meta)
    if not -1 <= first_error < len(steps):
        detail = f"0-based index {first_error} of {len(steps)} steps"
        raise ContradictoryRecordError("first error beyond the steps", detail)
    return LabelledSolution(solution, first_error_to_ratings(first_error, len(steps)), first_error)


def _solution(problem: str, steps: Sequence[str], solution_id: str, meta: Mapping[str, Any] | None) -> Solution:
    """Return a solution, without the metadata that are null."""
    if not steps:
        raise MalformedRecordError("no steps", "the list of steps is empty")
    known = None if meta is None else {name: value for name, value in meta.items() if value is not None}
    return Solution(problem, tuple(steps), id=solution_id, meta=known)


class Record:
    """A record whose fields are checked when they are read. Each method raises `MalformedRecordError`.

    Parameters
    ----------
    value : object
        JSON value of the record. Everything but an object is refused.

    Attributes
    ----------
    fields : mapping
        Fields of the record as they are.
    """

    def __init__(self, value: object) -> None:
        if not isinstance(value, Mapping):
            raise MalformedRecordError("no object", f"the record is {type(value).__name__} ({value!r:.60})")
        self.fields: Mapping[str, Any] = value

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def value(self, name: str, default: object = ...) -> Any:
        """Return a field of any type, or the default if the record lacks it."""
        if name in self.fields:
            return self.fields[name]
        if default is ...:
            names = ", ".join(map(str, self.fields)) or "none"
            raise MalformedRecordError(f"without {name}", f"the fields are {names}")
        return default

    def text(self, name: str, default: _T | EllipsisType = ...) -> str | _T:
        """Return a field that holds a string."""
        value = self.value(name, default)
        if value is not default and not isinstance(value, str):
            raise wrong_type(f"{name} is no string", name, value)
        return cast("str | _T", value)

    def array(self, name: str) -> list[Any]:
        """Return a field that holds a list."""
        value = from_cell(self.value(name))
        if not isinstance(value, list):
            raise wrong_type(f"{name} is no list", name, value)
        return value

    def texts(self, name: str) -> list[str]:
        """Return a field that holds a list of strings."""
        values = self.array(name)
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise wrong_type(f"{name} holds no strings", f"{name}[{i}]", value)
        return values

    def scalar(self, name: str) -> str | None:
        """Return an answer or an id, which may be a number, as text. None if the record has none."""
        value = self.value(name, None)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong_type(f"{name} is no text", name, value)
        return str(value)

    def note(self, name: str) -> str | None:
        """Return a field that carries no label as text, whatever its type, so that it never costs a row."""
        value = self.value(name, None)
        if value is None or isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, skipkeys=True, default=str)

    def flag(self, name: str, counts: Counter[str]) -> bool | None:
        """Return a field that is right or wrong and no label of a step. Any other value is counted and None."""
        value = self.value(name, None)
        word = value.strip().casefold() if isinstance(value, str) else value
        for is_right, words in (
            (True, (True, 1, "correct", "true")),
            (False, (False, 0, "wrong", "incorrect", "false")),
        ):
            if isinstance(word, (bool, int, str)) and word in words:
                return is_right
        if value is not None:
            counts[f"{name} that is neither right nor wrong, left out"] += 1
        return None

    def is_correct(self, name: str, wrong: str = "wrong", default: object = ...) -> bool | None:
        """Return True for "correct", False for the word ``wrong``, None for null."""
        value = self.value(name, default)
        word = value.strip() if isinstance(value, str) else None
        if value is not None and word not in ("correct", wrong):
            raise wrong_value(f"unknown {name}", name, value, f"'correct' or {wrong!r}")
        return None if word is None else word == "correct"

    def first_error(self, index: str, verdict: str, wrong: str = "wrong") -> int:
        """Return the 1-based field ``index`` as 0-based, -1 for "N/A". The field ``verdict`` must agree with it."""
        value = self.value(index)
        text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        if text == "N/A":
            first_error = -1
        elif text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0:
            first_error = int(text) - 1
        else:
            raise wrong_value(f"{index} is no index", index, value, '1, 2, … or "N/A"')
        is_correct = self.is_correct(verdict, wrong)
        if is_correct is None:
            raise MalformedRecordError(f"without {verdict}", f"{verdict} is null, {index} {value!r:.60}")
        if is_correct != (first_error < 0):
            detail = f"{verdict} is {self.value(verdict)!r}, {index} {value!r:.60}"
            raise ContradictoryRecordError("contradictory first error", detail)
        return first_error


@dataclass(frozen=True)
class _FieldTest:
    """Recognises records by their fields, and says what a record lacks."""

    types: Mapping[str, type | tuple[type, ...]]
    forbidden: frozenset[str]

    def __call__(self, record: object) -> bool:
        return isinstance(record, Mapping) and not self.faults(record)

    def faults(self, record: Mapping[Any, Any]) -> list[str]:
        """Return what keeps a record from being recognised, in words."""
        lacking = [f"has no field {name}" for name in self.types if name not in record]
        others = {name: record[name] for name in self.types if name in record}
        wrong = [
            f"holds {type(value).__name__} in {name}"
            for name, value in others.items()
            if not isinstance(value, self.types[name])
            and not (self.types[name] is list and isinstance(from_cell(value), list))
        ]
        return [*lacking, *wrong, *(f"has a field {name} too" for name in sorted(self.forbidden & set(record)))]


def _python(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes in texts that are no Python
        return ast.literal_eval(text)


def from_cell(value: Any) -> Any:
    """Return the list or object that a cell of a table writes as text, in JSON or in Python."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        for read in (json.loads, _python):  # pandas writes a list as Python does
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                found = read(value.strip())
                return found if isinstance(found, (list, dict)) else value
    return value


def has_fields(types: Mapping[str, type | tuple[type, ...]], without: Iterable[str] = ()) -> Callable[[object], bool]:
    """Make a function for ``Format(recognises=…)`` that recognises records by their fields.

    A record must have a field of each type in ``types``, and none of those in ``without``, which tell another format.
    """
    return _FieldTest(types, frozenset(without))


def nearest_format(record: object, formats: Iterable[Format]) -> str:
    """Return a sentence on the format that a record has most fields of, and what breaks it. "" if none is near."""
    best, sentence = 0.0, ""
    for file_format in formats:
        test = file_format.recognises
        if not isinstance(record, Mapping) or not isinstance(test, _FieldTest):
            continue
        faults = test.faults(record)
        share = 1 - len(faults) / len(test.types)
        if share > max(best, 0.5):
            best, sentence = share, f"The nearest is {file_format.name}, but the record {' and '.join(faults)}. "
    return sentence


def signs_of(labelled: LabelledSolution) -> tuple[list[str], list[str]]:
    """Return the steps up to the last rated one and a sign for each. Neutral steps are right, so "+".

    Raises
    ------
    MalformedRecordError
        If signs cannot say it: the labels are probabilities, or a step before the last rated one has none.
    """
    rated = [i for i, rating in enumerate(labelled.ratings) if rating is not None]
    check_writable_ratings(labelled, hard_only="this format holds + and - alone")
    ratings = labelled.ratings[: rated[-1] + 1]
    if len(rated) < len(ratings):
        raise MalformedRecordError("steps without a label", "this format labels every step")
    return list(labelled.solution.steps[: len(ratings)]), ["-" if rating == -1 else "+" for rating in ratings]


def check_writable_ratings(labelled: LabelledSolution, *, hard_only: str = "") -> None:
    """Raise MalformedRecordError if no step is rated, or a format for classes gets probabilities."""
    if all(rating is None for rating in labelled.ratings):
        raise MalformedRecordError("no rated step", "the solution has no label to write")
    if hard_only and any(isinstance(rating, float) for rating in labelled.ratings):
        raise MalformedRecordError("soft labels", f"{hard_only}: choose a threshold first")
