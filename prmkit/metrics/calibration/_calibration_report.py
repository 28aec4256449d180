"""Whether calibration helped: the numbers before and after it side by side, with intervals by problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.metrics.bootstrap import bootstrap_systems
from prmkit.metrics.calibration.calibration import BinStrategy, bin_numbers, check_n_bins
from prmkit.metrics.report_table import Comparison, Metrics
from prmkit.metrics.steps.rows import Label, RandomState, check_rows, majority_baseline
from prmkit.metrics.steps.step_metrics import ProblemSums, WeightedStepMetrics
from prmkit.utils.ragged import FloatArray, IntArray

_BASELINE = "constant"
_LIFTED = ("ece", "ece_classwise", "mce", "brier_reliability", "brier_resolution")


class WeightedCalibration:
    """The calibration metrics of one system, from rows that are binned, and summed per problem, once.

    Arguments are those of :class:`WeightedStepMetrics`. Resamples use the bins of all rows.
    """

    def __init__(
        self,
        y_true: IntArray,
        proba: FloatArray,
        problems: IntArray,
        classes: Sequence[Label],
        n_bins: int,
        strategy: BinStrategy,
    ) -> None:
        self._step_metrics = WeightedStepMetrics(y_true, proba, np.zeros_like(y_true), problems, classes)
        self._n_other_classes = len(classes) - 1
        risk, is_negative = proba[:, 0], (y_true == 0).astype(np.float64)
        self._sums = sums = ProblemSums(problems)
        bins = bin_numbers(risk, n_bins, strategy)
        for name, values in (("n", None), ("risk", risk), ("events", is_negative)):
            sums.add(name, values, bins, n_bins)
        for k in range(1, len(classes)):
            gap = proba[:, k] - (y_true == k)
            sums.add(f"gaps[{k}]", gap, bin_numbers(proba[:, k], n_bins, strategy), n_bins)
        sums.add("brier_negative", np.square(risk - is_negative))

    def __call__(self, counts: FloatArray) -> dict[str, float | None]:
        """Return every metric, NaN or None where undefined, when problem i counts ``counts[i]`` times."""
        step_metrics, sums = self._step_metrics(counts), self._sums(counts)
        total = sums["n"].sum()
        is_full = sums["n"] > 0
        n_in_bin, risk, events = (sums[name][is_full] for name in ("n", "risk", "events"))
        gaps = [risk - events, *(sums[f"gaps[{k + 1}]"] for k in range(self._n_other_classes))]
        ece = [np.abs(gap).sum() / total for gap in gaps]
        mean_risk, share, overall = risk / n_in_bin, events / n_in_bin, events.sum() / total
        return {
            "ece": ece[0],
            "ece_classwise": float(np.mean(ece)),
            "mce": np.abs(mean_risk - share).max(),
            "log_loss": step_metrics["log_loss"],
            "brier": step_metrics["brier"],
            "brier_negative": sums["brier_negative"][0] / total,
            "brier_reliability": (n_in_bin * np.square(mean_risk - share)).sum() / total,
            "brier_resolution": (n_in_bin * np.square(share - overall)).sum() / total,
            "brier_uncertainty": overall * (1 - overall),
            "auroc": step_metrics["auroc"],
        }


@dataclass(frozen=True, repr=False, kw_only=True)
class CalibrationReport(Comparison):
    """Calibration of one or several systems beside a constant, made by :func:`calibration_report`.

    The last system in ``metrics`` is ``"constant"``, which predicts the class shares for every step. All metrics but
    ``auroc`` and ``brier_resolution`` are better when lower. ``differences["after"]["ece"]`` is this system minus the
    first: below 0, calibration helped. ``classes`` are the labels from worst to best.
    """

    n_steps: int
    classes: tuple[Label, ...]
    class_shares: Mapping[Label, float]
    n_bins: int
    strategy: BinStrategy

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {metrics['ece']}" for name, metrics in self.metrics.items())
        return f"<CalibrationReport: {self.n_steps} steps, ECE: {shown}>"

    def _shown_name(self, metric: str) -> str:
        negative = self.classes[0]
        return {
            "ece": f"ECE of P({negative})",
            "ece_classwise": "ECE, mean over classes",
            "mce": f"MCE of P({negative})",
            "log_loss": "log-loss",
            "brier": "Brier (sum over classes)",
            "brier_negative": f"Brier of P({negative})",
            "brier_reliability": "  reliability",
            "brier_resolution": "  resolution",
            "brier_uncertainty": "  uncertainty",
            "auroc": f"AUROC of {negative}",
        }[metric]

    def _shown_differences(self) -> Metrics:
        first = next(iter(self.metrics))
        return {f"{name} - {first}": metrics for name, metrics in self.differences.items()}

    def _head(self) -> list[str]:
        shares = ", ".join(f"{label} {share:.1%}" for label, share in self.class_shares.items())
        return [f"{self.n_steps:,} steps{self._of_problems()}", f"classes, worst first: {shares}"]

    def _notes(self) -> list[str]:
        bins = "of equal width" if self.strategy == "uniform" else "of equal mass"
        return [
            f"ECE, MCE and the parts of the Brier score use {self.n_bins} bins {bins}",
            "lower is better, but for resolution and AUROC (higher); constant: the class shares of these steps",
            *super()._notes(),
        ]


def calibration_report(
    y_true: npt.ArrayLike,
    probas: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    *,
    classes: Sequence[Label] | None = None,
    label_order: Sequence[Label] | None = None,
    steps: Any = None,
    groups: npt.ArrayLike | None = None,
    n_bins: int = 15,
    strategy: BinStrategy = "uniform",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomState = 0,
) -> CalibrationReport:
    """Report how far the probabilities of steps can be believed, before and after calibration.

    Each system gets ``ece``, ``mce`` and ``auroc`` of P(negative), and ``ece_classwise``, the mean ECE over the
    probabilities of all classes. ``log_loss`` is natural, with probabilities below 1e-15 taken as 1e-15. ``brier`` is
    the sum over classes of squared errors, 0 to 2, and ``brier_negative`` the Brier score of P(negative) alone, 0 to 1.
    ``brier_reliability - brier_resolution + brier_uncertainty`` is ``brier_negative`` up to the variation within the
    bins [1]_.

    Chance alone lifts ECE, MCE and the parts of the Brier score above 0, and lifts them further in resamples. Their
    intervals are reflected at the number, see :func:`prmkit.metrics.bootstrap_by_problem`. Judge by the differences
    whether calibration helped. Brier and log-loss have no such bias.

    Parameters
    ----------
    y_true : array-like of shape (n_steps,)
        Labels of the labelled steps.
    probas : dict of str to array-like of shape (n_steps, n_classes), or one such array
        Class probabilities, as ``predict_proba`` returns them: ``{"before": …, "after": …}``. Differences are to the
        first.
    classes : sequence, length n_classes, optional
        The labels of the columns (``classifier.classes_``). If None, the sorted labels in ``y_true``.
    label_order : sequence, optional
        The labels from worst to best. Not needed for -1/0/+1, "negative"/"neutral"/"positive" and the like.
    steps : 1-D array-like of Step, optional
        The steps of the rows. They give the groups.
    groups : array-like of shape (n_steps,), optional
        The problem of each row. Without groups and steps there are no intervals.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}
        How the bins are made, see :func:`expected_calibration_error`. Resamples use the bins of all rows.
    n_resamples : int, default=1000
        Number of resamples of problems.
    confidence_level : float, default=0.95
        Level of the intervals.
    random_state : int, Generator or None, default=0
        Seed of the resamples.

    Returns
    -------
    CalibrationReport
        The report. Undefined numbers are None: the AUROC if all steps, or none, are negative.

    Raises
    ------
    ValueError
        If lengths differ, a label is outside the classes, a row is no distribution, nothing tells which label is worst,
        or a system is called "constant".

    References
    ----------
    .. [1] Murphy, "A New Vector Partition of the Probability Score", Journal of Applied Meteorology 12 (1973).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.beta(1, 3, 2000)
    >>> y = np.where(rng.random(2000) < risk, "negative", "positive")
    >>> odds = (risk / (1 - risk)) ** 2  # twice too sure
    >>> probas = {"before": np.c_[odds, np.ones(2000)] / (1 + odds)[:, None], "after": np.c_[risk, 1 - risk]}
    >>> report = calibration_report(y, probas, groups=np.arange(2000) // 4, n_resamples=100)
    >>> report.differences["after"]["ece"].high < 0, report.differences["after"]["auroc"].value
    (True, 0.0)
    """
    by_name = probas if isinstance(probas, Mapping) else {"model": probas}
    if not by_name or _BASELINE in by_name:
        raise ValueError(f"probas is empty or holds {_BASELINE!r}, which is added by itself")
    checked = {name: check_rows(y_true, proba, classes, label_order, steps, groups) for name, proba in by_name.items()}
    first = next(iter(checked))
    rows = checked[first]
    systems = {name: of_system.proba for name, of_system in checked.items()}
    systems[_BASELINE] = majority_baseline(rows.y, len(rows.y), len(rows.classes))
    problems, n_problems = rows.problems()
    n_bins = check_n_bins(n_bins)
    computed = {
        name: WeightedCalibration(rows.y, proba, problems, rows.classes, n_bins, strategy)
        for name, proba in systems.items()
    }
    results = bootstrap_systems(
        lambda counts: {name: metrics(counts) for name, metrics in computed.items()},
        n_problems,
        n_resamples,
        random_state,
        confidence_level,
        _LIFTED,
    )
    shares = np.bincount(rows.y, minlength=len(rows.classes)) / len(rows.y)
    return CalibrationReport(
        metrics={system: result.intervals() for system, result in results.items()},
        differences={
            system: {name: result.minus(results[first], name) for name in result.estimates}
            for system, result in results.items()
            if system != first
        },
        n_problems=None if rows.groups is None else n_problems,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
        n_steps=len(rows.y),
        classes=rows.classes,
        class_shares=dict(zip(rows.classes, shares.tolist(), strict=True)),
        n_bins=n_bins,
        strategy=strategy,
    )
