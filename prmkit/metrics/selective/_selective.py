"""How well an uncertainty says which decisions to leave to somebody else: errors left against share kept.

Decisions are sorted by uncertainty, and the most uncertain are rejected first; the loss says how wrong each is. Ties
share their mean loss: what a random order among them gives on average, so that the order of rows is invisible.
Definitions: ``R_k`` is the mean loss of the k most certain of n decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class RankedDecisions:
    """Decisions from the most certain to the least; :meth:`weigh` says how often each counts.

    Parameters
    ----------
    loss : ndarray of shape (n_decisions,)
    uncertainty : ndarray of shape (n_decisions,)
    problems : ndarray of int of shape (n_decisions,)
        The place of each decision in the counts.
    """

    def __init__(self, loss: np.ndarray, uncertainty: np.ndarray, problems: np.ndarray) -> None:
        order = np.argsort(uncertainty, kind="stable")
        values = uncertainty[order]
        self.problems = problems[order]
        self.starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])  # of ties
        self.any_ties = len(self.starts) < len(values)
        # Where nothing is lost, nothing is added to any area.
        losing = np.flatnonzero(loss[order])
        tie = np.searchsorted(self.starts, losing, side="right") - 1
        self.loss, self.losing = loss[order][losing], self.problems[losing]
        self.losing_ties, self.losing_starts = np.unique(tie, return_index=True)

    def weigh(self, counts: np.ndarray, harmonic: HarmonicNumbers) -> WeighedDecisions:
        """Count each decision ``counts[problem]`` times, an integer; not all are 0."""
        of_tie = counts.take(self.problems)
        if self.any_ties:
            of_tie = np.add.reduceat(of_tie, self.starts)
        passed = np.cumsum(of_tie)
        sizes, after = of_tie.take(self.losing_ties), passed.take(self.losing_ties)
        lost = (counts.take(self.losing) if self.any_ties else sizes) * self.loss
        if len(self.losing_ties) < len(lost):
            lost = np.add.reduceat(lost, self.losing_starts)
        return WeighedDecisions(after - sizes, after, lost, int(passed[-1]), harmonic)


@dataclass(eq=False)
class WeighedDecisions:
    """How many decisions come before and up to the end of each tie with a loss, and what the tie loses in all.

    With ``R_k``, the mean loss of the k most certain of n, and a tie of c decisions after b others that loses L:
    it adds ``(k - b) / c * L`` to ``k * R_k`` inside the tie and L after it, so sums over k need harmonic numbers only.
    """

    before: np.ndarray
    after: np.ndarray
    lost: np.ndarray
    n: int
    harmonic: HarmonicNumbers

    def __post_init__(self) -> None:
        self.total = float(self.lost.sum())
        self._h = self.harmonic.up_to(self.n)
        h_after, sizes = self._h.take(self.after), np.maximum(self.after - self.before, 1)
        inside = h_after - self._h.take(self.before)
        inside *= self.before
        inside /= sizes
        self._shares = (1.0 + self._h[self.n]) - h_after
        self._shares -= inside

    def risk(self, k: int) -> float:
        """``R_k``."""
        j = int(np.searchsorted(self.after, k, side="right"))
        lost = self.lost[:j].sum()
        if j < len(self.lost) and self.before[j] < k:
            lost += self.lost[j] * (k - self.before[j]) / (self.after[j] - self.before[j])
        return float(lost / k)

    def mean_risk(self, first: int = 0) -> float:
        """Return the mean of ``R_k`` over k = first + 1..n."""
        h = self._h
        j = int(np.searchsorted(self.after, first, side="right"))
        area = self.lost[:j].sum() * (h[self.n] - h[first])
        if j < len(self.lost) and self.before[j] < first:
            before, after = self.before[j], self.after[j]
            inside = (after - first - before * (h[after] - h[first])) / (after - before)
            area += self.lost[j] * (inside + h[self.n] - h[after])
            j += 1
        return float((area + self.lost[j:] @ self._shares[j:]) / (self.n - first))

    def generalised_area(self) -> float:
        """Trapezoids of width 1/n under the summed loss; ties are straight lines."""
        return (self.n * self.total - self._places()) / self.n**2

    def auroc(self) -> float | None:
        """Return the AUROC of uncertainty for a loss of 1, where every loss is 0 or 1; None if all are equal."""
        pairs = self.total * (self.n - self.total)
        return (self._places() - self.total**2 / 2) / pairs if pairs else None

    def _places(self) -> float:
        """Sum over what is lost of its place, in the middle of its tie."""
        return float(self.lost @ (self.before + self.after)) / 2


class HarmonicNumbers:
    """``1 + 1/2 + ... + 1/k`` for k from 0 up, kept for the next call."""

    def __init__(self) -> None:
        self._numbers = np.zeros(1)

    def up_to(self, n: int) -> np.ndarray:
        """Return an array whose element k is the k-th one, for k = 0..n at least."""
        if n >= len(self._numbers):
            self._numbers = np.append(0.0, np.cumsum(1.0 / np.arange(1, n + n // 8 + 1)))
        return self._numbers


def rejection_ratio(ranked: WeighedDecisions, oracle: WeighedDecisions, max_rejection: float) -> float | None:
    """Return the PRR, see :func:`prmkit.metrics.prr`."""
    n_areas = int(max_rejection * ranked.n)
    if not n_areas:
        return None
    random, first = oracle.total / oracle.n, ranked.n - n_areas
    best, area = oracle.mean_risk(first), ranked.mean_risk(first)
    if random - best <= 1e-12 * random:
        return None
    return round(float((random - area) / (random - best)), 12) + 0.0  # no -0.0 for a constant


def areas(
    ranked: WeighedDecisions, oracle: WeighedDecisions, max_rejections: tuple[float, ...] = ()
) -> dict[str, float | None]:
    """Return aurc, eaurc, augrc, and prr for each share, of losses that are not all equal."""
    aurc = ranked.mean_risk()
    return {
        "aurc": aurc,
        "eaurc": max(aurc - oracle.mean_risk(), 0.0),  # below 0 by rounding only
        "augrc": ranked.generalised_area(),
        **{f"prr@{share:g}": rejection_ratio(ranked, oracle, share) for share in max_rejections},
    }


def all_alike(low: float, high: float) -> bool:
    """Whether the smallest and the largest loss differ by no more than rounding."""
    return bool(high - low <= 1e-12 * high)


class RiskCoverageCurve(NamedTuple):
    """Mean loss of what is kept, from the most certain decision alone to all; each of shape (n_decisions,).

    Parameters
    ----------
    coverages : ndarray
        ``k / n`` for k = 1..n.
    risks : ndarray
        ``R_k``; their mean is the AURC.
    thresholds : ndarray
        The k-th smallest uncertainty. Keeping what is not above it keeps all of its ties too, so a coverage inside a
        tie needs a draw among them.
    """

    coverages: np.ndarray
    risks: np.ndarray
    thresholds: np.ndarray


def aurc(loss: Any, uncertainty: Any, *, sample_weight: Any = None) -> float | None:
    """Return the area under the risk-coverage curve, the mean of ``R_k`` over k = 1..n; lower is better.

    Parameters
    ----------
    loss : array-like of shape (n_decisions,)
        How wrong each decision is, in [0, 1]; booleans say "is wrong".
    uncertainty : array-like of shape (n_decisions,)
        **Higher is more uncertain** and rejected first. Only its order counts; infinities are allowed.
    sample_weight : array-like of shape (n_decisions,), optional
        How often each decision counts: whole numbers, the same as repeating rows.

    Returns
    -------
    float or None
        None where all losses are equal, rounding aside (all right or all wrong, say): nothing tells one uncertainty
        from another.

    Raises
    ------
    ValueError
        For no rows, other lengths, NaN, losses outside [0, 1], or weights that are no counts.

    References
    ----------
    Geifman, Uziel, El-Yaniv (2019), arXiv:1805.08206.

    Examples
    --------
    >>> round(aurc([0, 0, 1], [0.1, 0.3, 0.2]), 4)  # R = 0, 1/2, 1/3
    0.2778
    """
    return _areas(loss, uncertainty, sample_weight)["aurc"]


def eaurc(loss: Any, uncertainty: Any, *, sample_weight: Any = None) -> float | None:
    """Return how far the AURC is above that of a perfect order, by the loss itself; 0 is perfect.

    Parameters, errors and None as in :func:`aurc` (arXiv:1805.08206).

    Examples
    --------
    >>> round(eaurc([0, 0, 1], [0.1, 0.3, 0.2]), 4)
    0.1667
    """
    return _areas(loss, uncertainty, sample_weight)["eaurc"]


def augrc(loss: Any, uncertainty: Any, *, sample_weight: Any = None) -> float | None:
    """Return the area under the generalised risk-coverage curve; lower is better, random is half the mean loss.

    The generalised risk is the summed loss of what is kept over **all** n decisions: the probability of a mistake that
    nobody catches. Its curve starts at 0, and points are joined by straight lines, ties by one.

    Parameters, errors and None as in :func:`aurc`.

    Notes
    -----
    For a 0/1 loss it is ``(1 - AUROC) * acc * (1 - acc) + (1 - acc)**2 / 2`` with the share ``acc`` of right decisions
    and the AUROC of uncertainty for wrong ones.

    References
    ----------
    Traub et al. (2024), arXiv:2407.01032.

    Examples
    --------
    >>> round(augrc([0, 0, 1], [0.1, 0.3, 0.2]), 4)  # 0, 1/3, 1/3 after a start at 0
    0.1667
    """
    return _areas(loss, uncertainty, sample_weight)["augrc"]


def prr(
    loss: Any, uncertainty: Any, max_rejection: float = 1.0, *, sample_weight: Any = None
) -> float | None:
    """Return the prediction rejection ratio: 1 is a perfect order, 0 a random one, below 0 worse than that.

    ``(random - area) / (random - oracle)``, where an area is the mean of ``R_k`` over the last ``int(max_rejection *
    n)`` values of k, ``oracle`` that of the order by loss, and ``random`` the mean loss, exactly.

    Parameters
    ----------
    loss, uncertainty, sample_weight : as in :func:`aurc`
    max_rejection : float, default=1.0
        The largest share of decisions that may be rejected, in (0, 1].

    Returns
    -------
    float or None
        None where the perfect order is no better than a random one: equal losses, or no more than one value of k.

    Raises
    ------
    ValueError
        As in :func:`aurc`, and for ``max_rejection`` outside (0, 1].

    References
    ----------
    Malinin, Gales (2021), arXiv:2002.07650.

    Examples
    --------
    >>> prr([0, 0, 1], [0.1, 0.2, 0.3]), prr([0, 0, 1], [0.3, 0.2, 0.1]) < 0
    (1.0, True)
    """
    check_share(max_rejection, "max_rejection")
    return _areas(loss, uncertainty, sample_weight, (max_rejection,))[f"prr@{max_rejection:g}"]


def risk_at_coverage(loss: Any, uncertainty: Any, coverage: float, *, sample_weight: Any = None) -> float:
    """Return the mean loss of the share of decisions that are most certain; lower is better.

    ``R_k`` with ``k = ceil(coverage * n)``: at least this share is kept. It is defined for equal losses too.

    Parameters
    ----------
    loss, uncertainty, sample_weight : as in :func:`aurc`
    coverage : float
        In (0, 1].

    Raises
    ------
    ValueError
        As in :func:`aurc`, and for a coverage outside (0, 1].

    Examples
    --------
    >>> risk_at_coverage([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], coverage=0.5)
    0.0
    """
    check_share(coverage, "coverage")
    risks = risk_coverage_curve(loss, uncertainty, sample_weight=sample_weight).risks
    return float(risks[kept_at(coverage, len(risks)) - 1])


def risk_coverage_curve(loss: Any, uncertainty: Any, *, sample_weight: Any = None) -> RiskCoverageCurve:
    """Return the mean loss of the k most certain decisions for every k.

    Parameters and errors as in :func:`aurc`.

    Returns
    -------
    RiskCoverageCurve
        ``coverages``, ``risks``, ``thresholds``, each of shape (n_decisions,), or as many as the weights sum to.

    Examples
    --------
    >>> curve = risk_coverage_curve([0, 1, 1, 0], [1, 2, 2, 3])
    >>> curve.coverages, curve.risks.round(3), curve.thresholds
    (array([0.25, 0.5 , 0.75, 1.  ]), array([0.   , 0.5  , 0.667, 0.5  ]), array([1., 2., 2., 3.]))
    """
    loss, uncertainty, weight = check_decisions(loss, uncertainty, sample_weight)
    risks = prefix_risks(losses_by_certainty(loss, tie_numbers(uncertainty), weight))
    thresholds = np.sort(np.repeat(uncertainty, weight.astype(np.int64)))
    return RiskCoverageCurve(np.arange(1, len(risks) + 1) / len(risks), risks, thresholds)


def tie_numbers(uncertainty: np.ndarray) -> np.ndarray:
    """Return the place of each value among the distinct ones, ascending: all that the order of rows is needed for."""
    return np.unique(uncertainty, return_inverse=True)[1]


def losses_by_certainty(loss: np.ndarray, ties: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the losses from the most certain decision to the least, each the mean of its tie; one per count."""
    counts = np.bincount(ties, weights=weight)
    means = np.bincount(ties, weights=weight * loss) / np.maximum(counts, 1)
    return np.repeat(means, counts.astype(np.int64))


def prefix_risks(by_certainty: np.ndarray) -> np.ndarray:
    """Return ``R_k`` for k = 1..n."""
    return np.cumsum(by_certainty) / np.arange(1, len(by_certainty) + 1)


def kept_at(coverage: float, n: int) -> int:
    """Return how many of n decisions a coverage keeps, rounding errors of the product aside."""
    return max(int(np.ceil(coverage * n - 1e-9)), 1)


def auroc_by_ties(wrong: np.ndarray, ties: np.ndarray, weight: np.ndarray) -> float | None:
    """Return the AUROC of uncertainty for a 0/1 loss, from :func:`tie_numbers`; None where only one value is there."""
    n_wrong = np.bincount(ties, weights=weight * wrong)
    n_right = np.bincount(ties, weights=weight) - n_wrong
    pairs = n_wrong.sum() * n_right.sum()
    return float(n_wrong @ (np.cumsum(n_right) - n_right / 2) / pairs) if pairs else None


def check_decisions(
    loss: Any, uncertainty: Any, sample_weight: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return loss, uncertainty and weight as float64 arrays of one length, rows of weight 0 left out."""
    loss, uncertainty = np.asarray(loss, dtype=np.float64), np.asarray(uncertainty, dtype=np.float64)
    if loss.ndim != 1 or loss.shape != uncertainty.shape:
        raise ValueError(
            f"loss has shape {loss.shape} and uncertainty {uncertainty.shape}, expected two 1-D arrays of equal length"
        )
    if not ((loss >= 0) & (loss <= 1)).all():
        bad = loss[~((loss >= 0) & (loss <= 1))][0]
        raise ValueError(f"loss holds {bad}, expected numbers in [0, 1] without NaN: y_pred != y_true, say")
    if np.isnan(uncertainty).any():
        raise ValueError(f"uncertainty holds {int(np.isnan(uncertainty).sum())} NaN, expected numbers")
    weight = np.ones_like(loss) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != loss.shape or not (np.isfinite(weight) & (weight >= 0) & (weight % 1 == 0)).all():
        raise ValueError("sample_weight counts rows: expected a whole number, 0 or more, for each of them")
    if not weight.any():
        raise ValueError("loss is empty: at least 1 decision is required")
    counted = weight > 0
    return loss[counted], uncertainty[counted], weight[counted]


def _areas(
    loss: Any, uncertainty: Any, sample_weight: Any, max_rejections: tuple[float, ...] = ()
) -> dict[str, float | None]:
    """Return all areas, None where losses are alike."""
    loss, uncertainty, weight = check_decisions(loss, uncertainty, sample_weight)
    if all_alike(loss.min(), loss.max()):
        return dict.fromkeys(["aurc", "eaurc", "augrc", *(f"prr@{share:g}" for share in max_rejections)])
    rows, counts, harmonic = np.arange(len(loss)), weight.astype(np.int64), HarmonicNumbers()
    orders = (uncertainty, loss)
    ranked, oracle = (RankedDecisions(loss, order, rows).weigh(counts, harmonic) for order in orders)
    return areas(ranked, oracle, max_rejections)


def check_share(value: float, name: str) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a number in (0, 1]")
