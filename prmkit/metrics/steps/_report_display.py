"""The step report as a picture: metrics with intervals, precision against recall of the negative class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prmkit.data.solution import Step
from prmkit.metrics.pyplot import import_pyplot, plain_text
from prmkit.metrics.steps._report import StepReport, baselines, check_rows, step_report
from prmkit.metrics.steps.step_metrics import HEADLINES

_LOWER_IS_BETTER = ("brier", "log_loss", "ece")
_NAMES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC (negative)",
    "average_precision": "avg. precision (negative)",
    "brier": "Brier (lower is better)",
    "log_loss": "log-loss (lower is better)",
    "ece": "ECE (lower is better)",
}
_STYLES = {
    "model": {"color": "#1f5fa8", "marker": "o"},
    "position": {"color": "#e08a1e", "marker": "s"},
    "majority": {"color": "#8a8a8a", "marker": "D"},
}


class StepReportDisplay:
    """Plot of a step report, in the manner of scikit-learn's displays.

    Make it with :meth:`from_predictions` or :meth:`from_estimator`.

    Parameters
    ----------
    report : StepReport
    curves : dict of str to (recall, precision)
        Of the negative class, for the model and the baselines.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes, shape (2,)
        Metrics and curves.

    Examples
    --------
    >>> risk = np.array([0.9, 0.2, 0.4, 0.3])
    >>> display = StepReportDisplay.from_predictions([-1, 1, 1, -1], np.c_[risk, 1 - risk])  # doctest: +SKIP
    """

    figure_: Any
    axes_: np.ndarray

    def __init__(self, report: StepReport, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self.report = report
        self.curves = curves

    @classmethod
    def from_predictions(
        cls, y_true: Any, proba: Any, *, ax: Any = None, **options: Any
    ) -> StepReportDisplay:
        """Report on labels and probabilities and draw it.

        Parameters
        ----------
        y_true : array-like of shape (n_steps,)
        proba : array-like of shape (n_steps, n_classes)
        ax : two matplotlib Axes, optional
        **options
            As :func:`step_report` takes them: ``classes``, ``steps``, ``groups``, ``threshold``, …
        """
        from sklearn.metrics import precision_recall_curve

        report = step_report(y_true, proba, **options)
        inputs = ("classes", "label_order", "steps", "groups", "positions")
        rows = check_rows(y_true, proba, **{name: options.get(name) for name in inputs})
        systems = {"model": rows.proba}
        systems |= baselines(rows, options.get("reference"), options.get("random_state", 0))[0]
        curves = {}
        if report.support[report.classes[0]]:
            for name, system_proba in systems.items():
                precision, recall, _ = precision_recall_curve(rows.y == 0, system_proba[:, 0])
                curves[name] = (recall, precision)
        return cls(report, curves).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, ax: Any = None, **options: Any
    ) -> StepReportDisplay:
        """Report on a fitted classifier's ``predict`` and ``predict_proba`` and draw it; steps in X give the groups."""
        if isinstance(next(iter(X), None), Step):
            options.setdefault("steps", X)
        options.setdefault("classes", estimator.classes_)
        options.setdefault("label_order", getattr(estimator, "label_order_", None))
        if options.get("threshold") is None:
            options.setdefault("y_pred", estimator.predict(X))
        return cls.from_predictions(y, estimator.predict_proba(X), ax=ax, **options)

    def plot(self, ax: Any = None) -> StepReportDisplay:
        """Draw into two axes, new ones if ``ax`` is None, and return the display."""
        if ax is None:
            plt = import_pyplot()
            _, ax = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=(3, 2))
        self.axes_ = np.asarray(ax, dtype=object)
        if self.axes_.shape != (2,):
            raise ValueError(f"ax has shape {self.axes_.shape}, expected two axes: plt.subplots(1, 2)[1]")
        self.figure_ = self.axes_[0].figure
        self._plot_metrics(self.axes_[0])
        self._plot_curves(self.axes_[1])
        return self

    def _plot_metrics(self, axis: Any) -> None:
        systems = [name for name in _STYLES if name in self.report.metrics]
        for shift, system in zip(np.linspace(-0.22, 0.22, len(systems)), systems, strict=True):
            for place, name in enumerate(HEADLINES):
                interval = self.report.metrics[system][name]
                if interval.value is None:
                    continue
                if interval.low is not None:
                    axis.hlines(place + shift, interval.low, interval.high, color=_STYLES[system]["color"])
                label = system if not place else None
                style = {"linestyle": "", "markersize": 5, "clip_on": False} | _STYLES[system]
                axis.plot(interval.value, place + shift, label=label, **style)
        axis.axhline(len(HEADLINES) - len(_LOWER_IS_BETTER) - 0.5, color="0.75", linewidth=0.8)
        axis.set_yticks(range(len(HEADLINES)), [_NAMES.get(name, name) for name in HEADLINES])
        axis.set_ylim(len(HEADLINES) - 0.5, -0.5)
        axis.set_xlim(left=0, right=max(1.0, axis.get_xlim()[1]))
        axis.grid(axis="x", color="0.92")
        axis.set_axisbelow(True)
        axis.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3)
        axis.spines[["top", "right"]].set_visible(False)
        caption = f"{self.report.n_steps:,} steps"
        if self.report.n_problems is not None:
            caption += (
                f" of {self.report.n_problems:,} problems, {self.report.confidence_level:.0%} intervals"
            )
        axis.set_xlabel(caption)

    def _plot_curves(self, axis: Any) -> None:
        for system in reversed(_STYLES):
            if system not in self.curves:
                continue
            recall, precision = self.curves[system]
            value = self.report.metrics[system]["average_precision"].value
            label = f"{system} (AP {value:.2f})"
            axis.plot(recall, precision, color=_STYLES[system]["color"], label=label, drawstyle="steps-post")
        axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        negative = self.report.classes[0]
        share = self.report.class_shares[negative]
        title = axis.set_title(f"class {negative} ({share:.0%} of the steps)", loc="left", fontsize=10)
        plain_text(title)
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        if self.curves:
            axis.legend(frameon=False, fontsize=9, reverse=True)
