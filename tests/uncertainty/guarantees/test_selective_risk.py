"""Errors among the accepted: the promise over random splits, small cases by hand, and what is refused."""

import math
import warnings

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.base import clone

from prmkit.data import load_samples
from prmkit.models import PathClassifier
from prmkit.uncertainty import ErrorDetector, PathTriage, PrefixCertifier, SelectiveRisk


class Samples:
    """Many problems with samples that share their difficulty and mostly their answer; scores have few values."""

    def __init__(self, n_samples, seed, n_problems=20_000):
        rng = np.random.default_rng(seed)
        shape = (n_problems, n_samples)
        hard = rng.normal(-1.2, 1.3, n_problems)[:, None]
        alike = rng.random(shape) < 0.7  # these samples do as the first draw of their problem does
        first = rng.random((n_problems, 1))
        self.wrong = np.where(alike, first, rng.random(shape)) < 1 / (1 + np.exp(-hard))
        score = 0.8 * hard + 1.6 * self.wrong + 0.7 * rng.normal(size=shape) + 0.7 * rng.normal(size=(n_problems, 1))
        # Among the surest the risk rises again: it is not monotone in the threshold.
        self.scores = np.where((score < -2.2) & self.wrong, score, np.round(score * 4) / 4)
        self.scores[rng.random(shape) < 0.03] = np.nan
        order = np.argsort(self.scores, axis=None)
        self._sorted = np.sort(self.scores[~np.isnan(self.scores)])
        wrong = self.wrong.ravel()[order][: len(self._sorted)]
        self._risk = np.append(0.0, np.cumsum(wrong) / np.arange(1, len(wrong) + 1))

    def truth(self, threshold):
        """The share of all samples that a threshold accepts, and the share of these that is wrong."""
        n = int(np.searchsorted(self._sorted, threshold, side="right"))
        return n / self.scores.size, float(self._risk[n])

    def oracle(self, alpha):
        """The largest share that a threshold could accept."""
        return max(share for share, risk in map(self.truth, np.unique(self._sorted)) if risk <= alpha)

    def draw(self, rng, n):
        problems = rng.integers(len(self.scores), size=n)
        groups = np.repeat(np.arange(n), self.scores.shape[1])
        return self.scores[problems].ravel(), self.wrong[problems].ravel(), groups


def without_a_test(scores, wrong, alpha):
    """The largest threshold that keeps the level in the calibration itself."""
    order = np.argsort(scores)
    risk = np.cumsum(wrong[order]) / np.arange(1, len(scores) + 1)
    kept = np.flatnonzero((risk <= alpha) & ~np.isnan(scores[order]))
    return scores[order][kept[-1]] if len(kept) else -np.inf


@pytest.mark.parametrize("n_samples", [1, 6])
@pytest.mark.parametrize("n_splits", [150, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:nothing will be accepted:UserWarning")
@pytest.mark.filterwarnings("ignore:of .* samples, .* no score:UserWarning")
def test_true_risk_over_random_calibrations(n_samples, n_splits):
    alpha, delta = 0.15, 0.1
    world, rng, rule = Samples(n_samples, seed=n_samples), np.random.default_rng(7), SelectiveRisk(alpha, delta)
    shares, above, above_plain = [], [], []
    for _ in range(n_splits):
        scores, wrong, groups = world.draw(rng, 200)
        share, risk = world.truth(rule.fit(scores, wrong, groups).threshold_)
        shares.append(share)
        above.append(risk > alpha)
        above_plain.append(world.truth(without_a_test(scores, wrong, alpha))[1] > alpha)
    oracle = world.oracle(alpha)
    assert np.mean(above) <= delta + 3 * np.sqrt(delta * (1 - delta) / n_splits)
    assert np.mean(above_plain) > 2 * delta, "a threshold without a test keeps nothing like it"
    assert np.mean(shares) > 0.6 * oracle


def by_the_book(scores, wrong, alpha, delta):
    """Both procedures written out, one answer after the other: the accepted scores."""
    n, accepted, goes_on = int((~np.isnan(scores)).sum()), set(), True
    if (1 - alpha) ** n > 0.7 * delta:
        return accepted
    for value in np.unique(scores[~np.isnan(scores)]):
        passed = scores <= value
        if passed.sum() >= n / 4 and (1 - alpha) ** passed.sum() <= 0.7 * delta:
            goes_on = goes_on and binom.cdf(wrong[passed].sum(), passed.sum(), alpha) <= 0.7 * delta
            if goes_on:
                accepted = set(scores[passed])
        wealth = []
        for share in (0.15, 0.3, 0.6, 1):
            best = math.sqrt(2 * math.log(1 / (0.3 * delta)) / (share * n * alpha * (1 - alpha)))
            wealth.append(math.prod(1 - min(0.98 / (1 - alpha), best) * (wrong[passed] - alpha)))
        if np.mean(wealth) >= 1 / (0.3 * delta):
            accepted = set(scores[passed])
    return accepted


@pytest.mark.filterwarnings("ignore:of .* samples, .* no score:UserWarning")
@pytest.mark.filterwarnings("ignore:nothing will be accepted:UserWarning")
def test_both_procedures_by_brute_force():
    rng = np.random.default_rng(0)
    found = set()
    for case in range(30):
        n = int(rng.integers(15, 200))
        scores = rng.integers(0, rng.choice([3, 20, 200]), n) / 10.0
        wrong = rng.random(n) < rng.choice([0.02, 0.3, 0.9]) * (scores / scores.max()) ** 2
        scores[rng.random(n) < 0.05] = np.nan
        alpha, delta = rng.choice([0.1, 0.25]), rng.choice([0.05, 0.2])
        rule = SelectiveRisk(alpha, delta).fit(scores, wrong)
        accepted = by_the_book(scores, wrong, alpha, delta)
        assert set(scores[rule.predict(scores)]) == accepted, case
        found.add((bool(accepted), rule.threshold_ == np.inf))
    assert found == {(False, False), (True, False), (True, True)}


def test_few_by_hand():
    """alpha = delta = 1/2: (1/2) ** 2 is at most .7 / 2, so the sequence can begin with 2 right answers."""
    rule = SelectiveRisk(0.5, 0.5)
    with pytest.warns(
        UserWarning, match=r"nothing will .* not attainable with 1 paths with a score, at least 2 are need"
    ):
        rule.fit([0.3], [False])
    assert (rule.attainable_, rule.threshold_) == (False, -np.inf)
    assert not rule.predict([-1e300, np.nan]).any()
    rule.fit([0.3, 0.2], [False, False])
    assert (rule.attainable_, rule.threshold_, rule.floor_) == (True, np.inf, 0.0)
    assert rule.predict([0.0, 1e9, np.inf, np.nan]).tolist() == [True, True, True, False]
    rule.fit([1.0, 2.0, 3.0, 4.0], [False, False, True, True])
    assert rule.threshold_ == np.nextafter(3.0, 0)
    assert rule.predict([2.0, 3.0]).tolist() == [True, False]
    with pytest.warns(UserWarning, match="nothing will be accepted: no threshold"):
        rule.fit([1.0, 1.0, 1.0, 4.0], [False, False, True, True])  # equal scores are accepted together
    rule.fit(np.arange(20.0), np.arange(20) < 2)  # the first two are wrong: the risk falls again
    assert rule.threshold_ == np.inf


def test_all_wrong_all_right_and_scores_that_mean_nothing():
    scores = np.arange(200) % 7 / 7
    with pytest.warns(
        UserWarning, match=r"nothing will be accepted: no threshold .* at 0.1 with confidence 0.9: 100.0% of"
    ):
        rule = SelectiveRisk().fit(scores, np.ones(200, bool))
    assert (rule.threshold_, rule.attainable_, rule.base_risk_, rule.floor_) == (-np.inf, True, 1.0, 1.0)
    report = rule.evaluate([0.1, 0.2], [True, False])
    assert (report["risk"], report["accepted"], report["base_risk"]) == (None, 0.0, 0.5)
    assert report["floor"] == pytest.approx(4 / 9)
    rule = SelectiveRisk().fit(scores, np.zeros(200, bool))
    assert rule.threshold_ == np.inf
    assert rule.evaluate(scores, np.zeros(200))["accepted"] == 1.0
    with pytest.warns(UserWarning, match="not attainable with 0 paths with a score, at least 26"):
        rule = SelectiveRisk().fit(np.full(200, np.nan), np.zeros(200, bool))
    assert not rule.attainable_
    wrong = np.arange(200) % 25 == 0  # 4 % are wrong, whatever the score: all are accepted
    assert SelectiveRisk(0.15).fit(np.arange(200.0), wrong).threshold_ == np.inf


@pytest.mark.parametrize(
    ("unusual", "said"),
    [
        ([np.nan, None], "of 202 samples, 2 have no score"),
        ([np.inf, -np.inf, np.inf], "of 203 samples, 3 have an infinite score"),
        ([np.nan, np.inf], "of 202 samples, 1 have no score .*, and 1 have an infinite score"),
    ],
)
def test_scores_that_are_no_plain_numbers_are_counted_once(unusual, said):
    with pytest.warns(UserWarning, match=said) as caught:
        rule = SelectiveRisk().fit([*(np.arange(200) / 200), *unusual], np.zeros(200 + len(unusual), bool))
    assert len(caught) == 1
    assert rule.predict([0.1, np.nan]).tolist() == [True, False]


@pytest.mark.parametrize("scores", [0.1, np.float64(0.1), np.array(0.1), None, "0.1", ["0.1", "0.2"]])
def test_what_is_no_list_of_scores_is_named(scores):
    rule = SelectiveRisk().fit(np.arange(40) / 40, np.zeros(40, bool))
    for read in (rule.predict, lambda X: rule.fit(X, [False])):
        with pytest.raises((TypeError, ValueError), match=r"expected a (list|1-D array)"):
            read(scores)


def test_samples_of_a_problem_count_once():
    """Copies of an answer say nothing new, and each problem weighs the same in the report."""
    scores, wrong = np.arange(25.0), np.zeros(25, bool)
    with pytest.warns(UserWarning, match="not attainable with 25 problems with a score"):
        copied = SelectiveRisk().fit(np.repeat(scores, 8), np.repeat(wrong, 8), np.repeat(np.arange(25), 8))
    assert not copied.attainable_
    rng = np.random.default_rng(0)
    scores, wrong = rng.random(300), rng.random(300) < 0.05
    one = SelectiveRisk().fit(scores, wrong)
    eight = SelectiveRisk().fit(np.repeat(scores, 8), np.repeat(wrong, 8), np.repeat(np.arange(300), 8))
    assert (eight.threshold_, eight.base_risk_) == (one.threshold_, one.base_risk_)
    rule = SelectiveRisk().fit(np.zeros(40), np.zeros(40, bool))
    report = rule.evaluate([0, 0, 0, np.nan], [1, 0, 0, 0], groups=["p", "q", "q", "r"])
    assert report["accepted"] == pytest.approx(2 / 3)
    assert report["risk"] == pytest.approx(1 / 2)
    assert (report["n_units"], report["n_paths"], report["n_unscored"]) == (3, 4, 1)


@pytest.mark.filterwarnings("ignore:nothing will be accepted:UserWarning")
def test_leaks_are_refused(fitted, tmp_path):
    classifier, calibration, test = fitted
    scores = np.random.default_rng(0).random(60)
    rule = SelectiveRisk(0.4).fit(scores, scores > 0.9, groups=np.arange(60))
    for call in (lambda: rule.predict([0.1], groups=[3]), lambda: rule.evaluate([0.1, 0.2], [0, 1], groups=[99, 59])):
        with pytest.raises(ValueError, match="problems are also among those that SelectiveRisk was calibrated on"):
            call()
    wrong = np.array(calibration.first_errors) >= 0
    of_solutions = SelectiveRisk(0.4, classifier=classifier).fit(calibration.solutions, wrong)
    assert of_solutions.predict(test.solutions).shape == (len(test.solutions),)
    with pytest.raises(ValueError, match="SelectiveRisk was calibrated on"):
        of_solutions.predict([*test.solutions, calibration.solutions[0]])
    from prmkit.data import make_arithmetic_solutions

    trained = make_arithmetic_solutions(40, 2, random_state=0)
    with pytest.raises(ValueError, match="classifier was trained on"):
        of_solutions.fit(trained.solutions, np.array(trained.first_errors) >= 0)
    rule.save(tmp_path / "rule")
    other = SelectiveRisk.load(tmp_path / "rule")
    assert other.predict(scores).tolist() == rule.predict(scores).tolist()
    assert {
        name: getattr(other, name) for name in ("threshold_", "floor_", "base_risk_", "attainable_", "of_scores_")
    } == {name: getattr(rule, name) for name in ("threshold_", "floor_", "base_risk_", "attainable_", "of_scores_")}
    assert other.get_params() == rule.get_params()
    with pytest.raises(ValueError, match="calibrated on"):
        other.predict([0.1], groups=[3])
    html = other._repr_mimebundle_()["text/html"]
    assert "floor_" in html
    assert "SelectiveRisk" in html


@pytest.mark.parametrize(
    ("scores", "errors", "message"),
    [
        ([0.1, 0.2], [True, None], r"errors\[1\] is None, expected True \(wrong\) or False"),
        ([0.1, 0.2], [0, -1], r"errors\[1\] is -1, .* as first_errors="),
        ([0.1, 0.2], ["wrong", "right"], r"errors\[0\] is 'wrong'"),
        ([0.1, 0.2], [True], r"errors has shape \(1,\), expected one value for each of the 2 paths"),
        ([], [], "empty"),
        ("ab", [True, False], "path 0"),
        ([[0.1, 1.5], [0.2]], [True, False], "1.5"),
    ],
)
def test_bad_input_is_named(scores, errors, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SelectiveRisk().fit(scores, errors)


def test_scores_and_steps_are_not_mixed():
    rule = SelectiveRisk().fit(np.linspace(0, 1, 50), np.zeros(50, bool))
    with pytest.raises(
        ValueError, match="X holds the risks of the steps of each path, and the calibration had one numb"
    ):
        rule.predict([[0.1, 0.2]])
    of_steps = SelectiveRisk().fit([[0.1, 0.2]] * 50, np.zeros(50, bool))
    assert of_steps.predict([[0.3]]).tolist() == [True]
    with pytest.raises(ValueError, match="X holds one number per path, and the calibration had the risks"):
        of_steps.predict([0.3])


def test_no_warning_where_there_is_nothing_to_say():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SelectiveRisk().fit(np.arange(100.0), np.zeros(100))


@pytest.mark.filterwarnings("ignore:nothing will be accepted:UserWarning", "ignore:.*is not attainable:UserWarning")
@pytest.mark.parametrize(
    "rule", [SelectiveRisk(0.4), PathTriage(), ErrorDetector()], ids=lambda rule: type(rule).__name__
)
def test_a_classifier_of_whole_solutions(rule, tmp_path):
    """Its P(wrong) is the score. Its problems and those of the calibration are refused, and it is saved too."""
    rng = np.random.default_rng(0)
    rows = [
        {"problem": f"{i} + 1?", "steps": ["Hm."] * k + [f"The answer is {i + k}"], "gold": i + 1}
        for i in range(90)
        for k in rng.choice([1, 1, 1, 2, 3], 3).tolist()
    ]
    candidates = load_samples(rows, steps="steps", reference="gold")
    train, calibration, new = candidates[:30], candidates[30:70], candidates[70:]
    classifier = PathClassifier().fit(train)
    rule = clone(rule).set_params(classifier=classifier)
    wrong = ~np.array(calibration.correct)
    rule.fit(calibration, errors=wrong)
    scores = classifier.predict_proba(calibration)[:, 0]
    bare = clone(rule).set_params(classifier=None).fit(scores, errors=wrong, groups=calibration.groups)
    assert (rule.n_calibration_, rule.unit_) == (bare.n_calibration_, "problem")
    decisions = bare.predict(classifier.predict_proba(new)[:, 0]).tolist()
    assert rule.predict(new).tolist() == rule.predict(new.solutions).tolist() == decisions
    rule.save(tmp_path / "rule")
    assert type(rule).load(tmp_path / "rule").predict(new).tolist() == decisions
    with pytest.raises(ValueError, match=f"{type(rule).__name__} was calibrated on"):
        rule.predict(calibration)
    with pytest.raises(ValueError, match="was trained on"):
        rule.fit(train, errors=~np.array(train.correct))
    with pytest.raises(ValueError, match="PrefixCertifier reads the risks of steps"):
        PrefixCertifier(classifier).fit(calibration, np.zeros(len(wrong)))
