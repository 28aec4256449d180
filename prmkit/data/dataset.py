"""The data set that every loader returns: labelled steps, their solutions, and how both are cut and stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.data.labels import Vocabulary, declare_labels, first_errors_of_rows, resolve_label_order, vocabulary_of
from prmkit.data.problem_keys import joined_groups, problem_groups, problem_keys
from prmkit.data.solution import Solution, Step, as_steps, iter_solutions
from prmkit.data.solution_lines import typed_column
from prmkit.utils.environment import import_optional

if TYPE_CHECKING:
    import datasets
    import pandas as pd

    from prmkit.data.formats.label_words import Meaning
    from prmkit.data.formats.sources import OnError, Source

_N_SHOWN = 5
"""Number of rows that a notebook shows."""
Rows = Sequence[int] | Sequence[bool] | npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]
"""Row numbers, or a mask with one boolean per row."""


@dataclass(frozen=True, eq=False, repr=False, init=False)
class StepDataset:
    """Labelled steps and their solutions.

    A data set unpacks as ``X, y = dataset``. It is cut by ``dataset[:100]``, ``dataset[mask]`` or
    ``dataset.take(rows)``, and split by ``dataset.split_by_problem(0.8, 0.2)``.

    Parameters
    ----------
    X : array-like of Step, shape (n_steps,)
        Labelled steps, one per row.
    y : array-like of shape (n_steps,)
        Label of each step, such as a rating (-1, 0, +1) or its name.
    groups : array-like of int, shape (n_steps,), optional
        Group of each step. Steps of one problem share it. Computed from ``X`` by default.
    solutions : iterable of Solution, optional
        Solutions of the steps. By default the distinct solutions of ``X``, in order of their first row.
    description : str, default=""
        Text that says where the steps come from, and which were left out.
    first_errors : iterable of (int or None), one per solution, optional
        First error of each solution: the 0-based index of its first wrong step, -1 if no step is wrong, None if it is
        unknown. By default the labels tell it, where each step up to it has one. The attribute itself is None if no
        first error is known.
    rows : mapping of str to array-like of shape (n_steps,), optional
        Metadata of the rows, one column per name. They often give labels away: do not use them as features.
    counts : mapping of str to int, optional
        Number of records and steps that a loader read, kept and left out, by reason.
    vocabulary : {"rating", "binary", "soft"} or tuple, optional
        Declared meaning of the labels. ``"rating"``: -1 negative, 0 neutral, +1 positive. ``"binary"``: 0 or False
        wrong, 1 or True right. ``"soft"``: the probability that the step is right. A tuple holds labels of your own,
        ``(worst, …, best)``. Every loader sets it, and ``y`` carries it. If None, it is that of ``y``. A plain array
        has none, and then its labels must say by themselves which of them is worst.

    Raises
    ------
    TypeError
        If ``X`` holds anything but steps.
    ValueError
        If lengths do not agree, or a label is not in the vocabulary.

    Examples
    --------
    >>> from prmkit.data import Solution, flatten
    >>> steps = flatten([Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])
    >>> dataset = StepDataset(steps, [1, -1], first_errors=[1])
    >>> dataset
    StepDataset(n_steps=2, n_solutions=1, n_problems=1, labels={-1: 1, 1: 1})
    >>> X, y = dataset
    >>> X[1].text, int(y[1])
    ('2 + 12 = 15.', -1)
    >>> dataset[dataset.y == 1]
    StepDataset(n_steps=1, n_solutions=1, n_problems=1, labels={1: 1})
    """

    X: list[Step]
    y: npt.NDArray[Any]
    groups: npt.NDArray[Any]
    solutions: list[Solution]
    description: str
    first_errors: list[int | None] | None
    rows: Mapping[str, npt.NDArray[Any]]
    counts: Mapping[str, int]
    vocabulary: Vocabulary | None

    def __init__(
        self,
        X: Iterable[Step | str],
        y: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        solutions: Iterable[Solution] | None = None,
        description: str = "",
        first_errors: Iterable[int | None] | None = None,
        rows: Mapping[str, npt.ArrayLike] | None = None,
        counts: Mapping[str, int] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        steps = as_steps(X)
        if solutions is None:
            solutions = [solution for solution, _, _ in iter_solutions(steps)]
        fields = {
            "X": steps,
            "y": np.asarray(y),
            "groups": problem_groups(steps) if groups is None else np.asarray(groups),
            "solutions": list(solutions),
            "description": description,
            "first_errors": None if first_errors is None else list(first_errors),
            "rows": {name: np.asarray(column) for name, column in (rows or {}).items()},
            "counts": dict(counts or {}),
            "vocabulary": vocabulary_of(y) if vocabulary is None else vocabulary,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        for name, column in {"y": self.y, "groups": self.groups, **self.rows}.items():
            if column.shape != (len(steps),):
                raise ValueError(f"{name} has shape {column.shape}, expected ({len(steps)},): one value per step of X")
        n_errors, n_solutions = len(self.first_errors or ()), len(self.solutions)
        if self.first_errors is not None and n_errors != n_solutions:
            raise ValueError(f"{n_errors} first_errors for {n_solutions} solutions, expected as many")
        object.__setattr__(self, "y", declare_labels(self.y, self.vocabulary))
        if first_errors is None:
            places = solution_positions(self).tolist(), [step.index for step in steps]
            derived = first_errors_of_rows(self.y, *places, [solution.n_steps for solution in self.solutions])
            object.__setattr__(self, "first_errors", derived)

    # A type checker cannot tell the two values apart: with a union, right calls after `X, y = dataset` would be errors.
    def __iter__(self) -> Iterator[Any]:
        yield self.X
        yield self.y

    def __add__(self, other: StepDataset) -> StepDataset:
        """Return the rows of both data sets. ``sum([a, b, c])`` joins several.

        Groups hold the rows of one problem across both. A metadata column that one of them lacks is None there.
        ValueError says that their labels have different meanings.
        """
        if not isinstance(other, StepDataset):
            return NotImplemented
        _check_same_meaning(self, other)
        solutions: dict[int, tuple[Solution, int | None]] = {}
        for part in (self, other):
            errors = part.first_errors or [None] * len(part.solutions)
            for solution, error in zip(part.solutions, errors, strict=True):
                known = {solutions.get(id(solution), (solution, None))[1], error} - {None}
                solutions[id(solution)] = solution, known.pop() if len(known) == 1 else None
        joined = list(solutions.values())
        first_errors = None if self.first_errors is None is other.first_errors else [error for _, error in joined]
        steps = [*self.X, *other.X]
        groups = [*((0, group) for group in self.groups.tolist()), *((1, group) for group in other.groups.tolist())]
        texts = [
            group if step.problem else None for step, group in zip(steps, problem_groups(steps).tolist(), strict=True)
        ]
        return StepDataset(
            steps,
            np.concatenate([self.y, other.y]),
            groups=joined_groups(groups, texts),
            solutions=[solution for solution, _ in joined],
            description="\n\n".join(dict.fromkeys(filter(None, (self.description, other.description)))),
            first_errors=first_errors,
            rows={
                name: typed_column([*_cells(self, name), *_cells(other, name)])
                for name in dict.fromkeys([*self.rows, *other.rows])
            },
            counts=Counter(self.counts) + Counter(other.counts),
            vocabulary=self.vocabulary,
        )

    def __radd__(self, other: object) -> StepDataset:
        """Return the data set itself for 0, with which ``sum`` begins."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __getitem__(self, rows: slice | Rows) -> StepDataset:
        """Return the data set of some rows, as `take` does."""
        if isinstance(rows, slice):
            return self.take(range(*rows.indices(len(self.X))))
        if isinstance(rows, (Integral, str, tuple)):
            raise TypeError(
                f"dataset[{rows!r}] is not defined, expected a slice, a mask or a list of rows: dataset[:5]. "
                "dataset.X[0] is the first step, and dataset.y[0] its label"
            )
        return self.take(rows)

    def __repr__(self) -> str:
        labels, n_rows = np.unique(self.y, return_counts=True)
        n_of = dict(zip(labels.tolist(), n_rows.tolist(), strict=True))
        return (
            f"StepDataset(n_steps={len(self.X)}, n_solutions={len(self.solutions)}, "
            f"n_problems={len(np.unique(self.groups))}, labels={n_of})"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the numbers of the labels, the first rows, and where the data come from."""
        n_of = dict(zip(*np.unique(self.y, return_counts=True), strict=True))
        head = f"{len(self.X):,} steps of {len(self.solutions):,} solutions, {len(np.unique(self.groups)):,} problems"
        shares = [[str(label), f"{n:,}", f"{n / len(self.y):.1%}"] for label, n in n_of.items()]
        first = [
            [str(row), _cut(step.problem), str(step.index), _cut(step.text), str(label)]
            for row, (step, label) in enumerate(zip(self.X[:_N_SHOWN], self.y[:_N_SHOWN].tolist(), strict=True))
        ]
        return (
            f"<div><p><b>StepDataset</b>: {head}</p>{_html_table([['label', 'steps', 'share'], *shares])}"
            f"{_html_table([['row', 'problem', 'step', 'text', 'label'], *first])}"
            "<details><summary>Where the steps come from</summary>"
            f"<pre>{escape(self.description)}</pre></details></div>"
        )

    @classmethod
    def from_frame(
        cls,
        frame: Source,
        *,
        problem: str = "problem",
        step: str = "step",
        order: str | None = None,
        label: str = "label",
        solution: str | None = None,
        label_map: Mapping[Any, Any] | None = None,
        labels: Meaning | None = None,
        on_error: OnError = "raise",
        split: str | None = None,
    ) -> StepDataset:
        """Read a table with one step per row.

        Rows of a problem become its solutions. A step without a label is no row of ``X``. It stays context of the later
        steps.

        Parameters
        ----------
        frame : DataFrame, Arrow table, Dataset, list of dict, or path
            A data frame of pandas or polars, any other table, or the path of a CSV or Parquet file.
        problem : str, default="problem"
            Column with the text of the problem.
        step : str, default="step"
            Column with the text of the step.
        order : str, optional
            Column with the number of the step in its solution, from 0 or 1. If None, the order is that of the rows,
            and rows of a problem stand together.
        label : str, default="label"
            Column with the label of the step: a rating, a boolean, a word such as "good" or "-", or P(right). None,
            NaN and an empty cell say that the step has none.
        solution : str, optional
            Column that tells the solutions of a problem apart. If None, a new solution begins where ``order`` starts
            again. Without ``order`` too, the rows of a problem are one solution.
        label_map : mapping, optional
            Rating of each label, where labels are words of your own: ``{"good": 1, "bad": -1, "unsure": 0}``. The
            rating None stands for no label.
        labels : {"rating", "binary", "soft"}, optional
            Meaning of numbers. Needed if they are 0 and 1 alone. "binary": 0 wrong, 1 right. "rating": 0 neutral.
            "soft": the probability that the step is right.
        on_error : {"raise", "skip"}, default="raise"
            What to do with faults. "raise" names all of them by row. "skip" reads parts of solutions: an unknown label
            costs itself, a repeated row is left out, and a solution ends where a step is missing or has two texts.
            The warning counts the rows, and ``description`` names them.
        split : str, optional
            Split to read, where the path leads to several.

        Returns
        -------
        StepDataset
            One row per labelled step, in the order of the table. Ratings are -1, 0 and 1. ``rows["table_row"]`` is the
            place in the table, from 0. The other columns of the table stand beside it. A column ``token_logprobs``,
            with a list per step, also becomes ``Solution.meta["token_logprobs"]``.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        TypeError, ValueError
            If a column is missing, nothing tells what the labels mean, rows have a fault, or no labelled step is left.

        Warns
        -----
        UserWarning
            If rows were left out.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({
        ...     "problem": "What is 2 + 3 * 4?",
        ...     "number": [1, 2, 1],
        ...     "step": ["3 * 4 = 12.", "2 + 12 = 15.", "It is 14."],
        ...     "label": ["good", "bad", "good"],
        ... })
        >>> data = StepDataset.from_frame(frame, order="number", label_map={"good": 1, "bad": -1, "unsure": 0})
        >>> data
        StepDataset(n_steps=3, n_solutions=2, n_problems=1, labels={-1: 1, 1: 2})
        >>> data.first_errors
        [1, -1]
        """
        from prmkit.data.step_tables import table_arguments

        columns = {"problem": problem, "step": step, "order": order, "label": label, "solution": solution}
        return cls(
            **table_arguments(frame, columns, label_map=label_map, labels=labels, on_error=on_error, split=split)
        )

    def take(self, rows: Rows) -> StepDataset:
        """Return the data set of some rows.

        Parameters
        ----------
        rows : array-like of int or bool
            Row numbers, in the order to return them, or a mask of shape (n_steps,). Negative ones count from the end.

        Returns
        -------
        StepDataset
            The rows with their labels, groups and metadata, and the solutions that have one of these rows. Solutions
            stay whole, so that ``first_errors`` stay true. The description stays. ``counts`` is empty.

        Raises
        ------
        TypeError, IndexError, ValueError
            If ``rows`` holds other types, names a row that does not exist, has a wrong length, or leaves no row.

        Examples
        --------
        >>> from prmkit.data import make_arithmetic_solutions
        >>> dataset = make_arithmetic_solutions(10, random_state=0)
        >>> dataset.take([2, 0]).X == [dataset.X[2], dataset.X[0]]
        True
        >>> dataset[:5]
        StepDataset(n_steps=5, n_solutions=1, n_problems=1, labels={0: 1, 1: 4})
        """
        numbers = _row_numbers(rows, len(self.X))
        return self._part(numbers, list(dict.fromkeys(solution_positions(self)[numbers].tolist())))

    def split_by_problem(
        self, *shares: float, random_state: int | np.random.Generator | None = None
    ) -> tuple[StepDataset, ...]:
        """Divide the data set at random into parts that share no problem.

        Parameters
        ----------
        *shares : float
            Share of the problems for each part. Shares are positive and add up to 1.
        random_state : int, Generator or None, default=None
            Seed of the random order of problems. An int gives the same parts on each call.

        Returns
        -------
        tuple of StepDataset
            One data set per share, with rows and solutions in their old order. Problems whose texts differ only in
            case, white space or LaTeX spacing stay together.

        Raises
        ------
        ValueError
            If there are fewer than two shares, they do not add up to 1, or a part would have no problem.

        Examples
        --------
        >>> from prmkit.data import make_arithmetic_solutions
        >>> dataset = make_arithmetic_solutions(10, 3, random_state=0)
        >>> train, calibration, test = dataset.split_by_problem(0.6, 0.2, 0.2, random_state=0)
        >>> [len(part.solutions) for part in (train, calibration, test)]
        [18, 6, 6]
        """
        are_numbers = all(isinstance(share, Real) for share in shares)
        if len(shares) < 2 or not are_numbers or not min(shares) > 0 or not abs(sum(shares) - 1) <= 1e-9:
            raise ValueError(f"shares are {shares}, expected two or more that add up to 1: 0.6, 0.2, 0.2")
        distinct, problems = np.unique(problem_keys(self.solutions), return_inverse=True)
        ends = np.round(np.cumsum(shares) * len(distinct)).astype(int)
        if (np.diff(ends, prepend=0) < 1).any():
            raise ValueError(f"{len(distinct)} problems are too few for parts of {shares}: one would be empty")
        shuffled = np.random.default_rng(random_state).permutation(len(distinct))
        part_of_solution = np.searchsorted(ends, shuffled[problems], side="right")
        part_of_row = part_of_solution[solution_positions(self)]
        return tuple(
            self._part(np.flatnonzero(part_of_row == i), np.flatnonzero(part_of_solution == i).tolist())
            for i in range(len(shares))
        )

    def _part(self, rows: npt.NDArray[np.intp], solutions: list[int]) -> StepDataset:
        """Return the data set of the given rows and solutions, by their positions."""
        return StepDataset(
            [self.X[i] for i in rows],
            self.y[rows],
            groups=self.groups[rows],
            solutions=[self.solutions[i] for i in solutions],
            description=self.description,
            first_errors=None if self.first_errors is None else [self.first_errors[i] for i in solutions],
            rows={name: column[rows] for name, column in self.rows.items()},
            vocabulary=self.vocabulary,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame with one line per row of ``X``.

        Returns
        -------
        DataFrame
            Columns ``problem``, ``solution`` (position in ``solutions``), ``id`` (of the solution), ``index`` (of the
            step, 0-based), ``text``, ``y``, ``group``, then those of ``rows``. One of ``rows`` that has such a name is
            called ``NAME_of_row``. ``attrs["vocabulary"]`` holds the vocabulary.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0]).to_frame()[["index", "text", "y"]]
           index text  y
        0      0    a  1
        1      1    b  0
        """
        pandas = import_optional("pandas", "to_frame")
        own = {
            "problem": [step.problem for step in self.X],
            "solution": solution_positions(self),
            "id": [step.solution.id for step in self.X],
            "index": [step.index for step in self.X],
            "text": [step.text for step in self.X],
            "y": np.asarray(self.y),
            "group": self.groups,
        }
        others = {f"{name}_of_row" if name in own else name: column for name, column in self.rows.items()}
        frame: pd.DataFrame = pandas.DataFrame({**own, **others})
        frame.attrs["vocabulary"] = self.vocabulary
        return frame

    def to_hf(self) -> datasets.Dataset:
        """Return a Hugging Face data set with one line per solution.

        ``from_hf`` reads it back without loss. So does `load_rated`, as far as labels are ratings.

        Returns
        -------
        datasets.Dataset
            Columns of the format "rated": ``id`` (str or null), ``problem`` (str), ``steps`` (list of str),
            ``labels`` (label of each step, null where it is no row), ``first_error`` (int or null), ``vocabulary`` (as
            JSON) and ``meta`` (the solution's metadata as JSON). Two more describe rows: ``positions`` (row number of
            each step, or null) and ``rows`` (metadata columns as JSON). A solution with two labels for a step takes two
            lines. The description is ``.info.description``.

        Raises
        ------
        TypeError
            If metadata cannot be written as JSON.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> hf = StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0]).to_hf()
        >>> hf[0]["steps"], hf[0]["labels"]
        (['a', 'b'], [1, 0])
        """
        from prmkit.data.solution_lines import table_of_lines

        return table_of_lines(self, solution_positions(self).tolist())

    @classmethod
    def from_hf(cls, dataset: datasets.Dataset) -> StepDataset:
        """Read the columns that ``to_hf`` writes.

        Parameters
        ----------
        dataset : datasets.Dataset
            Data set with the columns ``problem``, ``steps`` and ``labels`` at least. Without ``positions``, rows
            follow the order of the steps. Without ``vocabulary``, the labels carry none.

        Returns
        -------
        StepDataset
            The labelled steps, with the metadata that the columns hold.

        Raises
        ------
        TypeError
            If it is a ``DatasetDict``: pick one split.
        ValueError
            If one of the three columns is missing, or a line has another number of labels than steps.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> dataset = StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0])
        >>> StepDataset.from_hf(dataset.to_hf())
        StepDataset(n_steps=2, n_solutions=1, n_problems=1, labels={0: 1, 1: 1})
        """
        from prmkit.data.solution_lines import arguments_of_lines

        return cls(**arguments_of_lines(dataset))


def solution_positions(dataset: StepDataset) -> npt.NDArray[np.intp]:
    """Return the position in ``dataset.solutions`` of each row's solution.

    Equal solutions are told apart by identity where the rows hold the very objects of ``solutions``.
    """
    by_identity = {id(solution): i for i, solution in enumerate(dataset.solutions)}
    by_value: dict[Solution, int] = {}
    positions = np.empty(len(dataset.X), dtype=np.intp)
    for row, step in enumerate(dataset.X):
        position = by_identity.get(id(step.solution))
        if position is None:
            # Hashing long texts is slow, and rarely needed.
            by_value = by_value or {s: i for i, s in reversed(list(enumerate(dataset.solutions)))}
            position = by_value.get(step.solution)
        if position is None:
            raise ValueError(f"a row's solution ({step.solution.id}) is not among the solutions of the data set")
        positions[row] = position
    return positions


def _check_same_meaning(a: StepDataset, b: StepDataset) -> None:
    """Raise ValueError if a label of one data set would mean something else in the other."""
    if a.vocabulary != b.vocabulary:
        raise ValueError(
            f"the labels of the data sets have the vocabularies {a.vocabulary!r} and {b.vocabulary!r}, expected the "
            "same: declare it, StepDataset(X, y, vocabulary='rating'), or change the labels of one"
        )
    if a.vocabulary is not None:
        return
    labels = [set(part.y.tolist()) for part in (a, b)]
    kinds = [{isinstance(label, str) for label in part} for part in labels]
    worst = {order[0] for part in (*labels, labels[0] | labels[1]) if (order := resolve_label_order(part))}
    if kinds[0] != kinds[1] or len(worst) > 1:
        raise ValueError(
            f"one data set has the labels {sorted(labels[0], key=str)[:5]}, the other "
            f"{sorted(labels[1], key=str)[:5]}, and nothing says that they mean the same: declare it, "
            "StepDataset(X, y, vocabulary='rating')"
        )


def _cells(dataset: StepDataset, name: str) -> list[Any]:
    return dataset.rows[name].tolist() if name in dataset.rows else [None] * len(dataset.X)


def _row_numbers(rows: Rows, n_rows: int) -> npt.NDArray[np.intp]:
    """Return row numbers from 0, checked, for numbers or a mask."""
    array = np.asarray(rows)
    if array.ndim != 1 or (array.dtype.kind not in "biu" and array.size):
        raise TypeError(f"rows is {rows!r:.60}, expected a list of row numbers, or one boolean per row")
    if array.dtype.kind == "b":
        if len(array) != n_rows:
            raise IndexError(f"the mask has {len(array)} entries for {n_rows} rows, expected as many")
        array = np.flatnonzero(array)
    if not array.size:
        raise ValueError("no row is left, expected at least one: a data set has one step or more")
    outside = array[(array < -n_rows) | (array >= n_rows)]
    if outside.size:
        raise IndexError(f"row {outside[0]} of a data set with {n_rows} rows (0-based)")
    return np.where(array < 0, array.astype(np.intp) + n_rows, array.astype(np.intp))


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in HTML, with every text escaped. The first row is its head."""
    lines = []
    for i, row in enumerate(rows):
        tag = "td" if i else "th"
        lines.append("<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
