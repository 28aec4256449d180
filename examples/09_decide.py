"""
Accept, escalate or reject
==========================

Solutions with a low risk are accepted, those with a high risk are rejected, and the rest goes to a bigger judge
or to a person.
"""

import matplotlib.pyplot as plt
import numpy as np

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions, split_by_problem
from prmkit.features import StepStatistics
from prmkit.metrics import RiskCoverageDisplay, selective_report
from prmkit.uncertainty import PathTriage, StepEnsemble, path_uncertainty

data = make_arithmetic_solutions(240, 2, random_state=0)
train, calibration, test = split_by_problem(data, 0.5, 0.3, 0.2, random_state=0)
ensemble = StepEnsemble(PRMClassifier(StepStatistics()), n_members=3, random_state=0).fit(train.X, train.y)

# %%
# The risk says how likely a solution has an error. The uncertainty says how unsure the models are.

judged = path_uncertainty(ensemble, test.solutions)
print(judged[0])

# %%
# The triage keeps two error rates at 5 % of all solutions: those accepted in spite of an error, and those rejected
# without one.

triage = PathTriage(ensemble, accept_error=0.05, reject_error=0.05)
triage.fit(calibration.solutions, calibration.first_errors)
decisions, counts = np.unique(triage.predict(test.solutions), return_counts=True)
print(dict(zip(decisions.tolist(), counts.tolist(), strict=True)))

# %%
# Is this risk a good guide? The number of steps stands beside it, because it needs no model.

has_error = np.array(test.first_errors) >= 0
by = {
    "path risk": np.array([one.risk for one in judged]),
    "disagreement": np.array([one.epistemic for one in judged]),
    "number of steps": np.array([solution.n_steps for solution in test.solutions], dtype=float),
}
problems = np.unique([solution.problem for solution in test.solutions], return_inverse=True)[1]
target = "an accepted solution has an error"
print(selective_report(has_error.astype(float), by, groups=problems, n_resamples=200, target=target))

# %%
# The curve shows the share of accepted solutions with an error, for every share of accepted solutions.

RiskCoverageDisplay.from_predictions(has_error.astype(float), by, loss_name="solutions with an error")
plt.show()
