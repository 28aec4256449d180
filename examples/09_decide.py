"""Accept, escalate or reject solutions by their risk, and see what doubt is worth. Offline; saves plots."""

import numpy as np

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions, split_by_problem
from prmkit.metrics import RiskCoverageDisplay, selective_report
from prmkit.uncertainty import PathTriage, StepEnsemble, path_uncertainty

data = make_arithmetic_solutions(240, 2, random_state=0)
train, calibration, test = split_by_problem(data, 0.5, 0.3, 0.2, random_state=0)
ensemble = StepEnsemble(PRMClassifier(), n_members=3, random_state=0).fit(train.X, train.y)

# Each solution: how likely is it wrong (risk), and how unsure are the models of that (uncertainty)?
judged = path_uncertainty(ensemble, test.solutions)
print(judged[0])

# Solutions whose risk is low are accepted, high ones rejected, the rest goes to a bigger judge or a person.
triage = PathTriage(ensemble, accept_error=0.05, reject_error=0.05)
triage.fit(calibration.solutions, calibration.first_errors)
decisions, counts = np.unique(triage.predict(test.solutions), return_counts=True)
print(dict(zip(decisions.tolist(), counts.tolist(), strict=True)))

# Would it have been wise to go by this risk? Beside it: the length, which needs no model.
has_error = np.array(test.first_errors) >= 0
by = {
    "path risk": np.array([one.risk for one in judged]),
    "disagreement": np.array([one.epistemic for one in judged]),  # uncertainty, no risk: another question
    "number of steps": np.array([solution.n_steps for solution in test.solutions], dtype=float),
}
problems = np.unique([solution.problem for solution in test.solutions], return_inverse=True)[1]
target = "an accepted solution has an error"
print(selective_report(has_error.astype(float), by, groups=problems, n_resamples=200, target=target))
display = RiskCoverageDisplay.from_predictions(
    has_error.astype(float), by, loss_name="solutions with an error"
)
display.figure_.savefig("risk_coverage.png")
