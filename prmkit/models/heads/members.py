"""The members of the default model: the classifier that suits each view of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from prmkit.features.states.solution_states import column_names

VIEW_OF = {
    "trees": "statistics",
    "statistics": "statistics",
    "words": "words",
    "embeddings": "embeddings",
    "states": "states",
    "log_probs": "states",
}
"""The view that each member reads, the cheapest first."""
MODEL_VIEWS = ("embeddings", "states")
"""What a model makes of steps."""


def view_of(featurizer: object) -> str:
    """Return the name of the view that a featurizer gives: ``"embeddings"`` or ``"states"``."""
    kind = getattr(featurizer, "kind", None)
    return kind if isinstance(kind, str) and kind in MODEL_VIEWS else MODEL_VIEWS[0]


def members_for(featurizer: object) -> list[str]:
    """Return the members that can be joined with a featurizer, the cheapest first."""
    views = ("statistics", "words", view_of(featurizer))
    has_log_probs = getattr(featurizer, "log_probs", False)
    return [name for name, view in VIEW_OF.items() if view in views and (name != "log_probs" or has_log_probs)]


def make_members(random_state: int | None = None, C: float = 1.0, n_trees: int = 150) -> dict[str, Any]:
    """Return the members of the blend, not fitted, by name."""
    logistic = {"max_iter": 150, "tol": 1e-3}
    return {
        "trees": HistGradientBoostingClassifier(
            learning_rate=0.08,
            max_iter=n_trees,
            max_leaf_nodes=15,
            max_bins=63,  # as good as 255 on counts and shares, and faster
            l2_regularization=1.0,
            early_stopping=False,
            random_state=random_state,
        ),
        "statistics": make_pipeline(
            FunctionTransformer(signed_log),
            StandardScaler(),
            FunctionTransformer(bounded),
            LogisticRegression(C=0.03 * C, **logistic),
        ),
        "words": LogisticRegression(C=C, **logistic),
        "embeddings": make_pipeline(StandardScaler(), LogisticRegression(C=1e-3 * C, **logistic)),
        "states": make_pipeline(StandardScaler(), LogisticRegression(C=1e-3 * C, **logistic)),
        # A penalty for a thousand columns of states would leave nothing of these few.
        "log_probs": make_pipeline(
            FunctionTransformer(log_prob_columns),
            StandardScaler(),
            FunctionTransformer(bounded),
            LogisticRegression(C=C, **logistic),
        ),
    }


def signed_log(X: np.ndarray) -> np.ndarray:
    """Shrink large counts, keeping their sign."""
    shrunk: np.ndarray = np.sign(X) * np.log1p(np.abs(X))
    return shrunk


def bounded(X: np.ndarray) -> np.ndarray:
    """Cut standardised values at four deviations, so that no rare count decides alone."""
    cut: np.ndarray = np.clip(X, -4.0, 4.0)
    return cut


def log_prob_columns(X: np.ndarray) -> np.ndarray:
    """Return the last columns of states with ``log_probs=True``: position, length and log-probabilities."""
    return X[:, -len(column_names(log_probs=True)) :]
