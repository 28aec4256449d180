"""From the scores of single steps to one number for a solution, and which rule to take.

A solution of T steps is a 1-D array. Several solutions are a list of such arrays, of any lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from prmkit.metrics.bootstrap import Interval, bootstrap_counts, problem_numbers
from prmkit.metrics.calibration.calibration import check_probabilities
from prmkit.metrics.report_table import Record, align_columns
from prmkit.metrics.selective._selective import RankedDecisions
from prmkit.utils.ragged import FloatArray, Ragged

LOG_FLOOR = 1e-15
"""A probability below this counts as this before its logarithm is taken."""

AGGREGATION_RULES = (
    "min", "max", "first", "last", "mean", "product", "sum_log", "geometric_mean", "length_normalized",
)  # fmt: skip
ANY_SCALE_RULES = AGGREGATION_RULES[:5]


def aggregate(
    values: Sequence[npt.ArrayLike], how: str, *, probabilities: bool = True, unscored: float | None = None
) -> FloatArray:
    """Return one score per solution from the scores of its steps.

    Which rule is best depends on the model and on the origin of its labels. Choose it on validation problems with
    :func:`choose_aggregation`.

    Parameters
    ----------
    values : sequence of array-like of shape (n_steps,)
        One 1-D array per solution with the rewards of its steps. Higher is better.
    how : str
        The rule. ``"min"``, ``"max"``, ``"first"``, ``"last"``, ``"mean"`` and ``"product"`` say what they do.
        ``"last"`` fits models whose label of a step is about the whole solution up to it, as with Math-Shepherd. Where
        the label is about the step alone, as in PRM800K, the last step says nothing of an error before it.
        ``"sum_log"`` is the sum of ``log(max(p, 1e-15))``. It orders solutions like the product, without underflow.
        ``"geometric_mean"`` is the n_steps-th root of the product. ``"length_normalized"`` is ``sum_log / n_steps``.
    probabilities : bool, default=True
        Whether the scores are probabilities. On another scale only min, max, first, last and mean have a meaning.
    unscored : float, optional
        Score of a solution that has a step without a score (NaN): ``nan`` where it is to stay visible, ``-inf`` to
        choose it after all others. If None, such a step is an error.

    Returns
    -------
    ndarray of shape (n_solutions,), float64
        The score of each solution.

    Raises
    ------
    ValueError
        If the rule is unknown, a solution has no steps, a score is NaN or (with ``probabilities``) outside [0, 1], or
        the rule needs probabilities and ``probabilities`` is False.

    Examples
    --------
    >>> aggregate([[0.9, 0.5], [0.8, 0.8, 0.8]], "product").round(3)
    array([0.45 , 0.512])
    >>> aggregate([[0.9, 0.5], [0.8, 0.8, 0.8]], "min")
    array([0.5, 0.8])
    """
    if how not in AGGREGATION_RULES:
        raise ValueError(f"how is {how!r}, expected one of {', '.join(AGGREGATION_RULES)}")
    if not probabilities and how not in ANY_SCALE_RULES:
        raise ValueError(f"{how!r} needs probabilities; for other scores use one of {', '.join(ANY_SCALE_RULES)}")
    if unscored is None:
        return aggregate_ragged(ragged_scores(values, probabilities), how)
    arrays = [np.asarray(solution, dtype=np.float64) for solution in values]
    is_scored = np.array([not np.isnan(array).any() for array in arrays], dtype=bool)
    # A solution without a score stands in as zeros until its own value replaces them.
    filled = [array if scored else np.zeros_like(array) for array, scored in zip(arrays, is_scored, strict=True)]
    return np.where(is_scored, aggregate_ragged(ragged_scores(filled, probabilities), how), unscored)


def aggregate_ragged(scores: Ragged, how: str) -> FloatArray:
    """Return one number per solution, by a rule of :func:`aggregate`, from steps end to end."""
    values: FloatArray = scores.values
    reduced: FloatArray
    if how == "first":
        reduced = values[scores.starts]
    elif how == "last":
        reduced = values[scores.ends - 1]
    elif how == "mean":
        reduced = _between(scores.reduce(np.add) / scores.lengths, scores)
    elif how == "geometric_mean":
        # log 0 is -inf, and exp(-inf) = 0 is the right answer.
        with np.errstate(divide="ignore"):
            logs = scores.with_values(np.log(values))
        reduced = _between(np.exp(logs.reduce(np.add) / scores.lengths), scores)
    elif how in ("sum_log", "length_normalized"):
        sums = scores.with_values(np.log(np.maximum(values, LOG_FLOOR))).reduce(np.add)
        reduced = sums if how == "sum_log" else sums / scores.lengths
    else:
        # The product itself, not exp(sum of logs): rounding never lifts it above the smallest factor.
        reduced = scores.reduce({"min": np.minimum, "max": np.maximum, "product": np.multiply}[how])
    return reduced


def _between(means: FloatArray, scores: Ragged) -> FloatArray:
    """Clip means to the range of their steps: rounding can put a mean of equal steps outside by a last digit."""
    return np.clip(means, scores.reduce(np.minimum), scores.reduce(np.maximum))


@overload
def p_no_error(risks: Sequence[float] | FloatArray) -> float: ...
@overload
def p_no_error(risks: Sequence[Sequence[float] | FloatArray]) -> FloatArray: ...
def p_no_error(risks: Any) -> float | FloatArray:
    """Return the probability that no step of a solution is wrong: the product of ``1 - risk``.

    Parameters
    ----------
    risks : array-like of shape (n_steps,), or a sequence of such
        P(step is wrong | the step and the steps before it), in [0, 1].

    Returns
    -------
    float, or ndarray of shape (n_solutions,) for a sequence of solutions
        The probability of each solution.

    Raises
    ------
    ValueError
        If a solution has no steps, or a risk is NaN or outside [0, 1].

    Examples
    --------
    >>> round(p_no_error([0.1, 0.5]), 3)
    0.45
    >>> p_no_error([[0.1, 0.5], [0.2]]).round(3)
    array([0.45, 0.8 ])
    """
    solutions, is_single = as_paths(risks)
    ragged = ragged_scores(solutions, True)
    # log1p keeps the digits of small risks that 1 - risk would round away.
    with np.errstate(divide="ignore"):
        products: FloatArray = np.exp(ragged.with_values(np.log1p(-ragged.values)).reduce(np.add))
    return float(products[0]) if is_single else products


@overload
def first_error_distribution(risks: Sequence[float] | FloatArray) -> FloatArray: ...
@overload
def first_error_distribution(risks: Sequence[Sequence[float] | FloatArray]) -> list[FloatArray]: ...
def first_error_distribution(risks: Any) -> FloatArray | list[FloatArray]:
    """Return the probability of each step to be the first wrong one, and of there being none.

    The risks are read as hazards h: ``f[t] = h[t] * prod(1 - h[:t])`` and ``f[n_steps] = prod(1 - h)``. This is a
    distribution for any risks. It means what its name says if a risk depends on the prefix alone.

    Parameters
    ----------
    risks : array-like of shape (n_steps,), or a sequence of such
        P(step is wrong | the step and the steps before it), in [0, 1].

    Returns
    -------
    ndarray of shape (n_steps + 1,), or a list of such for a sequence of solutions
        The last entry is P(no error). The entries sum to 1.

    Raises
    ------
    ValueError
        If a solution has no steps, or a risk is NaN or outside [0, 1].

    Examples
    --------
    >>> first_error_distribution([0.1, 0.5]).round(3)
    array([0.1 , 0.45, 0.45])
    """
    solutions, is_single = as_paths(risks)
    distributions = ragged_first_error_distribution(ragged_scores(solutions, True)).split()
    return distributions[0] if is_single else distributions


def ragged_first_error_distribution(risks: Ragged) -> Ragged:
    """Return the first-error distributions of several solutions end to end."""
    # Each solution before this one has added one outcome, its "no error".
    places = np.arange(len(risks.values)) + risks.rows
    # P(all steps before are right) is 1 at the start of a solution.
    before = np.ones(len(risks.values) + len(risks))
    before[places + 1] = np.exp(ragged_log_survival(risks).values)
    hazards = np.ones_like(before)
    hazards[places] = risks.values
    return Ragged(before * hazards, risks.lengths + 1)


def ragged_log_survival(risks: Ragged) -> Ragged:
    """Return ``log P(steps 0..t of the solution are right)`` of each step t, -inf for a probability of 0."""
    with np.errstate(divide="ignore"):
        return risks.with_values(risks.with_values(np.log1p(-risks.values)).cumsum())


def entropy(proba: npt.ArrayLike) -> FloatArray:
    """Return the entropy of each row of class probabilities, in nats. Higher is more uncertain."""
    entropies: FloatArray = entr(check_probabilities(proba, "proba")).sum(axis=-1)
    return entropies


def as_paths(values: Any) -> tuple[list[Any], bool]:
    """Return a list of solutions, and whether the input was one solution instead of several."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return ([values], True) if values.ndim == 1 else (list(values), False)
    _refuse_no_array(values, "X")
    solutions: list[Any] = list(values)
    is_single = len(solutions) > 0 and np.ndim(solutions[0]) == 0 and not isinstance(solutions[0], Mapping)
    return ([solutions], True) if is_single else (solutions, False)


def _refuse_no_array(values: Any, name: str) -> None:
    """Raise for input that would be read as its letters, keys or columns."""
    if isinstance(values, (str, bytes, Mapping)) or hasattr(values, "columns"):
        raise TypeError(f"{name} is a {type(values).__name__}, expected a 1-D array of step scores per path")
    if name == "X" and not np.iterable(values):
        raise TypeError(f"X is {values!r:.60}, one value, expected a list with an entry per path: [{values!r:.60}]")


def ragged_scores(solutions: Sequence[Any], probabilities: bool) -> Ragged:
    """Return the checked scores of all steps end to end, one row per solution."""
    _refuse_no_array(solutions, "X")
    arrays = []
    for i, solution in enumerate(solutions):
        _refuse_no_array(solution, f"path {i}")
        arrays.append(np.asarray(solution, dtype=np.float64))
    for i, array in enumerate(arrays):
        if array.ndim != 1:
            hint = " For one path pass [values]." if array.ndim == 0 else ""
            raise ValueError(f"path {i} has shape {array.shape}, expected a 1-D array of step scores.{hint}")
        if not array.size:
            raise ValueError(f"path {i} has no steps: nothing to score; leave out solutions without steps")
    ragged = Ragged.from_arrays(arrays)
    without = ragged.rows[np.isnan(ragged.values)]
    if len(without):
        raise ValueError(
            f"path {without[0]} holds nan ({len(np.unique(without))} such paths), expected "
            f"{'probabilities in [0, 1]' if probabilities else 'numbers'} without NaN: leave out paths that have a "
            "step without a score, or say what to do with them (aggregate has unscored=…)"
        )
    return ragged.with_values(check_probabilities(ragged.values, "a path")) if probabilities else ragged


@dataclass(frozen=True, repr=False)
class AggregationChoice(Record):
    """The rule that best tells solutions without an error from others, made by :func:`choose_aggregation`.

    Parameters
    ----------
    rule : str
        The best rule, for :func:`aggregate`.
    auroc : dict of str to Interval
        The AUROC of each rule: a solution without an error has a higher score than one with an error.
    differences : dict of str to Interval
        The best rule minus each other rule, resampled in pairs. If an interval holds 0, the data do not decide.
    n_paths : int
        Number of solutions.
    n_problems : int
        Number of problems.
    share_correct : float
        Share of solutions without an error.
    n_resamples : int
        Number of resamples behind the intervals.
    confidence_level : float
        Level of the intervals.
    """

    rule: str
    auroc: Mapping[str, Interval]
    differences: Mapping[str, Interval]
    n_paths: int
    n_problems: int
    share_correct: float
    n_resamples: int
    confidence_level: float

    def __str__(self) -> str:
        best_first = sorted(self.auroc.items(), key=lambda pair: -(pair[1].value or 0.0))
        rows = [["rule", "AUROC", f"{self.rule} minus it"]]
        rows += [[name, str(interval), str(self.differences.get(name, ""))] for name, interval in best_first]
        headline = (
            f"{self.rule}: AUROC {self.auroc[self.rule]} of {self.n_paths:,} paths of {self.n_problems:,} problems, "
            f"{self.share_correct:.1%} without an error"
        )
        return "\n".join([headline, "", *align_columns(rows), "", "chosen on these problems: report it on others"])

    def __repr__(self) -> str:
        return f"<AggregationChoice: {self.rule}, AUROC {self.auroc[self.rule]}, {self.n_paths} paths>"


def choose_aggregation(
    values: Sequence[npt.ArrayLike],
    correct: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    rules: Sequence[str] | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.Generator | None = 0,
) -> AggregationChoice:
    """Choose the aggregation rule by the AUROC of "the solution has no error".

    Give it **validation** problems: neither those that the classifier was trained on, nor those that the result is
    reported on. The best of several rules looks better than it is. Rules that order solutions alike (``product`` and
    ``sum_log``, ``geometric_mean`` and ``length_normalized``) tie, and the first of them wins.

    Parameters
    ----------
    values : sequence of array-like of shape (n_steps,)
        One 1-D array per solution with the rewards of its steps in [0, 1]. Higher is better.
    correct : array-like of bool, shape (n_solutions,)
        True for a solution without a wrong step: ``first_errors == -1``.
    groups : array-like of shape (n_solutions,), optional
        The problem of each solution. If None, each solution is a problem by itself.
    rules : sequence of str, optional
        Rules of :func:`aggregate` to compare. If None, all are compared.
    n_resamples : int, default=1000
        Number of resamples of problems, for the intervals.
    confidence_level : float, default=0.95
        Level of the intervals.
    random_state : int, Generator or None, default=0
        Seed of the resamples.

    Returns
    -------
    AggregationChoice
        The best rule with the AUROC of all.

    Raises
    ------
    ValueError
        If :func:`aggregate` refuses the values, lengths differ, ``correct`` holds more than True and False, or all or
        no solutions have an error.

    Examples
    --------
    >>> rewards = [[0.9, 0.8, 0.9, 0.9], [0.7, 0.99], [0.9, 0.4, 0.9], [0.6, 0.9]]
    >>> choice = choose_aggregation(rewards, [True, True, False, False], rules=["last", "min", "mean"])
    >>> choice.rule, {rule: interval.value for rule, interval in choice.auroc.items()}
    ('min', {'last': 0.75, 'min': 1.0, 'mean': 1.0})
    """
    names = tuple(dict.fromkeys(AGGREGATION_RULES if rules is None else rules))
    if not names:
        raise ValueError(f"rules is empty, expected some of {', '.join(AGGREGATION_RULES)}")
    scores = {rule: aggregate(values, rule) for rule in names}
    has_error = ~_check_correct(correct, len(values))
    problems, n_problems = problem_numbers(np.arange(len(has_error)) if groups is None else groups)
    if len(problems) != len(has_error):
        raise ValueError(f"groups has {len(problems)} rows, expected one problem for each of {len(has_error)} paths")
    # Scores are sorted once for all resamples. A low score speaks for an error, hence the minus.
    ranked = {rule: RankedDecisions(has_error, -score, problems) for rule, score in scores.items()}
    bootstrap = bootstrap_counts(
        lambda counts: {rule: decisions.weigh(counts).auroc() for rule, decisions in ranked.items()},
        n_problems,
        n_resamples,
        random_state,
        confidence_level,
    )
    aurocs = np.array([bootstrap.estimates[rule] for rule in names], dtype=np.float64)
    # Rounding must not decide between rules that tie: the first of them is taken.
    best = names[int(np.argmax(aurocs >= aurocs.max() - 1e-12))]
    return AggregationChoice(
        rule=best,
        auroc={rule: bootstrap.interval(rule) for rule in names},
        differences={rule: bootstrap.difference(best, rule) for rule in names if rule != best},
        n_paths=len(has_error),
        n_problems=n_problems,
        share_correct=float(1 - has_error.mean()),
        n_resamples=n_resamples,
        confidence_level=confidence_level,
    )


def _check_correct(correct: npt.ArrayLike, n_solutions: int) -> npt.NDArray[np.bool_]:
    """Return which solutions are correct, of both kinds at least one."""
    truth = np.asarray(correct)
    if truth.shape != (n_solutions,):
        raise ValueError(f"correct has shape {truth.shape}, expected True or False for each of {n_solutions} paths")
    if truth.dtype.kind not in "biuf" or not np.isin(truth, (0, 1)).all():
        raise ValueError("correct holds more than True and False: pass first_errors == -1")
    truth = truth.astype(bool)
    if not truth.any() or truth.all():
        number = "all" if truth.all() else "none"
        raise ValueError(
            f"{number} of {n_solutions} paths are without an error: an AUROC needs paths with and without one"
        )
    return truth
