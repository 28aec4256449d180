"""The picture of calibration: probabilities against what happened, with the number of steps behind each point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Step
from prmkit.fitted import FittedClassifier, Label, label_order as order_of
from prmkit.metrics.bootstrap import bootstrap_counts, problem_numbers
from prmkit.metrics.calibration.calibration import (
    BinStrategy,
    bin_numbers,
    check_event,
    check_n_bins,
    expected_calibration_error,
    reliability_curve,
)
from prmkit.metrics.steps.step_metrics import ProblemSums
from prmkit.utils.environment import ShowsFigure, import_pyplot, plain_text
from prmkit.utils.ragged import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_COLORS = ("#8a8a8a", "#1f5fa8", "#e08a1e", "#2f8f5b", "#a83a5f", "#6b4fa0")
_MARKERS = "osD^vP"


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """One line of a reliability diagram: a number per non-empty bin, with the interval of the share by problem.

    ``low`` and ``high`` are None without groups. ``histogram`` counts steps in bins of equal width, for any strategy.
    """

    mean_prob: FloatArray
    share: FloatArray
    counts: IntArray
    low: FloatArray | None
    high: FloatArray | None
    histogram: IntArray
    ece: float


class ReliabilityDisplay(ShowsFigure):
    """Reliability diagram of a binary event, in the manner of scikit-learn's displays.

    Make it with :meth:`from_predictions` or :meth:`from_estimator`.

    Parameters
    ----------
    curves : dict of str to ReliabilityCurve
        One curve per name.
    n_bins : int
        Number of bins.
    strategy : {"uniform", "quantile"}
        How the bins are made.
    event_name : str, default="event"
        The name of the event, for the axes.
    n_steps : int, default=0
        Number of steps.
    n_problems : int, optional
        Number of problems.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    ax_ : matplotlib Axes
        The axes of the diagram.
    counts_ax_ : matplotlib Axes
        The axes of the strip above it, with the number of steps per bin.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> before, after = [0.1, 0.2, 0.9, 1.0], [0.3, 0.3, 0.7, 0.7]
    >>> display = ReliabilityDisplay.from_predictions([0, 1, 1, 0], {"before": before, "after": after}, n_bins=5)
    >>> round(display.curves["before"].ece, 3), round(display.curves["after"].ece, 3)
    (0.4, 0.2)
    """

    figure_: Figure | SubFigure
    ax_: Axes
    counts_ax_: Axes

    def __init__(
        self,
        curves: Mapping[str, ReliabilityCurve],
        *,
        n_bins: int,
        strategy: BinStrategy,
        event_name: str = "event",
        n_steps: int = 0,
        n_problems: int | None = None,
    ) -> None:
        self.curves = curves
        self.n_bins = n_bins
        self.strategy = strategy
        self.event_name = event_name
        self.n_steps = n_steps
        self.n_problems = n_problems

    @classmethod
    def from_predictions(
        cls,
        y_true: npt.ArrayLike,
        prob: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        *,
        groups: npt.ArrayLike | None = None,
        n_bins: int = 15,
        strategy: BinStrategy = "uniform",
        event_name: str = "event",
        n_resamples: int = 500,
        random_state: int | np.random.Generator | None = 0,
        ax: Axes | None = None,
    ) -> ReliabilityDisplay:
        """Draw probabilities of an event against what happened.

        Parameters
        ----------
        y_true : array-like of shape (n_steps,)
            1 (or True) where the event happened. For the risk of a step pass ``y == -1``.
        prob : array-like of shape (n_steps,), or dict of str to such
            Probability of the event, one curve per name.
        groups : array-like of shape (n_steps,), optional
            The problem of each step. It adds a band, the 95% interval from resampled problems.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}
            How the bins are made, see :func:`expected_calibration_error`.
        event_name : str, default="event"
            The name of the event, for the axes.
        n_resamples : int, default=500
            Number of resamples of problems.
        random_state : int, Generator or None, default=0
            Seed of the resamples.
        ax : matplotlib Axes, optional
            The axes to draw into. The strip of counts takes their upper part. If None, a new figure is made.

        Returns
        -------
        ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If lengths differ, there are no rows, the event is not binary, or a number is no probability.
        """
        n_bins = check_n_bins(n_bins)
        by_name = dict(prob) if isinstance(prob, Mapping) else {"model": prob}
        problems, n_problems = (None, None) if groups is None else problem_numbers(groups)
        curves = {}
        for name, values in by_name.items():
            event, checked = check_event(y_true, values)
            low = high = None
            if problems is not None:
                if len(problems) != len(event):
                    raise ValueError(f"groups has {len(problems)} rows and y_true {len(event)}, expected the same")
                bins = bin_numbers(checked, n_bins, strategy)
                low, high = _band(event, bins, problems, n_resamples, random_state)
            points = reliability_curve(event, checked, n_bins, strategy)
            histogram = np.bincount(bin_numbers(checked, n_bins), minlength=n_bins)
            ece = expected_calibration_error(event, checked, n_bins, strategy)
            curves[name] = ReliabilityCurve(*points, low, high, histogram, ece)
        return cls(
            curves,
            n_bins=n_bins,
            strategy=strategy,
            event_name=event_name,
            n_steps=len(np.asarray(y_true)),
            n_problems=n_problems,
        ).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: FittedClassifier | Mapping[str, FittedClassifier],
        X: Sequence[Step] | npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        label_order: Sequence[Label] | None = None,
        **options: Any,
    ) -> ReliabilityDisplay:
        """Draw the risks of one or several fitted classifiers against the labels.

        Parameters
        ----------
        estimator : fitted classifier, or dict of str to such
            One curve per classifier, such as ``{"before": clf, "after": calibrated}``.
        X : 1-D array-like of Step, or another input of the classifiers
            The steps. They give the groups. Other input needs ``groups`` for bands.
        y : array-like of shape (n_steps,)
            Labels of the steps.
        label_order : sequence, optional
            The labels from worst to best. Not needed if a classifier inside, or the labels themselves, tell the order.
        **options
            Further arguments of :meth:`from_predictions`.

        Returns
        -------
        ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If nothing tells which class is worst, the classifiers differ in it, or :meth:`from_predictions` refuses
            the input.
        """
        by_name = estimator if isinstance(estimator, Mapping) else {type(estimator).__name__: estimator}
        worst = {name: order_of(classifier, label_order)[0] for name, classifier in by_name.items()}
        if len(set(worst.values())) != 1:
            raise ValueError(f"the worst class by classifier is {worst}, expected the same of at least 1 classifier")
        event = next(iter(worst.values()))
        risks = {
            name: classifier.predict_proba(X)[:, np.asarray(classifier.classes_).tolist().index(event)]
            for name, classifier in by_name.items()
        }
        if isinstance(next(iter(X), None), Step):  # type: ignore[arg-type]
            options.setdefault("groups", problem_groups(X))  # type: ignore[arg-type]
        options.setdefault("event_name", f"class {event}")
        return cls.from_predictions(np.asarray(y) == event, risks, **options)

    def plot(self, ax: Axes | None = None) -> ReliabilityDisplay:
        """Draw the diagram.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The axes to draw into. The strip of counts takes their upper part. If None, a new figure is made.

        Returns
        -------
        ReliabilityDisplay
            The display itself.
        """
        if ax is None:
            _, ax = import_pyplot().subplots(figsize=(5.2, 5.9), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        cell = ax.get_subplotspec()
        if cell is None:
            self.counts_ax_ = ax.inset_axes((0.0, 1.03, 1.0, 0.16), sharex=ax)
        else:
            parts = cell.subgridspec(2, 1, height_ratios=(1, 6), hspace=0.04)
            ax.set_subplotspec(parts[1])
            self.counts_ax_ = ax.figure.add_subplot(parts[0], sharex=ax)
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", zorder=1)
        for i, (name, curve) in enumerate(self.curves.items()):
            color = _COLORS[(i if len(self.curves) > 1 else 1) % len(_COLORS)]
            self._plot_curve(name, curve, color, _MARKERS[i % len(_MARKERS)])
        self._label_axes()
        return self

    def _plot_curve(self, name: str, curve: ReliabilityCurve, color: str, marker: str) -> None:
        """Draw one line, its band, and its histogram in the strip."""
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.4, "clip_on": False}
        label = f"{name} (ECE {curve.ece:.3f})"
        self.ax_.plot(curve.mean_prob, curve.share, label=label, zorder=3, **style)
        if curve.low is not None and curve.high is not None:
            self.ax_.fill_between(
                curve.mean_prob, curve.low, curve.high, color=color, alpha=0.18, linewidth=0, zorder=2
            )
        edges = np.linspace(0, 1, self.n_bins + 1)
        self.counts_ax_.stairs(curve.histogram, edges, color=color, linewidth=1.2)

    def _label_axes(self) -> None:
        """Set limits, labels, grids and the legend."""
        bins = "equal width" if self.strategy == "uniform" else "equal mass"
        caption = f"{self.n_steps:,} steps"
        if self.n_problems is not None:
            caption += f" of {self.n_problems:,} problems (bands: 95% by problem)"
        ax, counts = self.ax_, self.counts_ax_
        ax.set(xlim=(0, 1), ylim=(0, 1), ylabel=f"observed share: {self.event_name}")
        ax.set_xlabel(f"mean probability: {self.event_name} ({self.n_bins} bins of {bins})\n{caption}")
        for text in (ax.xaxis.label, ax.yaxis.label):
            plain_text(text)
        ax.grid(color="0.93")
        ax.set_axisbelow(True)
        for text in ax.legend(frameon=False, fontsize=9, loc="upper left").get_texts():
            plain_text(text)
        counts.set_yscale("log", subs=[])
        most = max(curve.histogram.max() for curve in self.curves.values())
        counts.set_ylim(0.8, 2.0 * most)
        counts.set_ylabel("steps", fontsize=8)
        counts.tick_params(labelbottom=False, labelsize=8)
        counts.grid(color="0.93")
        for axis in (ax, counts):
            axis.spines[["top", "right"]].set_visible(False)


def _band(
    event: FloatArray,
    bins: IntArray,
    problems: IntArray,
    n_resamples: int,
    random_state: int | np.random.Generator | None,
) -> tuple[FloatArray, FloatArray]:
    """Return the interval of the share of events in each non-empty bin. Resamples use the bins of all rows."""
    _, full_bins = np.unique(bins, return_inverse=True)
    sums = ProblemSums(problems)
    sums.add("n", kinds=full_bins, n_kinds=int(full_bins.max()) + 1)
    sums.add("events", event, full_bins, int(full_bins.max()) + 1)

    def shares(counts: FloatArray) -> dict[str, float | None]:
        drawn = sums(counts)
        # A bin from which no problem is drawn has no share: 0 / 0 is the NaN that is asked for.
        with np.errstate(divide="ignore", invalid="ignore"):
            return {str(k): value for k, value in enumerate(drawn["events"] / drawn["n"])}

    n_problems = int(problems.max()) + 1
    intervals = bootstrap_counts(shares, n_problems, n_resamples, random_state).intervals().values()
    low, high = ([getattr(interval, end) for interval in intervals] for end in ("low", "high"))
    return np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
