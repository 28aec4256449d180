"""Where the first error of one solution lies, how sure that is, and which steps cannot be ruled out."""

from __future__ import annotations

from collections.abc import Set
from textwrap import wrap
from typing import Any

import numpy as np

from prmkit.metrics import credible_set, survival
from prmkit.metrics.pyplot import import_pyplot, plain_text
from prmkit.scoring import ScoredSolution
from prmkit.scoring.scored_solution import risk_rgb
from prmkit.scoring.solution_display import LABEL_LENGTH, shorten

_TITLE_WIDTH = 68
_INSIDE, _OUTSIDE = "#1f5fa8", "0.8"
_BEHIND = {
    "facecolor": "white",
    "edgecolor": "none",
    "alpha": 0.8,
    "pad": 0.8,
}  # the line passes behind numbers
_TRUTH = {"marker": "<", "color": tuple(part / 255 for part in risk_rgb(1.0)), "markersize": 8}


class FirstErrorDisplay:
    """Plot of the first-error distribution of one solution; made by :meth:`from_scored`.

    A bar for each step and one for "no error"; those of the set are in colour. The thin line is the probability that
    no step up to there is wrong.

    Parameters
    ----------
    scored : ScoredSolution
    outcomes : set of int
        The set to be shown: 0-based indices of steps, and -1 for "no error".
    first_error : int, optional
        The labelled first error, -1 for none. None: not known.
    set_name : str, default="set"
        What the set is, for the legend.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
        After :meth:`plot`.

    Examples
    --------
    >>> from prmkit.data import Solution
    >>> solution = Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])
    >>> scored = ScoredSolution(solution, [[0.1, 0.9], [0.8, 0.2]], classes=["negative", "positive"])
    >>> FirstErrorDisplay.from_scored(scored, level=0.9, first_error=1).outcomes  # doctest: +SKIP
    {1, -1}
    """

    figure_: Any
    ax_: Any

    def __init__(
        self,
        scored: ScoredSolution,
        outcomes: Set[int],
        *,
        first_error: int | None = None,
        set_name: str = "set",
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
        ax: Any = None,
    ) -> FirstErrorDisplay:
        """Draw one scored solution.

        Parameters
        ----------
        scored : ScoredSolution
        level : float, default=0.9
            Probability of the credible set that is highlighted: as right as the model is.
        first_error : int, optional
            The labelled first error to mark, -1 for none.
        prediction_set : set of int, optional
            What ``FirstErrorSet.predict`` returned for this solution; takes the place of the credible set.
        ax : matplotlib Axes, optional

        Raises
        ------
        TypeError
            If ``scored`` is something else, such as a solution that was not scored.
        ValueError
            For a first error or a set with steps that the solution does not have, or a level that is none.
        """
        if not isinstance(scored, ScoredSolution):
            raise TypeError(f"scored is {type(scored).__name__}, expected one ScoredSolution: score it first")
        if prediction_set is None:
            outcomes = credible_set(scored.first_error_distribution, level)
            name = f"{level:.0%} credible set"
        else:
            outcomes, name = {int(outcome) for outcome in prediction_set}, "prediction set"
        n_steps = scored.solution.n_steps
        for what, values in (
            ("prediction_set", outcomes),
            ("first_error", {-1 if first_error is None else first_error}),
        ):
            unknown = sorted(value for value in values if not -1 <= value < n_steps)
            if unknown:
                raise ValueError(
                    f"{what} holds {unknown[0]}, expected -1 (no error) to {n_steps - 1}: "
                    f"the solution has {n_steps} steps"
                )
        return cls(scored, outcomes, first_error=first_error, set_name=name).plot(ax=ax)

    def plot(self, ax: Any = None) -> FirstErrorDisplay:
        """Draw, into ``ax`` if given, and return the display."""
        solution, distribution = self.scored.solution, self.scored.first_error_distribution
        n_steps = solution.n_steps
        places = np.arange(n_steps + 1)
        if ax is None:
            size = (8.5, 1.5 + 0.28 * max(n_steps + 1, 3))
            _, ax = import_pyplot().subplots(figsize=size, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure

        inside = np.isin(np.where(places < n_steps, places, -1), list(self.outcomes))
        for chosen, color, label in (
            (inside, _INSIDE, self.set_name),
            (~inside, _OUTSIDE, "outside"),
        ):
            if chosen.any():
                ax.barh(places[chosen], distribution[chosen], 0.7, color=color, label=label)
        for place, value in zip(places, distribution, strict=True):
            ax.text(value + 0.012, place, f"{value:.2f}", va="center", fontsize=8, color="0.25", bbox=_BEHIND)
        right_so_far = survival(self.scored.risks).survival
        ax.plot(right_so_far, places[:-1], color="0.45", linewidth=0.9, label="P(no error so far)")
        if self.first_error is not None:
            place = n_steps if self.first_error < 0 else self.first_error
            ax.plot(1.06, place, linestyle="", label="labelled first error", clip_on=False, **_TRUTH)

        ax.axhline(n_steps - 0.5, color="0.8", linewidth=0.8)
        ax.set(xlim=(0, 1.1), ylim=(n_steps + 0.6, -0.6), xlabel="P(first error is here)")
        ax.set_xticks(np.linspace(0, 1, 6))
        texts = [shorten(text, LABEL_LENGTH) or "(empty step)" for text in solution.steps]
        ax.set_yticks(places, [*(f"{text}  {i}" for i, text in enumerate(texts)), "no error"], fontsize=8)
        ax.tick_params(axis="y", length=0)
        place = {
            "loc": "lower left",
            "bbox_to_anchor": (-0.01, 1.0),
            "borderpad": 0,
            "columnspacing": 1.2,
            "handlelength": 1.4,
        }
        ax.legend(frameon=False, fontsize=8, ncols=4, reverse=True, **place)
        problem = wrap(shorten(solution.problem or "(no problem)", 2 * _TITLE_WIDTH - 10), _TITLE_WIDTH)
        title = ax.set_title("\n".join(problem), loc="left", fontsize=9, pad=20)
        for text in (title, *ax.get_yticklabels()):
            plain_text(text)
        ax.spines[["top", "right"]].set_visible(False)
        return self
