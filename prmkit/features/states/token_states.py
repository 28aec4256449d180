"""``TokenStates``: the states of the tokens of steps, as rows that scikit-learn can cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.utils.ragged import Ragged


@dataclass(frozen=True, eq=False, repr=False)
class TokenStates:
    """The hidden states of the tokens of each step. One row is one step.

    ``PRMFeaturizer(kind="states", pooling="tokens")`` makes it, and a :class:`~prmkit.models.StepProbe` reads it.

    Parameters
    ----------
    values : ndarray of shape (n_tokens, n_layers, width), float16 or float32
        States of the tokens of all steps, end to end, in the order of the rows.
    lengths : ndarray of int64, shape (n_steps,)
        Number of tokens of each step.
    columns : ndarray of float32, shape (n_steps, n_columns)
        Further numbers of each step: where it stands, how long it is, its log-probabilities. NaN for a step that lies
        beyond the tokens that the model reads. Such a step has no tokens.
    names : tuple of str
        Names of the further numbers.
    problems : ndarray of int64, shape (n_steps,)
        A number per problem: steps of one problem have the same.
    targets : mapping of str to ndarray of shape (n_steps,), optional
        What a head may learn beside the labels, such as ``"outcome"``: a value per step, None where it is not known.

    Raises
    ------
    ValueError
        If the parts do not fit together.

    Examples
    --------
    >>> states = TokenStates.from_rows([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> states
    TokenStates(3 steps, 3 tokens, 1 layer of width 2, 0 columns)
    >>> states[[2, 0]].values[:, 0]
    array([[5., 6.],
           [1., 2.]], dtype=float32)
    """

    values: npt.NDArray[np.floating[Any]]
    lengths: npt.NDArray[np.int64]
    columns: npt.NDArray[np.float32]
    names: tuple[str, ...]
    problems: npt.NDArray[np.int64]
    targets: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.lengths)
        if self.values.ndim != 3:
            raise ValueError(f"values has shape {self.values.shape}, expected (n_tokens, n_layers, width)")
        if int(self.lengths.sum()) != len(self.values):
            raise ValueError(
                f"values has {len(self.values)} tokens, expected {int(self.lengths.sum())}, as lengths say"
            )
        if self.columns.shape != (n, len(self.names)):
            raise ValueError(f"columns has shape {self.columns.shape}, expected ({n}, {len(self.names)})")
        if len(self.problems) != n:
            raise ValueError(f"problems has {len(self.problems)} numbers, expected one per step, {n}")
        for name, values in self.targets.items():
            if len(values) != n:
                raise ValueError(f"the target {name} has {len(values)} values, expected one per step, {n}")

    @classmethod
    def from_rows(cls, X: npt.ArrayLike) -> TokenStates:
        """Return rows of plain numbers as steps of one token each, in one layer, without further columns.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features)
            One row per step. Each counts as a problem of its own.

        Returns
        -------
        TokenStates
            The same numbers.

        Raises
        ------
        ValueError
            If X is not a table of numbers.
        """
        rows = np.asarray(X, dtype=np.float32)
        if rows.ndim != 2:
            raise ValueError(f"X has the shape {rows.shape}, expected two dimensions: one row per step")
        n = len(rows)
        return cls(
            rows[:, None],
            np.ones(n, dtype=np.int64),
            np.empty((n, 0), dtype=np.float32),
            (),
            np.arange(n, dtype=np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[TokenStates]) -> TokenStates:
        """Return the steps of several parts, one after the other.

        Parameters
        ----------
        parts : sequence of TokenStates
            States of one model. The problems of different parts count as different.

        Returns
        -------
        TokenStates
            All steps. A target that a part does not have is None there.

        Raises
        ------
        ValueError
            If widths, layers or further numbers differ.
        """
        kinds = {(part.values.shape[1:], part.names) for part in parts}
        if len(kinds) != 1:
            raise ValueError(f"the parts have {len(kinds)} kinds of states, expected those of one model and setting")
        starts = np.cumsum([0, *(part.problems.max(initial=-1) + 1 for part in parts[:-1])])
        targets = {
            name: np.concatenate([part.targets.get(name, np.full(len(part), None)) for part in parts])
            for name in dict.fromkeys(name for part in parts for name in part.targets)
        }
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.columns for part in parts]),
            parts[0].names,
            np.concatenate([part.problems + start for part, start in zip(parts, starts.tolist(), strict=True)]),
            targets,
        )

    @property
    def shape(self) -> tuple[int]:
        """Number of steps. scikit-learn asks for it."""
        return (len(self.lengths),)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(one.nbytes for one in (self.values, self.lengths, self.columns, self.problems))

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The place of the first token of each step among ``values``."""
        return Ragged(self.values, self.lengths).starts

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Sequence[int] | npt.NDArray[Any] | slice | int | tuple[Any, ...]) -> TokenStates:
        """Return some of the steps, in the order asked for. One number gives one step."""
        if isinstance(rows, tuple):  # scikit-learn asks for (rows, ...)
            rows = rows[0]
        index = np.atleast_1d(np.arange(len(self))[rows if isinstance(rows, slice) or np.size(rows) else slice(0)])
        taken = Ragged(self.values, self.lengths).take(index)
        return replace(
            self,
            values=taken.values,
            lengths=taken.lengths,
            columns=self.columns[index],
            problems=self.problems[index],
            targets={name: np.asarray(values, dtype=object)[index] for name, values in self.targets.items()},
        )

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        """Refuse to become one table: numpy would otherwise nest the steps, and say nothing of use."""
        raise TypeError(
            "TokenStates hold every token of a step, which StepProbe reads. Any other classifier reads one row per "
            "step: PRMFeaturizer(kind='states', pooling='mean')"
        )

    def __repr__(self) -> str:
        _, n_layers, width = self.values.shape
        layers = f"{n_layers} layer{'' if n_layers == 1 else 's'} of width {width}"
        return f"TokenStates({len(self)} steps, {len(self.values)} tokens, {layers}, {len(self.names)} columns)"
