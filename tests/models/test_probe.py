"""``StepProbe``: what its poolings find, its seeds, its guarantees, and the parts that are saved."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

from prmkit import PRMClassifier, Solution, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features import TokenStates
from prmkit.models import StepProbe

QUICK = {"n_seeds": 1, "max_epochs": 25, "learning_rate": 1e-2, "show_progress": False, "random_state": 0}


def planted(n=400, *, token=None, layer=1, lengths=None):
    """Steps of random states, in one layer of which one number tells the class: of every token, or of a marked one."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, n) if lengths is None else lengths
    values = rng.normal(size=(lengths.sum(), 2, 8)).astype(np.float16)
    y = rng.integers(0, 2, n)
    starts = np.cumsum(lengths) - lengths
    if token == "marked":
        places = starts + rng.integers(0, lengths)
        values[places, layer, 3] += 3 * (2 * y - 1)
        values[places, 0, 0] = 8
    else:
        values[:, layer, 3] += np.repeat(2 * y - 1, lengths)
    columns = np.log1p(np.column_stack([np.arange(n) % 5, lengths])).astype(np.float32)
    return TokenStates(values, lengths, columns, ("log_position", "log_length"), np.arange(n) // 5), y


class RandomStates(TransformerMixin, BaseEstimator):
    """A featurizer whose states follow from the text of the step alone, with its first letter planted."""

    def __init__(self, width=6):
        self.width = width

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        texts = [step.solution.steps[step.index] for step in X]
        values = [[np.cos(ord(letter) * np.arange(1, self.width + 1))] for text in texts for letter in text[:9]]
        lengths = np.array([len(text[:9]) for text in texts])
        columns = np.array([[step.index] for step in X], dtype=np.float32)
        names = {problem: i for i, problem in enumerate(sorted({step.solution.problem for step in X}))}
        problems = np.array([names[step.solution.problem] for step in X])
        return TokenStates(np.array(values, dtype=np.float32), lengths, columns, ("index",), problems)


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_a_planted_layer_is_found(pooling):
    states, y = planted()
    probe = StepProbe(pooling, **QUICK).fit(states[:300], y[:300])
    assert roc_auc_score(y[300:], probe.predict_proba(states[300:])[:, 1]) > 0.8


def test_attention_finds_a_token_that_the_mean_blurs():
    states, y = planted(600, token="marked", lengths=np.full(600, 24))
    found = {}
    for pooling in ("mean", "attention"):
        probe = StepProbe(pooling, **QUICK | {"max_epochs": 60, "early_stopping": False})
        found[pooling] = roc_auc_score(y[400:], probe.fit(states[:400], y[:400]).predict_proba(states[400:])[:, 1])
    assert found["attention"] > found["mean"] + 0.1


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_a_step_is_scored_by_itself(pooling):
    states, y = planted(120)
    probe = StepProbe(pooling, **QUICK).fit(states, y)
    whole = probe.predict_proba(states)
    chosen = np.array([50, 3, 77])
    np.testing.assert_allclose(probe.predict_proba(states[chosen]), whole[chosen], atol=1e-6)


def test_seeds_reproduce_and_are_averaged():
    states, y = planted(120)
    one, again = (StepProbe(n_seeds=2, max_epochs=4, random_state=3).fit(states, y) for _ in range(2))
    np.testing.assert_array_equal(one.predict_proba(states), again.predict_proba(states))
    assert len(one.loss_curve_) == 2
    assert one.loss_curve_[0] != one.loss_curve_[1]
    np.testing.assert_allclose(one.predict_proba(states).sum(axis=1), 1, atol=1e-6)


def test_the_columns_of_a_step_are_read():
    states, _ = planted(300)
    y = (states.columns[:, 0] > 1).astype(int)
    probe = StepProbe(**QUICK).fit(states[:200], y[:200])
    assert probe.score(states[200:], y[200:]) > 0.85


def test_steps_without_states_are_left_out_and_have_no_probability():
    states, y = planted(100)
    lengths = states.lengths.copy()
    values = states.values[lengths[0] :]
    lengths[0] = 0
    columns = states.columns.copy()
    columns[0] = np.nan
    cut = TokenStates(values, lengths, columns, states.names, states.problems)
    with pytest.warns(UserWarning, match="1 of 100 steps have no states"):
        probe = StepProbe(**QUICK).fit(cut, y)
    proba = probe.predict_proba(cut)
    assert np.isnan(proba[0]).all()
    assert np.isfinite(proba[1:]).all()
    expected = StepProbe(**QUICK).fit(states[1:], y[1:]).predict_proba(states[1:])
    np.testing.assert_allclose(proba[1:], expected, atol=1e-6)
    with pytest.raises(ValueError, match="no step of X has states"):
        StepProbe(**QUICK).fit(cut[:1], y[:1])


def test_an_empty_step_is_a_state_of_zeros():
    states, y = planted(60)
    lengths = np.append(states.lengths, 0)
    columns = np.vstack([states.columns, [[0, 0]]]).astype(np.float32)
    more = TokenStates(states.values, lengths, columns, states.names, np.append(states.problems, 99))
    for pooling in ("mean", "last", "attention"):
        probe = StepProbe(pooling, **QUICK).fit(more, np.append(y, 1))
        np.testing.assert_allclose(probe.predict_proba(more)[:60], probe.predict_proba(states), atol=1e-6)


def test_states_of_another_shape_are_refused():
    states, y = planted(60)
    probe = StepProbe(**QUICK).fit(states, y)
    with pytest.raises(ValueError, match="X has 8 features, 0 of them further columns, but StepProbe is expecting 18"):
        probe.predict_proba(TokenStates.from_rows(np.zeros((2, 8))))
    with pytest.raises(ValueError, match="pooling"):
        StepProbe("max").fit(states, y)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda states, y: {"y": np.column_stack([y, y])}, "1d array"),
        (lambda states, y: {"groups": np.arange(len(y))}, "TokenStates know their problems"),
        (lambda states, y: {"X": states[:0], "y": y[:0]}, "y is empty"),
        (lambda states, y: {"y": np.where(np.arange(len(y)), y, 2), "X": without_first(states)}, "no step of class 2"),
    ],
)
def test_labels_and_states_that_do_not_fit_are_refused(change, words):
    states, y = planted(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=words):
            StepProbe(**QUICK).fit(**{"X": states, "y": y, **change(states, y)})


def without_first(states):
    """The same steps, of which the first does not fit into the model."""
    columns, lengths = states.columns.copy(), states.lengths.copy()
    columns[0], lengths[0] = np.nan, 0
    return replace(states, values=states.values[states.lengths[0] :], lengths=lengths, columns=columns)


def test_another_classifier_is_told_what_reads_tokens():
    states, y = planted(40)
    with pytest.raises(TypeError, match=r"which StepProbe reads.*pooling='mean'"):
        LogisticRegression().fit(states, y)


def test_in_a_classifier_with_a_search_by_problem(tmp_path):
    X, y = make_arithmetic_solutions(30, random_state=0)
    search = GridSearchCV(
        PRMClassifier(RandomStates(), StepProbe(**QUICK | {"max_epochs": 2})),
        {"head__hidden_size": [0, 8], "head__pooling": ["mean", "attention"]},
        cv=2,
        scoring="neg_log_loss",
    ).fit(X, y)
    assert search.predict_proba(X).shape == (len(X), 3)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_saved_and_loaded_it_gives_the_same(tmp_path, pooling):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 5))
    model = PRMClassifier("precomputed", StepProbe(pooling, **QUICK | {"n_seeds": 2, "max_epochs": 3}))
    model.fit(rows, rows[:, 0] > 0).save(tmp_path / "model")
    loaded = PRMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
    assert loaded.head_.loss_curve_ == model.head_.loss_curve_
    assert loaded.head_.n_iter_ == model.head_.n_iter_


def test_a_step_without_states_gets_no_class():
    states, y = planted(40)
    probe = StepProbe(**QUICK | {"max_epochs": 1}).fit(states, y)
    columns = states.columns.copy()
    columns[7] = np.nan
    with pytest.raises(ValueError, match="1 of 40 steps have no probabilities"):
        probe.predict(replace(states, columns=columns))


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_states_that_overflowed_are_refused(pooling):
    states, y = planted(40)
    probe = StepProbe(pooling, **QUICK | {"max_epochs": 1}).fit(states, y)
    values = states.values.copy()
    values[5, 1, 2] = np.inf
    values[9, 0, 0] = np.nan
    for use in (lambda bad: probe.predict_proba(bad), lambda bad: StepProbe(pooling, **QUICK).fit(bad, y)):
        with pytest.raises(ValueError, match=r"2 of .* tokens have states that are infinite or NaN.*dtype='float32'"):
            use(replace(states, values=values))


def test_labels_belong_to_the_steps():
    states, y = planted(40)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        StepProbe(**QUICK).fit(states, y[:-1])


class CutRows(RandomStates):
    """Rows of numbers, all NaN for the third step of a solution and those after it."""

    def transform(self, X):
        rows = np.array([[len(step.solution.steps[step.index]), step.index] for step in X], dtype=float)
        rows[[step.index > 1 for step in X]] = np.nan
        return rows


def test_rows_of_a_featurizer_follow_the_same_rule():
    data = make_arithmetic_solutions(20, random_state=0)
    X, y = data.X, data.y
    cut = np.array([step.index > 1 for step in X])
    with pytest.warns(UserWarning, match=f"{cut.sum()} of {len(X)} steps have no states"):
        model = PRMClassifier(CutRows(), StepProbe(**QUICK | {"max_epochs": 1})).fit(X, y)
    np.testing.assert_array_equal(np.isnan(model.predict_proba(X)).all(axis=1), cut)


def test_loading_leaves_the_generator_of_torch(tmp_path):
    import torch

    rows = np.random.default_rng(0).normal(size=(30, 3))
    PRMClassifier("precomputed", StepProbe(**QUICK | {"max_epochs": 1})).fit(rows, rows[:, 0] > 0).save(tmp_path / "m")
    before = torch.get_rng_state()
    PRMClassifier.load(tmp_path / "m")
    assert torch.equal(before, torch.get_rng_state())


def with_outcomes(states, y, known=slice(None)):
    """The labels as outcomes, of some rows."""
    outcomes = np.full(len(y), None)
    outcomes[known] = y[known] == 1
    return replace(states, targets={"outcome": outcomes})


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_targets_without_a_weight_change_nothing(pooling):
    states, y = planted(120)
    plain = StepProbe(pooling, **QUICK).fit(states, y)
    told = StepProbe(pooling, **QUICK).fit(with_outcomes(states, y), y)
    np.testing.assert_array_equal(plain.predict_proba(states), told.predict_proba(states))
    assert told.objectives_ == {}


def test_an_objective_learns_from_steps_without_labels():
    states, y = planted(300)
    labels = np.random.default_rng(1).integers(0, 2, 60)  # they teach nothing
    probe = StepProbe(outcome_weight=1.0, **QUICK)
    probe.fit(states[:60], labels, unlabelled=with_outcomes(states, y)[60:220])
    assert probe.objectives_ == {"outcome": (False, True)}
    forecast = probe.predict_objective(states[220:])
    np.testing.assert_allclose(forecast.sum(axis=1), 1, atol=1e-6)
    assert roc_auc_score(y[220:], forecast[:, 1]) > 0.8
    assert probe.predict_proba(states[220:]).shape == (80, 2)


def test_an_objective_shapes_the_hidden_units():
    """Outcomes of many steps show a few labelled ones what to look at."""
    states, y = planted(600, lengths=np.full(600, 2))
    found = {}
    for weight in (0.0, 1.0):
        probe = StepProbe(outcome_weight=weight, **QUICK | {"n_seeds": 3})
        others = {"unlabelled": with_outcomes(states, y)[40:400]} if weight else {}
        found[weight] = roc_auc_score(
            y[400:], probe.fit(states[:40], y[:40], **others).predict_proba(states[400:])[:, 1]
        )
    assert found[1.0] > found[0.0] + 0.03


def told_solutions(n, first=0):
    solutions = []
    for i in range(first, first + n):
        right = i % 3 > 0
        meta = {"final_answer_correct": right, "kind": ["first", None if i % 5 else "odd"]}
        solutions.append(Solution(f"problem {i}", ["a step", "a right one" if right else "z wrong"], meta=meta))
    return solutions


def test_a_classifier_reads_the_objectives_of_solutions():
    labelled, others = told_solutions(30), told_solutions(30, 100)
    X = flatten(labelled)
    y = [1 if step.index == 0 or step.solution.meta["final_answer_correct"] else -1 for step in X]
    head = StepProbe(outcome_weight=0.5, extra_targets={"kind": 0.1}, **QUICK)
    clf = PRMClassifier(RandomStates(), head).fit(X, y, unlabelled=others)
    assert clf.head_.objectives_ == {"outcome": (False, True), "kind": ("first", "odd")}
    assert len(clf.training_problems_) == 60
    rows = clf.read(X)
    last = np.array([step.index == 1 for step in X])
    right = np.array([step.solution.meta["final_answer_correct"] for step in X])
    assert roc_auc_score(right[last], clf.head_.predict_objective(rows)[last, 1]) > 0.95
    with pytest.raises(ValueError, match="no objective 'kindness', expected one of"):
        clf.head_.predict_objective(rows, "kindness")


@pytest.mark.parametrize(
    ("settings", "targets", "words"),
    [
        ({"outcome_weight": 1.0}, {}, "no solution says whether its final answer is right"),
        ({"outcome_weight": 1.0, "hidden_size": 0}, {"outcome": [True] * 60}, "share nothing with the labels"),
        ({"outcome_weight": 1.0}, {"outcome": ["yes"] * 60}, "outcome is 'yes'|is 'yes', expected one of"),
        ({"extra_targets": {"kind": 1.0}}, {"kind": ["a"] * 60}, "expected two classes or more"),
        ({"extra_targets": {"kind": -1.0}}, {"kind": ["a", "b"] * 30}, "expected a finite number of at least 0"),
        ({"extra_targets": {"outcome": 1.0}}, {}, "outcome_weight is the weight of outcomes"),
    ],
)
def test_objectives_that_cannot_be_learnt_are_named(settings, targets, words):
    states, y = planted(60)
    states = replace(states, targets={name: np.array(values, dtype=object) for name, values in targets.items()})
    with pytest.raises(ValueError, match=words):
        StepProbe(**QUICK | settings).fit(states, y)


def test_steps_without_labels_need_a_head_that_learns_of_them():
    states, y = planted(60)
    with pytest.raises(ValueError, match="set outcome_weight or extra_targets too"):
        StepProbe(**QUICK).fit(states[:40], y[:40], unlabelled=states[40:])
    with pytest.raises(TypeError, match="unlabelled is ndarray, expected TokenStates with targets"):
        StepProbe(outcome_weight=1.0, **QUICK).fit(states[:40], y[:40], unlabelled=np.zeros((3, 16)))
    X = flatten(told_solutions(10))
    with pytest.raises(TypeError, match="StepBlend learns none"):
        PRMClassifier(views=("statistics",)).fit(X, [1, -1] * 10, unlabelled=told_solutions(3, 50))


def test_steps_in_place_of_states_are_told_where_to_go():
    X, y = make_arithmetic_solutions(4, random_state=0)
    for rows in (X, np.array(X, dtype=object)):
        with pytest.raises(TypeError, match=r"X holds steps.*PRMClassifier\(PRMFeaturizer\(kind='states'"):
            StepProbe().fit(rows, y)
