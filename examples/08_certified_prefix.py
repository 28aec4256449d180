"""
Certify a prefix
================

A certifier says how many steps of a solution can be kept at a stated risk. The guarantee needs four parts of data
that share no problem: for training, for calibration of the probabilities, for the guarantee, and for the test.
"""

import matplotlib.pyplot as plt

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions, split_by_problem
from prmkit.features import StepStatistics
from prmkit.uncertainty import (
    CalibratedStepClassifier,
    CertifiedPrefixDisplay,
    ErrorDetector,
    FirstErrorSet,
    PrefixCertifier,
)

data = make_arithmetic_solutions(300, 2, random_state=0)
train, calibration, held_out, test = split_by_problem(data, 0.4, 0.2, 0.3, 0.1, random_state=0)

classifier = PRMClassifier(StepStatistics(), random_state=0).fit(train.X, train.y)
calibrated = CalibratedStepClassifier(classifier, "temperature").fit(calibration.X, calibration.y)
print(f"temperature {calibrated.temperature_:.2f}")

# %%
# Three promises about new problems. They hold for any classifier.
#
# - At most a tenth of the solutions get their first error certified.
# - At least nine in ten solutions with an error are flagged.
# - With probability 0.9 the set holds the index of the first error, or -1 if there is none.

certifier = PrefixCertifier(calibrated, alpha=0.1).fit(held_out.solutions, held_out.first_errors)
print(f"risk up to {certifier.threshold_:.3f} passes, from {certifier.n_calibration_} problems")

detector = ErrorDetector(calibrated, recall=0.9).fit(held_out.solutions, held_out.first_errors)
first_error = FirstErrorSet(calibrated, alpha=0.1).fit(held_out.solutions, held_out.first_errors)

# %%
# The first solutions of the test part.

shown = test.solutions[:4]
for solution, error, length, flagged, places in zip(
    shown,
    test.first_errors,
    certifier.predict(shown),
    detector.predict(shown),
    first_error.predict(shown),
    strict=False,
):
    print(f"\n{solution.problem}")
    for t, text in enumerate(solution.steps):
        kept = "certified" if t < length else ""
        print(f"  {kept:9} {'<- wrong' if t == error else '':8} {' '.join(text.split())}")
    names = ["no error" if place < 0 else f"step {place}" for place in sorted(places, key=lambda p: (p < 0, p))]
    print(f"  {'flagged' if flagged else 'not flagged'}; first error: {' or '.join(names)}")

# %%
# There are few test problems, so their rates scatter around the guaranteed mean.

print("prefixes of the test problems:", certifier.evaluate(test.solutions, test.first_errors))
print("flags on the test problems:", detector.evaluate(test.solutions, test.first_errors))

# %%
# A solution that is written step by step is asked about after each step, through its scorer. No step is scored twice.
# The answers are those for the same steps as a whole: a step that is certified stays so, and a flag stays. So a search
# can stop at the first step that is not certified, and go on from the certified prefix.

lengths = certifier.predict(test.solutions).tolist()
solution = next(one for one, n in zip(test.solutions, lengths, strict=True) if 0 < n < one.n_steps)
scorer = calibrated.incremental(solution.problem)
for t, text in enumerate(solution.steps, start=1):
    scorer.extend([text])
    certified, flagged = certifier.predict([scorer])[0], detector.predict([scorer])[0]
    print(f"after {t} steps: {certified} certified, {'flagged' if flagged else 'not flagged'}")
print(f"as a whole: {certifier.predict([solution])[0]} certified, flagged: {detector.predict([solution])[0]}")

# %%
# The picture shows, for every fraction of a solution, the share of solutions of which at least that much is
# certified.

CertifiedPrefixDisplay.from_certifier(certifier, test.solutions, test.first_errors)
plt.show()
