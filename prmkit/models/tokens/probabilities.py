"""From the outputs of a token-level model to probabilities of classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.model_selection import GroupShuffleSplit

from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Step

# With fewer problems, calibrating on the learnt ones is better than on next to nothing.
_FEWEST_PROBLEMS = 10

Floats = npt.NDArray[np.floating[Any]]


def as_rewards(outputs: Floats) -> Floats:
    """Return one number per step that grows with how right it is. For logits it is best minus worst."""
    return outputs if outputs.ndim == 1 else outputs[:, -1] - outputs[:, 0]


@dataclass(frozen=True)
class ProbabilityMap:
    """Turn the outputs of a model into probabilities of classes.

    The kind is ``"softmax"`` of a logit per class, ``"sigmoid"`` of a reward that is the log-odds of right, or
    ``"logistic"``: a logistic regression on a reward, with a slope and an intercept per class, worst first. If there
    are two outputs, their reward is the second minus the first. ``columns`` are the classes of the columns, counted
    from the worst (None: in this order).

    >>> ProbabilityMap("sigmoid")(np.array([0.0, 2.0])).round(2)
    array([[0.5 , 0.5 ],
           [0.12, 0.88]])
    """

    kind: str
    slopes: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()
    columns: tuple[int, ...] | None = None

    def __call__(self, outputs: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return probabilities of shape (n_steps, n_classes)."""
        outputs = np.asarray(outputs, dtype=np.float64)
        if self.kind == "softmax":
            proba = softmax(outputs, axis=1)
        elif self.kind == "sigmoid":
            proba = np.stack([expit(-outputs), expit(outputs)], axis=1)
        else:
            rewards = as_rewards(outputs)
            logits = rewards[:, None] * np.array(self.slopes) + np.array(self.intercepts)
            proba = softmax(logits, axis=1)
        return np.asarray(proba if self.columns is None else proba[:, list(self.columns)])

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ProbabilityMap:
        """Build a map from its fields, with lists for tuples as JSON holds them."""
        columns = fields["columns"]
        return cls(
            fields["kind"],
            tuple(fields["slopes"]),
            tuple(fields["intercepts"]),
            None if columns is None else tuple(columns),
        )

    @classmethod
    def uncalibrated(cls, reads: str) -> ProbabilityMap:
        """Return the map of a model whose outputs are log-odds or logits. ``reads`` is that of its readout."""
        return cls("sigmoid" if reads == "reward" else "softmax")

    @classmethod
    def calibrated(
        cls, rewards: npt.NDArray[np.floating[Any]], codes: npt.NDArray[np.integer[Any]], n_classes: int
    ) -> ProbabilityMap:
        """Fit a logistic regression of the classes on the reward, in which more reward is never worse.

        The codes count the classes from the worst, which is 0. Every class must occur. If the reward does not rise
        with the classes, a warning says so, and every step gets the shares of the classes.
        """
        if missing := sorted(set(range(n_classes)) - set(codes.tolist())):
            raise ValueError(
                f"class number {missing[0]} (worst is 0) does not occur among the problems that the probabilities "
                "are calibrated on: use more problems, or a larger validation_fraction"
            )
        scale = float(rewards.std()) or 1.0
        slopes, intercepts = _rising_logistic(rewards / scale, codes, n_classes)
        if not slopes.any():
            warnings.warn(
                "on the problems held out, a larger reward does not go with better steps: every step gets the "
                "shares of the classes. Train longer, on more problems, or choose loss='cross_entropy'",
                stacklevel=6,
            )
        return cls("logistic", tuple((slopes / scale).tolist()), tuple(intercepts.tolist()))


def calibration_split(
    steps: list[Step], codes: npt.NDArray[np.int64], fraction: float, rng: np.random.RandomState
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split the rows into those to learn from and those to calibrate on, by problem and with every class on both sides.

    If that is impossible, both parts are all rows, with a warning.
    """
    groups, n_classes = problem_groups(steps), len(np.unique(codes))
    n_problems = len(np.unique(groups))
    if n_problems >= _FEWEST_PROBLEMS:
        splitter = GroupShuffleSplit(20, test_size=fraction, random_state=rng)
        for first, second in splitter.split(codes, groups=groups):
            if len(np.unique(codes[first])) == len(np.unique(codes[second])) == n_classes:
                return first, second
    warnings.warn(
        f"{n_problems} problems are too few to hold some out with every class: the probabilities are calibrated on "
        "the learnt problems, and will be too sure. Give more problems, or choose loss='cross_entropy'",
        stacklevel=5,
    )
    return np.arange(len(steps)), np.arange(len(steps))


def _rising_logistic(rewards: Floats, codes: npt.NDArray[np.integer[Any]], n_classes: int) -> tuple[Floats, Floats]:
    """Fit slopes that never fall from the worst class to the best.

    A free fit on few problems can reverse the order.
    """
    n, targets = len(rewards), np.eye(n_classes)[codes]

    def split(parameters: Floats) -> tuple[Floats, Floats]:
        rises, intercepts = np.split(parameters, 2)
        return np.append(0.0, np.cumsum(rises)), np.append(0.0, intercepts)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slopes, intercepts = split(parameters)
        logits = rewards[:, None] * slopes + intercepts
        errors = (softmax(logits, axis=1) - targets) / n
        # The penalty is the default one of scikit-learn's logistic regression.
        slope_gradient = rewards @ errors + slopes / n
        rise_gradient = np.cumsum(slope_gradient[:0:-1])[::-1]
        value = -(log_softmax(logits, axis=1) * targets).sum() / n + (slopes**2).sum() / (2 * n)
        return float(value), np.concatenate([rise_gradient, errors.sum(axis=0)[1:]])

    bounds = [(0.0, None)] * (n_classes - 1) + [(None, None)] * (n_classes - 1)
    start = np.zeros(2 * (n_classes - 1))
    return split(minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x)
