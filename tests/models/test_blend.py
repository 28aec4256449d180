"""StepBlend: it beats its members, finds rare classes, and holds up where there is little to learn from."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score, log_loss
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_info, threadpool_limits

from prmkit import Solution, flatten
from prmkit.data import ProblemShuffleSplit, make_arithmetic_solutions
from prmkit.features import PRMFeaturizer, StepStatistics
from prmkit.models import StepBlend
from prmkit.models.heads import blend
from prmkit.models.heads.members import VIEW_OF


def quick(random_state=0, **params):
    """A blend without a sentence encoder: the statistics take the place of the embeddings."""
    return StepBlend(StepStatistics(), random_state=random_state, **params)


def split(X, y, test_size):
    """Train and test parts that share no problem."""
    learn, check = next(ProblemShuffleSplit(1, test_size=test_size, random_state=0).split(X))
    y = np.asarray(y)
    return [X[i] for i in learn], y[learn], [X[i] for i in check], y[check]


@pytest.fixture(scope="module")
def parts():
    data = make_arithmetic_solutions(50, 3, random_state=0)
    return split(data.X, data.y, 0.4)


@pytest.fixture(scope="module")
def fitted(parts):
    return quick().fit(*parts[:2])


class TestLearning:
    def test_better_than_each_member_and_the_majority_on_other_problems(self, parts, fitted):
        _, y, X_test, y_test = parts
        loss = log_loss(y_test, fitted.predict_proba(X_test))
        for name, member in fitted.members_.items():
            rows = fitted.views_[VIEW_OF[name]].transform(X_test)
            assert loss < log_loss(y_test, member.predict_proba(rows)), name
        shares = np.bincount(y + 1) / len(y)
        assert loss < 0.5 * log_loss(y_test, np.tile(shares, (len(y_test), 1)))

    def test_probabilities(self, parts, fitted):
        proba = fitted.predict_proba(parts[2])
        assert proba.shape == (len(parts[2]), 3)
        assert ((proba >= 0) & (proba <= 1)).all()
        np.testing.assert_allclose(proba.sum(axis=1), 1)

    def test_the_members_are_those_of_the_docstring(self, fitted):
        assert list(fitted.members_) == ["trees", "statistics", "words", "embeddings"]
        assert list(fitted.views_) == ["statistics", "words", "embeddings"]

    def test_default_featurizer_embeds_the_prefix(self, monkeypatch):
        monkeypatch.setattr(PRMFeaturizer, "fit_transform", lambda self, X, y: np.eye(len(X)))
        for given, context in ((None, "prefix"), (PRMFeaturizer(), "prefix"), (PRMFeaturizer(context="none"), "none")):
            view = (
                StepBlend(given, members=["trees", "statistics", "words", "embeddings"])
                .fit(["2 + 2 = 4", "2 + 2 = 5"], [1, -1])
                .views_["embeddings"]
            )
            assert view.get_params() == PRMFeaturizer(context=context).get_params()

    def test_some_members(self, parts):
        X, y, X_test, _ = parts
        few = StepBlend(members=["statistics"], C=2.0, random_state=0).fit(X, y)
        assert list(few.members_) == list(few.views_) == ["statistics"]
        assert pytest.approx(0.06) == few.members_["statistics"][-1].C
        assert few.predict_proba(X_test).shape == (len(X_test), 3)
        trees = StepBlend(members=["trees"], n_trees=3, random_state=0).fit(X, y).members_["trees"]
        assert trees.n_iter_ == 3
        for wrong in ([], ["forest"], ["trees", "trees"]):
            with pytest.raises(ValueError, match=r"expected some of \['trees', 'statistics', 'words', 'embeddings'\]"):
                StepBlend(members=wrong).fit(X, y)

    def test_deterministic_by_seed(self):
        data = make_arithmetic_solutions(8, 2, random_state=0)
        one, same, other = (quick(seed, n_trees=10).fit(data.X, data.y).predict_proba(data.X) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()

    def test_random_state_none_leaves_global_generators_alone(self):
        data = make_arithmetic_solutions(6, 2, random_state=0)
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        model = quick(random_state=None, n_trees=10).fit(data.X, data.y)
        assert np.isfinite(model.predict_proba(data.X)).all()
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_clone_and_not_fitted(self, fitted):
        copy = clone(fitted)
        for method in (copy.predict, copy.predict_proba):
            with pytest.raises(NotFittedError):
                method(["a"])


@pytest.mark.parametrize("labels", [("negative", "neutral", "positive"), (0, 1, 2), (-1.0, 0.0, 1.0)])
def test_any_labels(labels):
    data = make_arithmetic_solutions(6, 2, random_state=0)
    y = np.array([labels[rating + 1] for rating in data.y])
    model, plain = quick(n_trees=10).fit(data.X, y), quick(n_trees=10).fit(data.X, data.y)
    assert model.classes_.tolist() == sorted(labels)
    np.testing.assert_allclose(model.predict_proba(data.X), plain.predict_proba(data.X))
    assert set(model.predict(data.X)) <= set(labels)


def test_two_classes():
    data = make_arithmetic_solutions(20, 2, random_state=0)
    model = quick(n_trees=10).fit(data.X, np.asarray(data.y) >= 0)
    assert model.predict_proba(data.X).shape == (len(data.X), 2)
    assert model.predict(data.X).dtype == bool


@pytest.fixture(scope="module")
def guesses():
    """Steps that guess are wrong in three of ten cases: never likelier wrong than right."""
    rng = np.random.default_rng(0)
    solutions, y = [], []
    for problem in range(150):
        guess = rng.random(4) < 0.25
        solutions.append(Solution(f"problem {problem}", ["we guess" if g else "we compute" for g in guess]))
        y += np.where(rng.random(4) < np.where(guess, 0.3, 0.02), -1, 1).tolist()
    return split(flatten(solutions), y, 0.4)


@pytest.fixture(scope="module")
def guessing(guesses):
    return quick().fit(*guesses[:2])


class TestDecisions:
    def test_rare_class_is_found_more_often_and_macro_f1_rises(self, guesses, guessing):
        _, _, X_test, y_test = guesses
        model = guessing
        likeliest = model.classes_[model.predict_proba(X_test).argmax(axis=1)]
        answer = model.predict(X_test)
        assert (answer == -1).sum() > (likeliest == -1).sum()
        assert f1_score(y_test, answer, average="macro") > f1_score(y_test, likeliest, average="macro") + 0.05
        assert model.decision_weights_.max() == model.decision_weights_[0] > model.decision_weights_[1] == 1

    def test_probabilities_stay_calibrated(self, guesses, guessing):
        _, _, X_test, y_test = guesses
        risk = guessing.predict_proba(X_test)[:, 0]
        assert risk.mean() == pytest.approx(np.mean(y_test == -1), abs=0.04)

    def test_sample_weight_shifts_probabilities(self, guesses, guessing):
        X, y, X_test, _ = guesses
        heavy = quick().fit(X, y, sample_weight=np.where(y == -1, 5.0, 1.0)).predict_proba(X_test)[:, 0]
        assert heavy.mean() > 2 * guessing.predict_proba(X_test)[:, 0].mean()

    def test_equal_sample_weights_change_nothing(self, guesses, guessing):
        X, y, X_test, _ = guesses
        expected = guessing.predict_proba(X_test)
        found = quick().fit(X, y, sample_weight=np.ones(len(y))).predict_proba(X_test)
        np.testing.assert_allclose(found, expected, atol=1e-6)


class TestLittleData:
    def test_two_rows_of_one_problem(self):
        X = flatten([Solution("p", ["2 + 2 = 4", "2 + 2 = 5"])])
        model = quick().fit(X, [1, -1])
        assert model.blend_ is None
        np.testing.assert_array_equal(model.decision_weights_, [1, 1])
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)

    @pytest.mark.parametrize(("n_problems", "stacked"), [(2, False), (3, True)])
    def test_averages_until_each_class_occurs_in_three_problems(self, n_problems, stacked):
        solutions = [Solution(f"p{i}", ["2 + 2 = 4", "2 + 2 = 5"]) for i in range(n_problems)]
        model = quick().fit(flatten(solutions), [1, -1] * n_problems)
        assert (model.blend_ is not None) == stacked

    def test_averaging_is_of_log_probabilities(self):
        X = ["add two", "add three", "divide by zero", "so five"]
        model = quick().fit(X, [1, 1, -1, 1])
        logs = [
            np.log(member.predict_proba(model.views_[VIEW_OF[name]].transform(X)))
            for name, member in model.members_.items()
        ]
        expected = np.exp(np.mean(logs, axis=0))
        np.testing.assert_allclose(model.predict_proba(X), expected / expected.sum(axis=1, keepdims=True))

    def test_rare_class_absent_from_a_fold(self, monkeypatch):
        """Three problems hold the rare class, and a fold leaves all of them out of what it learns from."""
        solutions = [Solution(f"p{i}", ["2 + 2 = 4", "2 + 2 = 5", "hmm"]) for i in range(9)]
        X = flatten(solutions)
        y = np.array([1, -1, 1] * 9)
        y[[2, 5, 8]] = 0

        class InOrder:
            def __init__(self, *args, **kwargs):
                pass

            def split(self, X, y, groups=None):
                rows = np.arange(len(y))
                return [(rows[rows // 9 != fold], rows[rows // 9 == fold]) for fold in range(3)]

        monkeypatch.setattr("prmkit.models.heads.blend.StratifiedProblemKFold", InOrder)
        model = quick().fit(X, y)
        assert model.blend_ is not None
        assert model.classes_.tolist() == [-1, 0, 1]
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)

    def test_blank_steps_among_others(self):
        model = quick().fit(["", "2 + 2 = 4", "", "2 + 2 = 5"], [1, 1, -1, -1])
        assert np.isfinite(model.predict_proba(["", "new"])).all()


@pytest.mark.parametrize(
    ("X", "y", "weight", "words"),
    [
        (["a", "b"], [1, 1], None, "one class only"),
        (["a", "b"], [1, -1, 1], None, "inconsistent numbers of samples"),
        (["a", "b"], [0.2, 0.7], None, "continuous"),
        (["a", "b"], [1, -1], [1.0], "sample_weight"),
        (["a", "b"], [1, -1], [1.0, -1.0], "[Nn]egative"),
        (["", " "], [1, -1], None, "blank"),
    ],
)
def test_bad_input(X, y, weight, words):
    with pytest.raises(ValueError, match=words):
        quick().fit(X, y, sample_weight=weight)


class CountedText(str):
    """A text that counts how often it is read in lower case, as each view of the words of a step does."""

    n_read = 0

    def lower(self):
        CountedText.n_read += 1
        return super().lower()


def test_a_text_is_read_as_often_in_a_long_solution_as_in_a_short_one(fitted):
    per_step = []
    for n in (20, 400):
        solution = Solution("How many?", [CountedText(f"Then {i} + 1 = {i + 1}.") for i in range(n)])
        CountedText.n_read = 0
        fitted.predict_proba(flatten([solution]))
        per_step.append(CountedText.n_read / n)
    assert 0 < per_step[1] == per_step[0] <= 5


def test_members_learn_and_answer_on_one_thread_of_each_library(parts, monkeypatch):
    """Two threads that wait for each other by spinning took 4 to 30 times as long on a busy machine."""
    used = []

    def note(*arguments, fit=blend.fit_weighted):
        used.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] in ("openmp", "blas"))
        return fit(*arguments)

    monkeypatch.setattr(blend, "fit_weighted", note)
    with threadpool_limits(2):
        before = [pool["num_threads"] for pool in threadpool_info()]
        quick().set_params(members=["statistics"]).fit(*parts[:2])
        assert [pool["num_threads"] for pool in threadpool_info()] == before
    assert set(used) == {1}
    assert 2 in before


def test_constant_columns_and_weights_bring_no_warning():
    """Their weighted variance is not quite zero, and for some it is below."""
    X, y = make_arithmetic_solutions(60, 2, random_state=0)
    constant = FunctionTransformer(lambda X: np.tile(np.linspace(0.1, 3.0, 200), (len(X), 1)))
    weight = np.random.default_rng(0).choice([0.95, 1.0], len(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proba = StepBlend(constant, random_state=0).fit(X, y, sample_weight=weight).predict_proba(X)
    assert np.isfinite(proba).all()
