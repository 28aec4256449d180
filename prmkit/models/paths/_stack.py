"""A logistic regression on states whose predictions, made out of fold, stand beside the other columns of a sample."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
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
_STRENGTHS_OF_STATES = 10.0 ** np.arange(-5, 0)
_FEW_COLUMNS = 100
_N_FOLDS = 5


def folds_by_problem(right: npt.NDArray[np.bool_], problems: npt.NDArray[np.int64], n_folds: int = _N_FOLDS) -> Folds:
    """Return folds that share no problem. Fewer problems with a right or a wrong sample make fewer folds."""
    n_right, n_wrong = (len(np.unique(problems[kind])) for kind in (right, ~right))
    if min(n_right, n_wrong) < 2:
        raise ValueError(
            f"{n_right} of the problems have a right sample and {n_wrong} a wrong one, expected at least 2 of each, so "
            "that the strength of the classifier can be chosen on other problems. Pass samples of more problems"
        )
    splitter = StratifiedGroupKFold(min(n_folds, n_right, n_wrong))
    return list(splitter.split(np.zeros(len(right)), right, problems))


def fit_logistic(
    rows: npt.NDArray[Any], right: npt.NDArray[np.bool_], folds: Folds
) -> tuple[Pipeline, npt.NDArray[np.float64]]:
    """Return a logistic regression on standardised columns, and its log-odds for the rows by folds that lack them.

    The strength with the best log loss out of fold is taken.
    """
    are_few = rows.shape[1] < _FEW_COLUMNS
    solver = "newton-cholesky" if are_few else "lbfgs"
    strengths = (_STRENGTHS if are_few else _STRENGTHS_OF_STATES).tolist()
    log_odds = np.zeros((len(strengths), len(rows)))
    with config_context(skip_parameter_validation=True), warnings.catch_warnings():
        # A weak penalty may need more rounds. It is not the best one then.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for learn, check in folds:
            scaler = StandardScaler().fit(rows[learn])
            learnt, checked = scaler.transform(rows[learn]), scaler.transform(rows[check])
            # Each strength goes on from the solution of the stronger one.
            model = LogisticRegression(solver=solver, warm_start=True)
            for strength, out in zip(strengths, log_odds, strict=True):
                model.set_params(C=strength)
                out[check] = model.fit(learnt, right[learn]).decision_function(checked)
    losses = np.logaddexp(0, np.where(right, -log_odds, log_odds)).mean(axis=1)
    best = int(losses.argmin())
    final = make_pipeline(StandardScaler(), LogisticRegression(C=strengths[best], max_iter=1000, solver=solver))
    return final.fit(rows, right), log_odds[best]


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
        states: tuple[Pipeline, Floats] | None = None,
    ) -> Stack:
        """Learn from columns without NaN. ``states`` is what ``fit_logistic`` gave for their states, if it is known."""
        if _STATES in columns:
            states = states or fit_logistic(columns[_STATES][1], right, folds)
            columns = {**columns, _STATES: ([_STATES_COLUMN], states[1][:, None])}
        of_states = states[0] if states and _STATES in columns else None
        names, rows = _joined(columns)
        if classifier is None and calibration is None:
            return cls(names, fit_logistic(rows, right, folds)[0], of_states)
        final: Any = fit_logistic(rows, right, folds)[0] if classifier is None else clone(classifier)
        if calibration is not None:
            final = CalibratedClassifierCV(clone(final), method=calibration, cv=folds, ensemble=False)
        return cls(names, final.fit(rows, right), of_states)

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
