"""How well an uncertainty tells which decisions to leave to somebody else: loss that is left against share kept.

Decisions are sorted by uncertainty, and the most uncertain ones are rejected first. The loss says how wrong each
decision is. Ties share their mean loss. This is the average over random orders among them, so the order of rows has no
effect. In all definitions ``R_k`` is the mean loss of the k most certain of n decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from prmkit.utils.ragged import FloatArray, IntArray


class HarmonicNumbers:
    """The numbers ``1 + 1/2 + ... + 1/k`` for k from 0 up, stored for the next call."""

    def __init__(self) -> None:
        self._numbers: FloatArray = np.zeros(1)

    def up_to(self, n: int) -> FloatArray:
        """Return an array whose element k is the k-th number, for k = 0..n at least."""
        if n >= len(self._numbers):
            self._numbers = np.append(0.0, np.cumsum(1.0 / np.arange(1, n + n // 8 + 1)))
        return self._numbers


class RankedDecisions:
    """Decisions from the most certain to the least, sorted once for many weightings.

    For an AUROC the loss says whether the event happened, and the uncertainty is its score. ``problems`` holds the
    place of each decision in the counts of :meth:`weigh`.
    """

    def __init__(self, loss: npt.NDArray[Any], uncertainty: npt.NDArray[Any], problems: IntArray) -> None:
        order = np.argsort(uncertainty, kind="stable")
        values = uncertainty[order]
        self._problems = problems[order]
        # A tie is a block of equal uncertainties. A decision that ties with none is a block of one.
        self._tie_starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        self._has_ties = len(self._tie_starts) < len(values)
        # Decisions without a loss add nothing to any area: only the others need to be summed.
        lossy = np.flatnonzero(loss[order])
        tie_of_lossy = np.searchsorted(self._tie_starts, lossy, side="right") - 1
        self._loss, self._lossy_problems = loss[order][lossy], self._problems[lossy]
        self._lossy_ties, self._lossy_starts = np.unique(tie_of_lossy, return_index=True)
        self._harmonic = HarmonicNumbers()

    def weigh(self, counts: npt.NDArray[Any]) -> WeighedDecisions:
        """Return the decisions, each counted ``counts[problem]`` times."""
        n_in_tie = counts.take(self._problems)
        if self._has_ties:
            n_in_tie = np.add.reduceat(n_in_tie, self._tie_starts)
        n_so_far = np.cumsum(n_in_tie)
        sizes, after = n_in_tie.take(self._lossy_ties), n_so_far.take(self._lossy_ties)
        lost = (counts.take(self._lossy_problems) if self._has_ties else sizes) * self._loss
        if len(self._lossy_ties) < len(lost):
            lost = np.add.reduceat(lost, self._lossy_starts)
        return WeighedDecisions(after - sizes, after, lost, n_so_far[-1], self._harmonic)


@dataclass(eq=False)
class WeighedDecisions:
    """How many decisions come before and up to the end of each tie with a loss, and the summed loss of the tie.

    Take a tie of c decisions after b others that loses L. Inside the tie it adds ``(k - b) / c * L`` to ``k * R_k``,
    and after the tie it adds L. So sums of ``R_k`` over k need harmonic numbers only.
    """

    before: npt.NDArray[Any]
    after: npt.NDArray[Any]
    lost: FloatArray
    n: Any
    harmonic: HarmonicNumbers
    total: float = field(init=False)

    def __post_init__(self) -> None:
        self.total = float(self.lost.sum())

    def risk(self, k: int) -> float:
        """Return ``R_k``."""
        j = int(np.searchsorted(self.after, k, side="right"))
        lost = self.lost[:j].sum()
        if j < len(self.lost) and self.before[j] < k:
            lost += self.lost[j] * (k - self.before[j]) / (self.after[j] - self.before[j])
        return float(lost / k)

    def mean_risk(self, first: int = 0) -> float:
        """Return the mean of ``R_k`` over k = first + 1..n."""
        h = self.harmonic.up_to(int(self.n))
        # Ties that end before the range add their whole loss to every k of it.
        j = int(np.searchsorted(self.after, first, side="right"))
        area = self.lost[:j].sum() * (h[self.n] - h[first])
        if j < len(self.lost) and self.before[j] < first:
            before, after = self.before[j], self.after[j]
            inside = (after - first - before * (h[after] - h[first])) / (after - before)
            area += self.lost[j] * (inside + h[self.n] - h[after])
            j += 1
        before, after = self.before[j:], self.after[j:]
        h_after = h.take(after)
        inside = before * (h_after - h.take(before)) / np.maximum(after - before, 1)
        shares = 1.0 + h[self.n] - h_after - inside
        return float((area + self.lost[j:] @ shares) / (self.n - first))

    def generalised_area(self) -> float:
        """Return the area of trapezoids of width 1/n under the summed loss. Ties are straight lines."""
        return float((self.n * self.total - self._summed_places()) / self.n**2)

    def auroc(self) -> float | None:
        """Return the AUROC of uncertainty for a loss of 1, None if all losses are equal. Losses must be 0 or 1."""
        pairs = self.total * (self.n - self.total)
        return float((self._summed_places() - self.total**2 / 2) / pairs) if pairs else None

    def average_precision(self) -> float | None:
        """Return the average precision of uncertainty for a loss of 1, None without such. Losses must be 0 or 1."""
        if not self.total:
            return None
        hits = self.total - np.cumsum(self.lost) + self.lost
        # A tie that a resample does not draw has weight 0, and its own rows may then be empty, hence the maximum.
        return float((self.lost * hits / np.maximum(self.n - self.before, 1.0)).sum() / self.total)

    def _summed_places(self) -> float:
        """Return the sum over all losses of their place, in the middle of their tie."""
        return float(self.lost @ (self.before + self.after)) / 2


def rejection_ratio(ranked: WeighedDecisions, oracle: WeighedDecisions, max_rejection: float) -> float | None:
    """Return the PRR as :func:`prmkit.metrics.prr` defines it."""
    n_areas = int(max_rejection * ranked.n)
    if not n_areas:
        return None
    random, first = oracle.total / oracle.n, ranked.n - n_areas
    best, area = oracle.mean_risk(first), ranked.mean_risk(first)
    if random - best <= 1e-12 * random:
        return None
    # Adding 0.0 turns the -0.0 of a constant uncertainty into 0.0.
    return round(float((random - area) / (random - best)), 12) + 0.0


def areas(
    ranked: WeighedDecisions, oracle: WeighedDecisions, max_rejections: tuple[float, ...] = ()
) -> dict[str, float | None]:
    """Return aurc, eaurc, augrc, and prr for each share, for losses that are not all equal."""
    mean_risk = ranked.mean_risk()
    # An order cannot be better than the oracle's: below 0 is a rounding error.
    return {
        "aurc": mean_risk,
        "eaurc": max(mean_risk - oracle.mean_risk(), 0.0),
        "augrc": ranked.generalised_area(),
        **{f"prr@{share:g}": rejection_ratio(ranked, oracle, share) for share in max_rejections},
    }


def all_alike(low: float, high: float) -> bool:
    """Return whether the smallest and the largest loss differ by no more than rounding."""
    return bool(high - low <= 1e-12 * high)


class RiskCoverageCurve(NamedTuple):
    """Mean loss ``risks[k - 1]``, R_k, of the k most certain decisions at coverage ``k / n``, for k = 1..n.

    ``thresholds`` holds the k-th smallest uncertainty. Keeping all decisions up to it keeps all of its ties too. A
    coverage inside a tie needs a draw among them.
    """

    coverages: FloatArray
    risks: FloatArray
    thresholds: FloatArray


def aurc(
    loss: npt.ArrayLike, uncertainty: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> float | None:
    """Return the area under the risk-coverage curve, the mean of ``R_k`` over k = 1..n. Lower is better.

    Parameters
    ----------
    loss : array-like of shape (n_decisions,)
        How wrong each decision is, in [0, 1]. Booleans say "is wrong".
    uncertainty : array-like of shape (n_decisions,)
        **Higher is more uncertain** and rejected first. Only the order counts. Infinities are allowed.
    sample_weight : array-like of shape (n_decisions,), optional
        How often each decision counts. Whole numbers, with the effect of repeated rows.

    Returns
    -------
    float or None
        None if all losses are equal, apart from rounding (all right or all wrong, for example). Then nothing tells
        one uncertainty from another.

    Raises
    ------
    ValueError
        If there are no rows, lengths differ, a number is NaN, a loss is outside [0, 1], or a weight is no count.

    References
    ----------
    Geifman, Uziel, El-Yaniv (2019), arXiv:1805.08206.

    Examples
    --------
    >>> round(aurc([0, 0, 1], [0.1, 0.3, 0.2]), 4)  # R = 0, 1/2, 1/3
    0.2778
    """
    return _areas(loss, uncertainty, sample_weight)["aurc"]


def augrc(
    loss: npt.ArrayLike, uncertainty: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> float | None:
    """Return the area under the generalised risk-coverage curve. Lower is better, random is half the mean loss.

    The generalised risk is the summed loss of the decisions that are kept, divided by **all** n decisions. It is the
    probability of a mistake that nobody catches. Its curve starts at 0 and joins points, or ties, by straight lines.

    Parameters
    ----------
    loss, uncertainty, sample_weight : array-like of shape (n_decisions,)
        The same as in :func:`aurc`.

    Returns
    -------
    float or None
        None if all losses are equal, as in :func:`aurc`.

    Raises
    ------
    ValueError
        For the same input as :func:`aurc`.

    Notes
    -----
    For a 0/1 loss it is ``(1 - AUROC) * acc * (1 - acc) + (1 - acc)**2 / 2`` with the share ``acc`` of right decisions
    and the AUROC of uncertainty for wrong decisions.

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
    loss: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    max_rejection: float = 1.0,
    *,
    sample_weight: npt.ArrayLike | None = None,
) -> float | None:
    """Return the prediction rejection ratio: 1 is a perfect order, 0 a random one, below 0 is worse than random.

    It is ``(random - area) / (random - oracle)``. An area is the mean of ``R_k`` over the last
    ``int(max_rejection * n)`` values of k. ``oracle`` is the area of the order by loss, and ``random`` the mean loss.

    Parameters
    ----------
    loss, uncertainty : array-like of shape (n_decisions,)
        The same as in :func:`aurc`.
    max_rejection : float, default=1.0
        The largest share of decisions that may be rejected, in (0, 1].
    sample_weight : array-like of shape (n_decisions,), optional
        The same as in :func:`aurc`.

    Returns
    -------
    float or None
        None if the perfect order is no better than a random one: equal losses, or no more than one value of k.

    Raises
    ------
    ValueError
        For the same input as :func:`aurc`, and if ``max_rejection`` is outside (0, 1].

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


def risk_at_coverage(
    loss: npt.ArrayLike, uncertainty: npt.ArrayLike, coverage: float, *, sample_weight: npt.ArrayLike | None = None
) -> float:
    """Return the mean loss of the most certain share of decisions. Lower is better.

    It is ``R_k`` with ``k = ceil(coverage * n)``, so at least this share is kept. It is defined for equal losses too.

    Parameters
    ----------
    loss, uncertainty : array-like of shape (n_decisions,)
        The same as in :func:`aurc`.
    coverage : float
        Share of decisions to keep, in (0, 1].
    sample_weight : array-like of shape (n_decisions,), optional
        The same as in :func:`aurc`.

    Returns
    -------
    float
        The mean loss.

    Raises
    ------
    ValueError
        For the same input as :func:`aurc`, and if ``coverage`` is outside (0, 1].

    Examples
    --------
    >>> risk_at_coverage([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], coverage=0.5)
    0.0
    """
    check_share(coverage, "coverage")
    risks = risk_coverage_curve(loss, uncertainty, sample_weight=sample_weight).risks
    return float(risks[kept_at(coverage, len(risks)) - 1])


def abstention_floor(base_risk: float, alpha: float) -> float:
    """Return the share of cases that every rule must set aside to keep the risk of the accepted at ``alpha``.

    A rule that sets aside wrong cases alone does best. So this is what no score can beat, however good it is.

    Parameters
    ----------
    base_risk : float
        Share of all cases that are wrong, in [0, 1].
    alpha : float
        Share of the accepted cases that may be wrong, in [0, 1).

    Returns
    -------
    float
        ``(base_risk - alpha) / (1 - alpha)``, and 0 where the base risk is at most ``alpha``.

    Raises
    ------
    ValueError
        If a number is out of its range.

    References
    ----------
    arXiv:2606.29054

    Examples
    --------
    >>> abstention_floor(0.28, alpha=0.1), abstention_floor(0.05, alpha=0.1)
    (0.2, 0.0)
    """
    if not 0 <= base_risk <= 1:
        raise ValueError(
            f"base_risk is {base_risk!r}, expected a number in [0, 1]: the share of all cases that are wrong"
        )
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha is {alpha!r}, expected a number in [0, 1)")
    return max(float(base_risk) - alpha, 0.0) / (1 - alpha)


def risk_coverage_curve(
    loss: npt.ArrayLike, uncertainty: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> RiskCoverageCurve:
    """Return the mean loss of the k most certain decisions for every k.

    Parameters
    ----------
    loss, uncertainty, sample_weight : array-like of shape (n_decisions,)
        The same as in :func:`aurc`.

    Returns
    -------
    RiskCoverageCurve
        ``coverages``, ``risks`` and ``thresholds``, each as long as the weights sum to.

    Raises
    ------
    ValueError
        For the same input as :func:`aurc`.

    Examples
    --------
    >>> curve = risk_coverage_curve([0, 1, 1, 0], [1, 2, 2, 3])
    >>> curve.coverages, curve.risks.round(3), curve.thresholds
    (array([0.25, 0.5 , 0.75, 1.  ]), array([0.   , 0.5  , 0.667, 0.5  ]), array([1., 2., 2., 3.]))
    """
    losses, uncertainties, weight = check_decisions(loss, uncertainty, sample_weight)
    risks = prefix_risks(losses_by_certainty(losses, tie_numbers(uncertainties), weight))
    thresholds = np.sort(np.repeat(uncertainties, weight.astype(np.int64)))
    return RiskCoverageCurve(np.arange(1, len(risks) + 1) / len(risks), risks, thresholds)


def tie_numbers(uncertainty: FloatArray) -> IntArray:
    """Return the place of each value among the distinct ones, ascending."""
    return np.unique(uncertainty, return_inverse=True)[1]


def losses_by_certainty(loss: FloatArray, ties: IntArray, weight: FloatArray) -> FloatArray:
    """Return losses from the most certain decision to the least, each the mean of its tie, repeated by weight."""
    counts = np.bincount(ties, weights=weight)
    means = np.bincount(ties, weights=weight * loss) / np.maximum(counts, 1)
    return np.repeat(means, counts.astype(np.int64))


def prefix_risks(by_certainty: FloatArray) -> FloatArray:
    """Return ``R_k`` for k = 1..n."""
    risks: FloatArray = np.cumsum(by_certainty) / np.arange(1, len(by_certainty) + 1)
    return risks


def kept_at(coverage: float, n: int) -> int:
    """Return how many of n decisions a coverage keeps."""
    # The product may exceed a whole number by a rounding error.
    return max(int(np.ceil(coverage * n - 1e-9)), 1)


def check_decisions(
    loss: npt.ArrayLike, uncertainty: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return loss, uncertainty and weight as float64 arrays of one length, without the rows of weight 0."""
    losses, uncertainties = np.asarray(loss, dtype=np.float64), np.asarray(uncertainty, dtype=np.float64)
    if losses.ndim != 1 or losses.shape != uncertainties.shape:
        raise ValueError(
            f"loss has shape {losses.shape} and uncertainty {uncertainties.shape}, expected two 1-D arrays of equal "
            "length"
        )
    outside = ~((losses >= 0) & (losses <= 1))
    if outside.any():
        raise ValueError(
            f"loss holds {losses[outside][0]}, expected numbers in [0, 1] without NaN, such as y_pred != y_true"
        )
    if np.isnan(uncertainties).any():
        raise ValueError(f"uncertainty holds {int(np.isnan(uncertainties).sum())} NaN, expected numbers")
    weight = np.ones_like(losses) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != losses.shape or not (np.isfinite(weight) & (weight >= 0) & (weight % 1 == 0)).all():
        raise ValueError("sample_weight counts rows: expected a whole number, 0 or more, for each of them")
    if not weight.any():
        raise ValueError("loss is empty: at least 1 decision is required")
    counted = weight > 0
    return losses[counted], uncertainties[counted], weight[counted]


def _areas(
    loss: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None,
    max_rejections: tuple[float, ...] = (),
) -> dict[str, float | None]:
    """Return all areas, None for losses that are alike."""
    losses, uncertainties, weight = check_decisions(loss, uncertainty, sample_weight)
    if all_alike(losses.min(), losses.max()):
        return dict.fromkeys(["aurc", "eaurc", "augrc", *(f"prr@{share:g}" for share in max_rejections)])
    rows, counts = np.arange(len(losses)), weight.astype(np.int64)
    ranked, oracle = (RankedDecisions(losses, order, rows).weigh(counts) for order in (uncertainties, losses))
    return areas(ranked, oracle, max_rejections)


def check_share(value: float, name: str) -> None:
    """Raise if a share is not in (0, 1]."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a number in (0, 1]")
