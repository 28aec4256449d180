"""StepEnsemble: members from other problems that share one pass, and a mean that is at least as good as they are."""

import pickle
from copy import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from prmkit import PRMClassifier, StratifiedProblemKFold, problem_groups
from prmkit.data import make_arithmetic_solutions
from prmkit.data.problem_keys import distinct_problem_keys
from prmkit.features import StepStatistics, StepWords
from prmkit.models import StepBlend, StepMLP, StepTransformer, TokenPRM
from prmkit.uncertainty import CalibratedStepClassifier, StepEnsemble

SMALL_TRANSFORMER = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "max_epochs": 2}
HEADS = {
    "logistic": None,
    "perceptron": StepMLP(8, max_epochs=2),
    "transformer": StepTransformer(**SMALL_TRANSFORMER),
    "blend": StepBlend(StepStatistics(), n_trees=5),
}


def quick(head=None, **options):
    """A classifier that needs no encoder."""
    return PRMClassifier(StepStatistics(), head, **options)


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(18, 2, error_rate=0.5, neutral_rate=0.3, random_state=0)


@pytest.fixture(scope="module")
def other():
    return make_arithmetic_solutions(18, 2, error_rate=0.5, neutral_rate=0.3, random_state=1)


@pytest.fixture(scope="module")
def fitted(data):
    return StepEnsemble(quick(), random_state=0).fit(data.X, data.y)


@pytest.fixture(scope="module")
def blended(data):
    return StepEnsemble(quick(HEADS["blend"]), 2, random_state=0).fit(data.X, data.y)


class Records(ClassifierMixin, BaseEstimator):
    """Keeps what it was fitted on; the class shares it saw are what it answers."""

    def fit(self, X, y, sample_weight=None):
        self.X_, self.y_, self.weight_ = list(X), np.asarray(y), sample_weight
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        shares = np.mean(self.y_[:, None] == self.classes_, axis=0)
        return np.tile(shares, (len(X), 1))


class RecordsRows(Records):
    """The same without weights."""

    def fit(self, X, y):
        return super().fit(X, y)


class TestMembers:
    def test_mean_and_shapes(self, fitted, other):
        found = fitted.member_proba(other.X)
        assert found.shape == (5, len(other.X), 3)
        np.testing.assert_allclose(fitted.predict_proba(other.X), found.mean(axis=0))
        assert (found.std(axis=0) > 0).any()
        for member, proba in zip(fitted.members_, found, strict=True):
            np.testing.assert_array_equal(member.predict_proba(other.X), proba)

    @pytest.mark.parametrize("name", HEADS)
    def test_one_member_without_bootstrap_is_the_classifier(self, name, data, other):
        classifier = quick(HEADS[name], random_state=3)
        one = StepEnsemble(classifier, 1, bootstrap=False, random_state=7).fit(data.X, data.y)
        alone = clone(classifier).fit(data.X, data.y)
        np.testing.assert_array_equal(one.predict_proba(other.X), alone.predict_proba(other.X))
        np.testing.assert_array_equal(one.predict(other.X), alone.predict(other.X))

    @pytest.mark.parametrize("name", ["perceptron", "transformer", "blend"])
    def test_each_member_without_bootstrap_is_a_classifier_of_its_seed(self, name, data, other):
        found = StepEnsemble(quick(HEADS[name]), 2, bootstrap=False, random_state=0).fit(data.X, data.y)
        proba = found.member_proba(other.X)
        assert (proba[0] != proba[1]).any()
        for member, expected in zip(found.members_, proba, strict=True):
            alone = clone(member).fit(data.X, data.y)
            np.testing.assert_array_equal(alone.predict_proba(other.X), expected)

    def test_members_of_a_seeded_classifier_differ_all_the_same(self, data):
        found = StepEnsemble(quick(StepMLP(8, max_epochs=2), random_state=0), 3, bootstrap=False).fit(data.X, data.y)
        assert len({member.random_state for member in found.members_}) == 3
        assert found.members_[0].random_state == 0

    def test_sequences_keep_their_labels_and_weights(self, data):
        """A head over sequences gets whole solutions of the drawn problems, in whatever order the rows stand."""
        order = np.random.default_rng(0).permutation(len(data.X))
        given = []
        for rows in (np.arange(len(data.X)), order):
            model = StepEnsemble(quick(Spying(**SMALL_TRANSFORMER)), 1, random_state=0)
            head = model.fit(*data[rows]).members_[0].head_
            assert len(np.unique(head.problems_)) < 18
            given.append(sorted(zip(head.rows_, head.labels_, head.weights_, strict=True)))
        assert given[0] == given[1]
        assert max(weight for _, _, weight in given[0]) > 1


class Spying(StepTransformer):
    """Remembers what it was given."""

    def fit(self, sequences, y, sample_weight=None):
        self.problems_, self.labels_, self.weights_ = sequences.problems, y.tolist(), sample_weight.tolist()
        self.rows_ = sequences.values[sequences.answers].tolist()
        return super().fit(sequences, y, sample_weight)


class TestBootstrap:
    def test_by_problem_with_weights(self, data):
        groups = dict(zip(data.X, problem_groups(data.X), strict=True))
        sizes = np.bincount(list(problem_groups(data.X)))
        drawn = []
        for member in StepEnsemble(Records(), 4, random_state=0).fit(data.X, data.y).members_:
            problems = np.array([groups[step] for step in member.X_])
            kept, counts = np.unique(problems, return_counts=True)
            np.testing.assert_array_equal(counts, sizes[kept])  # no problem is split
            assert len(kept) < len(sizes)  # and some are left out
            times = [np.unique(member.weight_[problems == problem]) for problem in kept]
            assert all(len(t) == 1 and t[0] >= 1 for t in times)  # a problem counts as a whole
            assert sum(t[0] for t in times) == len(sizes)
            drawn.append(tuple(kept))
        assert len(set(drawn)) == 4

    def test_rows_are_repeated_where_no_weights_are_taken(self, data):
        weighted = StepEnsemble(Records(), 3, random_state=0).fit(data.X, data.y).members_
        repeated = StepEnsemble(RecordsRows(), 3, random_state=0).fit(data.X, data.y).members_
        for one, other in zip(weighted, repeated, strict=True):
            expected = np.repeat(np.arange(len(one.X_)), one.weight_.astype(int))
            assert [one.X_[i] for i in expected] == other.X_
            np.testing.assert_array_equal(other.y_, one.y_[expected])

    def test_numbers_are_drawn_by_group_or_by_row(self):
        X, y = np.arange(40.0)[:, None], np.tile([0, 1], 20)
        groups = np.repeat(np.arange(10), 4)
        by_group = StepEnsemble(Records(), 3, random_state=0).fit(X, y, groups=groups)
        by_row = StepEnsemble(Records(), 3, random_state=0).fit(X, y)
        for member in by_group.members_:
            rows = np.ravel(member.X_).astype(int)
            np.testing.assert_array_equal(np.unique(groups[rows], return_counts=True)[1], 4)
        assert any(
            (np.unique(groups[np.ravel(m.X_).astype(int)], return_counts=True)[1] < 4).any() for m in by_row.members_
        )

    def test_every_member_knows_every_class(self):
        """One problem of twelve holds the rare class: draws without it are drawn again."""
        data = make_arithmetic_solutions(12, 1, error_rate=0.0, neutral_rate=0.0, random_state=0)
        y = np.ones(len(data.X), dtype=int)
        y[0] = -1
        found = StepEnsemble(quick(), 20, random_state=0).fit(data.X, y)
        assert all(member.classes_.tolist() == [-1, 1] for member in found.members_)

    def test_classes_that_no_draw_can_join(self):
        X = np.arange(30.0)[:, None]
        with pytest.raises(ValueError, match=r"100 draws of 30 problems all lack a class.*bootstrap=False"):
            StepEnsemble(LogisticRegression(), random_state=0).fit(X, np.arange(30))

    @pytest.mark.parametrize("head", [KNeighborsClassifier(3), LogisticRegression(max_iter=2000)])
    def test_heads_with_and_without_weights(self, head, data):
        found = StepEnsemble(quick(head), 2, random_state=0).fit(data.X, data.y)
        np.testing.assert_allclose(found.predict_proba(data.X).sum(axis=1), 1)


class TestSharedPass:
    @pytest.mark.parametrize("name", HEADS)
    def test_one_pass_for_five_members(self, name, data, other, monkeypatch):
        calls = {"fit": 0, "transform": 0}
        for method in calls:
            original = getattr(StepStatistics, method)

            def counting(self, *args, _method=method, _original=original, **kwargs):
                calls[_method] += 1
                return _original(self, *args, **kwargs)

            monkeypatch.setattr(StepStatistics, method, counting)
        passes = 2 if name == "blend" else 1  # statistics are two of the three views here
        found = StepEnsemble(quick(HEADS[name]), 5, random_state=0).fit(data.X, data.y)
        assert calls == {"fit": passes, "transform": passes}
        calls.update(fit=0, transform=0)
        found.uncertainty(other.X)
        assert calls == {"fit": 0, "transform": passes}

    def test_encoder_of_the_default_classifier_runs_once(self, data, monkeypatch):
        from prmkit.features.encoding.encoder import TextEncoder

        texts = []
        original = TextEncoder.iter_encode
        monkeypatch.setattr(TextEncoder, "iter_encode", lambda self, more: texts.extend(more) or original(self, more))
        head = StepMLP(8, max_epochs=1)
        featurizer = PRMClassifier(head=head).fit(data.X[:40], data.y[:40]).featurizer_.set_params(cache=False)
        texts.clear()
        StepEnsemble(PRMClassifier(featurizer, head), 5, random_state=0).fit(data.X[:40], data.y[:40])
        assert len(texts) == len(set(texts)) > 0

    def test_views_of_the_blend_are_fitted_on_all_steps(self, data, blended):
        expected = StepWords().fit(data.X).get_feature_names_out()
        for member in blended.members_:
            np.testing.assert_array_equal(member.head_.views_["words"].get_feature_names_out(), expected)

    def test_pipelines_go_one_by_one(self, data, other):
        pipe = make_pipeline(StepStatistics(), LogisticRegression(max_iter=3000))
        found = StepEnsemble(pipe, 2, bootstrap=False, random_state=0).fit(data.X, data.y)
        expected = clone(pipe).fit(data.X, data.y).predict_proba(other.X)
        np.testing.assert_array_equal(found.predict_proba(other.X), expected)
        assert len(found.score_solutions(other.solutions[:2])) == 2

    @pytest.mark.slow  # processes that load torch
    @pytest.mark.parametrize("name", ["transformer", "blend"])
    def test_jobs_change_nothing(self, name, data, other):
        one, two = (
            StepEnsemble(quick(HEADS[name]), 2, n_jobs=n_jobs, random_state=0).fit(data.X, data.y)
            for n_jobs in (None, 2)
        )
        np.testing.assert_allclose(two.member_proba(other.X), one.member_proba(other.X), atol=1e-6)
        assert two.members_[0].featurizer_ is two.members_[1].featurizer_


class TestQuality:
    def test_mean_is_no_worse_than_the_members_in_log_loss(self, fitted, other):
        members = [log_loss(other.y, proba) for proba in fitted.member_proba(other.X)]
        assert log_loss(other.y, fitted.predict_proba(other.X)) <= np.mean(members) + 1e-12

    def test_members_disagree_where_nothing_was_learnt(self):
        """The second column says nothing; far along it there was no data, and the members' guesses part."""
        rng = np.random.default_rng(0)
        half = rng.normal(size=(60, 2))
        X, y = np.vstack([half, half * [1, -1]]), np.tile(half[:, 0] + rng.normal(size=60) > 0, 2)
        found = StepEnsemble(LogisticRegression(), 10, random_state=0).fit(X, y)
        near = np.column_stack([np.zeros(50), rng.normal(size=50)])
        far = near + np.array([0, 30])
        assert found.uncertainty(far).epistemic.mean() > 5 * found.uncertainty(near).epistemic.mean()

    def test_uncertainty_names_the_worst_class(self, fitted, other):
        found = fitted.uncertainty(other.X)
        risks = fitted.member_proba(other.X)[:, :, fitted.classes_.tolist().index(-1)]
        np.testing.assert_allclose(found.risk_variance, risks.var(axis=0))
        unordered = np.where(np.asarray(other.y) == -1, "b", "a")
        assert (
            StepEnsemble(quick(), 2, random_state=0).fit(other.X, unordered).uncertainty(other.X).risk_variance is None
        )


class TestEstimator:
    def test_attributes(self, fitted, data):
        assert fitted.classes_.tolist() == [-1, 0, 1]
        assert fitted.label_order_ == (-1, 0, 1)
        np.testing.assert_array_equal(fitted.training_problems_, distinct_problem_keys(data.X))
        assert not hasattr(fitted, "decision_weights_")

    def test_default_is_the_default_classifier(self, data, monkeypatch):
        asked = []
        monkeypatch.setattr(
            "prmkit.uncertainty.ensembles._step_ensemble.PRMClassifier", lambda: asked.append(1) or quick()
        )
        assert len(StepEnsemble(n_members=2).fit(data.X, data.y).members_) == 2
        assert asked == [1]

    def test_weights_of_decisions_are_the_geometric_mean(self, fitted):
        weights = [[8.0, 2.0, 1.0], [2.0, 2.0, 4.0]]
        fitted = clone(fitted)
        fitted.members_ = [SimpleNamespace(decision_weights_=np.array(row)) for row in weights]
        fitted._weigh_decisions()
        np.testing.assert_allclose(fitted.decision_weights_, [2, 1, 1])

    def test_members_weigh_together(self, data, other, blended):
        found = copy(blended)
        expected = found.classes_[(found.predict_proba(other.X) * found.decision_weights_).argmax(axis=1)]
        np.testing.assert_array_equal(found.predict(other.X), expected)
        assert found.decision_weights_.min() == pytest.approx(1)
        found.set_params(classifier=quick()).fit(data.X, data.y)
        assert not hasattr(found, "decision_weights_")

    def test_deterministic_and_global_generators_untouched(self, data, other):
        numbers, bits = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        answers = []
        for seed in (0, 0, 1, None):
            model = StepEnsemble(quick(StepMLP(8, max_epochs=2)), 2, random_state=seed).fit(data.X, data.y)
            answers.append(model.predict_proba(other.X))
        np.testing.assert_array_equal(answers[0], answers[1])
        assert all((answers[0] != answer).any() for answer in answers[2:])
        np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), bits)

    def test_the_first_members_of_more_are_those_of_fewer(self, data, other):
        few, more = (StepEnsemble(quick(), n, random_state=0).fit(data.X, data.y) for n in (2, 4))
        np.testing.assert_array_equal(more.member_proba(other.X)[:2], few.member_proba(other.X))

    def test_clone_and_not_fitted(self, fitted, other):
        copy = clone(fitted)
        for method in (copy.predict, copy.predict_proba, copy.member_proba, copy.uncertainty):
            with pytest.raises(NotFittedError):
                method(other.X)

    def test_cross_validation(self, data):
        scores = cross_val_score(StepEnsemble(quick(), 2, random_state=0), data.X, data.y, cv=StratifiedProblemKFold(2))
        assert (scores > 0.5).all()

    def test_solutions(self, fitted, other):
        scored = fitted.score_solutions(other.solutions[:2])
        np.testing.assert_allclose(scored[0].proba, fitted.predict_proba(other.X)[: scored[0].solution.n_steps])

    def test_sequences_of_numbers(self):
        X = np.random.default_rng(0).normal(size=(60, 4))
        y, groups = (X[:, 0] > 0).astype(int), np.repeat(np.arange(12), 5)
        classifier = PRMClassifier("precomputed", StepTransformer(**SMALL_TRANSFORMER))
        found = StepEnsemble(classifier, 2, random_state=0).fit(X, y, groups=groups)
        proba = found.member_proba(X, groups)
        np.testing.assert_array_equal(proba[1], found.members_[1].predict_proba(X, groups))
        assert (found.predict_proba(X, groups) != found.predict_proba(X)).any()

    def test_token_models(self, data):
        tiny = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        head = TokenPRM(initialization="random", model_kwargs=tiny, num_train_epochs=1, show_progress=False)
        found = StepEnsemble(PRMClassifier("tokens", head), 2, random_state=0).fit(data.X[:60], data.y[:60])
        proba = found.member_proba(data.X[:5])
        assert (proba[0] != proba[1]).all()
        np.testing.assert_array_equal(proba[1], found.members_[1].predict_proba(data.X[:5]))

    @pytest.mark.parametrize(
        ("classifier", "y", "groups", "words"),
        [
            (quick(), [1, 1], None, "one class only"),
            (quick(), [1], None, "1 labels and X 2 steps"),
            (quick(), [1, -1], [0, 1], "a Step already knows its problem"),
            (FrozenEstimator(quick()), [1, -1], None, "frozen"),
        ],
    )
    def test_bad_input(self, classifier, y, groups, words):
        with pytest.raises(ValueError, match=words):
            StepEnsemble(classifier).fit(["2 + 2 = 4", "2 + 2 = 5"], y, groups=groups)

    def test_groups_of_another_length(self):
        with pytest.raises(ValueError, match="one per row of X"):
            StepEnsemble(LogisticRegression()).fit(np.eye(4), [0, 1, 0, 1], groups=[0, 1])


class TestSaving:
    @pytest.mark.parametrize(
        "head", [None, StepTransformer(**SMALL_TRANSFORMER), pytest.param(HEADS["blend"], marks=pytest.mark.slow)]
    )
    def test_save_and_load(self, head, data, other, tmp_path, monkeypatch):
        found = StepEnsemble(quick(head), 3, random_state=0).fit(data.X, data.y)
        found.save(tmp_path / "model")
        read = StepEnsemble.load(tmp_path / "model")
        np.testing.assert_array_equal(read.member_proba(other.X), found.member_proba(other.X))
        np.testing.assert_array_equal(read.predict(other.X), found.predict(other.X))
        np.testing.assert_array_equal(read.training_problems_, found.training_problems_)
        assert read.label_order_ == found.label_order_
        assert read.get_params(deep=False)["n_members"] == 3
        calls = []
        transform = StepStatistics.transform
        monkeypatch.setattr(StepStatistics, "transform", lambda self, X: calls.append(1) or transform(self, X))
        read.predict_proba(other.X)
        assert len(calls) == (2 if isinstance(head, StepBlend) else 1)

    def test_numbers(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(30, 4))
        found = StepEnsemble(PRMClassifier("precomputed", StepMLP(4, max_epochs=2)), 12, random_state=0)
        found.fit(X, X[:, 0] > 0).save(tmp_path / "model")
        read = StepEnsemble.load(tmp_path / "model")
        np.testing.assert_array_equal(read.member_proba(X), found.member_proba(X))  # twelve: member_10 after member_9
        assert read.training_problems_ is None
        assert read.n_features_in_ == 4

    def test_other_classifiers_are_refused(self, data, tmp_path):
        pipe = make_pipeline(StepStatistics(), LogisticRegression(max_iter=3000))
        found = StepEnsemble(pipe, 2).fit(data.X, data.y)
        with pytest.raises(TypeError, match="Pipeline, which cannot be saved without pickle"):
            found.save(tmp_path / "model")

    def test_pickle_keeps_the_shared_pass(self, fitted, other):
        copy = pickle.loads(pickle.dumps(fitted))
        assert copy.members_[0].featurizer_ is copy.members_[4].featurizer_
        np.testing.assert_array_equal(copy.member_proba(other.X), fitted.member_proba(other.X))


def test_a_fitted_classifier_is_a_pattern_whose_parameters_can_be_set(data):
    pattern = quick().fit(data.X, data.y)
    ensemble = clone(StepEnsemble(pattern, 2)).set_params(classifier__random_state=3)
    assert ensemble.classifier is not pattern
    assert ensemble.fit(data.X, data.y).classifier.random_state == 3
    assert pattern.random_state is None


def test_members_around_a_fitted_classifier_are_refused(data, other):
    calibrated = CalibratedStepClassifier(quick().fit(other.X, other.y))
    with pytest.raises(ValueError, match="pass CalibratedStepClassifier with an unfitted classifier"):
        StepEnsemble(calibrated, 2).fit(data.X, data.y)
    ensemble = StepEnsemble(CalibratedStepClassifier(quick()), 2, random_state=0).fit(data.X, data.y)
    assert ensemble.member_proba(data.X[:3]).shape == (2, 3, 3)


def test_members_that_are_all_the_same_are_named(data, other):
    ensemble = StepEnsemble(quick(), 3, bootstrap=False, random_state=0).fit(data.X, data.y)
    with pytest.warns(UserWarning, match="all 3 members give the same answer"):
        ensemble.uncertainty(other.X)


def test_a_seed_that_was_not_set_is_not_set_after_loading(fitted, tmp_path):
    fitted.save(tmp_path / "ensemble")
    assert StepEnsemble.load(tmp_path / "ensemble").classifier.random_state is None


def test_a_whole_data_set_is_refused_in_words(data):
    with pytest.raises(TypeError, match=r"pass dataset\.X and dataset\.y"):
        StepEnsemble(quick()).fit(data, data.y)
