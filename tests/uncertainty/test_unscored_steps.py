"""Steps without a score: never a default, never another solution's problem, and nothing is promised about them."""

import json
import re
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator

from prmkit import PRMClassifier, Solution, score_solutions
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.metrics import aggregate, best_of_n_accuracy
from prmkit.models import TokenPRM
from prmkit.uncertainty import (
    ErrorDetector,
    FirstErrorSet,
    PathCalibrator,
    PathTriage,
    PrefixCertifier,
    StepPredictionSets,
    path_uncertainty,
)

TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


class ShortSighted(ClassifierMixin, BaseEstimator):
    """A classifier that reads three steps of a solution. What it does with others, ``too_long`` says."""

    def __init__(self, too_long="raise", members=0):
        self.too_long, self.members = too_long, members
        self.classes_ = np.array([-1, 1])

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, X):
        index = np.array([step.index for step in X])
        if self.too_long == "raise" and (index > 2).any():
            raise ValueError("too long")
        risk = np.array([len(step.text) % 7 for step in X]) / 10 + 0.05
        return np.where(index[:, None] > 2, np.nan, np.column_stack([risk, 1 - risk]))


class WithMembers(ShortSighted):
    def member_proba(self, X):
        return np.stack([self.predict_proba(X)] * 2)


class Broken(ShortSighted):
    """A classifier that never says that a step is too long, and gives NaN."""

    def __init__(self):
        self.classes_ = np.array([-1, 1])
        self.too_long = None

    def predict_proba(self, X):
        return np.full((len(X), 2), np.nan)


SHORT = Solution("1 + 1?", ["a", "bb"], id="short")
LONG = Solution("2 + 2?", ["a", "bb", "ccc", "dddd", "eeeee"], id="long")


@pytest.fixture
def scored():
    with pytest.warns(UserWarning, match=r"no score for 2 of 7 steps, in 1 of 2 solutions \('long'\)"):
        return score_solutions(ShortSighted("nan"), [SHORT, LONG])


def test_one_long_solution_leaves_the_others_as_they_are(scored):
    [alone] = score_solutions(ShortSighted(), [SHORT])
    np.testing.assert_array_equal(scored[0].proba, alone.proba)
    assert scored[0].unscored == ()
    assert scored[1].unscored == (3, 4)
    np.testing.assert_allclose(scored[1].risks, [0.15, 0.25, 0.35, np.nan, np.nan])


@pytest.mark.parametrize(
    "wrap", [lambda clf: clf, FrozenEstimator, lambda clf: FrozenEstimator(FrozenEstimator(clf))], ids=["", "1", "2"]
)
def test_the_caller_decides_for_one_call(wrap):
    clf = ShortSighted("raise")
    wrapped = wrap(clf)
    with pytest.warns(UserWarning, match="'long'"):
        scored = score_solutions(wrapped, [SHORT, LONG], too_long="nan")
    assert scored[1].unscored == (3, 4)
    assert clf.too_long == "raise"
    with pytest.raises(ValueError, match="too long"):
        score_solutions(wrapped, [SHORT, LONG])
    with pytest.raises(ValueError, match="too long"):
        score_solutions(wrap(ShortSighted("nan")), [SHORT, LONG], too_long="raise")
    with pytest.raises(ValueError, match="too_long is 'cut', expected 'raise', 'nan' or None"):
        score_solutions(wrapped, [SHORT], too_long="cut")


def test_a_token_model_by_its_own_choice_and_by_the_call():
    data = make_arithmetic_solutions(6, 1, random_state=0)
    long = Solution("Count.", [f"{i} + 1 = {i + 1}." for i in range(300)])
    head = TokenPRM(initialization="random", model_kwargs=TINY, num_train_epochs=1, random_state=0, show_progress=False)
    clf = PRMClassifier("tokens", head).fit(data.X, data.y)
    with pytest.warns(UserWarning, match=r"in 1 of 2 solutions \(solutions\[1\]\)"):
        first, other = clf.score_solutions([data.solutions[0], long], too_long="nan")
    assert np.isfinite(first.rewards).all()
    assert 0 < len(other.unscored) < 300
    with pytest.raises(ValueError, match="too_long='nan'"):
        clf.score_solutions([data.solutions[0], long])


def test_nan_of_a_model_that_fails_is_not_called_too_long():
    with pytest.raises(ValueError, match=r"Broken gives NaN for 2 of 2 steps.*its own numbers fail"):
        score_solutions(Broken(), [SHORT])


def test_numbers_of_the_whole_solution_are_unknown(scored):
    long = scored[1]
    assert np.isnan(long.p_no_error)
    assert np.isnan(list(long.aggregates.values())).all()
    assert np.isnan(long.entropy).tolist() == np.isnan(long.margin).tolist() == [False] * 3 + [True] * 2
    # What comes before the first step without a score is known.
    assert np.isnan(long.first_error_distribution).tolist() == [False] * 3 + [True] * 3
    np.testing.assert_allclose(long.first_error_distribution[:2], [0.15, 0.85 * 0.25])


def test_an_unscored_solution_is_shown_as_such(scored):
    long = scored[1]
    found = json.loads(json.dumps(long.to_dict(), allow_nan=False))
    assert found["p_no_error"] is None
    assert found["steps"][3]["risk"] is None
    text = long.to_text(color=False, width=90)
    assert "no score for 2 of 5 steps (3, 4): P(no error) and rewards are unknown" in text
    assert re.search(r"3\s+–\s+–\s+–\s+dddd", text)
    html = long._repr_html_()
    assert "the model gave it no score" in html
    for shown in (text, html, repr(long)):
        assert "nan" not in shown
    assert repr(long) == "<ScoredSolution: 5 steps, 2 without a score, P(no error) –>"


def test_plots_of_an_unscored_solution(scored):
    pytest.importorskip("matplotlib").use("Agg")
    from prmkit.scoring import PathDisplay
    from prmkit.uncertainty import FirstErrorDisplay

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = PathDisplay.from_scored(scored).axes_
        FirstErrorDisplay.from_scored(scored[1], prediction_set={0, -1})
    assert [text.get_text() for text in axes[1, 0].texts].count("–") == 2
    with pytest.raises(ValueError, match="2 of 5 steps have no score, so there is no credible set"):
        FirstErrorDisplay.from_scored(scored[1])


def test_ranking_says_what_it_does(scored):
    rewards = [one.rewards for one in scored]
    with pytest.raises(ValueError, match=r"path 1 holds nan \(1 such paths\).*unscored=…"):
        aggregate(rewards, "min")
    np.testing.assert_allclose(aggregate(rewards, "min", unscored=np.nan), [0.75, np.nan])
    np.testing.assert_allclose(aggregate(rewards, "product", unscored=-np.inf), [0.85 * 0.75, -np.inf])
    with pytest.raises(ValueError, match="Give -inf to a candidate without a score"):
        best_of_n_accuracy([[np.nan, 0.3]], [[True, True]], 1)
    scores = [[-np.inf, 0.3, 0.1], [-np.inf, -np.inf, -np.inf]]
    correct = [[False, True, False], [True, False, False]]
    # The candidate without a score is chosen where no other has one, and then it is the first.
    assert best_of_n_accuracy(scores, correct, 3, per_problem=True).tolist() == [1, 1]
    np.testing.assert_allclose(best_of_n_accuracy(scores, correct, 2, per_problem=True), [2 / 3, 2 / 3])


@pytest.mark.parametrize("cls", [ShortSighted, WithMembers])
def test_the_uncertainty_of_a_path_is_unknown_too(cls):
    with pytest.warns(UserWarning, match="'long'"):
        short, long = path_uncertainty(cls("nan"), [SHORT, LONG])
    assert short.risk == pytest.approx(1 - 0.85 * 0.75)
    assert np.isnan([long.risk, long.verdict_entropy]).all()
    assert long.credible_set == {-1, 0, 1, 2, 3, 4}
    json.dumps(long.to_dict(), allow_nan=False)
    for shown in (repr(long), str(long), long._repr_html_()):
        assert "nan" not in shown.replace("nan)", "")
    if cls is WithMembers:
        assert np.isnan(long.members.total).tolist() == [False] * 3 + [True] * 2
        assert np.isfinite(short.members.total).all()


def labelled(n, seed, n_steps=4):
    """Problems of four steps, of which a short-sighted model reads three, and of two."""
    rng = np.random.default_rng(seed)
    solutions = [
        Solution(f"{seed} {i}?", ["x" * int(rng.integers(1, 7)) for _ in range(n_steps if i % 2 else 2)])
        for i in range(n)
    ]
    return solutions, [int(rng.integers(-1, one.n_steps)) for one in solutions]


@pytest.mark.filterwarnings("ignore:no score for")
def test_guarantees_promise_nothing_about_what_has_no_score():
    solutions, first_errors = labelled(200, 0)
    new, _ = labelled(40, 1)
    unread = np.array([one.n_steps > 3 for one in new])
    clf = ShortSighted("nan")

    certified = PrefixCertifier(clf, alpha=0.4).fit(solutions, first_errors).predict(new)
    assert (certified[unread] <= 3).all()
    assert certified.max() > 0
    for recall in (0.2, 0.9):
        assert ErrorDetector(clf, recall=recall).fit(solutions, first_errors).predict(new)[unread].all()
    triage = PathTriage(clf, accept_error=0.45, reject_error=0.45).fit(solutions, first_errors)
    assert (triage.predict(new)[unread] == "escalate").all()
    assert (triage.predict(new)[~unread] != "escalate").any()
    sets = FirstErrorSet(clf, alpha=0.2).fit(solutions, first_errors).predict(new)
    assert all({3, -1} <= one for one, long in zip(sets, unread, strict=True) if long)
    calibrated = PathCalibrator(clf).fit(solutions, first_errors).p_no_error(new)
    assert np.isnan(calibrated).tolist() == unread.tolist()


def test_sets_of_steps_without_a_score_are_full():
    rng = np.random.default_rng(0)
    risk = rng.uniform(0, 1, 200)
    proba = np.column_stack([risk, 1 - risk])
    proba[::10] = np.nan
    y = np.where(rng.random(200) < risk, -1, 1)
    sets = StepPredictionSets(alpha=0.2, classes=[-1, 1]).fit(proba, y, groups=np.arange(200))
    found = sets.predict([[np.nan, np.nan], [0.01, 0.99]], groups=[500, 501])
    assert found.tolist() == [[True, True], [False, True]]


@pytest.mark.filterwarnings("ignore:no score for")
def test_guarantees_hold_with_unscored_steps_on_both_sides():
    """What a model cannot read is refused in the calibration too, so that the two sides stay exchangeable."""
    failures = []
    for seed in range(30):
        solutions, first_errors = labelled(150, 2 * seed)
        new, new_errors = labelled(150, 2 * seed + 1)
        report = PrefixCertifier(ShortSighted("nan"), alpha=0.3).fit(solutions, first_errors).evaluate(new, new_errors)
        failures.append(report["failure_rate"])
    assert np.mean(failures) < 0.3 + 3 * np.std(failures) / np.sqrt(30)
    assert np.mean(failures) > 0.2


def test_a_classifier_that_reads_everything_warns_of_nothing():
    data = make_arithmetic_solutions(20, 1, random_state=0)
    clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = clf.score_solutions(data.solutions[:3])
        for too_long in ("nan", "raise"):
            same = clf.score_solutions(data.solutions[:3], too_long=too_long)
            assert [one.proba.tolist() for one in same] == [one.proba.tolist() for one in plain]
