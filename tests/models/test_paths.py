"""``PathClassifier``: right or wrong of whole solutions, by folds of problems, from features that are all there."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from prmkit import PRMClassifier, PRMFeaturizer, Solution, StratifiedProblemKFold, problem_groups
from prmkit.data import Candidates, CandidateSet, make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.features.agreement.answers import sampled_answers
from prmkit.models import PathClassifier
from prmkit.models.paths._stack import Stack, fit_logistic, folds_by_problem, take
from prmkit.saving import load_model
from prmkit.utils.environment import UnscoredWarning

N_SAMPLES = 4


def sampled(n_problems=24, *, seed=0, first=0, meta=None):
    """Samples whose wrong answers scatter more and are shorter, so that agreement and length both tell something."""
    rng = np.random.default_rng(seed)
    sets = []
    for i in range(first, first + n_problems):
        right = rng.random(N_SAMPLES) < (0.85, 0.5, 0.15)[i % 3]
        answers = [str(i if is_right else i + 1 + rng.integers(3)) for is_right in right]
        steps = [
            ["We add."] * int(rng.integers(1, 4)) + [f"So {'it is ' * bool(r)}{a}."]
            for a, r in zip(answers, right, strict=True)
        ]
        solutions = tuple(
            Solution(f"What is {i} + 0?", one, meta=meta and meta(len(one), is_right, rng))
            for one, is_right in zip(steps, right, strict=True)
        )
        flags = tuple(map(bool, right))
        sets.append(
            CandidateSet(solutions[0].problem, solutions, flags, tuple(answers), tuple(answers), str(i), f"{i}")
        )
    return Candidates(tuple(sets))


@pytest.fixture(scope="module")
def train():
    return sampled()


@pytest.fixture(scope="module")
def new():
    return sampled(6, seed=1, first=100)


@pytest.fixture(scope="module")
def fitted(train):
    return PathClassifier().fit(train)


def test_it_tells_right_from_wrong_on_new_problems(fitted, new):
    proba = fitted.predict_proba(new)
    assert proba.shape == (len(new.solutions), 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert roc_auc_score(new.correct, proba[:, 1]) > 0.75
    assert fitted.features_ == ("agreement", "length")
    assert fitted.feature_names_ == [
        "agreement", "entropy", "margin", "n_classes", "largest_share", "log_steps", "log_characters",
    ]  # fmt: skip
    assert set(fitted.left_out_) == {"risks", "log_probs", "shift", "states", "surprisal"}
    np.testing.assert_array_equal(fitted.predict(new), proba[:, 1] > 0.5)
    assert fitted.score(new) == np.mean(fitted.predict(new) == new.correct)
    np.testing.assert_allclose(1 / (1 + np.exp(-fitted.decision_function(new))), proba[:, 1])


def test_plain_solutions_are_read_as_candidates_are(fitted, train, new):
    """Answers and problems are in the texts, so a list of solutions says the same."""
    from_list = PathClassifier().fit(train.solutions, train.correct)
    np.testing.assert_allclose(from_list.predict_proba(new.solutions), fitted.predict_proba(new), atol=1e-9)
    by_groups = PathClassifier().fit(train.solutions, train.correct.astype(int), groups=train.groups)
    np.testing.assert_allclose(by_groups.predict_proba(new), fitted.predict_proba(new), atol=1e-9)


def test_neither_order_nor_other_problems_matter(fitted, train, new):
    whole = fitted.predict_proba(new)
    order = np.random.default_rng(0).permutation(len(new.solutions))
    np.testing.assert_allclose(fitted.predict_proba([new.solutions[i] for i in order]), whole[order], atol=1e-12)
    np.testing.assert_allclose(fitted.predict_proba(new[2:4]), whole[2 * N_SAMPLES : 4 * N_SAMPLES], atol=1e-12)
    shuffled = np.random.default_rng(1).permutation(len(train.solutions))
    learnt = PathClassifier().fit([train.solutions[i] for i in shuffled], train.correct[shuffled])
    np.testing.assert_allclose(learnt.predict_proba(new), whole, atol=1e-6)


def test_a_problem_of_the_training_is_refused(fitted, train, new):
    same = Solution(train[3].problem.upper().replace(" ", "  "), ["Other words.", "So 3."])
    for ask in (fitted.predict_proba, fitted.predict, fitted.decision_function):
        with pytest.raises(ValueError, match="trained on"):
            ask([same, same])
    with pytest.raises(NotFittedError):
        PathClassifier().predict_proba(new)


def test_it_is_an_estimator_of_scikit_learn(train):
    given = PathClassifier(RandomForestClassifier(5, random_state=0), features=("length", "agreement"))
    copy = clone(given)
    assert copy.get_params()["classifier__n_estimators"] == 5
    solutions, right = train.solutions, train.correct
    proba = cross_val_predict(copy, solutions, right, cv=StratifiedProblemKFold(2), method="predict_proba")
    assert roc_auc_score(right, proba[:, 1]) > 0.7
    splits = GroupKFold(2).split(solutions, right, problem_groups(solutions))
    assert cross_val_predict(PathClassifier(), solutions, right, cv=list(splits)).dtype == bool
    # A plain fold has the same problem on both sides.
    with pytest.raises(ValueError, match="trained on"):
        cross_val_predict(PathClassifier(), solutions, right, cv=KFold(2, shuffle=True, random_state=0))


def test_solutions_are_split_by_problem(train):
    assert problem_groups(train.solutions).tolist() == train.groups.tolist()
    with pytest.raises(TypeError, match=r"solutions\[1\] is Step"):
        problem_groups([train.solutions[0], *make_arithmetic_solutions(1, 1, random_state=0).X[:1]])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_by_problem(train, new, method, tmp_path):
    forest = PathClassifier(RandomForestClassifier(5, random_state=0), calibration=method).fit(train)
    forest.save(tmp_path / "model")
    loaded = PathClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(new), forest.predict_proba(new))
    assert loaded.get_params()["calibration"] == method
    assert loaded.classifier.get_params() == forest.classifier.get_params()


def test_scikit_learns_calibration_takes_it(fitted, new):
    more = sampled(8, seed=3, first=200)
    calibrated = CalibratedClassifierCV(FrozenEstimator(fitted), cv=StratifiedProblemKFold(2)).fit(
        more.solutions, more.correct
    )
    assert calibrated.predict_proba(new.solutions).shape == (len(new.solutions), 2)


def test_saved_and_loaded(fitted, new, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert type(loaded) is PathClassifier
    np.testing.assert_array_equal(loaded.predict_proba(new), fitted.predict_proba(new))
    assert (loaded.features_, loaded.left_out_, loaded.n_unread_) == (fitted.features_, fitted.left_out_, 0)
    assert loaded.classifier is None
    assert not list((tmp_path / "model").glob("*.pkl"))
    with pytest.raises(ValueError, match="trained on"):
        loaded.predict([Solution("What is 3 + 0?", ["So 3."])])


def scores_of(n_steps, is_right, rng):
    return {
        "step_scores": rng.uniform(0.2 + 0.5 * is_right, 1, n_steps).tolist(),
        "token_logprobs": [(-rng.random(3) * (2 - is_right)).tolist() for _ in range(n_steps)],
    }


def test_scores_and_log_probabilities_that_stand_with_the_solutions():
    train, new = sampled(meta=scores_of), sampled(6, seed=5, first=100, meta=scores_of)
    model = PathClassifier().fit(train)
    assert model.features_ == ("agreement", "length", "risks", "log_probs")
    assert roc_auc_score(new.correct, model.predict_proba(new)[:, 1]) > 0.9
    alone = PathClassifier(features=["risks"]).fit(train)
    assert alone.feature_names_ == ["reward_min", "reward_mean", "reward_last", "p_no_error", "log_p_no_error"]
    # One sample without a score costs this sample, and nothing stands in for it.
    broken = new.solutions
    broken[2] = Solution(broken[2].problem, broken[2].steps, meta={"step_scores": [None] * broken[2].n_steps})
    with pytest.warns(UnscoredWarning, match=r"1 of 24 solutions \(solutions\[2\]\) have no probability: 1 lack risks"):
        proba = alone.predict_proba(broken)
    assert np.isnan(proba).all(axis=1).nonzero()[0].tolist() == [2]
    with pytest.raises(ValueError, match="1 of 24 samples lack a feature"), pytest.warns(UnscoredWarning):
        alone.predict(broken)
    cut = train.solutions
    cut[0] = Solution(cut[0].problem, cut[0].steps, meta={})
    with pytest.warns(UnscoredWarning, match="are not learnt from: 1 lack risks .*; 1 lack log_probs"):
        assert PathClassifier().fit(cut, train.correct).n_unread_ == 1
    raw = [Solution(one.problem, one.steps, meta={"step_scores": [3.0] * one.n_steps}) for one in train.solutions]
    with pytest.raises(ValueError, match=r"holds 3, expected the probability"):
        PathClassifier().fit(raw, train.correct)


def test_a_step_classifier_and_its_training_problems(train, new, tmp_path):
    data = make_arithmetic_solutions(12, 2, random_state=0)
    steps = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    model = PathClassifier(features=["risks", "length"], step_classifier=steps).fit(train)
    expected = [one.aggregates["min"] for one in steps.score_solutions(new.solutions)]
    columns = model._features_of(None).read(sampled_rows(new), ["risks"])["risks"][1]
    np.testing.assert_allclose(columns[:, 0], expected)
    assert set(steps.training_problems_) <= set(model.training_problems_)
    model.save(tmp_path / "model")
    loaded = PathClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(new), model.predict_proba(new))
    with pytest.raises(ValueError, match="the step_classifier was trained on"):
        PathClassifier(step_classifier=steps).fit(data.solutions, np.arange(24) % 2 == 0)


def sampled_rows(candidates):
    from prmkit.models.paths._features import read_samples

    return read_samples(candidates)


def test_bad_input(train, new):
    right = train.correct
    with pytest.raises(ValueError, match="all 96 samples are right, expected both kinds"):
        PathClassifier().fit(train, np.ones(96, dtype=bool))
    for wrong in (np.where(right, 1, -1), np.where(right, "right", "wrong"), right[:, None]):
        with pytest.raises(ValueError, match="y "):
            PathClassifier().fit(train, wrong)
    with pytest.raises(ValueError, match="y has 95 values and X 96"):
        PathClassifier().fit(train, right[1:])
    with pytest.raises(ValueError, match="y is None"):
        PathClassifier().fit(train.solutions)
    with pytest.raises(TypeError, match=r"solutions\[0\] is str"):
        PathClassifier().fit(["So 3."], [True])
    with pytest.raises(ValueError, match="X is empty"):
        PathClassifier().fit([], [])
    with pytest.raises(ValueError, match="1 a wrong one, expected at least 2"):
        PathClassifier().fit(train[:2], np.arange(8) > 0)
    with pytest.raises(ValueError, match="groups puts solutions of one problem into several"):
        PathClassifier().fit(train.solutions, right, groups=np.arange(96))
    for features, said in (
        (["ages"], "'ages', expected some of agreement"),
        ([], "each once"),
        (["length", "length"], "each once"),
        (["states"], "which no sample has: pass model="),
        (["risks"], "pass step_classifier="),
    ):
        with pytest.raises(ValueError, match=said):
            PathClassifier(features=features).fit(train)


def test_a_sample_that_nobody_has_judged_costs_itself_alone(fitted, train, new):
    """Nothing is learnt from it. Its answer counts for the agreement of the others."""
    left_out = r"10 of 96 samples are not known to be right or wrong .*are left out.*candidates\.judged\(\)"
    known = np.arange(96) >= 10
    unknown = np.where(known, train.correct, np.nan)
    sets = [
        replace(one, is_correct=tuple(None if np.isnan(flag) else bool(flag) for flag in flags))
        for one, flags in zip(train.sets, train.by_problem(unknown), strict=True)
    ]
    with pytest.warns(UserWarning, match=left_out) as said:
        model = PathClassifier().fit(Candidates(tuple(sets)))
    assert (len(said), said[0].filename, model.n_unread_) == (1, __file__, 10)
    with pytest.warns(UserWarning, match=left_out):
        given = PathClassifier().fit(train.solutions, [None if np.isnan(one) else bool(one) for one in unknown])
    np.testing.assert_allclose(given.predict_proba(new), model.predict_proba(new), atol=1e-9)
    columns = fitted._features_of(None).read(sampled_rows(train), fitted.features_)
    rows, folds = take(columns, known), folds_by_problem(train.correct[known].astype(bool), train.groups[known])
    expected = Stack.fit(rows, train.correct[known].astype(bool), folds, None, None)
    np.testing.assert_allclose(
        model.predict_proba(new)[:, 1], expected.p_right(model._features_of(None).read(sampled_rows(new), columns))
    )
    # Two problems have no judged sample, so that nothing was learnt from them, and they can be asked about.
    assert model.predict_proba(train[:2]).shape == (8, 2)
    with pytest.raises(ValueError, match="trained on"):
        model.predict_proba(train[2:3])
    with pytest.warns(UserWarning, match="1 of 24 samples are not known"):
        accuracy = model.score(new, [None, *new.correct[1:]])
    assert accuracy == np.mean((model.predict(new) == new.correct)[1:])
    with pytest.warns(UserWarning, match=left_out):
        risks = PathClassifier(features=["length"]).out_of_fold(train, unknown, n_folds=2)
    assert [np.isnan(risk).nonzero()[0].tolist() for risk in risks.values()] == [list(range(10))] * len(risks)
    for y, said in (([None] * 96, "so nothing is left"), ([None] * 90 + [True] * 6, "all 6 samples are right")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match=said):
                PathClassifier().fit(train, y)


def test_a_solution_without_steps_is_an_error(fitted, train, new):
    silent = [*new.solutions, Solution(new[0].problem, [])]
    with pytest.raises(ValueError, match=r"solutions\[24\] has no steps: .*leave it out"):
        fitted.predict_proba(silent)
    with pytest.raises(ValueError, match=r"solutions\[0\] has no steps"):
        PathClassifier().fit([Solution("Why?", []), *train.solutions], [False, *train.correct])


def test_answers_are_read_from_texts_as_elsewhere():
    """An empty line stands between steps, as for every other reader of answers."""
    texts = [["The answer is", "7."], ["So 7."], ["It is \\boxed{7}", "Done."], ["So 8."]]
    solutions = [Solution("3 + 4?", steps) for steps in texts]
    assert sampled_rows(solutions).answer_keys == sampled_answers(solutions).keys


def test_one_sample_per_problem_has_no_agreement(fitted, new):
    lone = [one.candidates[0] for one in sampled(24, seed=7, first=300)]
    right = np.arange(24) % 2 == 0
    model = PathClassifier().fit(lone, right)
    assert model.features_ == ("length",)
    assert "one sample" in model.left_out_["agreement"]
    with pytest.raises(ValueError, match="every problem has one sample"):
        PathClassifier(features=["agreement"]).fit(lone, right)
    with pytest.warns(UnscoredWarning, match="24 lack agreement"):
        assert np.isnan(fitted.predict_proba(lone)).all()


def test_samples_without_answers_agree_with_nobody():
    silent = [Solution(f"Why {i}?", ["Since it is so.", *["Yes."] * j]) for i in range(12) for j in range(3)]
    model = PathClassifier().fit(silent, np.arange(36) % 3 == 0)
    assert model.score(
        [Solution("How?", ["Since it is so.", *["Yes."] * j]) for j in range(3)], [True, False, False]
    ) == pytest.approx(1)


def test_out_of_fold_scores_of_each_group(train):
    risks = PathClassifier().out_of_fold(train, n_folds=2)
    assert list(risks) == ["all", "agreement", "length", "disagreement"]
    wrong = ~train.correct
    aurocs = {name: roc_auc_score(wrong, risk) for name, risk in risks.items()}
    assert min(aurocs.values()) > 0.6
    assert aurocs["all"] > max(aurocs["agreement"], aurocs["length"]) - 0.03
    # Labels that nothing can tell are not told, since no problem teaches its own samples.
    by_chance = np.random.default_rng(0).permutation(len(train)) % 2 == 0
    told = PathClassifier(features=["length"]).out_of_fold(train, by_chance[train.groups], n_folds=2)
    assert abs(roc_auc_score(~by_chance[train.groups], told["all"]) - 0.5) < 0.25


def test_stacking_is_honest():
    """States that only name the problem would seem to tell everything, if their predictions were not out of fold."""
    rng = np.random.default_rng(0)
    problems = np.repeat(np.arange(40), 4)
    right = np.repeat(rng.random(40) < 0.5, 4)
    states = np.repeat(rng.normal(size=(40, 150)), 4, axis=0)  # of a problem, without a word on right or wrong
    folds = folds_by_problem(right, problems)
    fitted, log_odds = fit_logistic(states, right, folds)
    assert roc_auc_score(right, fitted.decision_function(states)) > 0.99  # what the training problems would show
    assert 0.3 < roc_auc_score(right, log_odds) < 0.7
    for learn, check in folds:
        assert not set(problems[learn]) & set(problems[check])
    # What is true of a problem has no influence on its own log-odds.
    mine = problems == problems[0]
    flipped = fit_logistic(states, right ^ mine, folds)[1]
    np.testing.assert_allclose(flipped[mine], log_odds[mine], atol=1e-9)
    assert not np.allclose(flipped[~mine], log_odds[~mine], atol=1e-9)
    # A second column that does tell keeps its place beside them.
    telling = (right + rng.normal(0, 0.7, len(right)))[:, None]
    stack = Stack.fit({"states": (["s"] * 150, states), "length": (["l"], telling)}, right, folds, None, None)
    of_states, of_length = stack.classifier[-1].coef_[0]
    assert of_length > 4 * abs(of_states)


@pytest.mark.slow
def test_states_of_a_language_model_join(language_model, train, new, tmp_path):
    model = PathClassifier(model=language_model).fit(train)
    assert model.features_ == ("agreement", "length", "states")
    assert model.feature_names_[-1] == "states_log_odds"
    assert "surprisal" in model.left_out_
    # Mean and last token of the whole solution, in two layers of width 32.
    assert model.states_classifier_.n_features_in_ == 2 * len(
        PRMFeaturizer(kind="states", model=language_model).transform(["We"])[0, :-2]
    )
    proba = model.predict_proba(new)
    np.testing.assert_allclose(model.predict_proba(new[1:2]), proba[N_SAMPLES : 2 * N_SAMPLES], atol=1e-3)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(PathClassifier.load(tmp_path / "model").predict_proba(new), proba)


@pytest.mark.slow
def test_surprisal_and_a_featurizer_of_ones_own(language_model, train, new):
    featurizer = PRMFeaturizer(kind="states", model=language_model, layer=1, log_probs=True, max_length=40)
    model = PathClassifier(features=["surprisal", "states"], model=featurizer).fit(train)
    assert model.feature_names_[0] == "model_tokens"
    assert model.states_classifier_.n_features_in_ == 32
    long = Solution("What is it?", ["We add. " * 60])
    with pytest.warns(UnscoredWarning, match="1 lack states .longer than the language model reads"):
        proba = model.predict_proba([long, new.solutions[0]])
    assert np.isnan(proba).all(axis=1).tolist() == [True, False]
    for wrong in (PRMFeaturizer(), PRMFeaturizer(kind="states", model=language_model, pooling="tokens")):
        with pytest.raises(ValueError, match="no row of states"):
            PathClassifier(model=wrong).fit(train)
