"""Everything about a path at once: the numbers are those of their sources, from one pass, and None where unknown."""

import json
import math

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from prmkit import PRMClassifier
from prmkit.data import Solution, flatten, make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.metrics import credible_set, decompose_uncertainty, first_error_distribution
from prmkit.uncertainty import PathCalibrator, StepEnsemble, path_uncertainty
from prmkit.uncertainty._path_uncertainty import _scaled
from prmkit.utils.ragged import Ragged


@pytest.fixture(scope="module")
def classifier():
    data = make_arithmetic_solutions(40, 2, random_state=0)
    return PRMClassifier(StepStatistics()).fit(data.X, data.y)


@pytest.fixture(scope="module")
def new():
    return make_arithmetic_solutions(30, 2, random_state=1)


class Members(ClassifierMixin, BaseEstimator):
    """A classifier with members that counts its passes: one of three members disagrees on every second step."""

    def __init__(self):
        self.classes_, self.label_order_ = np.array([-1, 1]), (-1, 1)
        self.n_passes = 0

    def fit(self, X, y):
        return self

    def member_proba(self, X):
        self.n_passes += 1
        risk = np.array([[0.1 + 0.05 * step.index for step in X]] * 3)
        risk[2, ::2] = 0.9
        return np.stack([risk, 1 - risk], axis=2)

    def predict_proba(self, X):
        raise AssertionError("a second pass")


def test_numbers_are_those_of_the_scored_solution(classifier, new):
    found = path_uncertainty(classifier, new.solutions, level=0.8)
    for one, scored in zip(found, classifier.score_solutions(new.solutions), strict=True):
        np.testing.assert_allclose(one.scored.proba, scored.proba)
        assert one.p_no_error == pytest.approx(np.prod(1 - scored.risks))
        assert one.risk == pytest.approx(1 - one.p_no_error)
        np.testing.assert_allclose(one.first_error_distribution, first_error_distribution(scored.risks))
        assert one.credible_set == credible_set(first_error_distribution(scored.risks), 0.8)
        p = one.p_no_error
        assert one.verdict_entropy == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
        assert (one.members, one.total, one.aleatoric, one.epistemic, one.p_value) == (None,) * 5
        assert not one.calibrated


def test_members_are_parted_per_path_in_one_pass(new):
    classifier, solutions = Members(), new.solutions[:5]
    found = path_uncertainty(classifier, solutions)
    assert classifier.n_passes == 1
    proba = Members().member_proba(flatten(solutions))
    expected = decompose_uncertainty(proba, worst_column=0)
    start = 0
    for one, solution in zip(found, solutions, strict=True):
        steps = slice(start, start + solution.n_steps)
        start += solution.n_steps
        np.testing.assert_allclose(one.scored.proba, proba[:, steps].mean(axis=0))
        for name in ("total", "aleatoric", "epistemic", "risk_variance", "variation_ratio"):
            np.testing.assert_array_equal(getattr(one.members, name), getattr(expected, name)[steps])
        assert one.total == pytest.approx(expected.total[steps].mean())
        assert one.total == pytest.approx(one.aleatoric + one.epistemic)
        assert one.epistemic > 0


def test_a_real_ensemble(new):
    data = make_arithmetic_solutions(30, 2, random_state=0)
    ensemble = StepEnsemble(PRMClassifier(StepStatistics()), n_members=3, random_state=0).fit(data.X, data.y)
    one = path_uncertainty(ensemble, new.solutions[:2])[1]
    steps = flatten(new.solutions[:2])[new.solutions[0].n_steps :]
    np.testing.assert_allclose(one.scored.proba, ensemble.predict_proba(steps))
    np.testing.assert_allclose(one.members.epistemic, ensemble.uncertainty(steps).epistemic, atol=1e-12)


def calibration_paths():
    data = make_arithmetic_solutions(60, 2, random_state=2)
    return data.solutions, data.first_errors


def test_a_calibrator_scales_the_distribution_and_needs_no_second_pass(classifier, new, monkeypatch):
    calibrator = PathCalibrator(classifier).fit(*calibration_paths())
    expected = calibrator.p_no_error(new.solutions)
    plain = path_uncertainty(classifier, new.solutions)
    passes = []
    predict_proba = type(classifier).predict_proba
    monkeypatch.setattr(
        type(classifier), "predict_proba", lambda self, X: passes.append(len(X)) or predict_proba(self, X)
    )
    found = path_uncertainty(classifier, new.solutions, path_calibrator=calibrator)
    assert len(passes) == 1
    for one, raw, p in zip(found, plain, expected, strict=True):
        assert one.calibrated
        assert one.p_no_error == pytest.approx(p)
        assert one.first_error_distribution.sum() == pytest.approx(1)
        assert one.first_error_distribution[-1] == one.p_no_error
        shares = raw.first_error_distribution[:-1] / raw.risk  # where the error is, if there is one
        np.testing.assert_allclose(one.first_error_distribution[:-1] / one.risk, shares, rtol=1e-6)
        assert one.credible_set == credible_set(one.first_error_distribution)
        assert ", calibrated" in str(one)


def test_a_calibrator_of_risks_and_one_that_saw_the_problems(classifier, new):
    solutions, first_errors = calibration_paths()
    risks = [one.risks for one in classifier.score_solutions(solutions)]
    of_risks = PathCalibrator().fit(risks, first_errors)
    found = path_uncertainty(classifier, new.solutions, path_calibrator=of_risks)
    expected = of_risks.p_no_error([one.risks for one in classifier.score_solutions(new.solutions)])
    np.testing.assert_allclose([one.p_no_error for one in found], expected)
    with pytest.raises(ValueError, match="problems are also among"):
        path_uncertainty(classifier, solutions, path_calibrator=PathCalibrator(classifier).fit(solutions, first_errors))


def test_scaling_where_no_step_has_a_risk():
    first_error = Ragged.from_arrays([[0.0, 0.0, 1.0], [0.5, 0.5]])
    scaled = _scaled(first_error, np.array([0.8, 0.1])).values
    np.testing.assert_allclose(scaled, [0.1, 0.1, 0.8, 0.9, 0.1])


def test_a_shift_detector_gives_p_values(classifier, new):
    class Shift:
        def p_value(self, solutions):
            return np.array([1 / solution.n_steps for solution in solutions])

    found = path_uncertainty(classifier, new.solutions[:3], shift=Shift())
    assert [one.p_value for one in found] == [1 / s.n_steps for s in new.solutions[:3]]
    assert "p-value" in str(found[0])


def test_it_shows_itself():
    solution = Solution("What is <b>2 + 3</b>?", ["2 + 3 = 5.", "So 5."])
    one = path_uncertainty(Members(), [solution], level=0.95)[0]
    text = str(one)
    assert "What is <b>2 + 3</b>?" in text
    assert f"risk, P(the path has an error): {one.risk:.2f}" in text
    assert "95% credible first errors: step 0, step 1, no error" in text
    assert f"epistemic {one.epistemic:.3f} nats" in text
    html = one._repr_html_()
    assert "&lt;b&gt;" in html
    assert "credible first errors" in html
    assert f"{one.risk:.2f}" in repr(one)
    as_dict = json.loads(json.dumps(one.to_dict()))
    assert as_dict["credible_set"] == [0, 1, -1]
    assert as_dict["members"]["epistemic"] == one.members.epistemic.tolist()
    assert as_dict["scored"]["steps"][0]["text"] == "2 + 3 = 5."
    assert as_dict["p_value"] is None


def test_what_cannot_be_scored_raises(classifier, new):
    assert path_uncertainty(classifier, []) == []
    assert path_uncertainty(Members(), []) == []
    for model in (classifier, Members()):
        with pytest.raises(ValueError, match=r"solutions\[1\] has no steps"):
            path_uncertainty(model, [new.solutions[0], Solution("p", [])])
        with pytest.raises(ValueError, match="level"):
            path_uncertainty(model, new.solutions[:1], level=1.1)
        with pytest.raises(TypeError, match=r"\[solution\]"):
            path_uncertainty(model, new.solutions[0])


def test_order_of_paths_changes_nothing(classifier, new):
    forward = path_uncertainty(classifier, new.solutions)
    backward = path_uncertainty(classifier, new.solutions[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.risk == pytest.approx(other.risk, abs=1e-9)
        np.testing.assert_allclose(one.first_error_distribution, other.first_error_distribution, atol=1e-9)


def test_what_is_no_calibrator_or_detector_is_named():
    data = make_arithmetic_solutions(20, 1, random_state=0)
    classifier = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    with pytest.raises(TypeError, match="path_calibrator is PRMClassifier, expected an estimator with p_no_error"):
        path_uncertainty(classifier, data.solutions[:1], path_calibrator=classifier)
    with pytest.raises(TypeError, match="shift is int"):
        path_uncertainty(classifier, data.solutions[:1], shift=5)
    with pytest.raises(NotFittedError):
        path_uncertainty(classifier, data.solutions[:1], path_calibrator=PathCalibrator(classifier))
