"""What all guarantees promise alike: no leak, no silent nonsense, saved and cloned without loss."""

import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline

from prmkit import PRMClassifier, Solution, StratifiedProblemKFold
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.uncertainty import (
    CalibratedStepClassifier,
    ErrorDetector,
    FirstErrorSet,
    PathCalibrator,
    PathTriage,
    PrefixCertifier,
    StepPredictionSets,
)

HELD_OUT = tuple(make_arithmetic_solutions(40, 2, random_state=77))

PATH_ESTIMATORS = [
    PrefixCertifier(alpha=0.2, delta=0.3),
    ErrorDetector(recall=0.8),
    FirstErrorSet(alpha=0.25),
    PathTriage(accept_error=0.2, reject_error=0.15),
]
of_paths = pytest.mark.parametrize("estimator", PATH_ESTIMATORS, ids=lambda e: type(e).__name__)


@pytest.fixture
def draws(world_several):
    return world_several.draw(range(80)), world_several.draw(range(80, 120))


@of_paths
def test_the_same_problem_on_two_sides_is_refused(estimator, draws):
    (X, first_errors, groups), (X_new, first_errors_new, groups_new) = draws
    fitted = clone(estimator).fit(X, first_errors, groups)
    fitted.predict(X_new, groups_new)
    groups_new = groups_new.copy()
    groups_new[:2] = groups[5]
    match = f"1 of .* problems are also among those that {type(estimator).__name__} was calibrated on"
    with pytest.raises(ValueError, match=match):
        fitted.predict(X_new, groups_new)
    with pytest.raises(ValueError, match=match):
        fitted.evaluate(X_new, first_errors_new, groups_new)
    fitted.predict(X)  # without groups nothing is known of problems


@of_paths
def test_first_errors_that_a_data_set_lacks_are_refused(estimator, draws):
    X, first_errors, groups = draws[0]
    with pytest.raises(ValueError, match=r"first_errors is None, expected one number per path: .* pass first_errors="):
        clone(estimator).fit(X, None, groups)
    unjudged = [None, *first_errors.tolist()[1:]]
    with pytest.raises(ValueError, match=r"first_errors\[0\] is None.*not judged to their end"):
        clone(estimator).fit(X, unjudged, groups)


@of_paths
def test_with_a_classifier(estimator, fitted):
    classifier, calibration, test = fitted
    guarantee = clone(estimator).set_params(classifier=classifier)
    guarantee.fit(calibration.solutions, calibration.first_errors)
    assert guarantee.unit_ == "problem"
    with_error = [s.problem for s, f in zip(calibration.solutions, calibration.first_errors, strict=True) if f >= 0]
    problems = with_error if isinstance(estimator, ErrorDetector) else [s.problem for s in calibration.solutions]
    assert guarantee.n_calibration_ == len(set(problems))
    assert len(guarantee.predict(test.solutions)) == len(test.solutions)
    risks = [one.risks for one in classifier.score_solutions(calibration.solutions)]
    groups = [s.problem for s in calibration.solutions]
    bare = clone(estimator).fit(risks, calibration.first_errors, groups)
    new = [one.risks for one in classifier.score_solutions(test.solutions)]
    assert np.array_equal(bare.predict(new), guarantee.predict(test.solutions))
    with pytest.raises(ValueError, match="was calibrated on"):
        guarantee.predict([*test.solutions, calibration.solutions[0]])
    seen = make_arithmetic_solutions(40, 2, random_state=0)
    with pytest.raises(ValueError, match="classifier was trained on"):
        guarantee.fit(seen.solutions, seen.first_errors)
    with pytest.raises(ValueError, match="classifier was trained on"):
        guarantee.predict(seen.solutions[:3])


@of_paths
def test_predict_is_read_and_decide(estimator, draws):
    (X, first_errors, groups), (X_new, _, groups_new) = draws
    fitted = clone(estimator).fit(X, first_errors, groups)
    paths = fitted.read(X_new, groups_new)
    assert paths.risks.values.tolist() == np.concatenate(X_new).tolist()
    assert np.array_equal(fitted.decide(paths), fitted.predict(X_new, groups_new))
    with pytest.raises(ValueError, match="was calibrated on"):
        fitted.read(X, groups)


@of_paths
def test_order_of_paths_is_nothing(estimator, draws):
    (X, first_errors, groups), (X_new, _, _) = draws
    order = np.random.default_rng(0).permutation(len(X))
    one = clone(estimator).fit(X, first_errors, groups)
    other = clone(estimator).fit([X[i] for i in order], first_errors[order], groups[order])
    assert np.array_equal(one.predict(X_new), other.predict(X_new))
    alone = [one.predict([path])[0] for path in X_new]
    assert np.array_equal(one.predict(X_new), alone)


@of_paths
@pytest.mark.parametrize(
    ("X", "first_errors", "message"),
    [
        ([[0.1, np.nan]], [0], "nan"),
        ([[0.1, 1.1]], [0], "1.1"),
        ([[-0.2]], [0], "-0.2"),
        ([[0.1], []], [0, -1], "path 1 has no steps"),
        ([[0.1]], [1], r"first_errors\[0\] is 1, but path 0 has 1 steps"),
        ([[0.1]], [-2], r"first_errors\[0\] is -2"),
        ([[0.1]], [0, 1], "one number for each of the 1 paths"),
        ([[0.1]], [0.5], "expected 0-based indices"),
        ([], [], "empty"),
    ],
)
def test_bad_input_is_named(estimator, X, first_errors, message):
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(X, first_errors)


@of_paths
def test_solutions_need_a_classifier(estimator):
    data = make_arithmetic_solutions(3, 1, random_state=0)
    with pytest.raises(TypeError, match="classifier is None"):
        clone(estimator).fit(data.solutions, data.first_errors)
    with pytest.raises(NotFittedError):
        clone(estimator).set_params(classifier=PRMClassifier()).fit(data.solutions, data.first_errors)


@of_paths
def test_nothing_before_fit_and_nothing_from_nothing(estimator, draws):
    with pytest.raises(NotFittedError):
        clone(estimator).predict([[0.1]])
    assert len(clone(estimator).fit(*draws[0]).predict([])) == 0
    with pytest.raises(ValueError, match="groups has shape"):
        clone(estimator).fit(*draws[0][:2], groups=[1])


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (PrefixCertifier, {"alpha": 0}),
        (PrefixCertifier, {"alpha": 1.0}),
        (PrefixCertifier, {"delta": 0.0}),
        (ErrorDetector, {"recall": 1}),
        (ErrorDetector, {"delta": -0.1}),
        (FirstErrorSet, {"alpha": 1.5}),
        (PathTriage, {"accept_error": 0}),
        (PathTriage, {"reject_error": 1}),
        (PrefixCertifier, {"classifier": "best"}),
    ],
)
def test_parameters_are_checked_in_fit(cls, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        cls(**params).fit([[0.5]] * 20, [0] * 20)


@of_paths
@pytest.mark.parametrize("n_problems", [80, 2])
@pytest.mark.filterwarnings("ignore:a failure rate:UserWarning")
def test_saved_and_read(estimator, world_several, n_problems, tmp_path):
    """Infinite thresholds too; what was seen in the calibration is still refused."""
    X, first_errors, groups = world_several.draw(range(n_problems))
    X_new, _, groups_new = world_several.draw(range(100, 140))
    one = clone(estimator).fit(X, first_errors, groups)
    one.save(tmp_path / "guarantee")
    other = type(one).load(tmp_path / "guarantee")
    learnt = {name for name in vars(one) if name.endswith("_")}
    assert learnt == {name for name in vars(other) if name.endswith("_")}
    for name in learnt - {"calibration_problems_"}:
        assert getattr(other, name) == getattr(one, name)
        assert type(getattr(other, name)) is type(getattr(one, name))
    assert other.get_params() == one.get_params()
    assert np.array_equal(one.predict(X_new, groups_new), other.predict(X_new, groups_new))
    with pytest.raises(ValueError, match="calibrated on"):
        other.predict(X, groups)
    clone(estimator).fit(X, first_errors).save(tmp_path / "guarantee")  # replaces it; without known problems
    assert type(one).load(tmp_path / "guarantee").unit_ == "path"
    with pytest.raises(NotFittedError):
        clone(estimator).save(tmp_path / "other")


@pytest.mark.parametrize("class_conditional", [False, True])
def test_step_sets_saved_and_read(class_conditional, tmp_path):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1, 1], 200)
    labels = np.array([rng.choice(["negative", "neutral", "positive"], p=p) for p in proba])
    sets = StepPredictionSets(class_conditional=class_conditional)
    sets.fit(proba, labels, groups=np.arange(200) // 2)
    sets.save(tmp_path / "sets")
    other = StepPredictionSets.load(tmp_path / "sets")
    assert (other.predict(proba) == sets.predict(proba)).all()
    assert other.classes_.tolist() == ["negative", "neutral", "positive"]
    assert (other.thresholds_ == sets.thresholds_).all()
    assert (other.n_calibration_, other.unit_, other.attainable_) == (100, "problem", True)


def edit_settings(folder, **params):
    """Change parameters in the saved configuration, as an earlier version would have written them."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["settings"]["params"].update(params)
    file.write_text(json.dumps(config))


def test_step_sets_of_an_earlier_version(tmp_path):
    """It had ``score`` and ``random_state``: sets by LAC load, those by MAPIE say what to do."""
    proba, labels = np.tile([[0.2, 0.8], [0.7, 0.3]], (20, 1)), np.tile([1, -1], 20)
    sets = StepPredictionSets().fit(proba, labels)
    sets.save(tmp_path / "sets")
    edit_settings(tmp_path / "sets", score="lac", random_state=0)
    other = StepPredictionSets.load(tmp_path / "sets")
    assert (other.predict(proba) == sets.predict(proba)).all()
    assert other.settings_ == sets.settings_
    edit_settings(tmp_path / "sets", score="aps")
    with pytest.raises(ValueError, match=r"score='aps', which an earlier version .* MAPIE: calibrate"):
        StepPredictionSets.load(tmp_path / "sets")


def test_saved_with_its_classifier(fitted, tmp_path):
    classifier, calibration, test = fitted
    certifier = PrefixCertifier(FrozenEstimator(classifier), alpha=0.3)
    certifier.fit(calibration.solutions, calibration.first_errors).save(tmp_path / "certifier")
    other = PrefixCertifier.load(tmp_path / "certifier")
    assert other.predict(test.solutions).tolist() == certifier.predict(test.solutions).tolist()
    pipeline = make_pipeline(StepStatistics(), LogisticRegression(max_iter=2000)).fit(calibration.X, calibration.y)
    certifier = PrefixCertifier(pipeline).fit(test.solutions, test.first_errors)
    with pytest.raises(TypeError, match="Pipeline, which cannot be saved without pickle"):
        certifier.save(tmp_path / "pipeline")


@pytest.mark.parametrize("estimator", [*PATH_ESTIMATORS, StepPredictionSets()], ids=lambda e: type(e).__name__)
def test_clone_keeps_a_fitted_classifier(estimator, fitted):
    classifier, calibration, test = fitted
    copy = clone(clone(estimator).set_params(classifier=classifier))
    assert copy.classifier is classifier
    if isinstance(copy, StepPredictionSets):
        copy.fit(calibration.X, calibration.y).predict(test.X)
    else:
        copy.fit(calibration.solutions, calibration.first_errors).predict(test.solutions)
    assert not any(name.endswith("_") for name in vars(clone(copy)))


@of_paths
def test_groups_that_part_a_problem_are_refused(estimator, fitted):
    classifier, calibration, _ = fitted
    guarantee = clone(estimator).set_params(classifier=classifier)
    each_alone = np.arange(len(calibration.solutions))
    with pytest.raises(ValueError, match="one problem into several groups"):
        guarantee.fit(calibration.solutions, calibration.first_errors, each_alone)


def test_names_of_groups_are_taken_as_they_are():
    risks = [[0.1, 0.4], [0.2, 0.3], [0.6]]
    certifier = PrefixCertifier(alpha=0.5).fit(risks, [1, 0, -1], groups=["a 1", "A1", "b"])
    assert certifier.n_calibration_ == 3
    assert certifier.predict(risks[:1], groups=["a1"]).tolist() == [1]
    with pytest.raises(ValueError, match="calibrated on"):
        certifier.predict(risks[:1], groups=["A1"])


@of_paths
def test_generators_lose_no_path(estimator, draws):
    (X, first_errors, groups), (X_new, _, _) = draws
    fitted = clone(estimator).fit((path for path in X), first_errors, groups)
    assert fitted.n_calibration_ == clone(estimator).fit(X, first_errors, groups).n_calibration_
    assert list(fitted.predict(path for path in X_new)) == list(fitted.predict(X_new))


@pytest.mark.parametrize(
    "wrap",
    [
        FrozenEstimator,
        lambda clf: Pipeline([("classifier", clf)]),
        lambda clf: CalibratedClassifierCV(FrozenEstimator(clf), method="sigmoid", cv=2).fit(*HELD_OUT),
        lambda clf: GridSearchCV(
            CalibratedStepClassifier(clf), {"method": ["sigmoid", "vector"]}, cv=StratifiedProblemKFold(2)
        ).fit(*HELD_OUT),
    ],
    ids=["frozen", "pipeline", "calibrated", "search"],
)
def test_training_problems_are_found_inside_wrappers(fitted, wrap):
    classifier, calibration, _ = fitted
    train = make_arithmetic_solutions(40, 2, random_state=0)
    wrapped = wrap(classifier)
    PrefixCertifier(wrapped).fit(calibration.solutions, calibration.first_errors)
    with pytest.raises(ValueError, match="the classifier was trained on"):
        PrefixCertifier(wrapped).fit(train.solutions, train.first_errors)


class InAnotherBatch(ClassifierMixin, BaseEstimator):
    """Says the same of every step, but for the last digits, which depend on how many it is asked about."""

    def fit(self, X, y):
        self.classes_ = np.array([-1, 1])
        return self

    def predict_proba(self, X):
        risk = np.full(len(X), 0.4 - 1e-9 * (len(X) < 5))
        return np.column_stack([risk, 1 - risk])


def test_the_last_digits_of_another_batch_break_no_guarantee(fitted):
    _, calibration, test = fitted
    classifier = InAnotherBatch().fit(None, None)
    certifier = PrefixCertifier(classifier).fit(calibration.solutions, calibration.first_errors)
    detector = ErrorDetector(classifier).fit(calibration.solutions, calibration.first_errors)
    for solution in [Solution(s.problem, s.steps[:2]) for s in test.solutions[:5]]:
        assert certifier.predict([solution]).tolist() == [0]
        assert detector.predict([solution]).tolist() == [True]


def test_missing_and_mixed_names_of_groups(draws):
    (X, first_errors, _), _ = draws
    X, first_errors = X[:3], first_errors[:3]
    with pytest.raises(ValueError, match=r"groups\[1\] is nan \(1 such\)"):
        PrefixCertifier(alpha=0.5).fit(X, first_errors, groups=[1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match=r"groups\[2\] is None"):
        PrefixCertifier(alpha=0.5).fit(X, first_errors, groups=["a", 1, None])
    fitted = PrefixCertifier(alpha=0.5).fit(X, first_errors, groups=[1, 2, 3])
    with pytest.raises(ValueError, match="calibrated on"):
        fitted.predict(X[:1], groups=np.array([2.0]))


def test_scored_solutions_are_judged_by_the_guarantee_s_own_classifier(fitted):
    classifier, calibration, test = fitted
    other = PRMClassifier(StepStatistics(), LogisticRegression(C=1e-6)).fit(
        *make_arithmetic_solutions(40, 2, random_state=9)
    )
    certifier = PrefixCertifier(classifier, 0.2).fit(calibration.solutions, calibration.first_errors)
    by_other = certifier.predict(other.score_solutions(test.solutions))
    assert by_other.tolist() == certifier.predict(test.solutions).tolist()


def test_parameters_of_a_fitted_classifier_are_not_changed_from_outside(fitted):
    classifier, _, _ = fitted
    copy = clone(PrefixCertifier(classifier))
    with pytest.raises(ValueError, match="classifier__head: the classifier is fitted"):
        copy.set_params(classifier__head="xx")
    assert classifier.head is None
    assert PrefixCertifier(PRMClassifier()).set_params(classifier__head=GaussianNB()).classifier.head is not None


def test_the_level_that_was_calibrated_for_is_kept(draws, tmp_path):
    (X, first_errors, groups), _ = draws
    certifier = PrefixCertifier(alpha=0.2).fit(X, first_errors, groups).set_params(alpha=0.5)
    assert certifier.settings_ == {"alpha": 0.2, "delta": None}
    certifier.save(tmp_path / "certifier")
    assert PrefixCertifier.load(tmp_path / "certifier").alpha == 0.2


@pytest.mark.parametrize("broken", ["unit", "params", "n_calibration"])
def test_a_damaged_configuration_is_named(draws, tmp_path, broken):
    (X, first_errors, groups), _ = draws
    PrefixCertifier(alpha=0.2).fit(X, first_errors, groups).save(tmp_path / "certifier")
    file = tmp_path / "certifier" / "config.json"
    config = json.loads(file.read_text())
    del config["settings"][broken]
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is damaged"):
        PrefixCertifier.load(tmp_path / "certifier")


@of_paths
def test_a_whole_data_set_is_refused_in_words(estimator, fitted):
    classifier, calibration, _ = fitted
    with pytest.raises(TypeError, match=r"dataset\.solutions"):
        clone(estimator).set_params(classifier=classifier).fit(calibration, calibration.first_errors)
    with pytest.raises(TypeError, match=r"dataset\.solutions"):
        clone(estimator).fit(calibration, calibration.first_errors)


@pytest.mark.parametrize(
    "estimator",
    [ErrorDetector(recall=0.8), ErrorDetector(recall=0.6, delta=0.3), PathTriage(accept_error=0.2)],
    ids=str,
)
def test_right_and_wrong_is_enough_where_no_place_is_needed(estimator, draws):
    (X, first_errors, groups), (X_new, first_errors_new, groups_new) = draws
    one = clone(estimator).fit(X, first_errors, groups)
    other = clone(estimator).fit(X, groups=groups, errors=first_errors >= 0)
    learnt = {
        name: value for name, value in vars(one).items() if name.endswith("threshold_") or name == "n_calibration_"
    }
    assert {name: getattr(other, name) for name in learnt} == learnt
    assert np.array_equal(one.predict(X_new), other.predict(X_new))
    report = one.evaluate(X_new, first_errors_new, groups_new)
    assert other.evaluate(X_new, groups=groups_new, errors=(first_errors_new >= 0).tolist()) == report
    with pytest.raises(ValueError, match="first_errors and errors are both given"):
        clone(estimator).fit(X, first_errors, groups, errors=first_errors >= 0)


@pytest.mark.parametrize("estimator", [ErrorDetector(recall=0.8), PathTriage()], ids=str)
def test_one_number_per_path_is_enough_where_no_place_is_needed(estimator, draws, tmp_path):
    """A number is read as the risk of a path with one step, and may have any scale."""
    (X, first_errors, groups), (X_new, _, groups_new) = draws
    scores, new, wrong = (
        np.array([max(path) for path in paths]) for paths in (X, X_new, [[f] for f in first_errors >= 0])
    )
    of_steps = clone(estimator).fit([[score] for score in scores], np.where(wrong, 0, -1), groups)
    of_scores = clone(estimator).fit(scores, groups=groups, errors=wrong)
    assert np.array_equal(of_scores.predict(new, groups_new), of_steps.predict([[score] for score in new], groups_new))
    logits = np.log(scores / (1 - scores))
    scaled = clone(estimator).fit(logits.tolist(), groups=groups, errors=wrong)
    assert np.array_equal(scaled.predict(np.log(new / (1 - new))), of_scores.predict(new))
    unknown = scaled.predict([np.nan, np.inf, -np.inf]).tolist()
    assert unknown == (
        [True, True, False] if isinstance(estimator, ErrorDetector) else ["escalate", "reject", "accept"]
    )
    scaled.save(tmp_path / "guarantee")
    loaded = type(estimator).load(tmp_path / "guarantee")
    assert np.array_equal(loaded.predict(logits), scaled.predict(logits))
    with pytest.raises(ValueError, match="the calibration had one number per path"):
        loaded.predict(X_new)


@pytest.mark.parametrize("estimator", [PrefixCertifier(), FirstErrorSet()], ids=str)
def test_guarantees_about_places_say_what_to_take_instead(estimator, draws):
    X, first_errors, groups = draws[0]
    name = type(estimator).__name__
    instead = "take SelectiveRisk, PathTriage or ErrorDetector"
    with pytest.raises(ValueError, match=f"{name} needs to know where: pass first_errors=.* {instead}"):
        clone(estimator).fit(X, groups=groups, errors=first_errors >= 0)
    fitted = clone(estimator).fit(X, first_errors, groups)
    with pytest.raises(ValueError, match=f"{name} needs to know where"):
        fitted.evaluate(X, errors=first_errors >= 0)
    with pytest.raises(
        ValueError, match=f"X holds one number per path, and {name} reads the risks of steps.* {instead}"
    ):
        fitted.predict([0.1, 0.2])


def test_path_calibrator_by_errors(draws):
    (X, first_errors, groups), (X_new, first_errors_new, _) = draws
    one = PathCalibrator().fit(X, first_errors, groups)
    other = PathCalibrator().fit(X, groups=groups, errors=first_errors >= 0)
    assert np.array_equal(one.p_no_error(X_new), other.p_no_error(X_new))
    assert one.score(X_new, first_errors_new) == other.score(X_new, errors=first_errors_new >= 0)
