"""Guarantees about solutions that grow: asked after each step, they decide as they do about the steps so far."""

import numpy as np
import pytest

from prmkit import PRMClassifier, Solution
from prmkit.features import StepStatistics
from prmkit.uncertainty import ErrorDetector, FirstErrorSet, PathTriage, PrefixCertifier

SETTINGS = (
    (PrefixCertifier, {"alpha": 0.2}),
    (ErrorDetector, {"recall": 0.7}),
    (FirstErrorSet, {"alpha": 0.2}),
    (PathTriage, {"accept_error": 0.2, "reject_error": 0.2}),
)


@pytest.fixture(scope="module")
def calibrated(fitted):
    classifier, calibration, test = fitted
    made = {
        cls: cls(classifier, **params).fit(calibration.solutions, calibration.first_errors) for cls, params in SETTINGS
    }
    return made, test.solutions[:10]


def grown(estimator, solution, n_steps):
    scorer = estimator.classifier.incremental(solution.problem)
    for step in solution.steps[:n_steps]:
        scorer.extend([step])
    return scorer


def test_a_growing_solution_is_decided_as_its_steps_so_far(calibrated):
    estimators, solutions = calibrated
    scorers = [estimators[PrefixCertifier].classifier.incremental(solution.problem) for solution in solutions]
    for n in range(1, max(solution.n_steps for solution in solutions) + 1):
        for scorer, solution in zip(scorers, solutions, strict=True):
            scorer.extend(solution.steps[n - 1 : n])
        so_far = [Solution(solution.problem, solution.steps[:n]) for solution in solutions]
        for estimator in estimators.values():
            np.testing.assert_equal(estimator.predict(scorers), estimator.predict(so_far))
    assert [scorer.steps for scorer in scorers] == [solution.steps for solution in solutions]


def test_a_certified_prefix_stays_and_a_flag_stays(calibrated):
    (certifier, detector), solutions = [calibrated[0][cls] for cls in (PrefixCertifier, ErrorDetector)], calibrated[1]
    lengths, flags = certifier.predict(solutions), detector.predict(solutions)
    assert len(set(lengths.tolist())) > 2
    assert set(flags.tolist()) == {True, False}
    for solution, length, flagged in zip(solutions, lengths, flags, strict=True):
        scorer, online = certifier.classifier.incremental(solution.problem), []
        for t, step in enumerate(solution.steps):
            scorer.extend([step])
            assert certifier.predict([scorer])[0] == min(length, t + 1)
            online.append(bool(detector.predict([scorer])[0]))
        assert online == sorted(online)
        assert online[-1] == flagged


def test_steps_of_a_growing_solution_are_not_scored_again(calibrated, monkeypatch):
    certifier, solution = calibrated[0][PrefixCertifier], calibrated[1][0]
    scorer = grown(certifier, solution, 2)
    expected = certifier.predict([Solution(solution.problem, solution.steps[:2])])
    monkeypatch.setattr(type(certifier.classifier), "predict_proba", lambda *_: pytest.fail("it was scored again"))
    np.testing.assert_array_equal(certifier.predict([scorer, scorer.fork()]), [*expected, *expected])


def test_what_cannot_be_decided_is_refused(calibrated, fitted):
    certifier, solutions, calibration = calibrated[0][PrefixCertifier], calibrated[1], fitted[1]
    scorer = grown(certifier, solutions[0], 1)
    with pytest.raises(ValueError, match="has no steps to score"):
        certifier.predict([grown(certifier, solutions[0], 0)])
    with pytest.raises(ValueError, match=r"X\[1\] is <Solution.*estimator.classifier.incremental"):
        certifier.predict([scorer, solutions[0]])
    other = PRMClassifier(StepStatistics()).fit(calibration.X, calibration.y)
    with pytest.raises(ValueError, match=r"X\[0\] is <IncrementalScorer.*estimator.classifier.incremental"):
        certifier.predict([other.incremental("What?")])
    with pytest.raises(ValueError, match="calibrated on"):
        certifier.predict([grown(certifier, calibration.solutions[0], 1)])
    with pytest.raises(TypeError, match="classifier is None"):
        PrefixCertifier(alpha=0.5).fit([[0.1], [0.9], [0.2]], [-1, 0, -1]).predict([scorer])
