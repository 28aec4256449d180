"""Rows of different lengths: ``Ragged`` holds them end to end, and batches take texts of similar lengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


def as_numbers(values: npt.ArrayLike, name: str) -> FloatArray:
    """Return one number per entry as float64, NaN for None. Refuse texts, also those of numbers, and lists of numbers.

    Examples
    --------
    >>> as_numbers([1, None, 0.5], "scores")
    array([1. , nan, 0.5])
    """
    is_plain = isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "biuf"
    entries = list(values) if isinstance(values, np.ndarray) and values.ndim and not is_plain else values
    for i, one in enumerate(entries if isinstance(entries, (list, tuple)) else ()):
        if isinstance(one, str):
            raise ValueError(f"{name}[{i}] is the text {one!r:.60}, expected a number")
        if getattr(one, "__len__", None) is not None and np.ndim(one):
            raise ValueError(
                f"{name}[{i}] is a list of length {len(one)}, expected a number. Rewards of the steps of each "
                "sample become one number each by prmkit.metrics.aggregate(rewards, 'min')"
            )
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {values!r:.60}, expected one number per entry: {error}") from None


def row_starts(lengths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return where each row starts when rows of these lengths stand end to end.

    Examples
    --------
    >>> row_starts([2, 1, 3])
    array([0, 2, 3])
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    starts: npt.NDArray[np.int64] = np.cumsum(sizes) - sizes
    return starts


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths, stored end to end.

    Parameters
    ----------
    values : ndarray of shape (n_values, ...)
        The values of all rows.
    lengths : ndarray of int, shape (n_rows,)
        Number of values in each row. They sum to ``n_values``.

    Examples
    --------
    >>> ragged = Ragged.from_arrays([[0.9, 0.5], [0.8]])
    >>> ragged.starts, ragged.rows, ragged.positions
    (array([0, 2]), array([0, 0, 1]), array([0, 1, 0]))
    >>> ragged.reduce(np.minimum)
    array([0.5, 0.8])
    >>> ragged.split()
    [array([0.9, 0.5]), array([0.8])]
    """

    values: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def from_arrays(cls, arrays: Iterable[npt.ArrayLike]) -> Ragged:
        """Return 1-D arrays end to end."""
        parts = [np.asarray(array) for array in arrays]
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        return cls(np.concatenate(parts) if parts else np.empty(0), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The place of the first value of each row."""
        return row_starts(self.lengths)

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """The place after the last value of each row."""
        ends: npt.NDArray[np.int64] = np.cumsum(self.lengths)
        return ends

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The number of the row that each value belongs to."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """The 0-based index of each value in its row."""
        positions: npt.NDArray[np.int64] = np.arange(int(self.lengths.sum())) - self.spread(self.starts)
        return positions

    def with_values(self, values: npt.NDArray[Any]) -> Ragged:
        """Return rows of the same lengths with other values."""
        return Ragged(values, self.lengths)

    def spread(self, per_row: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the number of each row once for every value in it."""
        return np.repeat(np.asarray(per_row), self.lengths)

    def reduce(self, ufunc: np.ufunc) -> npt.NDArray[Any]:
        """Return one number per row. No row may be empty."""
        if not self.lengths.all():
            raise ValueError(f"row {int(np.argmin(self.lengths))} is empty, expected at least 1 value per row")
        return np.asarray(ufunc.reduceat(self.values, self.starts)) if len(self) else self.values[:0]

    def cumsum(self) -> npt.NDArray[Any]:
        """Return the running sums of each row, end to end."""
        # One running sum over everything, cut afterwards, would carry the rounding errors and infinities of a row
        # into the next. So rows of one length are stacked. n values have at most sqrt(2 n) distinct lengths.
        sums = np.empty_like(self.values)
        starts = self.starts
        for length in np.unique(self.lengths):
            columns = starts[self.lengths == length][:, None] + np.arange(length)
            sums[columns] = np.cumsum(self.values[columns], axis=1)
        return sums

    def split(self) -> list[npt.NDArray[Any]]:
        """Return the rows as a list of arrays."""
        return [self.values[start:end] for start, end in zip(self.starts, self.ends, strict=True)]

    def take(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Ragged:
        """Return some rows, in the order asked for."""
        return Ragged(self.values[self.places(rows)], self.lengths[rows])

    def places(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Return where the values of some rows stand."""
        lengths = self.lengths[rows]
        return np.arange(int(lengths.sum())) + np.repeat(self.starts[rows] - row_starts(lengths), lengths)


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.intp]]:
    """Return the distinct texts in order of appearance, and the position of each text among them.

    Examples
    --------
    >>> distinct_texts(["b", "a", "b"])
    (['b', 'a'], array([0, 1, 0]))
    """
    positions: dict[str, int] = {}
    inverse = np.empty(len(texts), dtype=np.intp)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{i}] is {type(text).__name__} ({text!r:.60}), expected str")
        inverse[i] = positions.setdefault(text, len(positions))
    return list(positions), inverse


def token_batches(n_tokens: npt.NDArray[np.integer], budget: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield indices of texts, longest first, so that no batch holds more than ``budget`` padded tokens.

    A text longer than the budget is a batch by itself. Equal lengths keep their order.

    Examples
    --------
    >>> [batch.tolist() for batch in token_batches(np.array([2, 9, 3, 3]), budget=6)]
    [[1], [2, 3], [0]]
    """
    order = np.argsort(-np.asarray(n_tokens), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(n_tokens[order[start]]))
        stop = start + max(1, budget // longest)
        yield order[start:stop]
        start = stop


def fixed_batches(
    n_tokens: npt.NDArray[np.integer], budget: int, limit: int | None = None
) -> Iterator[tuple[npt.NDArray[np.intp], int, int]]:
    """Yield indices of texts with the shape of their batch, rows and width, which follows from their own length alone.

    Matrix products add in another order when the shape changes. In a shape of its own, a text gets the same numbers
    in any company. The caller fills a batch up to its rows. A width is some tokens more than the text, so every row
    has padding. Texts that reach ``limit`` have none, and share no batch with those that do.

    Examples
    --------
    >>> [(batch.tolist(), *shape) for batch, *shape in fixed_batches(np.array([2, 19, 3, 3]), budget=32)]
    [([1], 1, 32), ([0, 2], 2, 16), ([3], 2, 16)]
    """
    lengths = np.maximum(np.asarray(n_tokens, dtype=np.int64), 1)
    # Four widths per power of two, none of them closer than 16 tokens. More of them would save padding, but each width
    # of a call leaves a batch that is not full.
    grain = np.maximum(16, 2 ** np.floor(np.log2(lengths)).astype(np.int64) // 4)
    widths = (lengths // grain + 1) * grain
    if limit is not None:
        widths = np.minimum(widths, np.maximum(limit, lengths))
    full = lengths == widths
    for width, is_full in sorted(set(zip(widths.tolist(), full.tolist(), strict=True)), reverse=True):
        members, rows = np.flatnonzero((widths == width) & (full == is_full)), max(1, budget // width)
        for start in range(0, len(members), rows):
            yield members[start : start + rows], rows, width
