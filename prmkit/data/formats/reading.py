"""One way of reading every layout: records in, labelled steps out, and an account of what became of each record."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution
from prmkit.data.formats.sources import Found, iter_records
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.solution import Step, problem_groups

_NAMED = 20  # skipped records that a description names


def read(
    source: Any,
    layout: Format,
    *,
    on_error: str = "raise",
    limit: int | None = None,
    split: str = "train",
    **options: Any,
) -> StepDataset:
    """Read a source of a known layout as a ``StepDataset``.

    Parameters
    ----------
    source : as :func:`~prmkit.data.formats.sources.iter_records` takes it
    layout : Format
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read no more records than this.
    split : str, default="train"
    **options
        Of the layout.

    Returns
    -------
    StepDataset
        ``y`` holds ratings: int8-like -1, 0, +1, or float where the layout gives P(right). ``solutions`` in the order
        of the source, with ``first_errors``; ``groups`` follow ``meta["problem_id"]`` where every solution has one
        (its text may vary), else the problem texts; ``counts`` and ``description`` say what was read and left out.

    Raises
    ------
    ValueError
        For a malformed record (``on_error="raise"``), unknown options, or when no labelled step is left.
    """
    counts: Counter[str] = Counter()
    skipped: list[str] = []
    found = list(
        iter_labelled(
            source,
            layout,
            on_error=on_error,
            limit=limit,
            split=split,
            counts=counts,
            skipped=skipped,
            **options,
        )
    )
    rows = [
        (Step(one.solution, index), rating)
        for one in found
        for index, rating in enumerate(one.ratings)
        if rating is not None
    ]
    counts["solutions"], counts["labelled steps"] = len(found), len(rows)
    counts["steps without a label"] = sum(one.solution.n_steps for one in found) - len(rows)
    _refuse_mixed(rows)
    name = source if isinstance(source, str) or hasattr(source, "__fspath__") else type(source).__name__
    lines = [f"{layout.name}: {layout.description}", f"from {name}"]
    lines += [f"{what}: {n}" for what, n in counts.items()]
    lines += named_skips(skipped)
    description = "\n".join(lines)
    warn_of_skipped(counts)
    if not rows:
        raise ValueError(f"no labelled step is left, expected at least one. What was read:\n{description}")
    return StepDataset(
        [step for step, _ in rows],
        np.array([rating for _, rating in rows]),
        _groups(rows),
        solutions=[one.solution for one in found],
        description=description,
        first_errors=[one.first_error for one in found],
        counts=dict(counts),
    )


def _refuse_mixed(rows: list[tuple[Step, Any]]) -> None:
    """Raise where probabilities and ratings would share one column: there 0.0 is wrong, and 0 neutral."""
    first = {isinstance(rating, float): step for step, rating in reversed(rows)}
    if len(first) > 1:
        raise ValueError(
            f"the step labels mix probabilities (first in {first[True].solution.id}) and ratings (first in "
            f"{first[False].solution.id}), expected one kind. Read them apart, or choose a threshold where the layout "
            "has one"
        )


def _groups(rows: list[tuple[Step, Any]]) -> np.ndarray:
    metas = [step.solution.meta or {} for step, _ in rows]
    ids = next(
        (
            named
            for named in ([meta.get(key) for meta in metas] for key in ("problem_id", "problem_key"))
            if all(isinstance(one, (str, int, float)) for one in named)
        ),
        None,
    )
    if ids is None:
        return problem_groups([step for step, _ in rows])
    position: dict[Any, int] = {}
    return np.array([position.setdefault(one, len(position)) for one in ids], dtype=np.int64)


def iter_labelled(
    source: Any,
    layout: Format,
    *,
    on_error: str = "raise",
    limit: int | None = None,
    split: str = "train",
    counts: Counter[str] | None = None,
    skipped: list[str] | None = None,
    **options: Any,
) -> Iterator[LabelledSolution]:
    """Stream the labelled solutions of a source; parameters and errors as :func:`read`.

    ``counts`` is filled, and ``skipped`` with file, line and reason of each record that was left out.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit is {limit!r}, expected a positive number of records, or None for all")
    if unknown := sorted(set(options) - set(layout.options)):
        known = ", ".join(layout.options) or "none"
        raise ValueError(f"the layout {layout.name} has no option {', '.join(unknown)}; its options: {known}")
    counts = Counter() if counts is None else counts
    records = iter_records(source, split=split, on_error=on_error, counts=counts)
    why = [] if skipped is None else skipped
    found = _parsed(islice(records, limit), layout, on_error, counts, why, {**layout.options, **options})
    return layout.across(found, counts)


def _parsed(
    records: Iterator[Found],
    layout: Format,
    on_error: str,
    counts: Counter[str],
    skipped: list[str],
    options: dict[str, Any],
) -> Iterator[LabelledSolution]:
    for record, place, solution_id in records:
        counts["records"] += 1
        try:
            solutions = list(layout.parse(record, solution_id, counts, **options))
        except MalformedRecordError as error:
            if on_error == "raise":
                raise ValueError(
                    f"{place}: {error}. Pass on_error='skip' to leave such records out, or check that the layout is "
                    f"{layout.name}."
                ) from None
            counts[f"malformed: {error.reason}"] += 1
            skipped.append(f"{place}: {error}")
            continue
        yield from solutions


def named_skips(skipped: list[str]) -> list[str]:
    """Return a line for each record that was left out, the first twenty."""
    rest = [f"skipped: {len(skipped) - _NAMED:,} more"] if len(skipped) > _NAMED else []
    return [f"skipped: {why}" for why in skipped[:_NAMED]] + rest


def warn_of_skipped(counts: Counter[str], named_by: str = "the description names") -> None:
    """Warn where records were skipped: the file may be damaged, or of another layout."""
    skipped = {
        key.removeprefix("malformed: "): n for key, n in counts.items() if key.startswith("malformed: ")
    }
    if skipped:
        reasons = ", ".join(f"{n} {reason}" for reason, n in skipped.items())
        warnings.warn(
            f"{sum(skipped.values())} malformed records were skipped ({reasons}); {named_by} their files "
            "and lines",
            UserWarning,
            stacklevel=4,
        )
