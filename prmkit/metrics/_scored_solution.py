"""A solution with the probabilities of its steps: all that is known of a reasoning path after scoring it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.data._labels import resolve_label_order
from prmkit.data._solution import Solution
from prmkit.metrics._calibration import check_class_probabilities
from prmkit.metrics._paths import aggregate, entropy, first_error_distribution, margin, p_no_error

_SHOWN_AGGREGATES = ("min", "product", "mean", "last", "geometric_mean")


@dataclass(frozen=True, eq=False, repr=False)
class ScoredSolution:
    """A solution and the class probabilities of its steps; risk and uncertainty follow from them.

    It shows itself: as coloured steps in a terminal (``print``) and in a notebook.

    Parameters
    ----------
    solution : Solution
        With at least one step.
    proba : array-like of shape (n_steps, n_classes)
        Row t depends on the problem and on steps up to t alone, or risks are no hazards. Kept read-only,
        as float64.
    classes : sequence, length n_classes
        The labels of the columns.
    label_order : sequence, optional
        The labels from worst to best; not needed for -1/0/+1, "negative"/"neutral"/"positive" and the like.

    Raises
    ------
    ValueError
        For a solution without steps, another shape, rows that are no probabilities (named), or labels of
        which nothing tells the worst.

    Examples
    --------
    >>> solution = Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])
    >>> scored = ScoredSolution(solution, [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]], classes=[-1, 0, 1])
    >>> scored.risks
    array([0.1, 0.8])
    >>> scored.first_error_distribution.round(2)
    array([0.1 , 0.72, 0.18])
    >>> print(scored.to_text(color=False, width=70))
    Problem  What is 2 + 3 * 4?
    <BLANKLINE>
     step  risk            entropy  first error  text
        0  0.10  ▊            0.80         0.10  3 * 4 = 12.
        1  0.80  ██████▍      0.64         0.72  2 + 12 = 15.
    <BLANKLINE>
    P(no error) 0.18, most likely first error: step 1 (0.72)
    rewards: min 0.20, product 0.18, mean 0.55, last 0.20, geometric mean
    0.42
    """

    solution: Solution
    proba: np.ndarray
    classes: tuple[Any, ...]
    label_order: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        classes = tuple(c.item() if isinstance(c, np.generic) else c for c in self.classes)
        order = resolve_label_order(classes, self.label_order)
        if order is None:
            raise ValueError(
                f"nothing tells which of {list(classes)} is worst: pass label_order=[worst, …, best]"
            )
        if not self.solution.n_steps:
            raise ValueError(
                f"solution {self.solution.id or self.solution.problem!r:.60} has no steps to score"
            )
        proba = check_class_probabilities(self.proba, (self.solution.n_steps, len(classes)))
        proba.flags.writeable = False
        object.__setattr__(self, "proba", proba)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "label_order", order)

    @property
    def risks(self) -> np.ndarray:
        """P(worst class) of each step, shape (n_steps,); higher is worse."""
        assert self.label_order is not None  # resolved above
        return self.proba[:, self.classes.index(self.label_order[0])]

    @property
    def rewards(self) -> np.ndarray:
        """``1 - risk`` of each step, shape (n_steps,); higher is better."""
        return 1.0 - self.risks

    @property
    def entropy(self) -> np.ndarray:
        """Entropy of each step's class probabilities in nats, shape (n_steps,); higher is more uncertain."""
        return entropy(self.proba)

    @property
    def margin(self) -> np.ndarray:
        """``|risk - 1/2|`` of each step, shape (n_steps,); lower is more uncertain."""
        return margin(self.risks)

    @property
    def aggregates(self) -> dict[str, float]:
        """Path scores from the rewards: min, product, mean, last, geometric_mean; higher is better."""
        return {rule: float(aggregate([self.rewards], rule)[0]) for rule in _SHOWN_AGGREGATES}

    @property
    def p_no_error(self) -> float:
        """Probability that no step is wrong."""
        return p_no_error(self.risks)

    @property
    def first_error_distribution(self) -> np.ndarray:
        """P(step t is the first wrong one), then P(no error); shape (n_steps + 1,), sums to 1."""
        return first_error_distribution(self.risks)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON."""
        per_step = zip(self.proba, self.rewards, self.risks, self.entropy, self.margin, strict=True)
        return {
            "id": self.solution.id,
            "problem": self.solution.problem,
            "classes": list(self.classes),
            "label_order": list(self.label_order or ()),
            "steps": [
                {
                    "text": text,
                    "proba": proba.tolist(),
                    "reward": float(reward),
                    "risk": float(risk),
                    "entropy": float(step_entropy),
                    "margin": float(step_margin),
                }
                for text, (proba, reward, risk, step_entropy, step_margin) in zip(
                    self.solution.steps, per_step, strict=True
                )
            ],
            "aggregates": self.aggregates,
            "p_no_error": self.p_no_error,
            "first_error_distribution": self.first_error_distribution.tolist(),
        }

    def to_text(self, color: bool | None = None, width: int | None = None) -> str:
        """Return the solution as text: one line per step with risk, a bar, entropy and P(first error).

        Parameters
        ----------
        color : bool, optional
            None: colour if standard output is a terminal and the environment does not set ``NO_COLOR``.
        width : int, optional
            Columns; None: the terminal's, or 80.
        """
        from prmkit.metrics._solution_view import solution_text

        return solution_text(self, color=color, width=width)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<ScoredSolution: {self.solution.n_steps} steps, P(no error) {self.p_no_error:.2f}>"

    def _repr_html_(self) -> str:
        from prmkit.metrics._solution_view import solution_html

        return solution_html(self)
