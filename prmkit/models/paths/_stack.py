"""A logistic regression on states whose predictions, made out of fold, stand beside the other columns of a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from prmkit.models.heads.head import Classifier

Floats = npt.NDArray[np.float64]
Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
Columns = Mapping[str, tuple[list[str], Floats]]
"""Names and values of the columns of each group of features."""

_STATES = "states"
_STATES_COLUMN = "states_log_odds"
# From the strongest penalty on: of a few plain columns, and of the thousands of columns of states.
_STRENGTHS = 10.0 ** np.arange(-2, 3)
_STRENGTHS_OF_STATES = 10.0 ** np.arange(-5, 2)
_FEW_COLUMNS = 100
_N_FOLDS = 5


def folds_by_problem(right: npt.NDArray[np.bool_], problems: npt.NDArray[np.int64], n_folds: int = _N_FOLDS) -> Folds:
    """Return folds that share no problem. Fewer problems with a right or a wrong sample make fewer folds."""
    n_right, n_wrong = (len(np.unique(problems[kind])) for kind in (right, ~right))
    if min(n_right, n_wrong) < 2:
        raise ValueError(
            f"{n_right} problem(s) have a right sample and {n_wrong} a wrong one, expected at least 2 of each, so that "
            "the strength of the classifier can be chosen on other problems. Pass samples of more problems"
        )
    splitter = StratifiedGroupKFold(min(n_folds, n_right, n_wrong))
    return list(splitter.split(np.zeros(len(right)), right, problems))


def fit_logistic(rows: Floats, right: npt.NDArray[np.bool_], folds: Folds) -> tuple[Pipeline, Floats]:
    """Return a logistic regression on standardised columns, and its log-odds for the rows by folds that lack them.

    Of the strengths the one with the best log loss out of fold is taken: they are tried from the strongest on, as long
    as the loss falls.
    """
    are_few = rows.shape[1] < _FEW_COLUMNS
    solver = "newton-cholesky" if are_few else "lbfgs"
    best = np.inf, make_pipeline(), np.zeros(len(rows))
    for strength in (_STRENGTHS if are_few else _STRENGTHS_OF_STATES).tolist():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000, solver=solver))
        log_odds = np.zeros(len(rows))
        with config_context(skip_parameter_validation=True):
            for learn, check in folds:
                log_odds[check] = model.fit(rows[learn], right[learn]).decision_function(rows[check])
        loss = float(np.logaddexp(0, np.where(right, -log_odds, log_odds)).mean())
        if loss >= best[0]:
            break
        best = loss, model, log_odds
    return best[1].fit(rows, right), best[2]


@dataclass(frozen=True, eq=False)
class Stack:
    """A fitted classifier of columns, and the logistic regression that turns the states into one of them.

    ``names`` are the columns that the classifier reads.
    """

    names: list[str]
    classifier: Classifier
    states: Pipeline | None

    @classmethod
    def fit(
        cls,
        columns: Columns,
        right: npt.NDArray[np.bool_],
        folds: Folds,
        classifier: Classifier | None,
        calibration: str | None,
    ) -> Stack:
        """Learn from columns without NaN."""
        states = None
        if _STATES in columns:
            states, log_odds = fit_logistic(columns[_STATES][1], right, folds)
            columns = {**columns, _STATES: ([_STATES_COLUMN], log_odds[:, None])}
        names, rows = _joined(columns)
        if classifier is None and calibration is None:
            return cls(names, fit_logistic(rows, right, folds)[0], states)
        final: Any = fit_logistic(rows, right, folds)[0] if classifier is None else clone(classifier)
        if calibration is not None:
            final = CalibratedClassifierCV(clone(final), method=calibration, cv=folds, ensemble=False)
        return cls(names, final.fit(rows, right), states)

    def p_right(self, columns: Columns) -> Floats:
        """Return the probability that each sample is right, NaN where a column is NaN."""
        known = complete(columns)
        out = np.full(len(known), np.nan)
        if known.any():
            columns = {name: (of_name, values[known]) for name, (of_name, values) in columns.items()}
            if self.states is not None:
                log_odds = self.states.decision_function(columns[_STATES][1])
                columns = {**columns, _STATES: ([_STATES_COLUMN], log_odds[:, None])}
            proba = self.classifier.predict_proba(_joined(columns)[1])
            out[known] = proba[:, np.asarray(self.classifier.classes_).tolist().index(True)]
        return out


def complete(columns: Columns) -> npt.NDArray[np.bool_]:
    """Return which samples have all columns."""
    known: npt.NDArray[np.bool_] = np.logical_and.reduce(
        [np.isfinite(values).all(axis=1) for _, values in columns.values()]
    )
    return known


def take(columns: Columns, rows: npt.NDArray[Any], names: Sequence[str] | None = None) -> Columns:
    """Return some rows of some groups of columns."""
    return {name: (columns[name][0], columns[name][1][rows]) for name in names or columns}


def _joined(columns: Columns) -> tuple[list[str], Floats]:
    names = [column for of_group, _ in columns.values() for column in of_group]
    return names, np.hstack([values for _, values in columns.values()])
