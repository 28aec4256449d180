"""
Prediction sets with other scores: MAPIE over a classifier of steps
===================================================================

:class:`~prmkit.uncertainty.StepPredictionSets` uses the score ``1 - P(class)``, and its unit is the problem. Sets
with the scores APS and RAPS come from `MAPIE <https://mapie.readthedocs.io>`_, which takes a fitted
:class:`~prmkit.PRMClassifier` as it is. MAPIE counts rows, and its guarantee needs exchangeable rows. The steps of
one problem are not exchangeable, so we give it **one random step per problem**. The promise is then about one random
step of a new problem, and not about all its steps.

MAPIE is installed by ``pip install mapie``.
"""

import numpy as np
from mapie.classification import SplitConformalClassifier

from prmkit import PRMClassifier, problem_groups
from prmkit.data import make_arithmetic_solutions, split_by_problem
from prmkit.features import StepStatistics
from prmkit.uncertainty import StepPredictionSets

# %%
# Three parts with different problems: to train, to calibrate and to test.

data = make_arithmetic_solutions(400, 2, random_state=0)
train, calibration, test = split_by_problem(data, 0.3, 0.35, 0.35, random_state=0)
classifier = PRMClassifier(StepStatistics()).fit(train.X, train.y)


def one_step_per_problem(dataset, random_state):
    """Draw one random step of each problem."""
    order = np.random.default_rng(random_state).permutation(len(dataset.X))
    _, first_rows = np.unique(problem_groups(dataset.X)[order], return_index=True)
    rows = order[first_rows]
    return np.array([dataset.X[row] for row in rows], dtype=object), dataset.y[rows]


# %%
# MAPIE computes the sets. The same drawn steps calibrate prmkit's own sets, for comparison.

X_calibration, y_calibration = one_step_per_problem(calibration, 0)
X_test, y_test = one_step_per_problem(test, 1)
column = np.searchsorted(classifier.classes_, y_test)

print("score  coverage  mean size")
for score in ("lac", "aps", "raps"):
    mapie = SplitConformalClassifier(
        classifier, confidence_level=0.9, conformity_score=score, prefit=True, random_state=0
    )
    sets = mapie.conformalize(X_calibration, y_calibration).predict_set(X_test)[1][:, :, 0]
    covered = sets[np.arange(len(column)), column]
    print(f"{score:5}  {covered.mean():8.2f}  {sets.sum(axis=1).mean():9.2f}")

own_sets = StepPredictionSets(classifier, alpha=0.1).fit(X_calibration, y_calibration)
report = own_sets.evaluate(X_test, y_test)
print(f"prmkit {report['coverage']:8.2f}  {report['mean_size']:9.2f}")

# %%
# All steps of the calibration problems may be used where the unit is the problem. This is what prmkit's sets do.

report = StepPredictionSets(classifier, alpha=0.1).fit(calibration.X, calibration.y).evaluate(test.X, test.y)
print(f"prmkit, all steps: coverage {report['coverage']:.2f}, mean size {report['mean_size']:.2f}")
