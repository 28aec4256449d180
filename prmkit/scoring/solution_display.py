"""Plots of solutions: the risk of each step, the distribution of the first error, and the entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prmkit.scoring.scored_solution import ScoredSolution, risk_rgb, shown
from prmkit.utils.environment import ShowsFigure, import_pyplot, plain_text

LABEL_LENGTH = 52
_TITLE_LENGTH = 100
_X_LABELS = ("risk, P(step is wrong)", "P(first error is here)", "entropy (nats)")


class PathDisplay(ShowsFigure):
    """Plot one or several scored solutions, a row of three panels each. :meth:`from_scored` makes it.

    Parameters
    ----------
    scored : sequence of ScoredSolution
        Solutions to draw, one row of panels each.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes, shape (n_solutions, 3)
        Risks, first-error distribution, entropy.

    Examples
    --------
    >>> from prmkit.data import Solution
    >>> solution = Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])
    >>> scored = ScoredSolution(solution, [[0.1, 0.9], [0.8, 0.2]], classes=["negative", "positive"])
    >>> PathDisplay.from_scored(scored).axes_.shape  # doctest: +SKIP
    (1, 3)
    """

    figure_: Any
    axes_: np.ndarray

    def __init__(self, scored: Sequence[ScoredSolution]) -> None:
        self.scored = scored

    @classmethod
    def from_scored(cls, scored: ScoredSolution | Sequence[ScoredSolution], *, axes: Any = None) -> PathDisplay:
        """Draw scored solutions.

        Parameters
        ----------
        scored : ScoredSolution, or sequence of ScoredSolution
            Solutions to draw, one row of panels each.
        axes : ndarray of matplotlib Axes, shape (n_solutions, 3), default=None
            Axes to draw into. If ``None``, a new figure is made.

        Returns
        -------
        PathDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If a solution was not scored.
        ValueError
            If there is no solution, or the axes have another shape.
        """
        several = [scored] if isinstance(scored, ScoredSolution) else list(scored)
        if not several:
            raise ValueError("scored is empty, expected at least one ScoredSolution")
        for i, one in enumerate(several):
            if not isinstance(one, ScoredSolution):
                raise TypeError(f"scored[{i}] is {type(one).__name__}, expected ScoredSolution: score it first")
        return cls(several).plot(axes)

    def plot(self, axes: Any = None) -> PathDisplay:
        """Draw the solutions again.

        Parameters
        ----------
        axes : ndarray of matplotlib Axes, shape (n_solutions, 3), default=None
            Axes to draw into. If ``None``, a new figure is made.

        Returns
        -------
        PathDisplay
            The display itself.
        """
        if axes is None:
            plt = import_pyplot()
            rows = [one.solution.n_steps + 1 for one in self.scored]
            _, axes = plt.subplots(
                len(rows),
                3,
                figsize=(11, sum(0.3 * n + 1.1 for n in rows)),
                squeeze=False,
                gridspec_kw={"height_ratios": rows, "width_ratios": (3, 3, 2)},
                layout="constrained",
            )
        self.axes_ = np.atleast_2d(np.asarray(axes, dtype=object))
        if self.axes_.shape != (len(self.scored), 3):
            raise ValueError(f"axes has shape {self.axes_.shape}, expected ({len(self.scored)}, 3)")
        self.figure_ = self.axes_[0, 0].figure
        for row, one in zip(self.axes_, self.scored, strict=True):
            _plot_one(row, one)
        for axis, name in zip(self.axes_[-1], _X_LABELS, strict=True):
            axis.set_xlabel(name)
        return self


def _plot_one(axes: np.ndarray, scored: ScoredSolution) -> None:
    n_steps = scored.solution.n_steps
    places = np.arange(n_steps + 1)
    colors = [tuple(part / 255 for part in risk_rgb(risk)) for risk in scored.risks]
    first_error = scored.first_error_distribution
    risk_axis, first_axis, entropy_axis = axes

    risk_axis.barh(places[:-1], scored.risks, color=colors, height=0.7)
    _write_values(risk_axis, places, scored.risks)
    first_axis.barh(places, first_error, color=[*colors, "0.6"], height=0.7)
    _write_values(first_axis, places, first_error)
    entropy_axis.plot(scored.entropy, places[:-1], "o", color="0.25", markersize=5)
    entropy_axis.hlines(places[:-1], 0, scored.entropy, color="0.7", linewidth=1)

    problem = shorten(scored.solution.problem or "(no problem)", _TITLE_LENGTH)
    risk_axis.set_title(" ")  # keeps the space; the text itself may run on above the panels to its right
    title = risk_axis.annotate(problem, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=10)
    title.set_in_layout(False)
    plain_text(title)
    for axis, limit in ((risk_axis, 1.0), (first_axis, 1.0), (entropy_axis, float(np.log(len(scored.classes))))):
        axis.set_xlim(0, limit * (1.12 if axis is not entropy_axis else 1.04))
        axis.set_ylim(n_steps + 0.6, -0.6)
        axis.set_yticks(places, [])
        axis.tick_params(axis="y", length=0)
        axis.axhline(n_steps - 0.5, color="0.8", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in (risk_axis, first_axis):
        axis.set_xticks(np.linspace(0, 1, 6))
    risk_axis.axvline(0.5, color="0.8", linewidth=0.8, linestyle=":", zorder=0)
    labels = [f"{shorten(text, LABEL_LENGTH) or '(empty step)'}  {i}" for i, text in enumerate(scored.solution.steps)]
    risk_axis.set_yticks(places, [*labels, "no error"], fontsize=8)
    for label in risk_axis.get_yticklabels():
        plain_text(label)


def _write_values(axis: Any, places: np.ndarray, values: np.ndarray) -> None:
    for place, value in zip(places, values, strict=False):
        # A step without a score has a dash in place of its bar.
        x = 0.0 if np.isnan(value) else value
        axis.text(x + 0.012, place, shown(value), va="center", fontsize=8, color="0.25")


def shorten(text: str, length: int) -> str:
    """Return a text on one line, cut at a length."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip(" .,;:") + "…"
