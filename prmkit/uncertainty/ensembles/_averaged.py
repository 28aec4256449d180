"""What an ensemble does with its members' probabilities, wherever its members come from."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np

from prmkit.metrics._members import MemberUncertainty, decompose_uncertainty
from prmkit.models._decision import most_probable
from prmkit.uncertainty._wrapping import WrapsClassifier


class AveragesMembers(WrapsClassifier):
    """Mixin of classifiers of steps that answer the mean of what their members say."""

    @abstractmethod
    def member_proba(self, X: Any, groups: Any = None) -> np.ndarray:
        """Probability of each class, by each member."""

    def predict_proba(self, X: Any, groups: Any = None) -> np.ndarray:
        """Probability of each class: the members' mean.

        Parameters
        ----------
        X : as in ``fit``
        groups : array-like of shape (n_steps,), optional
            Only with numbers and a head over sequences: the solution of each row.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
        """
        return self.member_proba(X, groups).mean(axis=0)

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Class of each step, of shape (n_steps,): the likeliest, after weighing where the members weigh."""
        proba = self.predict_proba(X, groups)
        return most_probable(self.classes_, proba * getattr(self, "decision_weights_", 1.0))

    def uncertainty(self, X: Any, groups: Any = None) -> MemberUncertainty:
        """Total, aleatoric and epistemic uncertainty of each step.

        Parameters
        ----------
        X, groups : as in ``predict_proba``

        Returns
        -------
        MemberUncertainty
            With ``risk_variance`` where it is known which class is the worst.

        Raises
        ------
        ValueError
            If a step has no probabilities (NaN), as one that did not fit into a token model.
        """
        proba = self.member_proba(X, groups)  # first: it raises NotFittedError
        order = self.label_order_
        found = decompose_uncertainty(proba, self.classes_.tolist().index(order[0]) if order else None)
        if len(proba) > 1 and found.epistemic.max(initial=0.0) < 1e-12:
            warnings.warn(
                f"all {len(proba)} members say the same, so nothing can be read from their disagreement: use "
                "bootstrap=True, a head that learns by chance, or a smaller rate",
                UserWarning,
                stacklevel=2,
            )
        return found
