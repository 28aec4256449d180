"""From what a token-level model puts out to probabilities of classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, softmax


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
        """Fit a logistic regression of the classes on the reward.

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
        """
        from sklearn.linear_model import LogisticRegression

        if missing := sorted(set(range(n_classes)) - set(codes.tolist())):
            raise ValueError(
                f"class number {missing[0]} (worst is 0) does not occur among the problems that the probabilities "
                "are calibrated on: use more problems, or a larger validation_fraction"
            )
        scale = float(rewards.std()) or 1.0
        fitted = LogisticRegression(max_iter=1000).fit(rewards[:, None] / scale, codes)
        slopes, intercepts = fitted.coef_[:, 0] / scale, fitted.intercept_
        if n_classes == 2:
            slopes, intercepts = np.array([0.0, slopes[0]]), np.array([0.0, intercepts[0]])
        return cls("logistic", tuple(slopes.tolist()), tuple(intercepts.tolist()))
