"""What every loader returns: steps and labels, and what belongs to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.data._solution import Solution, Step, as_steps, iter_solutions, problem_groups

if TYPE_CHECKING:
    import datasets
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class StepDataset:
    """Labelled steps; unpacks as ``X, y = dataset``.

    Parameters
    ----------
    X : list of Step, length n_steps
        One row per labelled step.
    y : array-like of shape (n_steps,)
        Ratings (-1, 0, +1) or label names.
    groups : array-like of int, shape (n_steps,), optional
        Equal where the problems are; computed from ``X`` by default.
    solutions : list of Solution, optional
        The distinct solutions of ``X``, in order of their first row; computed by default.
    description : str, default=""
        Where the steps come from and what was left out.
    first_errors : list of (int or None), one per solution, optional
        0-based; -1 when no step is wrong; None where the solution is not judged to its end. The
        attribute itself is None where the source says nothing of it.
    rows : mapping of str to array-like of shape (n_steps,), optional
        Metadata of the rows, one column per name. Not for features: such columns give labels away.
    counts : mapping of str to int, optional
        What a loader read, kept and left out, by reason.

    Raises
    ------
    TypeError
        If ``X`` holds anything but steps.
    ValueError
        If lengths do not agree.

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
    """

    X: list[Step]
    y: np.ndarray
    groups: np.ndarray = field(default=None)  # type: ignore[arg-type]
    solutions: list[Solution] = field(default=None)  # type: ignore[arg-type]
    description: str = ""
    first_errors: list[int | None] | None = None
    rows: Mapping[str, np.ndarray] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = as_steps(self.X)
        derived = {
            "X": steps,
            "y": np.asarray(self.y),
            "groups": problem_groups(steps) if self.groups is None else np.asarray(self.groups),
            "solutions": [s for s, _, _ in iter_solutions(steps)]
            if self.solutions is None
            else list(self.solutions),
            "first_errors": None if self.first_errors is None else list(self.first_errors),
            "rows": {name: np.asarray(column) for name, column in self.rows.items()},
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        for name, column in {"y": self.y, "groups": self.groups, **self.rows}.items():
            if column.shape != (len(steps),):
                raise ValueError(
                    f"{name} has shape {column.shape}, expected ({len(steps)},): one value per step of X"
                )
        if self.first_errors is not None and len(self.first_errors) != len(self.solutions):
            raise ValueError(
                f"{len(self.first_errors)} first_errors for {len(self.solutions)} solutions, expected as many"
            )

    def __iter__(self) -> Iterator[Any]:
        yield self.X
        yield self.y

    def __repr__(self) -> str:
        labels, n_rows = np.unique(self.y, return_counts=True)
        n_of = dict(zip(labels.tolist(), n_rows.tolist(), strict=True))
        return (
            f"StepDataset(n_steps={len(self.X)}, n_solutions={len(self.solutions)}, "
            f"n_problems={len(np.unique(self.groups))}, labels={n_of})"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame with one line per row of ``X``.

        Returns
        -------
        DataFrame
            Columns ``problem``, ``solution`` (position in ``solutions``), ``id`` (of the solution),
            ``index`` (of the step, 0-based), ``text``, ``y``, ``group``, then those of ``rows``.

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0]).to_frame()[["index", "text", "y"]]
           index text  y
        0      0    a  1
        1      1    b  0
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas") from error
        position = {solution: i for i, solution in enumerate(self.solutions)}
        return pd.DataFrame(
            {
                "problem": [step.problem for step in self.X],
                "solution": [position[step.solution] for step in self.X],
                "id": [step.solution.id for step in self.X],
                "index": [step.index for step in self.X],
                "text": [step.text for step in self.X],
                "y": self.y,
                "group": self.groups,
                **self.rows,
            }
        )

    def to_hf(self) -> datasets.Dataset:
        """Return a Hugging Face data set with one line per solution; ``from_hf`` reads it back.

        Returns
        -------
        datasets.Dataset
            Columns ``problem`` (str), ``steps`` (list of str), ``ratings`` (the label of each step,
            null where it is no row), ``positions`` (where in ``X`` that row was, or null),
            ``first_error`` (int or null), ``id`` (str or null), ``meta`` and ``rows`` (JSON: the
            solution's metadata, and the metadata columns of its rows). A step with two labels puts
            its solution on a second line. The description is ``.info.description``.

        Raises
        ------
        TypeError
            If metadata cannot be written as JSON.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> hf = StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0]).to_hf()
        >>> hf[0]["steps"], hf[0]["ratings"]
        (['a', 'b'], [1, 0])
        """
        from prmkit.data._hub import dataset_to_hf

        return dataset_to_hf(self)

    @classmethod
    def from_hf(cls, dataset: datasets.Dataset) -> StepDataset:
        """Read the layout that ``to_hf`` writes.

        Parameters
        ----------
        dataset : datasets.Dataset
            ``problem``, ``steps`` and ``ratings`` are enough; rows then follow the order of the steps.

        Raises
        ------
        TypeError
            If it is a ``DatasetDict``: pick one split.
        ValueError
            If one of the three columns is missing, or a line has another number of ratings than steps.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> dataset = StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0])
        >>> StepDataset.from_hf(dataset.to_hf()).X == dataset.X
        True
        """
        from prmkit.data._hub import dataset_from_hf

        return dataset_from_hf(dataset)
