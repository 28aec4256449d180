"""APS and RAPS sets, which MAPIE computes: one random step per problem, and given probabilities in place of a model."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from prmkit.uncertainty.guarantees._cut import warn_unattainable
from prmkit.utils.sklearn import random_generator


class MapieSets:
    """Sets of classes by MAPIE's ``SplitConformalClassifier``.

    Parameters
    ----------
    proba : ndarray of shape (n_units, n_classes)
        One step of each calibration unit.
    columns : ndarray of int of shape (n_units,)
        The column of its class.
    score : {"aps", "raps"}
    alpha : float
    seed : int
        RAPS sets a random tenth of the steps aside to choose its penalty.

    Attributes
    ----------
    threshold : float
        MAPIE's quantile of the scores; inf where there are too few units for it.

    Raises
    ------
    ImportError
        If MAPIE is not installed.
    """

    def __init__(self, proba: np.ndarray, columns: np.ndarray, score: str, alpha: float, seed: int) -> None:
        self.proba, self.columns, self.seed = proba, columns, seed
        self.threshold = np.inf
        if len(proba) < mapie_units_needed(score, alpha, proba.shape[1]):
            return
        classifier, scores = _import_mapie()
        conformity = scores[score]()
        self._sets = classifier(
            _Given(proba.shape[1]),
            confidence_level=1 - alpha,
            conformity_score=conformity,
            prefit=True,
            random_state=seed,
        ).conformalize(proba, columns)
        self._sets.predict_set(proba[:1])  # MAPIE takes the quantile when it predicts
        self.threshold = float(np.ravel(conformity.quantiles_)[0])

    @classmethod
    def calibrate(
        cls,
        proba: np.ndarray,
        columns: np.ndarray,
        units: np.ndarray,
        classes: np.ndarray,
        score: str,
        alpha: float,
        random_state: Any,
    ) -> MapieSets:
        """Draw one step of each unit and calibrate on them; warn where they are too few.

        Raises
        ------
        ValueError
            If there are enough, and MAPIE cannot do with the classes among them.
        """
        _import_mapie()  # without MAPIE the error comes first
        rng = random_generator(random_state)
        order = rng.permutation(len(units))
        rows = order[np.unique(units[order], return_index=True)[1]]
        needed = mapie_units_needed(score, alpha, len(classes))
        if len(rows) >= needed:
            _check_drawn_classes(np.bincount(columns[rows], minlength=len(classes)), classes, score)
        sets = cls(proba[rows], columns[rows], score, alpha, int(rng.randint(2**31 - 1)))
        if np.isinf(sets.threshold):
            warn_unattainable(len(rows), "units", alpha, None, "every set will be full", needed)
        return sets

    def predict(self, proba: np.ndarray) -> np.ndarray:
        """Return which classes are in each set, bool of shape (n_steps, n_classes)."""
        if not len(proba):
            return np.empty(proba.shape, dtype=bool)
        return np.array(self._sets.predict_set(proba)[1][:, :, 0], dtype=bool)

    def state(self) -> dict[str, np.ndarray]:
        """Return what it takes to calibrate again: MAPIE's objects themselves need pickle."""
        return {
            "mapie_proba": self.proba,
            "mapie_columns": self.columns,
            "mapie_seed": np.array([self.seed]),
        }

    @classmethod
    def restore(cls, arrays: dict[str, np.ndarray], score: str, alpha: float) -> MapieSets:
        """Undo ``state``."""
        return cls(arrays["mapie_proba"], arrays["mapie_columns"], score, alpha, int(arrays["mapie_seed"][0]))


def mapie_units_needed(score: str, alpha: float, n_classes: int) -> int:
    """Return the number of units below which MAPIE refuses to take a quantile."""
    alpha = float(1 - Decimal(str(1 - alpha)))  # MAPIE gets 1 - alpha and turns it back in this way
    smallest_part = math.ceil(max(1 / alpha, 1 / (1 - alpha)))
    if score == "aps":
        return smallest_part
    # A tenth, rounded up, chooses the penalty: it is enough by itself, and holds every class.
    return 10 * (max(smallest_part, n_classes) - 1) + 1


def _check_drawn_classes(counts: np.ndarray, classes: np.ndarray, score: str) -> None:
    """Refuse what MAPIE takes for a binary target, or cannot part into a tenth and the rest."""
    missing = counts == 0 if (counts > 0).sum() < 3 else np.zeros(len(counts), dtype=bool)
    if score == "raps":
        missing |= counts == 1
    if missing.any():
        c = int(missing.argmax())
        raise ValueError(
            f"score is {score!r}, and of the {counts.sum()} steps drawn, one per unit, {counts[c]} have class "
            f"{classes.tolist()[c]!r}, which is too few for MAPIE: calibrate on more problems that have steps of it, "
            'or use score="lac"'
        )


def _import_mapie() -> tuple[Any, dict[str, Any]]:
    try:
        from mapie.classification import SplitConformalClassifier
        from mapie.conformity_scores import APSConformityScore, RAPSConformityScore
    except ImportError as error:
        raise ImportError(
            'score="aps" and score="raps" are computed by MAPIE: pip install "prmkit[mapie]", or use score="lac"'
        ) from error
    return SplitConformalClassifier, {"aps": APSConformityScore, "raps": RAPSConformityScore}


class _Given(ClassifierMixin, BaseEstimator):
    """A "classifier" whose features are its probabilities."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def fit(self, X: Any, y: Any) -> _Given:
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        return np.asarray(X)

    def predict(self, X: Any) -> np.ndarray:
        return np.asarray(X).argmax(axis=1)
