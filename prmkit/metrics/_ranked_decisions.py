"""Areas under risk-coverage curves of decisions that are sorted once, however often each of them is counted."""

from __future__ import annotations

from dataclasses import dataclass

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
