"""Rewards of single steps, at the characters or tokens where the steps end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FloatArray = npt.NDArray[np.float64]


class StepRewards(NamedTuple):
    """The rewards of the steps of one completion, and where the steps end.

    It unpacks as ``positions, values``.

    Parameters
    ----------
    positions : ndarray of shape (n_steps,), int64
        Index of the last character or token of each step. They rise strictly.
    values : ndarray of shape (n_steps,), float64
        Reward of each step. Higher is better.

    Examples
    --------
    >>> rewards = StepRewards(np.array([1, 4]), np.array([0.9, 0.2]))
    >>> rewards.to_dense(6)
    array([0. , 0.9, 0. , 0. , 0.2, 0. ])
    """

    positions: npt.NDArray[np.int64]
    values: FloatArray

    def to_dense(self, length: int) -> FloatArray:
        """Return one number per character or token, 0 where no step ends.

        Parameters
        ----------
        length : int
            Length of the array, such as that of a padded response.

        Returns
        -------
        ndarray of shape (length,), float64
            The values at their positions.

        Raises
        ------
        ValueError
            If a step ends behind this length.
        """
        if len(self.positions) and self.positions[-1] >= length:
            raise ValueError(f"length is {length}, but a step ends at position {self.positions[-1]}")
        dense = np.zeros(length)
        dense[self.positions] = self.values
        return dense


def rewards_at(ends: Sequence[int], values: FloatArray, temperature: float | None) -> StepRewards:
    """Return the values of steps at the positions where they end. Of steps that share one, the lowest value counts."""
    positions, first = np.unique(np.asarray(ends, dtype=np.int64), return_index=True)
    lowest = np.minimum.reduceat(values, first) if len(first) else np.empty(0)
    return StepRewards(positions, lowest if temperature is None else _min_form(lowest, temperature))


def _min_form(values: FloatArray, temperature: float) -> FloatArray:
    """Return the min form of PURE, arXiv:2504.15275: the lowest value keeps itself, and the others go towards 0."""
    if not len(values):
        return values
    weights = np.exp((values.min() - values) / temperature)
    return cast(FloatArray, weights / weights.sum() * values)


def last_tokens(text: str, ends: Sequence[int], token_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the index of the token with the last character of each step.

    ``text`` is what the tokens are when decoded. Beginnings of the tokens are decoded, not single tokens, because one
    character can be several tokens, and the spaces of a token depend on those before it.
    """
    found: list[int] = []
    for end in ends:
        beginning = text[:end]
        # The number of tokens from which on the text begins with all up to the end of this step.
        n_tokens = bisect_left(
            range(len(token_ids)),
            True,
            lo=found[-1] if found else 0,
            key=lambda n: decoded(tokenizer, token_ids[: n + 1]).startswith(beginning),
        )
        found.append(min(n_tokens, len(token_ids) - 1))
    return found


def decoded(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Return generated tokens as text, as trainers read them."""
    return cast(str, tokenizer.decode(list(token_ids), skip_special_tokens=True))
