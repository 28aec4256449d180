"""One way of reading every format: records in, labelled steps out, and an account of every record."""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Reading
from prmkit.data.formats.label_words import Rating
from prmkit.data.formats.sources import (
    MALFORMED,
    PUBLISHED,
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
from prmkit.data.jsonlines import ContradictoryRecordError, MalformedRecordError
from prmkit.data.problem_keys import joined_groups, problem_groups
from prmkit.data.solution import Step

_SOURCE = """\
source : path, URL, sequence of paths, list of dict, data frame, Dataset or name on the Hugging Face hub
    Where the records are. A file holds JSON lines, a JSON array, CSV, TSV, Parquet or Arrow, also compressed. A folder
    stands for all such files in it, and a pattern such as ``"part-*.jsonl"`` for the files that match it. Data frames
    of pandas and polars, Arrow tables and ``datasets.Dataset`` are read by row."""
_SETTINGS = """\
on_error : {"raise", "skip"}, default="raise"
    What to do with a record that breaks the format. Skipped records are counted, named in ``description`` and warned
    about.
limit : int, optional
    Largest number of records to read. If None, all are read.
split : str, optional
    Split to read: of a folder with files such as ``train.jsonl`` and ``test.jsonl``, of a mapping or JSON object of
    splits, or of a data set on the hub. If None, "train" on the hub, and all of a local source, with a warning if it
    has several splits.
"""
_ERRORS = """\
Raises
------
FileNotFoundError, ConnectionError
    If the source cannot be read.
ValueError
    If a record breaks the format (with ``on_error="raise"``): a field is missing, has another type or contradicts
    another field, or a label is unknown. If an option has a senseless value, or nothing is left.

"""
_WARNS = """\
Warns
-----
UserWarning
    If rows contradict themselves, as some do in published files, such as a first error beyond the steps. They are left
    out, counted, and named in ``description``, whatever ``on_error`` says. ``load(path)`` raises for such a row.

"""
_Function = TypeVar("_Function", bound=Callable[..., Any])


def reads(function: _Function) -> _Function:
    """Complete the docstring of a loader by the parameters and errors that all loaders share.

    The function's own docstring holds the summary, the fields of a record, the parameters of this loader alone, the
    section Returns with the meaning of its labels, and an example.
    """
    text = inspect.cleandoc(function.__doc__ or "")
    head, is_documented, rest = text.partition("Returns\n-------\n")
    if is_documented:  # python -OO strips docstrings
        head, _, own = head.partition("Parameters\n----------\n")
        parameters = "\n".join(filter(None, (_SOURCE, own.strip(), _SETTINGS)))
        rest = re.sub(r"^(?=(Warns|Examples)\n--)", lambda _: _ERRORS, rest, count=1, flags=re.MULTILINE)
        function.__doc__ = f"{head}Parameters\n----------\n{parameters}\nReturns\n-------\n{rest}"
    return function


def reads_benchmark(function: _Function) -> _Function:
    """Complete the docstring as `reads` does, for a published benchmark whose rows may contradict themselves."""
    text = inspect.cleandoc(function.__doc__ or "")
    function.__doc__ = re.sub(r"^(?=Examples\n--)", lambda _: _WARNS, text, count=1, flags=re.MULTILINE)
    return reads(function)


def read(source: Source, file_format: Format, **settings: Any) -> StepDataset:
    """Read a source of a known format as a ``StepDataset``. Settings are those of `iter_labelled`.

    ``solutions`` are in the order of the source. ``groups`` follow ``meta["problem_id"]`` if every solution has one,
    because its text may vary, else the problem texts.
    """
    counts: Counter[str] = Counter()
    skipped: list[str] = []
    source = list(source) if isinstance(source, Iterator) else source
    solutions = list(iter_labelled(source, file_format, counts=counts, skipped=skipped, **settings))
    if _mixes(solutions) and "labels" in file_format.options and settings.get("labels") is None:
        # JSON may write 0.0 and 1.0 as 0 and 1, so a row may hold whole numbers alone. Booleans are no probabilities.
        with contextlib.suppress(ValueError):
            return read(source, file_format, **{**settings, "labels": "soft", "on_error": "raise"})
    rows = [
        (Step(labelled.solution, index), rating)
        for labelled in solutions
        for index, rating in enumerate(labelled.ratings)
        if rating is not None
    ]
    counts["solutions"], counts["labelled steps"] = len(solutions), len(rows)
    counts["steps without a label"] = sum(labelled.solution.n_steps for labelled in solutions) - len(rows)
    _refuse_mixed(rows)
    lines = [f"{file_format.name}: {file_format.description}", f"from {name_of(source)}"]
    lines += [f"{reason}: {n}" for reason, n in counts.items()]
    lines += named_skips(skipped)
    description = "\n".join(lines)
    warn_of_skipped(counts)
    if not rows:
        raise ValueError(f"no labelled step is left, expected at least one. What was read:\n{description}")
    is_soft = any(isinstance(rating, float) for _, rating in rows)
    return StepDataset(
        [step for step, _ in rows],
        np.array([rating for _, rating in rows]),
        _groups([step for step, _ in rows]),
        solutions=[labelled.solution for labelled in solutions],
        description=description,
        first_errors=[labelled.first_error for labelled in solutions],
        counts=dict(counts),
        vocabulary="soft" if is_soft else "rating",
    )


def _mixes(solutions: Sequence[LabelledSolution]) -> bool:
    """Tell whether some labels are probabilities and others are not."""
    ratings = chain.from_iterable(labelled.ratings for labelled in solutions)
    return len({isinstance(rating, float) for rating in ratings if rating is not None}) > 1


def _refuse_mixed(rows: Sequence[tuple[Step, Rating]]) -> None:
    """Raise if probabilities and ratings would share one column: there 0.0 is wrong, and 0 is neutral."""
    first = {isinstance(rating, float): step for step, rating in reversed(rows)}
    if len(first) > 1:
        raise ValueError(
            f"the step labels mix probabilities (first in {first[True].solution.id}) and ratings (first in "
            f"{first[False].solution.id}), expected one kind. Read them apart, or choose a threshold where the format "
            "has one"
        )


def _groups(steps: list[Step]) -> np.ndarray:
    """Return a number per step that is equal where the problems are, and warn of steps that name no problem."""
    # An id tells a problem whose wording varies between solutions. Equal texts with several ids are one problem too.
    metas = [step.solution.meta or {} for step in steps]
    for key in ("problem_id", "problem_key"):
        ids = [meta.get(key) for meta in metas]
        if all(isinstance(problem_id, (str, int, float)) for problem_id in ids):
            texts = [group if step.problem else None for step, group in zip(steps, problem_groups(steps), strict=True)]
            return joined_groups(ids, texts)
    n_alone = sum(not step.problem for step in steps)
    if n_alone:
        warnings.warn(
            f"{n_alone} of {len(steps)} rows name no problem: each solution counts as a problem of its own, so steps "
            "of one problem may stand on both sides of a split. Add a column problem or problem_id (format flat), pass "
            "step_separator='…' (openrlhf, rlhflow), or name the field of the problem",
            UserWarning,
            stacklevel=4,
        )
    return problem_groups(steps)


def iter_labelled(
    source: Source,
    file_format: Format,
    *,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
    published: bool = False,
    counts: Counter[str] | None = None,
    skipped: list[str] | None = None,
    **options: Any,
) -> Iterator[LabelledSolution]:
    """Stream the labelled solutions of a source.

    ``counts`` is filled with the numbers of records that were read and left out, and ``skipped`` with file, line and
    reason of each record that was left out. With ``published``, rows that contradict themselves are left out whatever
    ``on_error`` says.
    """
    check_reading(on_error, limit)
    if unknown := sorted(set(options) - set(file_format.options)):
        known = ", ".join([*file_format.options, "split", "on_error", "limit"])
        raise ValueError(f"the format {file_format.name} has no option {', '.join(unknown)}; its options: {known}")
    counts = Counter() if counts is None else counts
    records = islice(iter_records(source, split=split, on_error=on_error, counts=counts), limit)
    reading = Reading(on_error, limit, counts, [] if skipped is None else skipped, options)

    def read_each(records: Iterable[Found]) -> Iterator[LabelledSolution]:
        return _parsed(records, file_format, reading, published)

    together = file_format.together
    solutions = read_each(records) if together is None else together(records, read_each, reading)
    return solutions if file_format.across is None else file_format.across(solutions, counts)


def _parsed(
    records: Iterable[Found], file_format: Format, reading: Reading, published: bool
) -> Iterator[LabelledSolution]:
    account, counts = LabelAccount(), reading.counts
    for record, place, solution_id in records:
        counts["records"] += 1
        try:
            solutions = file_format.solutions_of(record, solution_id, counts, **reading.options)
        except MalformedRecordError as error:
            as_published = published and isinstance(error, ContradictoryRecordError)
            if reading.on_error == "raise" and not as_published:
                told = "the fields are right" if file_format.name == "fields" else f"the format is {file_format.name}"
                raise ValueError(
                    f"{place}: {error}. Pass on_error='skip' to leave such records out, or check that {told}."
                ) from None
            counts[f"{PUBLISHED if as_published else MALFORMED}{error.reason}"] += 1
            reading.skipped.append(f"{place}: {error}")
            solutions = []
        if file_format.labels_of is not None and isinstance(record, Mapping):
            with contextlib.suppress(MalformedRecordError):
                account.add(file_format.labels_of(record), lost=not solutions)
        yield from solutions
    account.report(counts)
