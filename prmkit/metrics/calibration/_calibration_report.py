"""Did calibration help? The numbers before and after side by side, with intervals by problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prmkit.metrics._report_table import html_table, interval_note, metrics_frame, text_table
from prmkit.metrics.bootstrap import Interval, bootstrap_counts, problem_numbers
from prmkit.metrics.calibration.calibration import bin_numbers, check_n_bins
from prmkit.metrics.steps._report import check_rows
from prmkit.metrics.steps.step_metrics import WeightedStepMetrics
from prmkit.metrics.steps.threshold import majority_baseline


class WeightedCalibration:
    """The calibration metrics of one system: rows are binned, and summed per problem, once.

    Classes are numbered from worst to best, so that number 0 is the negative one. The bins are those of all rows, in
    resamples too.

    Parameters
    ----------
    y_true : ndarray of int, shape (n_steps,)
    proba : ndarray of shape (n_steps, n_classes)
    problems : ndarray of int, shape (n_steps,)
        0 to n_problems - 1.
    classes : sequence, length n_classes
    n_bins : int
    strategy : {"uniform", "quantile"}
    """

    def __init__(
        self,
        y_true: np.ndarray,
        proba: np.ndarray,
        problems: np.ndarray,
        classes: Sequence[Any],
        n_bins: int,
        strategy: str,
    ) -> None:
        self._n_bins = n_bins
        self._rest = WeightedStepMetrics(y_true, proba, np.zeros_like(y_true), problems, classes)
        n_problems = int(problems.max()) + 1

        def by_problem(kind: np.ndarray, n_kinds: int, values: np.ndarray | None = None) -> np.ndarray:
            flat = np.bincount(problems * n_kinds + kind, weights=values, minlength=n_problems * n_kinds)
            return flat.reshape(n_problems, n_kinds)

        risk, event = proba[:, 0], (y_true == 0).astype(np.float64)
        bins = bin_numbers(risk, n_bins, strategy)
        sums = [by_problem(bins, n_bins, values) for values in (None, risk, event)]
        for k in range(1, len(classes)):
            gap = proba[:, k] - (y_true == k)
            sums.append(by_problem(bin_numbers(proba[:, k], n_bins, strategy), n_bins, gap))
        sums.append(by_problem(np.zeros_like(y_true), 1, np.square(risk - event)))
        self._sums = np.ascontiguousarray(np.hstack(sums).T)  # a row per sum

    def __call__(self, counts: np.ndarray) -> dict[str, float]:
        """Return every metric, NaN where undefined, when problem i counts ``counts[i]`` times."""
        rest = self._rest(counts)
        sums = (self._sums * counts).sum(axis=1)
        n_in_bin, risk, events, *other_gaps = sums[:-1].reshape(-1, self._n_bins)
        total = n_in_bin.sum()
        full = n_in_bin > 0
        n_in_bin, risk, events = n_in_bin[full], risk[full], events[full]
        ece = [np.abs(gaps).sum() / total for gaps in (risk - events, *other_gaps)]
        mean_risk, share, overall = risk / n_in_bin, events / n_in_bin, events.sum() / total
        return {
            "ece": ece[0],
            "ece_classwise": float(np.mean(ece)),
            "mce": np.abs(mean_risk - share).max(),
            "log_loss": rest["log_loss"],
            "brier": rest["brier"],
            "brier_negative": sums[-1] / total,
            "brier_reliability": (n_in_bin * np.square(mean_risk - share)).sum() / total,
            "brier_resolution": (n_in_bin * np.square(share - overall)).sum() / total,
            "brier_uncertainty": overall * (1 - overall),
            "auroc": rest["auroc"],
        }


_BASELINE = "constant"


@dataclass(frozen=True, repr=False)
class CalibrationReport:
    """Calibration of one or several systems beside a constant; made by :func:`calibration_report`.

    Parameters
    ----------
    n_steps : int
    n_problems : int or None
        None: no groups were given, so there are no intervals.
    classes : tuple
        From worst to best; the first is "the negative class".
    class_shares : dict of class to float
    metrics : dict of str to dict of str to Interval
        ``metrics["after"]["ece"]``; the last system is ``"constant"``, the class shares as everybody's probabilities.
        All but ``auroc`` and ``brier_resolution`` are better when lower.
    differences : dict of str to dict of str to Interval
        ``differences["after"]["ece"]`` is this system minus the first, resampled in pairs: below 0, it helped.
    n_bins : int
    strategy : {"uniform", "quantile"}
    n_resamples : int
    confidence_level : float
    """

    n_steps: int
    n_problems: int | None
    classes: tuple[Any, ...]
    class_shares: Mapping[Any, float]
    metrics: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Interval]]
    n_bins: int
    strategy: str
    n_resamples: int
    confidence_level: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON; labels that are keys become strings."""
        result = asdict(self)
        result["classes"] = list(self.classes)
        result["class_shares"] = {str(label): share for label, share in self.class_shares.items()}
        return result

    def to_frame(self) -> Any:
        """Return a pandas DataFrame: one row per metric, columns (system, value), (system, low), …"""
        return metrics_frame(self.metrics)

    def __str__(self) -> str:
        names = self._shown_names()
        first = next(iter(self.metrics))
        differences = {f"{name} - {first}": metrics for name, metrics in self.differences.items()}
        lines = [*self._head(), "", *text_table(self.metrics, names), ""]
        return "\n".join([*lines, *text_table(differences, names), "", *self._notes()])

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {metrics['ece']}" for name, metrics in self.metrics.items())
        return f"<CalibrationReport: {self.n_steps} steps, ECE: {shown}>"

    def _repr_html_(self) -> str:
        return html_table(self.metrics, self._shown_names(), self._head(), self._notes())

    def _shown_names(self) -> dict[str, str]:
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
        }

    def _head(self) -> list[str]:
        of_problems = f" of {self.n_problems:,} problems" if self.n_problems is not None else ""
        shares = ", ".join(f"{label} {share:.1%}" for label, share in self.class_shares.items())
        return [f"{self.n_steps:,} steps{of_problems}", f"classes, worst first: {shares}"]

    def _notes(self) -> list[str]:
        bins = "of equal width" if self.strategy == "uniform" else "of equal mass"
        notes = [
            f"ECE, MCE and the parts of the Brier score use {self.n_bins} bins {bins}",
            "lower is better, but for resolution and AUROC (higher); constant: the class shares of these steps",
        ]
        notes += interval_note(self.n_problems, self.n_resamples, self.confidence_level, "groups or steps")
        return notes


def calibration_report(
    y_true: Any,
    probas: Any,
    *,
    classes: Sequence[Any] | None = None,
    label_order: Sequence[Any] | None = None,
    steps: Any = None,
    groups: Any = None,
    n_bins: int = 15,
    strategy: str = "uniform",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.Generator | None = 0,
) -> CalibrationReport:
    """Report how far the probabilities of steps can be believed, before and after calibration.

    Per system: ``ece`` and ``mce`` of P(negative), ``ece_classwise`` (the mean ECE of each class's probability),
    ``log_loss`` (natural, probabilities below 1e-15 taken as 1e-15), ``brier`` (the sum over classes of squared
    errors, 0 to 2), ``brier_negative`` (of P(negative) alone, 0 to 1), and ``auroc`` of P(negative).
    ``brier_reliability - brier_resolution + brier_uncertainty`` is ``brier_negative`` up to what varies within the
    bins [1]_.

    Chance alone lifts ECE and MCE above 0, and once more in resamples: of a well calibrated system the interval may lie
    above the value. Whether calibration helped, the differences say, and Brier and log-loss have no such bias.

    Parameters
    ----------
    y_true : array-like of shape (n_steps,)
        Labels of the labelled steps.
    probas : dict of str to array-like of shape (n_steps, n_classes), or one such array
        As ``predict_proba`` returns them: ``{"before": …, "after": …}``. Differences are to the first.
    classes : sequence, length n_classes, optional
        The labels of the columns (``classifier.classes_``); None: the sorted labels in ``y_true``.
    label_order : sequence, optional
        The labels from worst to best; not needed for -1/0/+1, "negative"/"neutral"/"positive" and the like.
    steps : 1-D array-like of Step, optional
        The rows' steps: they give the groups.
    groups : array-like of shape (n_steps,), optional
        The problem of each row. Without groups and steps there are no intervals.
    n_bins : int, default 15
    strategy : {"uniform", "quantile"}
        As in :func:`expected_calibration_error`. Resamples keep the bins of all rows.
    n_resamples : int, default 1000
    confidence_level : float, default 0.95
    random_state : int, Generator or None, default 0

    Returns
    -------
    CalibrationReport
        Undefined numbers are None: the AUROC where all steps, or none, are negative.

    Raises
    ------
    ValueError
        For other lengths, labels outside the classes, rows that are no probabilities, labels of which nothing tells the
        worst, or a system called "constant".

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
    if not isinstance(probas, Mapping):
        probas = {"model": probas}
    if not probas or _BASELINE in probas:
        raise ValueError(f"probas is empty or holds {_BASELINE!r}, which is added by itself")
    checked = {name: check_rows(y_true, p, classes, label_order, steps, groups) for name, p in probas.items()}
    first, *others = checked
    rows = checked[first]
    systems = {name: of_system.proba for name, of_system in checked.items()}
    systems[_BASELINE] = majority_baseline(rows.y, len(rows.y), len(rows.classes))
    problems, n_problems = (
        (np.zeros(len(rows.y), dtype=np.int64), 1) if rows.groups is None else problem_numbers(rows.groups)
    )
    computed = {
        name: WeightedCalibration(rows.y, p, problems, rows.classes, check_n_bins(n_bins), strategy)
        for name, p in systems.items()
    }
    result = bootstrap_counts(
        lambda counts: {
            f"{name}/{metric}": value
            for name, metrics in computed.items()
            for metric, value in metrics(counts).items()
        },
        n_problems,
        n_resamples,
        random_state,
        confidence_level,
    )
    names = [key.removeprefix(f"{first}/") for key in result.estimates if key.startswith(f"{first}/")]
    shares = np.bincount(rows.y, minlength=len(rows.classes)) / len(rows.y)
    return CalibrationReport(
        n_steps=len(rows.y),
        n_problems=None if rows.groups is None else n_problems,
        classes=rows.classes,
        class_shares=dict(zip(rows.classes, shares.tolist(), strict=True)),
        metrics={system: {name: result.interval(f"{system}/{name}") for name in names} for system in systems},
        differences={
            system: {name: result.difference(f"{system}/{name}", f"{first}/{name}") for name in names}
            for system in (*others, _BASELINE)
        },
        n_bins=n_bins,
        strategy=strategy,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
    )
