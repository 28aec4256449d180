"""From the probabilities of single steps to numbers for a whole reasoning path.

A path of T steps is a 1-D array; several paths are a list of such arrays, of any lengths. Nothing here loops
over steps in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import entr

from prmkit.metrics.calibration.calibration import check_probabilities

_EPS = 1e-15  # the floor under a probability before its logarithm
AGGREGATION_RULES = (
    "min", "max", "first", "last", "mean", "product", "sum_log", "geometric_mean", "length_normalized",
)  # fmt: skip
_NEEDS_PROBABILITIES = AGGREGATION_RULES[5:]


def aggregate(values: Sequence[Any], how: str, *, probabilities: bool = True) -> np.ndarray:
    """Return one score per path from the scores of its steps.

    Which rule is best depends on the model and on where its labels come from: choose it on validation
    problems.

    Parameters
    ----------
    values : sequence of array-like of shape (n_steps,)
        One 1-D array per path: the rewards of its steps, higher is better.
    how : str
        ``"min"``, ``"max"``, ``"first"``, ``"last"``, ``"mean"``, ``"product"``;
        ``"sum_log"``, the sum of ``log(max(p, 1e-15))``: orders paths like the product, without underflow;
        ``"geometric_mean"``, the n_steps-th root of the product;
        ``"length_normalized"``, ``sum_log / n_steps``: the logarithm of the geometric mean, with the
        floor of ``sum_log``.
    probabilities : bool, default True
        False for scores on another scale, where only min, max, first, last and mean have a meaning.

    Returns
    -------
    ndarray of shape (n_paths,), float64

    Raises
    ------
    ValueError
        For an unknown rule, a path without steps, NaN, values outside [0, 1] (with ``probabilities``),
        or a rule that needs probabilities (without).

    Examples
    --------
    >>> aggregate([[0.9, 0.5], [0.8, 0.8, 0.8]], "product").round(3)
    array([0.45 , 0.512])
    >>> aggregate([[0.9, 0.5], [0.8, 0.8, 0.8]], "min")
    array([0.5, 0.8])
    """
    if how not in AGGREGATION_RULES:
        raise ValueError(f"how is {how!r}, expected one of {', '.join(AGGREGATION_RULES)}")
    if not probabilities and how in _NEEDS_PROBABILITIES:
        allowed = ", ".join(AGGREGATION_RULES[:5])
        raise ValueError(f"{how!r} needs probabilities; for other scores use one of {allowed}")
    flat, lengths = concatenate_paths(values, probabilities)
    if not len(lengths):
        return np.empty(0)
    ends = np.cumsum(lengths)
    return reduce_paths(flat, ends - lengths, ends, lengths, how)


def reduce_paths(
    flat: np.ndarray, starts: np.ndarray, ends: np.ndarray, lengths: np.ndarray, how: str
) -> np.ndarray:
    """Return one number per path, by a rule of :func:`aggregate`, from steps end to end."""
    if how == "first":
        return flat[starts]
    if how == "last":
        return flat[ends - 1]
    if how == "mean":
        return _between(np.add.reduceat(flat, starts) / lengths, flat, starts)
    if how == "geometric_mean":
        with np.errstate(divide="ignore"):  # log 0 = -inf, and exp(-inf) = 0 is the right answer
            return _between(np.exp(np.add.reduceat(np.log(flat), starts) / lengths), flat, starts)
    if how in ("sum_log", "length_normalized"):
        sums = np.add.reduceat(np.log(np.maximum(flat, _EPS)), starts)
        return sums if how == "sum_log" else sums / lengths
    # The product as such, not exp(sum log): rounding never lifts it above the smallest factor.
    ufunc = {"min": np.minimum, "max": np.maximum, "product": np.multiply}[how]
    return ufunc.reduceat(flat, starts)


def _between(means: np.ndarray, flat: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Undo what rounding does to a mean of like steps: it lies outside them by a last digit."""
    return np.clip(means, np.minimum.reduceat(flat, starts), np.maximum.reduceat(flat, starts))


def p_no_error(risks: Any) -> Any:
    """Return the probability that no step of a path is wrong: the product of ``1 - risk``.

    Parameters
    ----------
    risks : array-like of shape (n_steps,), or a sequence of such
        P(step is wrong | it and the steps before it), in [0, 1].

    Returns
    -------
    float, or ndarray of shape (n_paths,) for a sequence of paths

    Raises
    ------
    ValueError
        For a path without steps, NaN, or values outside [0, 1].

    Examples
    --------
    >>> round(p_no_error([0.1, 0.5]), 3)
    0.45
    >>> p_no_error([[0.1, 0.5], [0.2]]).round(3)
    array([0.45, 0.8 ])
    """
    paths, alone = as_paths(risks)
    flat, lengths = concatenate_paths(paths, True)
    if not len(lengths):
        return np.empty(0)
    with np.errstate(divide="ignore"):
        products = np.exp(np.add.reduceat(np.log1p(-flat), np.cumsum(lengths) - lengths))
    return float(products[0]) if alone else products


def first_error_distribution(risks: Any) -> Any:
    """Return the probability of each step to be the first wrong one, and of there being none.

    Read as hazards h, the risks give ``f[t] = h[t] * prod(1 - h[:t])`` and ``f[n_steps] = prod(1 - h)``.
    That is a distribution for any risks, and means what it says where a risk depends on the prefix alone.

    Parameters
    ----------
    risks : array-like of shape (n_steps,), or a sequence of such

    Returns
    -------
    ndarray of shape (n_steps + 1,), or a list of such for a sequence of paths
        The last entry is P(no error); the entries sum to 1.

    Raises
    ------
    ValueError
        For a path without steps, NaN, or values outside [0, 1].

    Examples
    --------
    >>> first_error_distribution([0.1, 0.5]).round(3)
    array([0.1 , 0.45, 0.45])
    """
    paths, alone = as_paths(risks)
    flat, lengths = concatenate_paths(paths, True)
    parts = np.split(flat_first_error_distribution(flat, lengths), np.cumsum(lengths + 1)[:-1])
    return parts[0] if alone else parts[: len(lengths)]


def flat_first_error_distribution(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the first-error distributions of several paths end to end.

    Parameters
    ----------
    flat : ndarray of shape (n_steps_in_all,)
        The risks of all paths, end to end, in [0, 1].
    lengths : ndarray of int, shape (n_paths,)
        Each at least 1.

    Returns
    -------
    ndarray of shape (n_steps_in_all + n_paths,)
        ``lengths[i] + 1`` numbers for path i, the last of them P(no error).
    """
    place = np.arange(len(flat)) + np.repeat(np.arange(len(lengths)), lengths)
    before = np.ones(len(flat) + len(lengths))  # P(all steps before are right): 1 where a path begins
    before[place + 1] = np.exp(flat_log_survival(flat, lengths))
    hazards = np.ones_like(before)
    hazards[place] = flat
    return before * hazards


def flat_log_survival(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return ``log P(steps 0..t of the path are right)`` of each step t, from risks end to end; -inf where 0."""
    with np.errstate(divide="ignore"):
        return flat_cumsum(np.log1p(-flat), lengths)


def flat_cumsum(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the running sums of each path, end to end.

    A loop over the distinct lengths, of which n steps have at most ``sqrt(2 n)``: one running sum over
    everything, cut afterwards, would carry the rounding errors and infinities of a path into the next.
    """
    sums = np.empty_like(flat)
    starts = np.cumsum(lengths) - lengths
    by_length = np.argsort(lengths, kind="stable")
    distinct, first = np.unique(lengths[by_length], return_index=True)
    for length, paths in zip(distinct, np.split(by_length, first[1:]), strict=False):
        steps = starts[paths][:, None] + np.arange(length)
        sums[steps] = np.cumsum(flat[steps], axis=1)
    return sums


def entropy(proba: Any) -> np.ndarray:
    """Return the entropy of each row of class probabilities, in nats; higher is more uncertain.

    Parameters
    ----------
    proba : array-like of shape (n_steps, n_classes)

    Returns
    -------
    ndarray of shape (n_steps,)
        Between 0 (certain) and ``log(n_classes)``.

    Examples
    --------
    >>> entropy([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]).round(3)
    array([0.   , 1.099])
    """
    return entr(check_probabilities(proba, "proba")).sum(axis=-1)


def margin(risks: Any) -> np.ndarray:
    """Return how far each step's risk is from a toss-up, ``|risk - 1/2|``; **lower** is more uncertain.

    Parameters
    ----------
    risks : array-like of shape (n_steps,)
        P(step is wrong), in [0, 1].

    Returns
    -------
    ndarray of shape (n_steps,)
        Between 0 (toss-up between wrong and right) and 0.5 (certain, of either).

    Examples
    --------
    >>> margin([0.5, 0.9, 0.0])
    array([0. , 0.4, 0.5])
    """
    return np.abs(check_probabilities(risks, "risks") - 0.5)


def as_paths(values: Any) -> tuple[list[Any], bool]:
    """Return a list of paths, and whether it is a path alone that was given."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return ([values], True) if values.ndim == 1 else (list(values), False)
    _refuse_no_array(values, "X")
    paths: list[Any] = list(values)
    alone = len(paths) > 0 and np.ndim(paths[0]) == 0 and not isinstance(paths[0], Mapping)
    return ([paths], True) if alone else (paths, False)


def _refuse_no_array(values: Any, name: str) -> None:
    """Raise for what would be read as its letters, keys or columns."""
    if isinstance(values, (str, bytes, Mapping)) or hasattr(values, "columns"):
        raise TypeError(f"{name} is a {type(values).__name__}, expected a 1-D array of step scores per path")


def concatenate_paths(paths: Sequence[Any], probabilities: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return all steps end to end and the number of steps of each path, both checked."""
    _refuse_no_array(paths, "X")
    arrays = []
    for i, path in enumerate(paths):
        _refuse_no_array(path, f"path {i}")
        arrays.append(np.asarray(path, dtype=np.float64))
    for i, array in enumerate(arrays):
        if array.ndim != 1:
            hint = " For one path pass [values]." if array.ndim == 0 else ""
            raise ValueError(f"path {i} has shape {array.shape}, expected a 1-D array of step scores.{hint}")
        if not array.size:
            raise ValueError(f"path {i} has no steps: nothing to score; leave out solutions without steps")
    flat = np.concatenate(arrays) if arrays else np.empty(0)
    if probabilities:
        flat = check_probabilities(flat, "a path")
    elif np.isnan(flat).any():
        raise ValueError("a path holds NaN, expected numbers")
    return flat, np.array([len(array) for array in arrays], dtype=np.int64)
