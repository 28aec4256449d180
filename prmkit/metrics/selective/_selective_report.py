"""The table for selective prediction: an uncertainty beside the trivial ones that it has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from prmkit.metrics.bootstrap import Interval, bootstrap_systems, problem_numbers
from prmkit.metrics.report_table import Comparison, Metrics
from prmkit.metrics.selective._selective import RankedDecisions, all_alike, areas, check_decisions, check_share, kept_at
from prmkit.utils.ragged import FloatArray, IntArray

# The largest shares of decisions that may be rejected, for the PRR.
_SHARES = (1.0, 0.5)
_AREAS = ("aurc", "eaurc", "augrc", *(f"prr@{share:g}" for share in _SHARES))
_SHOWN_NAMES = {
    "aurc": "AURC",
    "eaurc": "E-AURC",
    "augrc": "AUGRC",
    "prr@1": "PRR",
    "prr@0.5": "PRR, up to 50% rejected",
    "auroc": "AUROC of the target",
}
# The system whose uncertainty is the same for all decisions.
_CONSTANT = "constant"


@dataclass(frozen=True, repr=False, kw_only=True)
class SelectiveReport(Comparison):
    """Selective prediction by several uncertainties, made by :func:`selective_report`.

    ``metrics["model"]`` holds ``aurc``, ``eaurc``, ``augrc``, ``prr@1``, ``prr@0.5``, ``auroc``, ``risk@0.8`` and so
    on. ``differences["constant"]["prr@1"]`` is the first uncertainty minus this one, resampled in pairs.
    """

    n_decisions: int
    target: str
    mean_loss: Interval

    _groups_argument: ClassVar[str] = "groups"

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {metrics['aurc']}" for name, metrics in self.metrics.items())
        return f"<SelectiveReport: {self.n_decisions} decisions, AURC: {shown}>"

    def _shown_name(self, metric: str) -> str:
        if metric.startswith("risk@"):
            return f"risk at {100 * float(metric[5:]):g}% coverage"
        return _SHOWN_NAMES[metric]

    def _shown_differences(self) -> Metrics:
        first = next(iter(self.metrics))
        return {f"{first} - {name}": metrics for name, metrics in self.differences.items()}

    def _head(self) -> list[str]:
        return [
            f"{self.n_decisions:,} decisions{self._of_problems()}; target: {self.target}, mean loss {self.mean_loss}",
            "uncertainty: higher is rejected first",
        ]

    def _notes(self) -> list[str]:
        directions = "lower is better: AURC, E-AURC, AUGRC, risk; higher is better: PRR (1 perfect, 0 random), AUROC"
        return [directions, *super()._notes()]


def selective_report(
    loss: npt.ArrayLike,
    uncertainties: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike | None = None,
    *,
    coverages: Sequence[float] = (0.5, 0.8, 0.9),
    target: str = "decision is wrong",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.Generator | None = 0,
) -> SelectiveReport:
    """Report how well uncertainties say which decisions to reject, with problem-level intervals.

    Parameters
    ----------
    loss : array-like of shape (n_decisions,)
        How wrong each decision is, in [0, 1]. For right and wrong pass ``verdict != truth``.
    uncertainties : dict of str to array-like of shape (n_decisions,)
        **Higher is rejected first.** The model's own comes first, then trivial ones to compare with (length, position).
        ``"constant"``, which rejects at random, is always added.
    groups : array-like of shape (n_decisions,), optional
        The problem of each decision. Without groups there are no intervals.
    coverages : sequence of float, default=(0.5, 0.8, 0.9)
        Shares of decisions kept at which the mean loss is reported.
    target : str, default="decision is wrong"
        The meaning of a loss of 1. It is printed.
    n_resamples : int, default=1000
        Number of resamples of problems.
    confidence_level : float, default=0.95
        Level of the intervals.
    random_state : int, Generator or None, default=0
        Seed of the resamples.

    Returns
    -------
    SelectiveReport
        The report. ``auroc`` (of uncertainty for a loss of 1) is None unless every loss is 0 or 1. If all losses are
        equal, only the risks at coverages are defined.

    Raises
    ------
    TypeError
        If ``uncertainties`` has no names.
    ValueError
        For the same input as :func:`aurc` (with the name of the uncertainty), if there is no uncertainty, lengths
        differ, or a setting is out of its range.

    Examples
    --------
    >>> loss, entropy, n_steps = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.6, 0.3, 0.5, 0.7], [2, 5, 4, 3, 3, 6]
    >>> print(selective_report(loss, {"entropy": entropy, "length": n_steps}, coverages=[0.5]))
    6 decisions; target: decision is wrong, mean loss 0.500
    uncertainty: higher is rejected first
    <BLANKLINE>
                             entropy  length  constant
    AURC                     0.192    0.331   0.500
    E-AURC                   0.000    0.139   0.308
    AUGRC                    0.125    0.194   0.250
    PRR                      1.000    0.550   0.000
    PRR, up to 50% rejected  1.000    0.286   0.000
    AUROC of the target      1.000    0.722   0.500
    risk at 50% coverage     0.000    0.333   0.500
    <BLANKLINE>
                             entropy - length  entropy - constant
    AURC                     -0.139            -0.308
    E-AURC                   -0.139            -0.308
    AUGRC                    -0.069            -0.125
    PRR                      0.450             1.000
    PRR, up to 50% rejected  0.714             1.000
    AUROC of the target      0.278             0.500
    risk at 50% coverage     -0.333            -0.500
    <BLANKLINE>
    lower is better: AURC, E-AURC, AUGRC, risk; higher is better: PRR (1 perfect, 0 random), AUROC
    no intervals: pass groups, so that problems can be resampled
    """
    if not isinstance(uncertainties, Mapping):
        raise TypeError(
            f'uncertainties is {type(uncertainties).__name__}, expected names and arrays: {{"model": entropy}}'
        )
    if not uncertainties or _CONSTANT in uncertainties:
        raise ValueError('uncertainties is empty or holds "constant", which is added by itself')
    for coverage in coverages:
        check_share(coverage, "a coverage")
    checked, losses = {}, np.empty(0)
    for name, uncertainty in {**uncertainties, _CONSTANT: np.zeros(np.shape(loss))}.items():
        try:
            losses, values, _ = check_decisions(loss, uncertainty)
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from None
        checked[name] = values
    problems, n_problems = problem_numbers(np.arange(len(losses)) if groups is None else groups)
    if len(problems) != len(losses):
        raise ValueError(f"groups has {len(problems)} rows and loss {len(losses)}, expected the same")
    results = bootstrap_systems(
        _WeightedUncertainties(losses, checked, problems, coverages),
        n_problems,
        0 if groups is None else n_resamples,
        random_state,
        confidence_level,
    )
    first, *others = checked
    return SelectiveReport(
        metrics={name: results[name].intervals() for name in checked},
        differences={
            name: {metric: results[first].minus(results[name], metric) for metric in results[name].estimates}
            for name in others
        },
        n_problems=None if groups is None else n_problems,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
        n_decisions=len(losses),
        target=target,
        mean_loss=results[_ALL].interval("mean_loss"),
    )


# The name under which numbers are returned that are the same for all uncertainties.
_ALL = ""


class _WeightedUncertainties:
    """All numbers as a function of how often each problem counts, from rows that are sorted once."""

    def __init__(
        self, loss: FloatArray, uncertainties: Mapping[str, FloatArray], problems: IntArray, coverages: Sequence[float]
    ) -> None:
        self._is_binary = bool(((loss == 0) | (loss == 1)).all())
        self._ranked = {name: RankedDecisions(loss, u, problems) for name, u in uncertainties.items()}
        self._oracle = RankedDecisions(loss, loss, problems)
        self._loss, self._problems, self._coverages = loss, problems, coverages

    def __call__(self, counts: FloatArray) -> dict[str, dict[str, float | None]]:
        """Return the numbers of all uncertainties when problem i counts ``counts[i]`` times."""
        times = counts.astype(np.int64)
        oracle = self._oracle.weigh(times)
        is_alike = self._has_equal_losses(times, oracle.total, oracle.n)
        numbers: dict[str, dict[str, float | None]] = {_ALL: {"mean_loss": oracle.total / oracle.n}}
        for name, decisions in self._ranked.items():
            ranked = decisions.weigh(times)
            metrics = dict.fromkeys(_AREAS) if is_alike else areas(ranked, oracle, _SHARES)
            metrics["auroc"] = ranked.auroc() if self._is_binary else None
            for coverage in self._coverages:
                metrics[f"risk@{coverage:g}"] = ranked.risk(kept_at(coverage, ranked.n))
            numbers[name] = metrics
        return numbers

    def _has_equal_losses(self, counts: IntArray, total: float, n: int) -> bool:
        if self._is_binary:
            return total in (0, n)
        drawn = self._loss[counts[self._problems] > 0]
        return all_alike(drawn.min(), drawn.max())
