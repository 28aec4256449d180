import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline

from prmkit.data import ProblemShuffleSplit, Solution, StratifiedProblemKFold, flatten, problem_groups

SPLITTERS = [StratifiedProblemKFold(3), ProblemShuffleSplit(3, test_size=0.3, random_state=0)]


def text_of(step):
    return step.text


def problem_of(step):
    return step.problem


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    words = ["one", "two", "four", "six", "wrong", "so"]
    solutions = [
        Solution(f"problem {p}", [" ".join(rng.choice(words, 3)) for _ in range(rng.integers(2, 6))])
        for p in range(15)
        for _ in range(3)
    ]
    X = flatten([solutions[i] for i in rng.permutation(len(solutions))])
    y = np.array([-1 if "wrong" in step.text else 1 for step in X])
    return X, y


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize("container", [list, lambda X: pd.Series(X, index=range(len(X), 0, -1))])
def test_no_problem_on_both_sides(splitter, container, data):
    X, y = data
    for train, test in splitter.split(container(X), y):
        assert not {X[i].problem for i in train} & {X[i].problem for i in test}
        assert sorted([*train, *test]) == list(range(len(X)))


def test_folds_hold_each_row_once_and_about_the_same_share_of_errors(data):
    X, y = data
    folds = [test for _, test in StratifiedProblemKFold(5).split(X, y)]
    assert sorted(np.concatenate(folds)) == list(range(len(X)))
    shares = [np.mean(y[test] == -1) for test in folds]
    assert max(shares) - min(shares) < 0.2
    assert max(map(len, folds)) < 2 * min(map(len, folds))


def test_equal_problems_of_separate_objects_stay_together():
    X = flatten([Solution(p, ["a", "b"]) for p in ["p", "q", "r", "p"]])
    for train, test in StratifiedProblemKFold(3).split(X, [1, -1] * 4):
        assert ({0, 1, 6, 7} <= set(train)) or ({0, 1, 6, 7} <= set(test))


def test_plain_strings_split_by_text():
    X = ["a", "b", "c", "d"] * 2
    for train, test in StratifiedProblemKFold(2).split(X, [1, 0] * 4):
        assert not {X[i] for i in train} & {X[i] for i in test}


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_explicit_groups_win(splitter, data):
    X, y = data
    groups = np.arange(len(X)) % 4
    for train, test in splitter.split(X, y, groups=groups):
        assert not set(groups[train]) & set(groups[test])


def test_numbers_split_by_explicit_groups(data):
    X, y = data
    features, groups = np.ones((len(X), 2)), problem_groups(X)
    with_steps = [test.tolist() for _, test in StratifiedProblemKFold(3).split(X, y)]
    with_numbers = [test.tolist() for _, test in StratifiedProblemKFold(3).split(features, y, groups)]
    assert with_steps == with_numbers


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize(
    "container", [np.asarray, pd.DataFrame, lambda X: np.asarray(X).tolist(), lambda X: [1.0, 2.0, 3.0]]
)
def test_numbers_without_groups_are_an_error_that_says_what_to_pass(splitter, container):
    with pytest.raises(ValueError, match=r"groups is None: pass groups=.*problem_groups\(steps\)"):
        splitter.split(container([[0.0, 1.0]] * 3), [0, 1, 1])


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_whole_solutions_are_split_by_problem(splitter):
    """A classifier of whole solutions is validated by the same splitters. One of steps refuses them by itself."""
    X = [Solution(p, [f"So {i}."]) for p in "abcdefgh" for i in range(3)]
    problems = [one.problem for one in X]
    for learn, check in splitter.split(X, [True, False, True] * 8):
        assert not {problems[i] for i in learn} & {problems[i] for i in check}
        assert len(learn) + len(check) == len(X)
    with pytest.raises(TypeError, match=r"X is one Solution"):
        splitter.split(X[0], [1])


def test_too_few_problems():
    X = flatten([Solution(p, ["a", "b"]) for p in "pq"])
    with pytest.raises(ValueError, match=r"X has 2 distinct problems, expected at least 5.*n_splits=2"):
        StratifiedProblemKFold().split(X, [1, -1] * 2)
    with pytest.raises(ValueError, match="groups has 1 distinct problem, expected at least 5"):
        StratifiedProblemKFold().split(X, [1, -1] * 2, groups=[0] * 4)
    with pytest.raises(ValueError, match="X has 1 distinct problem, expected at least 2"):
        ProblemShuffleSplit().split(X[:2])


def test_stratifying_needs_labels(data):
    with pytest.raises(ValueError, match=r"call split\(X, y\)"):
        StratifiedProblemKFold().split(data[0])


def test_shuffling_follows_random_state_and_leaves_the_global_generator_alone(data):
    X, y = data
    before = np.random.get_state()[1].tolist()  # noqa: NPY002

    def folds(seed):
        splitter = StratifiedProblemKFold(3, shuffle=True, random_state=seed)
        return [test.tolist() for _, test in splitter.split(X, y)]

    assert folds(0) == folds(0)
    assert folds(0) != folds(1)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_shuffle_split_sizes_count_problems(data):
    X, _ = data
    train, test = next(ProblemShuffleSplit(1, test_size=5, random_state=0).split(X))
    assert len({X[i].problem for i in test}) == 5
    assert len({X[i].problem for i in train}) == 10
    assert len(list(ProblemShuffleSplit().split(X))) == ProblemShuffleSplit().get_n_splits() == 10


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_repr_shows_the_parameters(splitter):
    assert repr(splitter).startswith(f"{type(splitter).__name__}(n_splits=3")


@pytest.mark.parametrize("routing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_works_wherever_scikit_learn_takes_a_splitter(routing, data):
    X, y = data
    cv = StratifiedProblemKFold(3)
    estimator = make_pipeline(CountVectorizer(preprocessor=text_of), LogisticRegression())
    with config_context(enable_metadata_routing=routing):
        assert cross_val_score(estimator, X, y, cv=cv).shape == (3,)
        assert cross_val_score(estimator, X, y, cv=cv, n_jobs=2).shape == (3,)
        search = GridSearchCV(estimator, {"logisticregression__C": [0.1, 1.0]}, cv=cv).fit(X, y)
        assert search.cv_results_["mean_test_score"].shape == (2,)
        calibrated = CalibratedClassifierCV(estimator, cv=cv).fit(X, y)
        assert len(calibrated.calibrated_classifiers_) == 3
        assert cross_val_score(calibrated, X, y, cv=ProblemShuffleSplit(2, random_state=0)).shape == (2,)
        stack = StackingClassifier([("a", estimator), ("b", clone(estimator))], cv=cv).fit(X, y)
        assert stack.predict(X).shape == (len(X),)


def test_scores_of_problem_words_fall_to_chance_only_when_split_by_problem():
    """What the splitters are for: labels that depend on the problem alone must not be predictable."""
    X = flatten([Solution(f"word{p}", ["a", "b"]) for p in range(40) for _ in range(2)])
    y = np.array([int(step.problem[4:]) % 2 for step in X])
    model = make_pipeline(CountVectorizer(preprocessor=problem_of), LogisticRegression())
    rows = np.arange(len(X))
    train, test = train_test_split(rows, random_state=0)
    fitted = model.fit([X[i] for i in train], y[train])
    assert fitted.score([X[i] for i in test], y[test]) > 0.9  # by row: the problem gives the label away
    assert cross_val_score(model, X, y, cv=StratifiedProblemKFold(5)).mean() < 0.7
