"""A picture of selective prediction: the loss that is left against the share of decisions that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.metrics.bootstrap import bootstrap_counts, problem_numbers
from prmkit.metrics.selective._selective import (
    RiskCoverageCurve,
    all_alike,
    check_decisions,
    kept_at,
    losses_by_certainty,
    prefix_risks,
    risk_coverage_curve,
    tie_numbers,
)
from prmkit.utils.environment import ShowsFigure, import_pyplot
from prmkit.utils.ragged import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_COLORS = ("#1f5fa8", "#e08a1e", "#2a9d8f", "#b5446e", "#6c5ba7", "#8c6d31")
# The coverages of a band. Below them, a handful of decisions would fill the picture.
_GRID = np.linspace(0.02, 1.0, 50)
_MOST_POINTS = 1000


class RiskCoverageDisplay(ShowsFigure):
    """Plot of risk-coverage curves, in the manner of scikit-learn's displays. Make it with :meth:`from_predictions`.

    The line of a good uncertainty is low. "random" is the result of rejecting without looking, and "oracle" the result
    of rejecting by the loss itself.

    Parameters
    ----------
    curves : dict of str to RiskCoverageCurve
        One curve per uncertainty.
    oracle : RiskCoverageCurve
        The curve of the loss itself as uncertainty.
    bands : dict of str to ndarray of shape (3, n_coverages), optional
        Coverages, and the ends of the pointwise interval.
    loss_name : str, default="share of wrong decisions"
        The name of the loss, for the axis.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    ax_ : matplotlib Axes
        The axes of the curves.

    Examples
    --------
    >>> display = RiskCoverageDisplay.from_predictions([0, 0, 1], {"entropy": [0.1, 0.3, 0.2]})  # doctest: +SKIP
    """

    figure_: Figure | SubFigure
    ax_: Axes

    def __init__(
        self,
        curves: Mapping[str, RiskCoverageCurve],
        oracle: RiskCoverageCurve,
        bands: Mapping[str, FloatArray] | None = None,
        loss_name: str = "share of wrong decisions",
    ) -> None:
        self.curves = curves
        self.oracle = oracle
        self.bands = bands or {}
        self.loss_name = loss_name

    @classmethod
    def from_predictions(
        cls,
        loss: npt.ArrayLike,
        uncertainties: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        groups: npt.ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        loss_name: str = "share of wrong decisions",
        n_resamples: int = 200,
        confidence_level: float = 0.95,
        random_state: int | np.random.Generator | None = 0,
    ) -> RiskCoverageDisplay:
        """Compute the curves and draw them.

        Parameters
        ----------
        loss : array-like of shape (n_decisions,)
            How wrong each decision is, in [0, 1].
        uncertainties : array-like of shape (n_decisions,), or dict of str to such
            One or several uncertainties. Higher is rejected first.
        groups : array-like of shape (n_decisions,), optional
            The problem of each decision. It gives the first uncertainty a band, by resampling problems.
        ax : matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.
        loss_name : str, default="share of wrong decisions"
            The name of the loss, for the axis.
        n_resamples : int, default=200
            Number of resamples of problems.
        confidence_level : float, default=0.95
            Level of the band, at each coverage by itself.
        random_state : int, Generator or None, default=0
            Seed of the resamples.

        Returns
        -------
        RiskCoverageDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            For the same input as :func:`risk_coverage_curve`, without uncertainties, or if lengths differ.
        """
        by_name = uncertainties if isinstance(uncertainties, Mapping) else {"uncertainty": uncertainties}
        if not by_name:
            raise ValueError('uncertainties is empty, expected at least one: {"entropy": …}')
        curves = {name: risk_coverage_curve(loss, values) for name, values in by_name.items()}
        bands = {}
        if groups is not None and n_resamples:
            first = next(iter(by_name))
            band = _band(loss, by_name[first], groups, n_resamples, confidence_level, random_state)
            bands = {first: band} if band is not None else {}
        return cls(curves, risk_coverage_curve(loss, loss), bands, loss_name).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> RiskCoverageDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.

        Returns
        -------
        RiskCoverageDisplay
            The display itself.
        """
        if ax is None:
            _, ax = import_pyplot().subplots(figsize=(6.4, 4.6), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        # For equal losses aurc() is None.
        alike = all_alike(*self.oracle.thresholds[[0, -1]])
        highest = 0.0
        for i, (name, curve) in enumerate(self.curves.items()):
            color = _COLORS[i % len(_COLORS)]
            ax.plot(
                *_thinned(curve), color=color, linewidth=1.8, label=_label(name, curve.risks.mean(), alike), zorder=3
            )
            if name in self.bands:
                coverages, low, high = self.bands[name]
                label = f"{name}, interval by problem"
                ax.fill_between(coverages, low, high, color=color, alpha=0.15, linewidth=0, label=label)
                highest = max(highest, float(high[coverages >= 0.1].max()))
            highest = max(highest, float(curve.risks[curve.coverages >= 0.1].max()))
        mean = float(self.oracle.risks[-1])
        ax.axhline(mean, color="0.45", linestyle="--", linewidth=1.2, label=_label("random", mean, alike))
        style: dict[str, Any] = {"color": "0.45", "linestyle": ":", "linewidth": 1.4}
        ax.plot(*_thinned(self.oracle), label=_label("oracle", self.oracle.risks.mean(), alike), **style)
        ax.set(xlim=(0, 1), xlabel="coverage, share of decisions kept", ylabel=f"risk, {self.loss_name}")
        ax.grid(color="0.92")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        legend = ax.legend(loc="upper right", frameon=False, fontsize=9)
        share = legend.get_window_extent().height / ax.get_window_extent().height
        # A few decisions at the left may be all wrong. They do not set the scale.
        top = 1.04 * max(highest, mean) or 1.0
        # The legend stands above all lines.
        ax.set_ylim(0, top / max(0.95 - share, 0.3))
        return self


def _band(
    loss: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    groups: npt.ArrayLike,
    n_resamples: int,
    confidence_level: float,
    random_state: int | np.random.Generator | None,
) -> FloatArray | None:
    """Return coverages and both ends of the interval, None if one problem leaves nothing to resample."""
    losses, uncertainties, _ = check_decisions(loss, uncertainty)
    problems, n_problems = problem_numbers(groups)
    if len(problems) != len(losses):
        raise ValueError(f"groups has {len(problems)} rows and loss {len(losses)}, expected the same")
    ties = tie_numbers(uncertainties)

    def on_grid(counts: FloatArray) -> dict[str, float | None]:
        risks = prefix_risks(losses_by_certainty(losses, ties, counts[problems]))
        return {f"{c:g}": float(risks[kept_at(c, len(risks)) - 1]) for c in _GRID}

    bootstrap = bootstrap_counts(on_grid, n_problems, n_resamples, random_state, confidence_level)
    intervals = list(bootstrap.intervals().values())
    if intervals[0].low is None:
        return None
    ends = ([interval.low for interval in intervals], [interval.high for interval in intervals])
    return np.array([_GRID, *ends], dtype=np.float64)


def _thinned(curve: RiskCoverageCurve) -> tuple[FloatArray, FloatArray]:
    """Return at most 1000 points of a curve, the last among them."""
    n = len(curve.risks)
    points = np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(np.int64))
    return curve.coverages[points], curve.risks[points]


def _label(name: str, area: float, alike: bool) -> str:
    """Return the text of a legend."""
    return f"{name} (AURC undefined)" if alike else f"{name} (AURC {area:.3f})"
