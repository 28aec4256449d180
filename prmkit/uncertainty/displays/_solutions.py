"""Plots of single solutions: which of their steps are certified, and where the first error lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from prmkit.metrics import credible_set
from prmkit.metrics.solutions.aggregation import ragged_log_survival
from prmkit.scoring import ScoredSolution
from prmkit.scoring.scored_solution import risk_rgb, shown
from prmkit.scoring.solution_display import LABEL_LENGTH, shorten
from prmkit.uncertainty._solutions_input import FirstErrors, PathsInput, read_first_errors
from prmkit.uncertainty.guarantees._prefix_certifier import PrefixCertifier
from prmkit.uncertainty.guarantees.thresholds import unit_weights
from prmkit.utils.environment import ShowsFigure, import_pyplot, plain_text
from prmkit.utils.ragged import Ragged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Plot = TypeVar("Plot", bound="SolutionPlot")
_TITLE_WIDTH = 68
_CERTIFIED, _WRONG = (tuple(part / 255 for part in risk_rgb(risk)) for risk in (0.0, 1.0))
_NOT_CERTIFIED = "0.87"
_IN_SET, _OUTSIDE = "#1f5fa8", "0.8"
# Styles of the first error: before the certified prefix ends it is a failure, after it it is not.
_STOPPED: dict[str, Any] = {"marker": "x", "color": "0.25", "markersize": 5, "markeredgewidth": 1.5}
_FAILED: dict[str, Any] = {
    "marker": "X",
    "color": _WRONG,
    "markersize": 8,
    "markeredgecolor": "white",
    "markeredgewidth": 0.8,
}
_LABELLED: dict[str, Any] = {"marker": "<", "color": _WRONG, "markersize": 8}
# The survival curve passes behind the numbers.
_NUMBER_BOX: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}


class SolutionPlot(ShowsFigure, ABC):
    """Base of plots into one axes, with the legend between title and plot."""

    figure_: Figure
    ax_: Axes

    def plot(self: Plot, ax: Axes | None = None) -> Plot:
        """Draw the plot.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Axes to draw into. If ``None``, a new figure is made.

        Returns
        -------
        self
            The display itself.
        """
        if ax is None:
            _, ax = import_pyplot().subplots(figsize=self._size(), layout="constrained")
        assert ax is not None  # narrows the type
        self.ax_, self.figure_ = ax, cast("Figure", ax.figure)
        self._draw(ax)
        style: dict[str, Any] = {"frameon": False, "fontsize": 8, "borderpad": 0, "columnspacing": 1.2}
        ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, reverse=True, handlelength=1.4, **style)
        ax.spines[["top", "right"]].set_visible(False)
        return self

    @abstractmethod
    def _size(self) -> tuple[float, float]:
        """Return width and height of a new figure, in inches."""

    @abstractmethod
    def _draw(self, ax: Axes) -> None:
        """Draw everything but the legend."""


class CertifiedPrefixDisplay(SolutionPlot):
    """Plot of the certified prefixes of paths, made by :meth:`from_certifier`.

    Up to ``max_paths`` paths have a row each, with a cell for each step. More paths are drawn as a curve: for every
    fraction of a path, the share of paths of which at least that much is certified, beside the curve of a verifier
    without fault. The area below each curve is the mean kept fraction (of a path).

    Parameters
    ----------
    certified : ndarray of int of shape (n_paths,)
        Length of the certified prefix of each path.
    lengths : ndarray of int of shape (n_paths,)
        Number of steps of each path.
    first_errors : ndarray of int of shape (n_paths,), optional
        0-based index of the labelled first error, -1 if there is none.
    units : ndarray of int of shape (n_paths,), optional
        Problem of each path. The failure rate and the kept fractions are means over problems of the mean over their
        paths. If ``None``, each path is a problem.
    caption : str, default=""
        Text above the plot.
    max_paths : int, default=40
        The largest number of paths that are drawn one by one.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after :meth:`plot`.
    ax_ : matplotlib Axes
        The axes, after :meth:`plot`.

    Examples
    --------
    >>> display = CertifiedPrefixDisplay(
    ...     certified=np.array([2, 3, 0]), lengths=np.array([4, 3, 2]), first_errors=np.array([3, 2, -1])
    ... )
    >>> display.failures
    array([False,  True, False])
    >>> round(display.failure_rate, 2), display.kept_fraction, round(display.perfect_kept_fraction, 2)
    (0.33, 0.5, 0.81)
    """

    def __init__(
        self,
        certified: np.ndarray,
        lengths: np.ndarray,
        *,
        first_errors: np.ndarray | None = None,
        units: np.ndarray | None = None,
        caption: str = "",
        max_paths: int = 40,
    ) -> None:
        self.certified = certified
        self.lengths = lengths
        self.first_errors = first_errors
        self.units = units
        self.caption = caption
        self.max_paths = max_paths

    @classmethod
    def from_certifier(
        cls,
        certifier: PrefixCertifier,
        X: PathsInput,
        first_errors: FirstErrors = None,
        groups: npt.ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        max_paths: int = 40,
    ) -> CertifiedPrefixDisplay:
        """Certify paths of new problems and draw the result.

        Parameters
        ----------
        certifier : fitted PrefixCertifier
            Guarantee that certifies the paths.
        X : list of Solution, or list of array-like of shape (n_steps,)
            Paths, as the certifier's ``predict`` takes them.
        first_errors : array-like of int of shape (n_paths,), optional
            0-based index of the first wrong step, -1 if no step is wrong. If ``None``, no failures are shown.
        groups : array-like of shape (n_paths,), optional
            Problem of each path, as the certifier's ``predict`` takes it.
        ax : matplotlib Axes, optional
            Axes to draw into. If ``None``, a new figure is made.
        max_paths : int, default=40
            The largest number of paths that are drawn one by one.

        Returns
        -------
        CertifiedPrefixDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``certifier`` is not a PrefixCertifier.
        ValueError
            If a path does not have its first error, there are no paths, or a problem belongs to the calibration.
        """
        if not isinstance(certifier, PrefixCertifier):
            raise TypeError(f"certifier is {type(certifier).__name__}, expected a fitted PrefixCertifier")
        paths = certifier.read(X, groups)
        if not len(paths.lengths):
            raise ValueError("X is empty: at least 1 path is required")
        display = cls(
            certifier.decide(paths),
            paths.lengths,
            first_errors=None if first_errors is None else read_first_errors(first_errors, paths),
            units=paths.units,
            caption=_caption(certifier),
            max_paths=max_paths,
        )
        return display.plot(ax=ax)

    @property
    def failures(self) -> np.ndarray | None:
        """Whether each certified prefix contains the path's first error, of shape (n_paths,). None without labels."""
        return None if self.first_errors is None else np.asarray(self.certified > self._n_right)

    @property
    def failure_rate(self) -> float | None:
        """Share of paths that fail. None without labels."""
        return None if self.failures is None else self._mean(self.failures)

    @property
    def kept_fraction(self) -> float:
        """Mean share of a path's steps that is certified."""
        return self._mean(self.certified / self.lengths)

    @property
    def perfect_kept_fraction(self) -> float | None:
        """Mean share of a path's steps before its first error. None without labels."""
        return None if self.first_errors is None else self._mean(self._n_right / self.lengths)

    def _size(self) -> tuple[float, float]:
        return 7.5, (1.5 + 0.2 * max(len(self.lengths), 6) if self._one_by_one else 4.4)

    def _draw(self, ax: Axes) -> None:
        if self._one_by_one:
            self._plot_paths(ax)
        else:
            self._plot_shares(ax)
        numbers = f"kept {self.kept_fraction:.0%} of a path's steps"
        if self.first_errors is not None:
            perfect = f"{self.perfect_kept_fraction:.0%}"
            numbers = f"failure rate {self.failure_rate:.2f} · {numbers} (perfect verifier: {perfect})"
        title = "\n".join(line for line in (self.caption, numbers) if line)
        ax.set_title(title, loc="left", fontsize=10, pad=20)

    @property
    def _one_by_one(self) -> bool:
        return len(self.lengths) <= self.max_paths

    def _plot_paths(self, ax: Axes) -> None:
        """Draw a row for each path: the most certified first, then the longest."""
        order = np.lexsort((-self.lengths, -self.certified))
        lengths, certified = self.lengths[order], self.certified[order]
        cells = Ragged(np.empty(int(lengths.sum())), lengths)
        is_certified = cells.positions < cells.spread(certified)
        for chosen, color, label in (
            (~is_certified, _NOT_CERTIFIED, "not certified"),
            (is_certified, _CERTIFIED, "certified"),
        ):
            if chosen.any():
                left = cells.positions[chosen] + 0.04
                ax.barh(cells.rows[chosen], 0.92, 0.8, left=left, color=color, label=label)
        if self.first_errors is not None and self.failures is not None:
            errors, failed = self.first_errors[order], self.failures[order]
            for chosen, label, style in (
                ((errors >= 0) & ~failed, "first error, not certified", _STOPPED),
                (failed, "first error, certified (failure)", _FAILED),
            ):
                marked = np.flatnonzero(chosen)
                if len(marked):
                    ax.plot(errors[marked] + 0.5, marked, linestyle="", label=label, **style)
        ax.set(xlim=(0, lengths.max()), ylim=(len(order) - 0.4, -0.6))
        ax.set(xlabel="step", ylabel="path (row of X)")
        ax.set_yticks(np.arange(len(order)), order.tolist(), fontsize=7)
        # At most 20 numbers of steps.
        ticks = np.arange(0, lengths.max(), -(-int(lengths.max()) // 20))
        ax.set_xticks(ticks + 0.5, ticks.tolist())
        ax.tick_params(length=0)

    def _plot_shares(self, ax: Axes) -> None:
        """Draw the curve of kept fractions."""
        if self.first_errors is not None:
            x, y = _share_with_at_least(self._n_right / self.lengths, self._weights)
            ax.plot(x, y, color="0.45", linestyle="--", linewidth=1.2, label="perfect verifier")
        x, y = _share_with_at_least(self.certified / self.lengths, self._weights)
        ax.plot(x, y, color=_CERTIFIED, linewidth=2, label="certified")
        ax.fill_between(x, y, color=_CERTIFIED, alpha=0.15, linewidth=0)
        ax.set(xlim=(0, 1), ylim=(0, 1.01), ylabel="share of paths that keep at least that")
        ax.set_xlabel(f"kept fraction of a path's steps ({len(self.lengths):,} paths)")
        ax.grid(color="0.92")
        ax.set_axisbelow(True)

    @property
    def _n_right(self) -> np.ndarray:
        """Number of steps before the first error."""
        errors = np.asarray(self.first_errors)
        return np.where(errors >= 0, errors, self.lengths)

    @property
    def _weights(self) -> np.ndarray:
        """Weight of each path in a mean over units, of shape (n_paths,). The weights sum to 1."""
        weights, n_units = unit_weights(np.arange(len(self.lengths)) if self.units is None else self.units)
        return weights / n_units

    def _mean(self, values: np.ndarray) -> float:
        return float(self._weights @ values)


class FirstErrorDisplay(SolutionPlot):
    """Plot of the first-error distribution of one solution, made by :meth:`from_scored`.

    There is a bar for each step and one for "no error". The bars of the set are in colour. The thin line is the
    probability that no step up to there is wrong.

    Parameters
    ----------
    scored : ScoredSolution
        Solution with the probabilities of its steps.
    outcomes : set of int
        Set to highlight: 0-based indices of steps, and -1 for "no error".
    first_error : int, optional
        Labelled first error to mark, -1 for none.
    set_name : str, default="set"
        Name of the set in the legend.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after :meth:`plot`.
    ax_ : matplotlib Axes
        The axes, after :meth:`plot`.

    Examples
    --------
    >>> from prmkit.data import Solution
    >>> solution = Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])
    >>> scored = ScoredSolution(solution, [[0.1, 0.9], [0.8, 0.2]], classes=["negative", "positive"])
    >>> FirstErrorDisplay.from_scored(scored, level=0.9, first_error=1).outcomes  # doctest: +SKIP
    {1, -1}
    """

    def __init__(
        self, scored: ScoredSolution, outcomes: Set[int], *, first_error: int | None = None, set_name: str = "set"
    ) -> None:
        self.scored = scored
        self.outcomes = outcomes
        self.first_error = first_error
        self.set_name = set_name

    @classmethod
    def from_scored(
        cls,
        scored: ScoredSolution,
        *,
        level: float = 0.9,
        first_error: int | None = None,
        prediction_set: Set[int] | None = None,
        ax: Axes | None = None,
    ) -> FirstErrorDisplay:
        """Draw one scored solution.

        Parameters
        ----------
        scored : ScoredSolution
            Solution with the probabilities of its steps.
        level : float, default=0.9
            Probability of the credible set to highlight. The set is as right as the model is.
        first_error : int, optional
            Labelled first error to mark, -1 for none.
        prediction_set : set of int, optional
            Set to highlight in place of the credible set: an element of the result of ``FirstErrorSet.predict``.
        ax : matplotlib Axes, optional
            Axes to draw into. If ``None``, a new figure is made.

        Returns
        -------
        FirstErrorDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``scored`` is something else, such as a solution that was not scored.
        ValueError
            If the first error or the set names a step that the solution does not have, or the level is not in (0, 1].
        """
        if not isinstance(scored, ScoredSolution):
            raise TypeError(f"scored is {type(scored).__name__}, expected one ScoredSolution: score it first")
        if prediction_set is None:
            if scored.unscored:
                raise ValueError(
                    f"{len(scored.unscored)} of {scored.solution.n_steps} steps have no score, so there is no credible "
                    "set: shorten the solution, or pass prediction_set, such as an element of FirstErrorSet.predict"
                )
            outcomes = credible_set(scored.first_error_distribution, level)
            name = f"{level:.0%} credible set"
        else:
            outcomes, name = {int(outcome) for outcome in prediction_set}, "prediction set"
        n_steps = scored.solution.n_steps
        for argument, values in (
            ("prediction_set", outcomes),
            ("first_error", {-1 if first_error is None else first_error}),
        ):
            unknown = sorted(value for value in values if not -1 <= value < n_steps)
            if unknown:
                raise ValueError(
                    f"{argument} holds {unknown[0]}, expected -1 (no error) to {n_steps - 1}: "
                    f"the solution has {n_steps} steps"
                )
        return cls(scored, outcomes, first_error=first_error, set_name=name).plot(ax=ax)

    def _size(self) -> tuple[float, float]:
        return 8.5, 1.5 + 0.28 * max(self.scored.solution.n_steps + 1, 3)

    def _draw(self, ax: Axes) -> None:
        solution, distribution = self.scored.solution, self.scored.first_error_distribution
        n_steps = solution.n_steps
        # One row for each step, and the last for "no error".
        rows = np.arange(n_steps + 1)
        in_set = np.isin(np.where(rows < n_steps, rows, -1), list(self.outcomes))
        for chosen, color, label in ((in_set, _IN_SET, self.set_name), (~in_set, _OUTSIDE, "outside")):
            if chosen.any():
                ax.barh(rows[chosen], distribution[chosen], 0.7, color=color, label=label)
        for row, value in enumerate(distribution):
            x = 0.0 if np.isnan(value) else value
            ax.text(x + 0.012, row, shown(value), va="center", fontsize=8, color="0.25", bbox=_NUMBER_BOX)
        right_so_far = np.exp(ragged_log_survival(Ragged.from_arrays([self.scored.risks])).values)
        ax.plot(right_so_far, rows[:-1], color="0.45", linewidth=0.9, label="P(no error so far)")
        if self.first_error is not None:
            row = n_steps if self.first_error < 0 else self.first_error
            ax.plot(1.06, row, linestyle="", label="labelled first error", clip_on=False, **_LABELLED)

        ax.axhline(n_steps - 0.5, color="0.8", linewidth=0.8)
        ax.set(xlim=(0, 1.1), ylim=(n_steps + 0.6, -0.6), xlabel="P(first error is here)")
        ax.set_xticks(np.linspace(0, 1, 6))
        texts = [shorten(text, LABEL_LENGTH) or "(empty step)" for text in solution.steps]
        ax.set_yticks(rows, [*(f"{text}  {i}" for i, text in enumerate(texts)), "no error"], fontsize=8)
        ax.tick_params(axis="y", length=0)
        problem = wrap(shorten(solution.problem or "(no problem)", 2 * _TITLE_WIDTH - 10), _TITLE_WIDTH)
        title = ax.set_title("\n".join(problem), loc="left", fontsize=9, pad=20)
        for text_object in (title, *ax.get_yticklabels()):
            plain_text(text_object)


def _share_with_at_least(fractions: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return corners of the curve "share of paths whose fraction is at least x": falling steps from 0 to 1."""
    order = np.argsort(fractions)
    remaining = np.append(1.0, 1.0 - np.cumsum(weights[order]))
    x = np.concatenate([[0.0], np.repeat(fractions[order], 2), [1.0]])
    return x, np.clip(np.repeat(remaining, 2), 0.0, 1.0)


def _caption(certifier: PrefixCertifier) -> str:
    """Return the promise of the certifier in a line."""
    alpha, delta = certifier.settings_["alpha"], certifier.settings_["delta"]
    level = f"α = {alpha:g}" + ("" if delta is None else f", δ = {delta:g}")
    calibrated = f"{level}, calibrated on {certifier.n_calibration_:,} {certifier.unit_}s"
    if not certifier.attainable_:
        return f"{calibrated}: too few, not attainable, nothing is certified"
    return f"{calibrated}: a step passes at a risk up to {certifier.threshold_:.3g}"
