"""Plot of a search: the tree of its candidates, by step and score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prmkit.decoding.search.results import Candidate, SearchResult
from prmkit.scoring.scored_solution import risk_rgb
from prmkit.utils.environment import ShowsFigure, import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Value = Literal["score", "reward"]
_KINDS: dict[str, tuple[tuple[str | None, ...], dict[str, Any]]] = {
    "complete": (("eos", "condition"), {"marker": "o", "s": 70, "edgecolors": "black", "linewidths": 1.2}),
    "went on": (("expanded", None), {"marker": "o", "s": 30}),
    "pruned": (("pruned",), {"marker": "o", "s": 22, "alpha": 0.45}),
    "cut off": (("length", "max_steps", "budget", "doubt", "refused"), {"marker": "s", "s": 34}),
    "failed": (("error", "empty"), {"marker": "X", "s": 40}),
}


class SearchDisplay(ShowsFigure):
    """Plot of the candidates of a search as a tree. :meth:`from_result` makes it.

    A point is a candidate: to the right by its number of steps, up by its score, and coloured by the reward of its last
    step. A line leads to it from the one that it grew from. The way to the chosen one is drawn in black. Candidates
    without a score stand below the dashed line.

    Parameters
    ----------
    result : SearchResult
        Result to draw.
    value : {"score", "reward"}, default="score"
        What the height of a point is: the score of the candidate, or the reward of its last step. With a final scorer
        only candidates that were left at the end have a score.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after :meth:`plot`.
    ax_ : matplotlib Axes
        The axes, after :meth:`plot`.

    Examples
    --------
    >>> from prmkit.decoding import SearchDisplay, best_of_n
    >>> SearchDisplay.from_result(best_of_n(generator, clf, problem, n=8))  # doctest: +SKIP
    """

    figure_: Figure | SubFigure
    ax_: Axes

    def __init__(self, result: SearchResult, *, value: Value = "score") -> None:
        self.result = result
        self.value = value

    @classmethod
    def from_result(cls, result: SearchResult, *, value: Value = "score", ax: Axes | None = None) -> SearchDisplay:
        """Draw the result of a search.

        Parameters
        ----------
        result : SearchResult
            Result to draw.
        value : {"score", "reward"}, default="score"
            What the height of a point is.
        ax : matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.

        Returns
        -------
        SearchDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If it is not a result.
        ValueError
            If ``value`` is unknown.
        """
        if not isinstance(result, SearchResult):
            raise TypeError(f"result is {type(result).__name__}, expected SearchResult, as beam_search(…) returns it")
        if value not in ("score", "reward"):
            raise ValueError(f"value is {value!r}, expected 'score' or 'reward'")
        return cls(result, value=value).plot(ax)

    def plot(self, ax: Axes | None = None) -> SearchDisplay:
        """Draw the result.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.

        Returns
        -------
        SearchDisplay
            The display itself.
        """
        if ax is None:
            _, ax = import_pyplot().subplots(figsize=(7.2, 4.6), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        candidates = self.result.candidates
        x = np.array([one.solution.n_steps for one in candidates], dtype=float)
        y = np.array([one.score if self.value == "score" else _last_reward(one) for one in candidates])
        known = y[np.isfinite(y)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        gap = 0.12 * ((high - low) or 1.0)
        if len(known) < len(y):
            ax.axhline(low - gap, color="0.7", linewidth=1, linestyle="--", label="no score below")
        y = np.where(np.isfinite(y), y, low - 1.5 * gap)
        way = self._way()
        for i, one in enumerate(candidates):
            if one.parent is not None:
                style: dict[str, Any] = (
                    {"color": "black", "linewidth": 1.8} if i in way else {"color": "0.8", "linewidth": 0.8}
                )
                ax.plot(x[[one.parent, i]], y[[one.parent, i]], zorder=2 if i in way else 1, **style)
        colors = np.array([risk_rgb(1 - _last_reward(one)) for one in candidates]) / 255
        for name, (reasons, kind) in _KINDS.items():
            which = np.array([one.stopped in reasons for one in candidates])
            if which.any():
                ax.scatter(x[which], y[which], color=colors[which], zorder=3, label=f"{name}, {which.sum():,}", **kind)
        best = self.result.chosen
        ax.scatter(x[best], y[best], s=190, facecolors="none", edgecolors="black", zorder=4, label="chosen")
        ax.set(xlabel="number of steps", ylabel="score" if self.value == "score" else "reward of the last step")
        ax.set_xticks(np.arange(x.min(), x.max() + 1, max(1, (x.max() - x.min()) // 12)))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
        return self

    def _way(self) -> set[int]:
        """Return the numbers of the chosen candidate and of those that it grew from."""
        way: set[int] = set()
        number: int | None = self.result.chosen
        while number is not None:
            way.add(number)
            number = self.result.candidates[number].parent
        return way


def _last_reward(candidate: Candidate) -> float:
    return float(candidate.rewards[-1]) if len(candidate.rewards) else float("nan")
