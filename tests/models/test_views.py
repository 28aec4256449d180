"""What the default reads of a step: views are measured, a costly one must pay, and choices are obeyed."""

import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from prmkit import PRMClassifier, PRMFeaturizer, Solution, StratifiedProblemKFold, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.marking import MarkingScheme
from prmkit.models import StepBlend, StepMLP, StepProbe, TokenPRM
from prmkit.models.heads import blend
from prmkit.models.heads._view_gains import gains, sampled_rows
from prmkit.saving.arrays import NotPlainError
from prmkit.uncertainty import StepEnsemble

COLUMNS = ["view", "gain", "gain_low", "gain_high", "seconds_per_1000_steps", "kept"]


def puzzles(n, seed=0):
    """Solutions of two steps and their labels. No text tells which step is wrong; ``Hidden`` knows it."""
    rng = np.random.default_rng(seed)
    solutions = [Solution(f"Puzzle {i}", [f"We look at {i}.", f"So we see {i}."]) for i in range(n)]
    return flatten(solutions), np.where(rng.random(2 * n) < 0.4, -1, 1)


class Hidden(TransformerMixin, BaseEstimator):
    """Numbers of steps by hand: the label, blurred, where ``knows`` is true, and noise otherwise."""

    def __init__(self, kind="embeddings", knows=True):
        self.kind = kind
        self.knows = knows

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        y = dict(zip((step.text for step in ALL[0]), ALL[1], strict=True))
        told = np.array([y[step.text] if self.knows else 0 for step in X])
        # As wide as an embedding: the member that reads it is held down as an embedding must be.
        return told[:, None] + np.random.default_rng(len(X)).normal(scale=3.0, size=(len(X), 300))


ALL = puzzles(60)


@pytest.fixture
def encoded(monkeypatch):
    """The sentence encoder is ``Hidden``, and what it was asked for is noted."""
    asked = []

    class Encoder:
        knows = True

        def transform(self, X, y=None):
            asked.append(len(X))
            return Hidden(knows=Encoder.knows).transform(X)

    monkeypatch.setattr(PRMFeaturizer, "transform", Encoder.transform)
    monkeypatch.setattr(PRMFeaturizer, "fit_transform", Encoder.transform)
    monkeypatch.setattr(blend, "_LOOKS", (60, 80))
    Encoder.asked = asked
    return Encoder


def default(**params):
    return PRMClassifier(head=StepBlend(n_trees=5), random_state=0, **params)


def row(fitted, view):
    return fitted.view_report_.set_index("view").loc[view]


class TestAuto:
    def test_embeddings_that_decide_are_kept_and_the_rest_is_encoded(self, encoded):
        X, y = ALL
        fitted = default().fit(X, y)
        assert encoded.asked == [60, 80, 120]
        assert fitted.view_report_.columns.tolist() == COLUMNS
        assert fitted.view_report_["view"].tolist() == ["statistics", "words", "embeddings"]
        assert fitted.view_report_["kept"].all()
        found = row(fitted, "embeddings")
        assert 0 < found.gain_low < found.gain < found.gain_high
        asked_for = default(views=["statistics", "words", "embeddings"]).fit(X, y)
        np.testing.assert_array_equal(fitted.predict_proba(X), asked_for.predict_proba(X))
        assert np.mean(fitted.predict(X) == y) > 0.9

    def test_embeddings_that_say_nothing_cost_their_sample_and_nothing_in_use(self, encoded, caplog):
        encoded.knows = False
        X, y = ALL
        with caplog.at_level(logging.INFO, "prmkit.models"):
            fitted = default().fit(X, y)
        assert encoded.asked in ([60], [60, 80])
        fitted.predict_proba(X)
        fitted.incremental("p").extend(["a"])
        assert len(encoded.asked) <= 2
        assert list(fitted.head_.views_) == ["statistics", "words"]
        found = row(fitted, "embeddings")
        assert not found.kept
        assert found.gain_low <= 0
        (said,) = caplog.messages
        assert said.startswith("embeddings left out: its gain is not above zero on a sample of")
        assert "Predicting needs neither torch nor the weights" in said
        without = default(views=("statistics", "words")).fit(X, y)
        np.testing.assert_array_equal(fitted.predict_proba(X), without.predict_proba(X))

    def test_few_problems_show_nothing_and_nothing_is_encoded(self, encoded):
        fitted = default().fit(ALL[0][:30], ALL[1][:30])
        assert encoded.asked == []
        found = row(fitted, "embeddings")
        assert not found.kept
        assert np.isnan(found.gain)
        assert "20 problems" in fitted.view_report_.attrs["reasons"]["embeddings"]

    def test_a_rare_class_does_not_hide_what_the_others_show(self, encoded):
        y = ALL[1].copy()
        y[:2] = 0
        assert row(default().fit(ALL[0], y), "embeddings").kept

    @pytest.mark.slow
    def test_time_varies_and_decides_nothing(self, encoded, monkeypatch):
        first = default().fit(*ALL).view_report_
        clock = iter(range(0, 10**9, 10**4))
        monkeypatch.setattr(blend.time, "perf_counter", lambda: float(next(clock)))
        slow = default().fit(*ALL).view_report_
        assert (slow["seconds_per_1000_steps"] > first["seconds_per_1000_steps"]).all()
        time = "seconds_per_1000_steps"
        assert slow.drop(columns=time).equals(first.drop(columns=time))

    @pytest.mark.slow
    def test_weights_are_heard(self, encoded):
        X, y = ALL
        heavy = default().fit(X, y, sample_weight=np.where(y < 0, 5.0, 1.0)).predict_proba(X)[:, 0]
        assert heavy.mean() > default().fit(X, y).predict_proba(X)[:, 0].mean()

    @pytest.mark.slow
    def test_members_of_an_ensemble_share_one_decision(self, encoded):
        fitted = StepEnsemble(default(), 3, random_state=0).fit(*ALL)
        assert encoded.asked == [60, 80, 120]
        assert all(row(member, "embeddings").kept for member in fitted.members_)
        encoded.asked.clear()
        fitted.predict_proba(ALL[0])
        assert encoded.asked == [120]

    @pytest.mark.slow
    def test_what_was_left_out_needs_no_torch(self, tmp_path):
        data = make_arithmetic_solutions(8, 2, random_state=0)
        fitted = PRMClassifier(random_state=0).fit(data.X, data.y)
        fitted.save(tmp_path / "model")
        expected = fitted.predict_proba(data.X)[:3].tolist()
        script = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "sentence_transformers"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
data = make_arithmetic_solutions(8, 2, random_state=0)
fitted = PRMClassifier.load({str(tmp_path / "model")!r})
assert fitted.predict_proba(data.X)[:3].tolist() == {expected}
assert len(fitted.score_solutions(data.solutions)) == 16
assert fitted.incremental("2 + 3?").extend(["2 + 3 = 5."]).shape == (1,)
assert not fitted.view_report_["kept"].all()
"""
        subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


class TestChoices:
    def test_what_is_given_is_obeyed_and_measured(self, encoded):
        encoded.knows = False
        few = ALL[0][:30], ALL[1][:30]
        for params in ({"featurizer": PRMFeaturizer()}, {"views": ("statistics", "words", "embeddings")}):
            fitted = default(**params).fit(*few)
            found = row(fitted, "embeddings")
            assert found.kept
            assert found.gain_low < found.gain < found.gain_high
            assert fitted.view_report_.attrs["reasons"]["embeddings"] == "asked for"
        assert encoded.asked == [30, 30]
        assert list(default(views=["words"]).fit(*few).head_.members_) == ["words"]
        assert list(default(views=["statistics"]).fit(*few).head_.members_) == ["trees", "statistics"]

    @pytest.mark.parametrize(("kind", "view"), [("states", "states"), (None, "embeddings")])
    def test_numbers_of_any_featurizer_are_a_view_by_the_name_of_their_kind(self, kind, view, tmp_path):
        head = StepBlend(Hidden(kind), n_trees=5)
        fitted = PRMClassifier(head=head, random_state=0).fit(*ALL)
        assert fitted.view_report_["view"].tolist() == ["statistics", "words", view]
        assert list(fitted.head_.members_) == ["trees", "statistics", "words", view]
        assert row(fitted, view).gain_low > 0
        alone = PRMClassifier(head=head, views=[view], random_state=0).fit(*ALL)
        assert list(alone.head_.views_) == [view]

    def test_log_probabilities_beside_states_have_a_member_of_their_own(self, language_model, tmp_path):
        X, y = ALL
        featurizer = PRMFeaturizer(kind="states", model=language_model, layer=1, log_probs=True, show_progress=False)
        head = StepBlend(featurizer, n_trees=5)
        fitted = PRMClassifier(head=head, random_state=0).fit(X, y)
        assert list(fitted.head_.members_) == ["trees", "statistics", "words", "states", "log_probs"]
        assert fitted.view_report_["view"].tolist() == ["statistics", "words", "states"]
        assert list(PRMClassifier(head=head, views=["states"]).fit(X, y).head_.members_) == ["states", "log_probs"]
        few = PRMClassifier(head=clone(head).set_params(members=["log_probs"]), random_state=0).fit(X, y)
        columns = few.head_.views_["states"].get_feature_names_out().tolist()
        read = few.head_.members_["log_probs"][0].transform(np.arange(len(columns))[None])[0].tolist()
        assert [columns[i] for i in read] == [name for name in columns if not name.startswith("layer")]
        assert not set(read) & {0, 1}
        fitted.save(tmp_path / "kept")
        again = PRMClassifier.load(tmp_path / "kept")
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))

    def test_a_default_over_states_is_saved_with_its_scheme_and_as_an_archive(
        self, language_model, tmp_path, monkeypatch
    ):
        X, y = ALL
        scheme = MarkingScheme(max_prompt_length=200)
        featurizer = PRMFeaturizer(
            "states", language_model, layer=1, log_probs=True, scheme=scheme, show_progress=False
        )
        fitted = PRMClassifier(head=StepBlend(featurizer, n_trees=5), random_state=0).fit(X, y)
        fitted.save(tmp_path / "kept")
        again = PRMClassifier.load(tmp_path / "kept")
        assert again.head_.views_["states"].scheme == again.head.featurizer.scheme == scheme
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))

        def refuse(part):
            raise NotPlainError

        fitted = PRMClassifier(head=StepBlend(featurizer.set_params(scheme=None), n_trees=5), random_state=0).fit(X, y)
        # So are heads written whose trees are of a scikit-learn that is not known here.
        monkeypatch.setattr("prmkit.saving.parts.to_arrays", refuse)
        fitted.save(tmp_path / "archive")
        assert (tmp_path / "archive" / "head.skops").exists()
        again = PRMClassifier.load(tmp_path / "archive")
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))

    @pytest.mark.parametrize("pooling", ["mean", "tokens"])
    @pytest.mark.filterwarnings("ignore:.*do not fit", "ignore:.*have no states")
    def test_a_step_beyond_the_language_model_has_no_reward(self, language_model, pooling):
        X, y = ALL
        states = PRMFeaturizer("states", language_model, pooling=pooling, max_length=64, show_progress=False)
        head = StepProbe(max_epochs=1, n_seeds=1, hidden_size=8) if pooling == "tokens" else None
        clf = PRMClassifier(states, head, random_state=0).fit(X, y)
        long = Solution("Puzzle 1", ["We look at 1.", "So we see " + "1" * 80 + "."])
        with pytest.warns(UserWarning, match="no score for 1 of 2 steps"):
            [scored] = clf.score_solutions([long])
        assert np.isnan(scored.rewards).tolist() == [False, True]
        with pytest.raises(ValueError, match="do not fit into its language model: pass too_long='nan'"):
            clf.score_solutions([long], too_long="raise")
        growing = clf.incremental(long.problem)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert [bool(np.isnan(growing.extend([step])[0])) for step in long.steps] == [False, True]

    def test_few_columns_that_decide_are_not_held_down_as_a_thousand_are(self, monkeypatch):
        X, y = ALL
        columns = {}
        for log_probs in (False, True):
            rows = np.random.default_rng(0).normal(size=(len(X), 320))
            rows[:, -1] += 2 * y
            monkeypatch.setattr(Hidden, "transform", lambda self, steps, rows=rows: rows[: len(steps)])
            monkeypatch.setattr(Hidden, "log_probs", log_probs, raising=False)
            clf = PRMClassifier(head=StepBlend(Hidden("states"), n_trees=5), random_state=0).fit(X, y)
            columns[log_probs] = row(clf, "states").gain
        assert columns[True] > 2 * columns[False]

    def test_steps_that_do_not_fit_into_a_model_have_no_score(self, monkeypatch):
        X, y = ALL
        whole = PRMClassifier(head=StepBlend(Hidden("states"), n_trees=5), random_state=0)
        rows = Hidden.transform
        cut = np.arange(len(X)) % 10 == 9

        def cut_rows(self, steps):
            numbers = rows(self, steps)
            numbers[[int(step.problem.split()[1]) % 5 == 4 and step.index == 1 for step in steps]] = np.nan
            return numbers

        monkeypatch.setattr(Hidden, "transform", cut_rows)
        with pytest.warns(UserWarning, match="12 of 120 steps do not fit"):
            fitted = whole.fit(X, y)
        proba = fitted.predict_proba(X)
        np.testing.assert_array_equal(np.isnan(proba).all(axis=1), cut)
        assert np.isfinite(proba[~cut]).all()
        with pytest.raises(ValueError, match="12 of 120 steps have no probabilities"):
            fitted.predict(X)
        with pytest.raises(ValueError, match="12 of 120 steps have no probabilities"):
            fitted.head_.predict(X)

    @pytest.mark.parametrize(
        ("params", "says"),
        [
            ({"views": []}, r"views is \[\], expected some of \['statistics', 'words', 'embeddings'\]"),
            ({"views": ["words", "words"]}, "each once"),
            ({"views": ["states"]}, r"'states' needs featurizer=PRMFeaturizer\(kind='states'"),
            ({"views": ["trees"]}, "expected some of"),
            ({"views": ["words"], "featurizer": PRMFeaturizer()}, "without 'embeddings', which the featurizer"),
            ({"views": ["words"], "head": StepBlend(members=["trees"])}, "StepBlend has the members"),
            ({"views": ["embeddings"], "head": StepBlend(Hidden("states"))}, r"'words', 'states'\]"),
            ({"views": ["words"], "head": StepMLP()}, "head StepMLP: leave views out"),
            ({"views": ["words"], "head": LogisticRegression()}, "head LogisticRegression: leave views out"),
            ({"views": ["words"], "head": TokenPRM()}, "head TokenPRM: leave views out"),
            ({"views": ["words"], "featurizer": "tokens"}, "featurizer is 'tokens'"),
            ({"views": ["words"], "featurizer": StepStatistics()}, r"StepStatistics and head None.*StepBlend\(\)"),
            ({"views": "words"}, "The 'views' parameter"),
        ],
    )
    def test_contradictions(self, params, says):
        with pytest.raises(ValueError, match=says):
            PRMClassifier(**params).fit(ALL[0][:6], ALL[1][:6])

    def test_the_same_choice_twice_is_no_contradiction(self):
        given = StepBlend(members=["words"])
        assert list(PRMClassifier(head=given, views=("words",)).fit(*ALL).head_.members_) == ["words"]

    def test_a_search_over_views(self):
        grid = GridSearchCV(
            default(), {"views": [("words",), ("statistics", "words")]}, cv=StratifiedProblemKFold(2)
        ).fit(*ALL)
        assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
        assert tuple(grid.best_estimator_.head_.views_) == grid.best_params_["views"]

    def test_other_heads_have_no_report(self):
        fitted = PRMClassifier(StepStatistics(), random_state=0).fit(ALL[0][:20], ALL[1][:20])
        assert not hasattr(fitted, "view_report_")
        assert not hasattr(PRMClassifier(), "view_report_")
        assert "gain in log loss" not in fitted._repr_html_()


class TestReport:
    @pytest.mark.parametrize("views", ["auto", ("statistics", "words")])
    def test_it_is_saved_and_shown(self, views, tmp_path):
        few = ALL[0][:30], ALL[1][:30]
        fitted = PRMClassifier(views=views, random_state=0).fit(*few)
        fitted.save(tmp_path / "model")
        loaded = PRMClassifier.load(tmp_path / "model")
        assert loaded.view_report_.equals(fitted.view_report_)
        assert loaded.views == (views if views == "auto" else list(views))
        assert list(clone(loaded).fit(*few).head_.views_) == list(fitted.head_.views_)
        for shown in (loaded._repr_html_(), loaded.generate_model_card().content):
            assert "gain in log loss" in shown
            assert ("no gain can be shown" if views == "auto" else "asked for") in shown

    def test_a_loaded_model_takes_other_views(self, tmp_path):
        few = ALL[0][:30], ALL[1][:30]
        PRMClassifier(head=StepBlend(), views=("statistics",), random_state=0).fit(*few).save(tmp_path / "model")
        loaded = PRMClassifier.load(tmp_path / "model")
        assert list(loaded.set_params(views=("words",)).fit(*few).head_.views_) == ["words"]

    def test_gains_are_those_of_views_by_hand(self):
        """A view that repeats the labels takes nearly all of the loss, one that repeats another view takes nothing."""
        rng = np.random.default_rng(0)
        problems = np.repeat(np.arange(100), 5)
        codes = rng.integers(0, 2, 500)
        told = (4.0 * codes - 2 + rng.normal(size=500))[:, None]
        folds = [(np.flatnonzero(problems % 3 != fold), np.flatnonzero(problems % 3 == fold)) for fold in range(3)]
        found = gains({"told": told, "again": told, "noise": rng.normal(size=(500, 1))}, codes, folds, problems)
        assert found["told"]["gain"] == pytest.approx(np.log(2), abs=0.1)
        assert found["told"]["gain_low"] > 0.5
        assert found["again"]["gain"] == pytest.approx(0, abs=5e-3)
        assert found["noise"]["gain_low"] < 0.0

    def test_the_interval_treats_a_problem_as_one_observation(self):
        """Each row ten times within its problem says no more than once."""
        rng = np.random.default_rng(1)
        problems, codes = np.arange(90), rng.integers(0, 2, 90)
        told = (codes + rng.normal(size=90))[:, None]

        def interval(times):
            rows = np.repeat(np.arange(90), times)
            folds = [(np.flatnonzero(rows % 3 != fold), np.flatnonzero(rows % 3 == fold)) for fold in range(3)]
            weight = np.full(len(rows), 1 / times)
            found = gains({"told": told[rows]}, codes[rows], folds, problems[rows], weight)["told"]
            return found["gain"], found["gain_low"], found["gain_high"]

        np.testing.assert_allclose(interval(10), interval(1), atol=1e-3)

    def test_a_sample_takes_a_solution_of_each_problem_before_a_second_one(self):
        solutions = [Solution(f"p{i % 7}", [f"s{i}"] * (1 + i % 3)) for i in range(70)]
        X = flatten(solutions)
        problems = np.array([int(step.problem[1:]) for step in X])
        rows = sampled_rows(X, problems, 30, 0)
        assert 27 < len(rows) <= 30
        taken = {X[i].solution for i in rows}
        assert len(rows) == sum(len(one.steps) for one in taken)
        per_problem = [sum(one.problem == f"p{p}" for one in taken) for p in range(7)]
        assert max(per_problem) - min(per_problem) <= 1
        assert rows.tolist() == sampled_rows(X, problems, 30, 0).tolist() != sampled_rows(X, problems, 30, 1).tolist()
