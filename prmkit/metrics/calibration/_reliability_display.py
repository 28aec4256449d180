"""What was said against what happened: the picture of calibration, with the steps behind each point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.data.labels import resolve_label_order
from prmkit.data.solution import Step, problem_groups
from prmkit.metrics.bootstrap import bootstrap_counts, problem_numbers
from prmkit.metrics.calibration.calibration import (
    bin_numbers,
    check_event,
    check_n_bins,
    expected_calibration_error,
    reliability_curve,
)
from prmkit.metrics.pyplot import import_pyplot, plain_text

_COLORS = ("#8a8a8a", "#1f5fa8", "#e08a1e", "#2f8f5b", "#a83a5f", "#6b4fa0")
_MARKERS = "osD^vP"


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """One line of a reliability diagram: a number per non-empty bin.

    Parameters
    ----------
    mean_prob, share, counts : ndarray of shape (n_non_empty_bins,)
        Mean probability of the event, share of steps where it happened, number of steps.
    low, high : ndarray of shape (n_non_empty_bins,), or None
        Interval of the share from resampled problems; None without groups.
    histogram : ndarray of shape (n_bins,)
        Number of steps in bins of equal width, whatever the strategy.
    ece : float
    """

    mean_prob: np.ndarray
    share: np.ndarray
    counts: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    histogram: np.ndarray
    ece: float


class ReliabilityDisplay:
    """Reliability diagram of a binary event, in the manner of scikit-learn's displays.

    Make it with :meth:`from_predictions` or :meth:`from_estimator`.

    Parameters
    ----------
    curves : dict of str to ReliabilityCurve
    n_bins : int
    strategy : {"uniform", "quantile"}
    event_name : str
        What the probability is of.
    n_steps : int
    n_problems : int or None

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
        The diagram.
    counts_ax_ : matplotlib Axes
        The strip above it: steps per bin.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> before, after = [0.1, 0.2, 0.9, 1.0], [0.3, 0.3, 0.7, 0.7]
    >>> display = ReliabilityDisplay.from_predictions([0, 1, 1, 0], {"before": before, "after": after}, n_bins=5)
    >>> round(display.curves["before"].ece, 3), round(display.curves["after"].ece, 3)
    (0.4, 0.2)
    """

    figure_: Any
    ax_: Any
    counts_ax_: Any

    def __init__(
        self,
        curves: Mapping[str, ReliabilityCurve],
        *,
        n_bins: int,
        strategy: str,
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
        y_true: Any,
        prob: Any,
        *,
        groups: Any = None,
        n_bins: int = 15,
        strategy: str = "uniform",
        event_name: str = "event",
        n_resamples: int = 500,
        random_state: int | np.random.Generator | None = 0,
        ax: Any = None,
    ) -> ReliabilityDisplay:
        """Draw probabilities of an event against what happened.

        Parameters
        ----------
        y_true : array-like of shape (n_steps,)
            1 (or True) where the event happened; for the risk of a step ``y == -1``.
        prob : array-like of shape (n_steps,), or dict of str to such
            Probability of the event; one curve per name.
        groups : array-like of shape (n_steps,), optional
            The problem of each step: adds a band, the 95% interval from resampled problems.
        n_bins, strategy
            As in :func:`expected_calibration_error`.
        event_name : str, default "event"
            For the axes.
        n_resamples : int, default 500
        random_state : int, Generator or None, default 0
        ax : matplotlib Axes, optional
            New ones if None. The strip of counts takes the upper part of its place.

        Raises
        ------
        ValueError
            For other lengths, no rows, no binary event, or what is no probability.
        """
        n_bins = check_n_bins(n_bins)
        probs = dict(prob) if isinstance(prob, Mapping) else {"model": prob}
        problems, n_problems = (None, None) if groups is None else problem_numbers(groups)
        curves = {}
        for name, one in probs.items():
            event, checked = check_event(y_true, one)
            if problems is not None and len(problems) != len(event):
                raise ValueError(
                    f"groups has {len(problems)} rows and y_true {len(event)}, expected the same"
                )
            low, high = (
                (None, None)
                if problems is None
                else _band(
                    event, checked, problems, check_n_bins(n_bins), strategy, n_resamples, random_state
                )
            )
            mean_prob, share, counts = reliability_curve(event, checked, n_bins, strategy)
            histogram = np.bincount(bin_numbers(checked, n_bins), minlength=n_bins)
            ece = expected_calibration_error(event, checked, n_bins, strategy)
            curves[name] = ReliabilityCurve(mean_prob, share, counts, low, high, histogram, ece)
        return cls(
            curves,
            n_bins=n_bins,
            strategy=strategy,
            event_name=event_name,
            n_steps=len(np.asarray(y_true)),
            n_problems=n_problems,
        ).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, **options: Any) -> ReliabilityDisplay:
        """Draw the risk, P(worst class), of a fitted classifier, or of several: ``{"before": clf, "after": …}``.

        Parameters
        ----------
        estimator : fitted classifier, or dict of str to such
        X : 1-D array-like of Step, or what the classifier reads
            Steps give the groups.
        y : array-like of shape (n_steps,)
        **options
            As :meth:`from_predictions` takes them, and ``label_order`` where the labels' order is not known.

        Raises
        ------
        ValueError
            If nothing tells which class is worst.
        """
        estimators = estimator if isinstance(estimator, Mapping) else {type(estimator).__name__: estimator}
        label_order = options.pop("label_order", None)
        risks, worst = {}, None
        for name, one in estimators.items():
            classes = one.classes_.tolist()
            order = label_order or getattr(one, "label_order_", None)
            resolved = resolve_label_order(classes, order)
            if resolved is None:
                raise ValueError(
                    f"nothing tells which of {classes} is worst: pass label_order=[worst, …, best]"
                )
            if worst is not None and worst != resolved[0]:
                raise ValueError(
                    f"the worst class is {worst!r} of one classifier and {resolved[0]!r} of {name}"
                )
            worst = resolved[0]
            risks[name] = one.predict_proba(X)[:, classes.index(worst)]
        if isinstance(next(iter(X), None), Step):
            options.setdefault("groups", problem_groups(X))
        options.setdefault("event_name", f"class {worst}")
        return cls.from_predictions(np.asarray(y) == worst, risks, **options)

    def plot(self, ax: Any = None) -> ReliabilityDisplay:
        """Draw into one axes, a new one if ``ax`` is None, and return the display."""
        if ax is None:
            plt = import_pyplot()
            _, ax = plt.subplots(figsize=(5.2, 5.9), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        place = ax.get_subplotspec()
        if place is None:
            self.counts_ax_ = ax.inset_axes((0.0, 1.03, 1.0, 0.16), sharex=ax)
        else:
            above, below = place.subgridspec(2, 1, height_ratios=(1, 6), hspace=0.04)
            ax.set_subplotspec(below)
            self.counts_ax_ = ax.figure.add_subplot(above, sharex=ax)
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", zorder=1)
        for i, (name, curve) in enumerate(self.curves.items()):
            color = _COLORS[(i if len(self.curves) > 1 else 1) % len(_COLORS)]
            self._plot_curve(name, curve, color, _MARKERS[i % len(_MARKERS)])
        self._dress()
        return self

    def _plot_curve(self, name: str, curve: ReliabilityCurve, color: str, marker: str) -> None:
        style = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.4, "clip_on": False}
        label = f"{name} (ECE {curve.ece:.3f})"
        self.ax_.plot(curve.mean_prob, curve.share, label=label, zorder=3, **style)
        if curve.low is not None:
            self.ax_.fill_between(
                curve.mean_prob, curve.low, curve.high, color=color, alpha=0.18, linewidth=0, zorder=2
            )
        edges = np.linspace(0, 1, self.n_bins + 1)
        self.counts_ax_.stairs(curve.histogram, edges, color=color, linewidth=1.2)

    def _dress(self) -> None:
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
    event: np.ndarray,
    prob: np.ndarray,
    problems: np.ndarray,
    n_bins: int,
    strategy: str,
    n_resamples: int,
    random_state: int | np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of the share in each non-empty bin; the bins are those of all rows."""
    _, bins = np.unique(bin_numbers(prob, n_bins, strategy), return_inverse=True)
    n_kept, n_problems = int(bins.max()) + 1, int(problems.max()) + 1
    rows, events = (
        np.bincount(problems * n_kept + bins, weights=values, minlength=n_problems * n_kept)
        .reshape(n_problems, n_kept)
        .T.astype(np.float64, order="C")
        for values in (None, event)
    )

    def shares(counts: np.ndarray) -> dict[str, float]:
        with np.errstate(divide="ignore", invalid="ignore"):  # a bin of which no problem is drawn
            found = (events * counts).sum(axis=1) / (rows * counts).sum(axis=1)
        return {str(k): value for k, value in enumerate(found)}

    result = bootstrap_counts(shares, n_problems, n_resamples, random_state)
    intervals = [result.interval(str(k)) for k in range(n_kept)]
    low, high = ([getattr(one, end) for one in intervals] for end in ("low", "high"))
    return np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
