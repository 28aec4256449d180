"""From what a token-level model puts out to probabilities of classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax


def as_rewards(outputs: np.ndarray) -> np.ndarray:
    """Return one number per step that grows with how right it is; of logits, best less worst."""
    return outputs if outputs.ndim == 1 else outputs[:, -1] - outputs[:, 0]


@dataclass(frozen=True)
class Link:
    """How outputs become probabilities.

    Parameters
    ----------
    kind : {"softmax", "sigmoid", "logistic"}
        ``"softmax"`` of a logit per class; ``"sigmoid"`` of a reward that is the log-odds of right;
        ``"logistic"``: a logistic regression on the reward, for rewards that are no log-odds; of two outputs the
        reward is the second less the first.
    slopes, intercepts : tuple of float
        One per class, worst first; only for ``"logistic"``.
    columns : tuple of int or None
        Which class, counted from the worst, each column holds. None: worst first.

    Examples
    --------
    >>> Link("sigmoid")(np.array([0.0, 2.0])).round(2)
    array([[0.5 , 0.5 ],
           [0.12, 0.88]])
    """

    kind: str
    slopes: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()
    columns: tuple[int, ...] | None = None

    def __call__(self, outputs: np.ndarray) -> np.ndarray:
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
        return proba if self.columns is None else proba[:, list(self.columns)]

    def reordered(self, columns: np.ndarray) -> Link:
        """Return a link whose columns hold the given classes."""
        return replace(self, columns=tuple(int(column) for column in columns))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Link:
        """Rebuild a link from its fields as JSON holds them."""
        columns = fields["columns"]
        return cls(
            fields["kind"],
            tuple(fields["slopes"]),
            tuple(fields["intercepts"]),
            None if columns is None else tuple(columns),
        )

    @classmethod
    def calibrated(cls, rewards: np.ndarray, codes: np.ndarray, n_classes: int) -> Link:
        """Fit a logistic regression of the classes on the reward, in which more reward is never worse.

        Parameters
        ----------
        rewards : ndarray of shape (n_steps,)
        codes : ndarray of int of shape (n_steps,)
            0 is the worst class. Each must occur.
        n_classes : int

        Raises
        ------
        ValueError
            If a class does not occur.

        Warns
        -----
        UserWarning
            If the reward does not rise with the classes: the probabilities are then their shares.
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


def _rising_logistic(rewards: np.ndarray, codes: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit slopes that never fall from the worst class to the best: more reward is never worse.

    A free fit on few problems can turn the order round.
    """
    n, wanted = len(rewards), np.eye(n_classes)[codes]

    def split(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rises, intercepts = np.split(parameters, 2)
        return np.append(0.0, np.cumsum(rises)), np.append(0.0, intercepts)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slopes, intercepts = split(parameters)
        logits = rewards[:, None] * slopes + intercepts
        wrong = (softmax(logits, axis=1) - wanted) / n
        of_slopes = rewards @ wrong + slopes / n  # the penalty of scikit-learn's default
        of_rises = np.cumsum(of_slopes[:0:-1])[::-1]
        value = -(log_softmax(logits, axis=1) * wanted).sum() / n + (slopes**2).sum() / (2 * n)
        return value, np.concatenate([of_rises, wrong.sum(axis=0)[1:]])

    bounds = [(0.0, None)] * (n_classes - 1) + [(None, None)] * (n_classes - 1)
    start = np.zeros(2 * (n_classes - 1))
    return split(minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x)
