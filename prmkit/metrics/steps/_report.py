"""The table to print for every step classifier, with two baselines that need no model, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Step
from prmkit.fitted import FittedClassifier, label_order
from prmkit.metrics.bootstrap import bootstrap_systems
from prmkit.metrics.report_table import Comparison
from prmkit.metrics.steps.rows import Label, RandomState, baselines, check_rows
from prmkit.metrics.steps.step_metrics import HEADLINES, N_BINS, WeightedStepMetrics
from prmkit.utils.environment import ShowsFigure, import_pyplot, plain_text
from prmkit.utils.ragged import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_SHOWN_NAMES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC of negative",
    "average_precision": "average precision of negative",
    "brier": "Brier (sum over classes)",
    "log_loss": "log-loss",
    "ece": f"ECE of P(negative), {N_BINS} bins",
    "weighted_precision": "weighted precision",
    "weighted_recall": "weighted recall",
    "weighted_f1": "weighted F1",
}


@dataclass(frozen=True, repr=False, kw_only=True)
class StepReport(Comparison):
    """Metrics of step probabilities beside the baselines, made by :func:`step_report`.

    Parameters
    ----------
    metrics : dict of str to dict of str to Interval
        ``metrics["model"]["macro_f1"]``. Beside the model stand majority and, if positions are known, position. The
        metrics per class are ``"precision[-1]"``, ``"recall[-1]"``, ``"f1[-1]"``. ``"weighted_f1"``,
        ``"weighted_precision"`` and ``"weighted_recall"`` are their means weighted by the steps of each class, as BMUq
        prints them. They look good for a constant where most steps are positive: compare with the majority.
    differences : dict of str to dict of str to Interval
        ``differences["position"]["auroc"]`` is model minus position baseline, resampled in pairs.
    n_problems : int or None
        Number of problems. None if no groups were passed, so that there are no intervals.
    n_resamples : int
        Number of resamples of problems behind the intervals.
    confidence_level : float
        Level of the intervals.
    n_steps : int
        Number of labelled steps.
    classes : tuple
        The labels from worst to best. The first is "the negative class".
    class_shares : dict of class to float
        The share of the steps in each class.
    support : dict of class to int
        The number of steps in each class.
    predicted : bool
        Whether the labels of the model are its own predictions.
    threshold : float or None
        A step was called negative if its risk was above it. If None, the likeliest class was taken, unless
        ``predicted``.
    threshold_source : str or None
        The data that chose the threshold.
    baseline_source : str
        The data that the baselines learned their shares from.
    """

    n_steps: int
    classes: tuple[Label, ...]
    class_shares: Mapping[Label, float]
    support: Mapping[Label, int]
    predicted: bool
    threshold: float | None
    threshold_source: str | None
    baseline_source: str

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {self.metrics['model'][name]}" for name in ("macro_f1", "auroc"))
        return f"<StepReport: {self.n_steps} steps, {shown}>"

    def _shown_name(self, metric: str) -> str:
        return _SHOWN_NAMES.get(metric, metric.replace("[", " ["))

    def _head(self) -> list[str]:
        shares = ", ".join(
            f"{label} {share:.1%} ({self.support[label]:,})" for label, share in self.class_shares.items()
        )
        return [f"{self.n_steps:,} steps{self._of_problems()}", f"classes, worst first: {shares}"]

    def _notes(self) -> list[str]:
        if self.predicted:
            notes = ["decision: the classifier's own predictions; the baselines take their likeliest class"]
        elif self.threshold is None:
            notes = ["decision: the likeliest class"]
        else:
            source = self.threshold_source or "data that was not named"
            notes = [
                f"decision: {self.classes[0]} if its probability is above {self.threshold:.4g} (chosen on "
                f"{source}), else the likeliest other class; the baselines take their likeliest class"
            ]
        notes.append(f"baselines: {self.baseline_source}")
        if absent := [label for label, n in self.support.items() if not n]:
            notes.append(f"means over classes leave out {absent}: no step has that label")
        return notes + super()._notes()

    def __str__(self) -> str:
        # A blank line parts the headlines from the metrics per class.
        lines = super().__str__().split("\n")
        last_headline = next(i for i, line in enumerate(lines) if line.startswith(self._shown_name("ece")))
        return "\n".join([*lines[: last_headline + 1], "", *lines[last_headline + 1 :]])


def step_report(
    y_true: npt.ArrayLike,
    proba: npt.ArrayLike,
    *,
    classes: Sequence[Label] | None = None,
    label_order: Sequence[Label] | None = None,
    steps: Any = None,
    groups: npt.ArrayLike | None = None,
    positions: npt.ArrayLike | None = None,
    reference: tuple[Any, Any] | None = None,
    y_pred: npt.ArrayLike | None = None,
    threshold: float | None = None,
    threshold_source: str | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomState = 0,
) -> StepReport:
    """Report step metrics with problem-level intervals beside the majority and the position baseline.

    Parameters
    ----------
    y_true : array-like of shape (n_steps,)
        Labels of the labelled steps.
    proba : array-like of shape (n_steps, n_classes)
        Class probabilities, as ``predict_proba`` returns them.
    classes : sequence, length n_classes, optional
        The labels of the columns (``classifier.classes_``). If None, the sorted labels in ``y_true``.
    label_order : sequence, optional
        The labels from worst to best. Not needed for -1/0/+1, "negative"/"neutral"/"positive" and the like.
    steps : 1-D array-like of Step, optional
        The steps of the rows. They give groups and positions.
    groups : array-like of shape (n_steps,), optional
        The problem of each row. Without groups and steps there are no intervals.
    positions : array-like of int, shape (n_steps,), optional
        The 0-based index of each step. Without positions and steps there is no position baseline.
    reference : (steps or positions, labels), optional
        Training rows for the baselines. If None, the majority baseline takes the shares of these rows, and the
        position baseline is fitted on these rows, out of fold by problem.
    y_pred : array-like of shape (n_steps,), optional
        The classifier's own labels (``predict``), if it decides otherwise than by the likeliest class.
    threshold : float, optional
        Call a step negative if its risk is above the threshold, see :func:`choose_threshold`. If None, take the
        likeliest class.
    threshold_source : str, optional
        The data that chose the threshold. It is printed.
    n_resamples : int, default=1000
        Number of resamples of problems.
    confidence_level : float, default=0.95
        Level of the intervals.
    random_state : int, Generator or None, default=0
        Seed of the resamples and of the folds of the position baseline.

    Returns
    -------
    StepReport
        The report. Undefined numbers are None: the AUROC of one class, the precision of a class never predicted.

    Raises
    ------
    ValueError
        If lengths differ, a label is outside the classes or missing, a row is no distribution, or nothing tells which
        label is worst.

    Examples
    --------
    >>> y = ["negative", "positive", "positive", "negative", "positive", "positive"]
    >>> risk = np.array([0.9, 0.2, 0.4, 0.3, 0.1, 0.3])
    >>> report = step_report(y, np.column_stack([risk, 1 - risk]), groups=[0, 0, 0, 1, 1, 2])
    >>> round(report.metrics["model"]["auroc"].value, 3), report.metrics["majority"]["auroc"].value
    (0.812, 0.5)
    """
    rows = check_rows(y_true, proba, classes, label_order, steps, groups, positions)
    if y_pred is not None and threshold is not None:
        raise ValueError("both y_pred and threshold are given, expected one of them: each decides the labels")
    trivial = baselines(rows, reference, random_state)
    decisions = {name: rows.decide(p) for name, p in trivial.proba.items()}
    own = rows.decide(rows.proba, threshold) if y_pred is None else rows.numbers_of(y_pred)
    problems, n_problems = rows.problems()
    computed = {
        name: WeightedStepMetrics(rows.y, p, decided, problems, rows.classes)
        for (name, p), decided in zip(
            [("model", rows.proba), *trivial.proba.items()], [own, *decisions.values()], strict=True
        )
    }
    results = bootstrap_systems(
        lambda counts: {name: metrics(counts) for name, metrics in computed.items()},
        n_problems,
        n_resamples,
        random_state,
        confidence_level,
        ["ece"],
    )
    support = np.bincount(rows.y, minlength=len(rows.classes))
    return StepReport(
        metrics={system: result.intervals() for system, result in results.items()},
        differences={
            system: {name: results["model"].minus(results[system], name) for name in HEADLINES}
            for system in trivial.proba
        },
        n_problems=None if rows.groups is None else n_problems,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
        n_steps=len(rows.y),
        classes=rows.classes,
        class_shares={label: float(n / len(rows.y)) for label, n in zip(rows.classes, support, strict=True)},
        support={label: int(n) for label, n in zip(rows.classes, support, strict=True)},
        predicted=y_pred is not None,
        threshold=None if threshold is None else float(threshold),
        threshold_source=threshold_source,
        baseline_source=trivial.source,
    )


_LOWER_IS_BETTER = ("brier", "log_loss", "ece")
_PLOTTED_NAMES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC (negative)",
    "average_precision": "avg. precision (negative)",
    "brier": "Brier (lower is better)",
    "log_loss": "log-loss (lower is better)",
    "ece": "ECE (lower is better)",
}
_COLORS = {"model": "#1f5fa8", "position": "#e08a1e", "majority": "#8a8a8a"}
_MARKERS = {"model": "o", "position": "s", "majority": "D"}


class PredictingClassifier(FittedClassifier, Protocol):
    """A fitted classifier that also decides for labels."""

    def predict(self, X: Any, /) -> npt.NDArray[Any]:
        """Return the label of each step."""


class StepReportDisplay(ShowsFigure):
    """Plot of a step report, in the manner of scikit-learn's displays.

    Make it with :meth:`from_predictions` or :meth:`from_estimator`.

    Parameters
    ----------
    report : StepReport
        The report to draw.
    curves : dict of str to (recall, precision)
        Recall and precision of the negative class, for the model and the baselines.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    axes_ : ndarray of matplotlib Axes, shape (2,)
        The axes of the metrics and of the curves.

    Examples
    --------
    >>> risk = np.array([0.9, 0.2, 0.4, 0.3])
    >>> display = StepReportDisplay.from_predictions([-1, 1, 1, -1], np.c_[risk, 1 - risk])  # doctest: +SKIP
    """

    figure_: Figure | SubFigure
    axes_: npt.NDArray[np.object_]

    def __init__(self, report: StepReport, curves: Mapping[str, tuple[FloatArray, FloatArray]]) -> None:
        self.report = report
        self.curves = curves

    @classmethod
    def from_predictions(
        cls, y_true: npt.ArrayLike, proba: npt.ArrayLike, *, ax: Sequence[Axes] | None = None, **options: Any
    ) -> StepReportDisplay:
        """Report on labels and probabilities and draw the report.

        Parameters
        ----------
        y_true : array-like of shape (n_steps,)
            Labels of the labelled steps.
        proba : array-like of shape (n_steps, n_classes)
            Class probabilities, as ``predict_proba`` returns them.
        ax : two matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.
        **options
            Further arguments of :func:`step_report`, such as ``classes``, ``steps``, ``y_pred`` and ``threshold``.

        Returns
        -------
        StepReportDisplay
            The display, drawn.
        """
        from sklearn.metrics import precision_recall_curve

        report = step_report(y_true, proba, **options)
        inputs = ("classes", "label_order", "steps", "groups", "positions")
        rows = check_rows(y_true, proba, **{name: options.get(name) for name in inputs})
        trivial = baselines(rows, options.get("reference"), options.get("random_state", 0))
        curves = {}
        if report.support[report.classes[0]]:
            for name, system_proba in {"model": rows.proba, **trivial.proba}.items():
                precision, recall, _ = precision_recall_curve(rows.y == 0, system_proba[:, 0])
                curves[name] = (recall, precision)
        return cls(report, curves).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: PredictingClassifier,
        X: Sequence[Step] | npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        ax: Sequence[Axes] | None = None,
        **options: Any,
    ) -> StepReportDisplay:
        """Report on the labels and probabilities of a fitted classifier and draw the report.

        Parameters
        ----------
        estimator : fitted classifier
            It has ``predict``, ``predict_proba`` and ``classes_``. It may be wrapped, as in a ``GridSearchCV``.
        X : 1-D array-like of Step, or another input of the classifier
            The steps. They give groups and positions. Other input needs ``groups`` for intervals.
        y : array-like of shape (n_steps,)
            Labels of the labelled steps.
        ax : two matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.
        **options
            Further arguments of :func:`step_report`. With a ``threshold``, ``predict`` is not called.

        Returns
        -------
        StepReportDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If nothing tells which class is worst, or :func:`step_report` refuses the input.
        """
        if isinstance(next(iter(X), None), Step):  # type: ignore[arg-type]
            options.setdefault("steps", X)
        options["label_order"] = label_order(estimator, options.get("label_order"))
        options.setdefault("classes", estimator.classes_)
        if options.get("threshold") is None:
            options.setdefault("y_pred", estimator.predict(X))
        return cls.from_predictions(y, estimator.predict_proba(X), ax=ax, **options)

    def plot(self, ax: Sequence[Axes] | None = None) -> StepReportDisplay:
        """Draw the report.

        Parameters
        ----------
        ax : two matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.

        Returns
        -------
        StepReportDisplay
            The display itself.
        """
        if ax is None:
            _, ax = import_pyplot().subplots(1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=(3, 2))
        self.axes_ = np.asarray(ax, dtype=object)
        if self.axes_.shape != (2,):
            raise ValueError(f"ax has shape {self.axes_.shape}, expected two axes: plt.subplots(1, 2)[1]")
        self.figure_ = self.axes_[0].figure
        self._plot_metrics(self.axes_[0])
        self._plot_curves(self.axes_[1])
        return self

    def _plot_metrics(self, axis: Axes) -> None:
        """Draw one row per metric, with the systems a little apart."""
        systems = [name for name in _COLORS if name in self.report.metrics]
        for shift, system in zip(np.linspace(-0.22, 0.22, len(systems)), systems, strict=True):
            for row, name in enumerate(HEADLINES):
                interval = self.report.metrics[system][name]
                if interval.value is None:
                    continue
                if interval.low is not None and interval.high is not None:
                    axis.hlines(row + shift, interval.low, interval.high, color=_COLORS[system])
                axis.plot(
                    [interval.value],
                    [row + shift],
                    label=None if row else system,
                    linestyle="",
                    markersize=5,
                    clip_on=False,
                    color=_COLORS[system],
                    marker=_MARKERS[system],
                )
        axis.axhline(len(HEADLINES) - len(_LOWER_IS_BETTER) - 0.5, color="0.75", linewidth=0.8)
        axis.set_yticks(range(len(HEADLINES)), [_PLOTTED_NAMES.get(name, name) for name in HEADLINES])
        axis.set_ylim(len(HEADLINES) - 0.5, -0.5)
        axis.set_xlim(left=0, right=max(1.0, axis.get_xlim()[1]))
        axis.grid(axis="x", color="0.92")
        axis.set_axisbelow(True)
        axis.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3)
        axis.spines[["top", "right"]].set_visible(False)
        caption = f"{self.report.n_steps:,} steps"
        if self.report.n_problems is not None:
            caption += f" of {self.report.n_problems:,} problems, {self.report.confidence_level:.0%} intervals"
        axis.set_xlabel(caption)

    def _plot_curves(self, axis: Axes) -> None:
        """Draw precision against recall of the negative class, the model on top."""
        for system in reversed(_COLORS):
            if system not in self.curves:
                continue
            recall, precision = self.curves[system]
            value = self.report.metrics[system]["average_precision"].value
            label = f"{system} (AP {value:.2f})"
            axis.plot(recall, precision, color=_COLORS[system], label=label, drawstyle="steps-post")
        axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        negative = self.report.classes[0]
        share = self.report.class_shares[negative]
        plain_text(axis.set_title(f"class {negative} ({share:.0%} of the steps)", loc="left", fontsize=10))
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        if self.curves:
            axis.legend(frameon=False, fontsize=9, reverse=True)
