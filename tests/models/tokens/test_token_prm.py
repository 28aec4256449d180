"""TokenPRM: the guarantees with every kind of model, scikit-learn's tools, labels, losses, and what does not fit."""

import copy
import os
import pickle
import random
import sys
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score

import prmkit
from prmkit import PRMClassifier, Solution, StratifiedProblemKFold, flatten
from prmkit.data import StepDataset, make_arithmetic_solutions
from prmkit.data.solution import Step
from prmkit.evaluation import evaluate
from prmkit.features.passes.model_files import load_tokenizer
from prmkit.marking.encoding import token_records
from prmkit.models import PRMTrainer, PRMTrainingConfig, TokenPRM
from prmkit.models.losses._registry import loss_names
from prmkit.models.tokens.probabilities import ProbabilityMap
from prmkit.utils import estimator_checks

TINY = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.1,
}
CHECKS = [getattr(estimator_checks, name) for name in estimator_checks.__all__ if name.startswith("check_")]
DATA = make_arithmetic_solutions(12, 2, error_rate=0.5, neutral_rate=0.3, random_state=0)
BINARY = np.where(DATA.y == -1, 0, 1)


def tiny(**params):
    """A one-layer BERT with random weights and a real tokenizer."""
    defaults = {
        "initialization": "random",
        "model_kwargs": TINY,
        "num_train_epochs": 1,
        "dtype": "float32",
        "show_progress": False,
        "random_state": 0,
    }
    return TokenPRM(**{**defaults, **params})


@pytest.fixture(scope="session")
def language_model(tmp_path_factory, make_tokenizer, make_language_model):
    """The folder of a tiny decoder-only language model."""
    folder = tmp_path_factory.mktemp("language_model")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    model = make_language_model(tokenizer)
    model.config.max_position_embeddings = 1024  # a tokenizer of bytes makes long texts
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def fitted():
    return tiny().fit(DATA.X, DATA.y)


def causal(folder, **params):
    return TokenPRM(folder, num_train_epochs=1, dtype="float32", show_progress=False, random_state=0, **params)


# The checks fit a frozen estimator once and not each anew.
@pytest.fixture(
    scope="module",
    params=[
        {},
        {"scheme": "reward_tokens"},
        pytest.param({"scheme": "reward_tokens", "loss": "reward_token"}, marks=pytest.mark.slow),
        pytest.param({"scheme": "special_token", "loss": "rank"}, marks=pytest.mark.slow),
    ],
    ids=["separator", "reward_tokens", "reward_token", "special_token"],
)
def fitted_language_model(request, language_model):
    return FrozenEstimator(causal(language_model, **request.param).fit(DATA.X, DATA.y))


@pytest.fixture(scope="module")
def default_model():
    model = TokenPRM(num_train_epochs=1, show_progress=False, random_state=0)
    return FrozenEstimator(model.fit(DATA.X, DATA.y))


class TestGuarantees:
    """Beside those of the registry."""

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_language_models(self, fitted_language_model, check):
        check(fitted_language_model, DATA.X, DATA.y)

    @pytest.mark.parametrize(
        "check", [check for check in CHECKS if "one_pass" not in check.__name__], ids=lambda check: check.__name__
    )
    def test_prefix_rows(self, check):
        check(tiny(scheme="prefix"), DATA.X[50:90], DATA.y[50:90])

    @pytest.mark.parametrize(("scheme", "n_rows"), [("prefix", 5), ("separator", 1)])
    def test_prefix_rows_are_one_per_step(self, scheme, n_rows):
        """By design a pass per step: why the scheme is not in the registry."""
        head = tiny(scheme=scheme).fit(DATA.X[50:90], DATA.y[50:90])
        X = flatten([Solution("How many?", [f"Box {i}." for i in range(5)])])
        assert len(token_records(head.scorer_.tokenizer, X, head.scheme_, None)) == n_rows

    def test_an_encoder_without_the_mask_is_caught(self, monkeypatch):
        monkeypatch.setattr("prmkit.models.tokens.model_folder.is_causal", lambda model: True)
        with pytest.raises(AssertionError, match="looks ahead"):
            estimator_checks.check_no_lookahead(tiny(), DATA.X, DATA.y)

    @pytest.mark.slow
    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_the_default_model(self, default_model, check):
        check(default_model, DATA.X, DATA.y)


class TestScikitLearn:
    def test_clone_keeps_parameters_and_nothing_else(self, fitted):
        head = tiny(loss_options={"class_weight": [2.0, 1.0, 1.0]}, label_order=[-1, 0, 1])
        assert clone(head).get_params() == head.get_params()
        with pytest.raises(NotFittedError):
            clone(fitted).predict(DATA.X)
        with pytest.raises(NotFittedError):
            tiny().reward(DATA.X)

    def test_set_params_changes_the_fit(self):
        head = tiny().set_params(scheme="special_token", step_separator="[STEP]")
        assert head.fit(DATA.X[50:80], DATA.y[50:80]).scheme_.step_separator == "[STEP]"

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"scheme": "tag"}, "'scheme' parameter"),
            ({"num_train_epochs": 0}, "'num_train_epochs' parameter"),
            ({"warmup_steps": -0.1}, "'warmup_steps' parameter"),
            ({"too_long": "cut"}, "'too_long' parameter"),
            ({"loss": "hinge"}, "loss 'hinge' is unknown|loss is 'hinge'"),
            ({"loss": "rank", "loss_options": {"gamma": 1}}, "no option gamma"),
            ({"loss": "rank", "scheme": "prefix"}, "choose scheme='separator'"),
            ({"loss": "reward_token"}, "needs scheme='reward_tokens'"),
            ({"scheme": "reward_tokens"}, "need a causal language model, bert is none"),
            ({"model_kwargs": {"n_layers": 2}}, "no setting 'n_layers'"),
        ],
    )
    def test_bad_parameters(self, params, words):
        with pytest.raises(ValueError, match=words):
            tiny(**params).fit(DATA.X, DATA.y)

    @pytest.mark.slow
    def test_grid_search(self):
        grid = GridSearchCV(
            tiny(), {"learning_rate": [1e-4, 1e-2]}, cv=StratifiedProblemKFold(2), scoring="neg_log_loss"
        ).fit(DATA.X, DATA.y)
        assert len(set(grid.cv_results_["mean_test_score"])) == 2

    @pytest.mark.slow  # processes that load torch anew
    def test_cross_validation_in_processes(self):
        here, there = (
            cross_val_score(tiny(), DATA.X, DATA.y, cv=StratifiedProblemKFold(2), scoring="neg_log_loss", n_jobs=n_jobs)
            for n_jobs in (None, 2)
        )
        np.testing.assert_allclose(here, there, atol=1e-5)

    @pytest.mark.parametrize(
        "copied",
        [lambda head: pickle.loads(pickle.dumps(head)), pytest.param(copy.deepcopy, marks=pytest.mark.slow)],
        ids=["pickle", "deepcopy"],
    )
    @pytest.mark.parametrize("params", [{"dtype": "bfloat16"}, {"scheme": "special_token", "loss": "rank"}])
    def test_copies_of_a_fitted_model_hold_its_weights(self, copied, params):
        head = tiny(**params).fit(DATA.X, DATA.y)
        generator = torch.random.get_rng_state()
        again = copied(head)
        assert torch.equal(generator, torch.random.get_rng_state())
        np.testing.assert_array_equal(again.predict_proba(DATA.X), head.predict_proba(DATA.X))
        np.testing.assert_array_equal(again.reward(DATA.X), head.reward(DATA.X))
        assert again.scorer_.model is not head.scorer_.model

    def test_joblib_and_language_models(self, language_model, tmp_path):
        head = causal(language_model, scheme="reward_tokens").fit(DATA.X, DATA.y)
        joblib.dump(head, tmp_path / "head.joblib")
        again = joblib.load(tmp_path / "head.joblib")
        np.testing.assert_array_equal(again.predict_proba(DATA.X), head.predict_proba(DATA.X))

    @pytest.mark.parametrize("random_state", [pytest.param(3, marks=pytest.mark.slow), None])
    def test_reproducible_and_nothing_global_changes(self, capfd, random_state):
        import datasets
        import transformers

        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        tiny().fit(DATA.X[50:80], DATA.y[50:80])  # what is imported on the way may set things up once

        def world():
            return (
                random.getstate(),
                np.random.get_state()[1].tolist(),  # noqa: NPY002
                np.random.get_state()[2],  # noqa: NPY002
                torch.random.get_rng_state().tolist(),
                torch.get_num_threads(),
                torch.get_default_dtype(),
                torch.is_grad_enabled(),
                torch.are_deterministic_algorithms_enabled(),
                transformers.utils.logging.get_verbosity(),
                transformers.utils.logging.is_progress_bar_enabled(),
                datasets.are_progress_bars_disabled(),
                datasets.utils.logging.get_verbosity(),
                dict(os.environ),
                list(warnings.filters),
            )

        before = world()
        capfd.readouterr()
        one, two = (tiny(random_state=random_state).fit(DATA.X, DATA.y) for _ in range(2))
        first, second = one.predict_proba(DATA.X), two.predict_proba(DATA.X)
        for was, now in zip(before, world(), strict=True):
            assert was == now
        assert (np.abs(first - second).max() == 0) == (random_state is not None)
        assert capfd.readouterr().out == ""

    def test_settings_of_the_libraries_that_are_not_the_default_stay_too(self):
        import datasets
        import transformers

        logging = transformers.utils.logging
        verbosity, bars = logging.get_verbosity(), datasets.are_progress_bars_disabled()
        try:
            logging.set_verbosity_info()
            datasets.disable_progress_bars()
            tiny().fit(DATA.X[50:80], DATA.y[50:80]).predict_proba(DATA.X)
            assert logging.get_verbosity() == logging.INFO
            assert datasets.are_progress_bars_disabled()
        finally:
            logging.set_verbosity(verbosity)
            if not bars:
                datasets.enable_progress_bars()

    def test_fit_changes_no_parameter(self):
        options = dict(TINY)
        head = tiny(model_kwargs=options, loss_options={"class_weight": [1.0, 2.0, 1.0]})
        before = copy.deepcopy(head.get_params())
        head.fit(DATA.X, DATA.y)
        assert head.get_params() == before


def overfitted(head, bad, good, **params):
    """Trained until it knows two steps by heart."""
    X = flatten([Solution(f"Problem {i % 3}", ["2 + 2 = 5" if i % 2 else "2 + 2 = 4"]) for i in range(24)])
    y = [bad if "5" in step.text else good for step in X]
    return clone(head).set_params(learning_rate=1e-2, num_train_epochs=20, **params).fit(X, y), X


class TestLabels:
    @pytest.mark.parametrize(
        ("loss", "bad", "good", "order"),
        [
            pytest.param("cross_entropy", "negative", "positive", None, marks=pytest.mark.slow),
            pytest.param("cross_entropy", -1, 1, None, marks=pytest.mark.slow),
            ("cross_entropy", False, True, None),
            pytest.param("cross_entropy", 0.0, 1.0, None, marks=pytest.mark.slow),
            ("cross_entropy", "-", "+", None),  # np.unique sorts "+" first
            pytest.param("bce", "-", "+", None, marks=pytest.mark.slow),
            pytest.param("rank", "-", "+", None, marks=pytest.mark.slow),
            ("bce", 0, 1, None),
            ("rank", 7, 3, [7, 3]),
            ("soft_cross_entropy", "zz", "aa", ["zz", "aa"]),
        ],
    )
    @pytest.mark.filterwarnings("ignore:3 problems are too few")
    def test_columns_follow_the_classes(self, loss, bad, good, order):
        head, X = overfitted(tiny(), bad, good, loss=loss, label_order=order)
        assert head.classes_.tolist() == sorted([bad, good])
        proba, is_right = head.predict_proba(X), np.array(["4" in step.text for step in X])
        assert head.predict(X).tolist() == [good if right else bad for right in is_right]
        positive = proba[:, head.classes_.tolist().index(good)]
        assert positive[is_right].min() > 0.6 > 0.4 > positive[~is_right].max()
        assert head.reward(X)[is_right].min() > head.reward(X)[~is_right].max()
        assert head.predict(X).dtype == np.asarray([bad, good]).dtype

    def test_reward_tokens_have_the_right_polarity(self, language_model):
        head = causal(language_model, scheme="reward_tokens", loss="reward_token")
        head, X = overfitted(head, "-", "+")
        wrong = np.array(["5" in step.text for step in X])
        plus = head.predict_proba(X)[:, head.classes_.tolist().index("+")]
        assert plus[~wrong].min() > 0.5 > plus[wrong].max()

    def test_all_positive_labels_but_one_drive_the_probability_of_positive_up(self, language_model):
        y = np.where(np.arange(len(DATA.X)) == 0, "-", "+")
        head = causal(language_model, scheme="reward_tokens", learning_rate=1e-2).set_params(num_train_epochs=4)
        proba = head.fit(DATA.X, y).predict_proba(DATA.X)
        assert proba[1:, head.classes_.tolist().index("+")].min() > 0.8

    def test_order_may_be_unknown_for_cross_entropy_alone(self):
        y = np.where(DATA.y == -1, "bad", "good")
        assert tiny().fit(DATA.X, y).predict_proba(DATA.X).shape == (len(y), 2)
        with pytest.raises(ValueError, match=r"no known order, and loss='rank' needs one: pass label_order"):
            tiny(loss="rank").fit(DATA.X, y)
        with pytest.raises(ValueError, match="lacks"):
            tiny(label_order=["bad", "fair"]).fit(DATA.X, y)

    def test_the_model_knows_its_labels(self):
        y = np.where(DATA.y == -1, "zz", np.where(DATA.y == 0, "mm", "aa"))
        head = tiny(label_order=["zz", "mm", "aa"]).fit(DATA.X, y)
        assert head.scorer_.classes == ("zz", "mm", "aa")
        assert head.scorer_.model.config.id2label == {0: "zz", 1: "mm", 2: "aa"}

    @pytest.mark.parametrize("y", [[1] * len(DATA.X), DATA.y[:-1], [None, *DATA.y[1:]], DATA.y + 0.5])
    def test_bad_labels(self, y):
        with pytest.raises(ValueError, match=r"one class only|labels and X|unlabelled|continuous"):
            tiny().fit(DATA.X, y)


class TestLosses:
    @pytest.mark.parametrize(
        "y", [DATA.y, pytest.param(BINARY, marks=pytest.mark.slow)], ids=["three classes", "two classes"]
    )
    @pytest.mark.parametrize(
        "loss",
        [
            loss if loss in ("cross_entropy", "rank", "reward_token") else pytest.param(loss, marks=pytest.mark.slow)
            for loss in loss_names()
        ],
    )
    def test_every_loss_gives_probabilities(self, language_model, loss, y):
        scheme = "reward_tokens" if loss == "reward_token" else "separator"
        head = causal(language_model, loss=loss, scheme=scheme).fit(DATA.X, y)
        proba = head.predict_proba(DATA.X)
        assert proba.shape == (len(y), len(np.unique(y)))
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        assert (proba > 0).all()
        assert head.reward(DATA.X).shape == (len(y),)
        assert np.isfinite(head.loss_curve_).all()

    @pytest.mark.parametrize("loss", ["rank", pytest.param("orm", marks=pytest.mark.slow), "bce"])
    def test_calibration_on_problems_held_out_gives_the_shares_of_the_classes(self, loss):
        """On average a calibrated probability is the frequency of its class, whatever the reward's scale."""
        head = tiny(loss=loss, validation_fraction=0.5).fit(DATA.X, DATA.y)
        found = head.predict_proba(DATA.X).mean(axis=0)
        np.testing.assert_allclose(found, [np.mean(DATA.y == c) for c in (-1, 0, 1)], atol=0.1)
        steps = np.argsort(head.reward(DATA.X))
        positive = head.predict_proba(DATA.X)[steps, 2]
        slope = np.sign(head.probability_map_.slopes[2] - head.probability_map_.slopes[0])
        odds = np.log(positive / head.predict_proba(DATA.X)[steps, 0])
        assert (slope * np.diff(odds) >= -1e-6).all(), "probabilities follow the reward"

    def test_few_problems_are_calibrated_on_what_was_learnt_and_it_is_said(self):
        wrong = dict.fromkeys(step.problem for step, y in zip(DATA.X, BINARY, strict=True) if not y)
        rows = [i for i, step in enumerate(DATA.X) if step.problem in list(wrong)[:3]]
        X, y = DATA[rows].X, BINARY[rows]
        with pytest.warns(UserWarning, match="3 problems are too few .* choose loss='cross_entropy'"):
            head = tiny(loss="rank").fit(X, y)
        np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tiny(loss="bce").fit(X, y)  # the log-odds need no calibration

    def test_a_class_that_the_held_out_part_would_lack(self):
        y = BINARY.copy()
        y[:] = 1
        y[[i for i, step in enumerate(DATA.X) if step.problem == DATA.X[0].problem]] = 0
        with pytest.warns(UserWarning, match="with every class"):
            head = tiny(loss="rank").fit(DATA.X, y)
        assert head.predict_proba(DATA.X).shape == (len(y), 2)

    def test_options_reach_the_loss(self):
        rare = tiny(loss_options={"class_weight": [50.0, 1.0, 1.0]}, learning_rate=1e-2, num_train_epochs=3)
        plain = clone(rare).set_params(loss_options=None)
        risk, other = (head.fit(DATA.X, DATA.y).predict_proba(DATA.X)[:, 0].mean() for head in (rare, plain))
        assert risk > other + 0.2

    @pytest.mark.parametrize("neutral", ["positive", "negative", "drop"])
    def test_neutral_policies(self, neutral):
        head = tiny(loss="bce", neutral=neutral).fit(DATA.X, DATA.y)
        assert head.predict_proba(DATA.X).shape == (len(DATA.X), 3)


LONG = Solution("How many marbles are there in all the boxes?", [f"Box {i} holds {i}." for i in range(12)])
SHORT = Solution("How many?", ["Three.", "Four."])
MANY = [Solution(f"{i}?", LONG.steps if i % 30 == 0 else SHORT.steps, id=str(i)) for i in range(75)]
FEW = 40
"""Tokens: the short solution fits, the long one does not."""


class TestTooLong:
    X = flatten([LONG, SHORT])
    y = [i % 2 for i in range(14)]

    def head(self, **params):
        return tiny(max_length=FEW, **params)

    def test_drop_counts_what_training_loses_and_refuses_to_score_it(self):
        with pytest.warns(UserWarning, match=r"\d+ of 14 labelled steps do not fit"):
            head = self.head().fit(self.X, self.y)
        with pytest.raises(ValueError, match=r"\d+ of 14 steps lie beyond the 40 tokens .* too_long='nan'"):
            head.predict_proba(self.X)
        assert head.predict_proba(self.X[:2]).shape == (2, 2)  # the first steps of the long one

    @pytest.mark.filterwarnings("ignore:.*labelled steps do not fit")
    def test_one_warning_per_call_names_the_solutions(self):
        clf = PRMClassifier(head=self.head(too_long="nan")).fit(self.X, self.y)
        for call, names in (
            (lambda: clf.predict_proba(self.X), r"in 1 of 2 solutions \(that of X\[0\]\)"),
            (lambda: clf.score_solutions([SHORT, LONG]), r"in 1 of 2 solutions \(solutions\[1\]\)"),
            (
                # More solutions than are scored at once.
                lambda: evaluate(
                    {"m": clf},
                    {"d": StepDataset(flatten(MANY), [1 - 2 * (i % 2) for i in range(len(flatten(MANY)))])},
                    n_resamples=0,
                ),
                r"m on d: no score for .* steps, in 3 of 75 solutions \('0', '30', '60'\)",
            ),
        ):
            with pytest.warns(UserWarning, match=names) as caught:
                call()
            assert len(caught) == 1

    @pytest.mark.filterwarnings("ignore:.*labelled steps do not fit", "ignore:.*fit into the model")
    def test_nan_says_how_many_and_predict_refuses(self):
        head = self.head(too_long="nan").fit(self.X, self.y)
        with pytest.warns(UserWarning, match=r"\d+ of 14 steps do not fit into the model, in 1 of \d .*are NaN"):
            proba = head.predict_proba(self.X)
        lost = np.isnan(proba).all(axis=1)
        assert 0 < lost.sum() < 12
        assert lost[:12].tolist() == sorted(lost[:12].tolist()), "trailing steps are lost, no others"
        assert not lost[12:].any()
        np.testing.assert_allclose(proba[~lost].sum(axis=1), 1)
        with pytest.raises(ValueError, match=rf"{lost.sum()} of 14 .* no class"):
            head.predict(self.X)
        assert np.isnan(head.predict_proba([self.X[11]])).all(), "alone as in the batch"

    @pytest.mark.filterwarnings("ignore:.*labelled steps do not fit", "ignore:.*fit into the model")
    def test_nan_where_the_problem_alone_is_too_long(self):
        head = self.head(too_long="nan").fit(self.X, self.y)
        endless = Solution("Count. " * 50, ["One.", "Two."])
        proba = head.predict_proba([*flatten([endless]), *self.X[-2:]])
        assert np.isnan(proba[:2]).all()
        assert np.isfinite(proba[2:]).all()
        with pytest.raises(ValueError, match=r"the problem of .* alone has \d+ tokens"):
            head.set_params(too_long="drop").predict_proba(flatten([endless]))

    @pytest.mark.filterwarnings("ignore:.*labelled steps do not fit", "ignore:.*fit into the model")
    def test_the_classifier_names_steps_without_probabilities(self):
        """A row of NaN has no largest column: numpy would answer with the first class."""
        clf = PRMClassifier("tokens", self.head(too_long="nan")).fit(self.X, self.y)
        with pytest.raises(ValueError, match="have no probabilities"):
            clf.predict(self.X)
        with pytest.warns(UserWarning, match="1 of 2"):
            long, short = clf.score_solutions([LONG, SHORT])
        assert (bool(long.unscored), bool(short.unscored)) == (True, False)
        with pytest.raises(ValueError, match="1 of 1 solutions have more than max_length"):
            clf.score_solutions([LONG], too_long="raise")
        assert clf.score_solutions([SHORT])[0].rewards.shape == (2,)

    @pytest.mark.parametrize("scheme", ["separator", pytest.param("prefix", marks=pytest.mark.slow)])
    def test_a_cut_problem_leaves_room_for_its_steps(self, scheme):
        wordy = Solution("Many words. " * 20 + "How many?", ["Three.", "Four."])
        X, y = flatten([wordy, SHORT]), [0, 1, 1, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            head = self.head(max_prompt_length=8, scheme=scheme).fit(X, y)
        assert np.isfinite(head.predict_proba(X)).all()
        other = Solution("Other words! " * 3 + wordy.problem, wordy.steps)
        np.testing.assert_allclose(  # what is cut has no say
            head.predict_proba(flatten([other])), head.predict_proba(X[:2]), atol=1e-6
        )
        with pytest.raises(ValueError, match="its prompt alone has"):
            self.head(scheme=scheme, too_long="raise").fit(X, y)
        with pytest.warns(UserWarning, match="1 row without any target is left out|2 rows are cut"):
            self.head(scheme=scheme).fit(X, y)
        with pytest.raises(ValueError, match="lie beyond"):
            head.predict_proba(flatten([Solution("p", ["word " * 50])]))

    def test_raise_raises_in_fit_too(self):
        with pytest.raises(ValueError, match=r"need \d+ tokens. max_length=40.* too_long='drop'"):
            self.head(too_long="raise").fit(self.X, self.y)
        head = self.head(too_long="raise").fit(self.X[-2:], [0, 1])
        with pytest.raises(ValueError, match="1 of 2 solutions have more than max_length=40"):
            head.predict_proba(self.X)

    def test_nothing_fits(self):
        with pytest.raises(ValueError, match="max_length"):
            tiny(max_length=3).fit(self.X, self.y)


class TestInput:
    def test_plain_strings(self):
        X = ["2 + 2 = 4", "2 + 2 = 5"] * 6
        head = tiny().fit(X, [1, 0] * 6)
        proba = head.predict_proba(X)
        np.testing.assert_allclose(proba[::2], np.tile(proba[0], (6, 1)))
        assert np.abs(proba[0] - proba[1]).max() > 0

    def test_no_steps_one_step_and_other_containers(self, fitted):
        with pytest.raises(ValueError, match="0 sample"):
            fitted.predict_proba([])
        expected = fitted.predict_proba(DATA.X[:5])
        np.testing.assert_allclose(fitted.predict_proba(DATA.X[2:3]), expected[2:3], atol=1e-6)
        np.testing.assert_allclose(fitted.predict_proba(np.array(DATA.X[:5], dtype=object)), expected)
        with pytest.raises(TypeError, match="flatten"):
            fitted.predict_proba(DATA.solutions)

    def test_a_step_labelled_twice_is_learnt_twice(self):
        X = [*DATA.X[:30], *DATA.X[:30]]
        one = tiny().fit(X, [*DATA.y[:30], *DATA.y[:30]])
        two = tiny().fit(X, [*DATA.y[:30], *-DATA.y[:30]])
        assert one.predict_proba(X).shape == (60, len(np.unique(DATA.y[:30])))
        assert one.loss_curve_ != two.loss_curve_

    def test_equal_solutions_are_scored_once(self, fitted):
        copies = [Step(Solution(step.problem, step.solution.steps), step.index) for step in DATA.X[:9]]
        proba = fitted.predict_proba([*DATA.X[:9], *copies])
        np.testing.assert_array_equal(proba[:9], proba[9:])

    @pytest.mark.slow
    def test_fits_in_threads_are_those_of_one_thread(self):
        expected = tiny().fit(DATA.X, DATA.y).predict_proba(DATA.X)
        state = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        fits = joblib.Parallel(3, backend="threading")(joblib.delayed(tiny().fit)(DATA.X, DATA.y) for _ in range(3))
        for head in fits:
            np.testing.assert_allclose(head.predict_proba(DATA.X), expected, atol=1e-5)
        assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == state  # noqa: NPY002

    def test_a_thousand_solutions_take_seconds(self):
        many = [Solution(f"What is {i} + 1?", [f"{i} + 1 = {i + 1}.", "Done."]) for i in range(1000)]
        head = tiny().fit(DATA.X, DATA.y)
        X = flatten(many)
        start = time.process_time()
        proba = head.predict_proba(X)
        assert proba.shape == (2000, 3)
        assert time.process_time() - start < 8


@pytest.mark.parametrize("max_prompt_length", [None, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("scheme", "kind"),
    [
        ("separator", "encoder"),
        ("special_token", "encoder"),
        ("prefix", "encoder"),
        ("separator", "language model"),
        ("special_token", "language model"),
        ("reward_tokens", "language model"),
        ("prefix", "language model"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*labelled steps do not fit")
def test_training_reads_the_tokens_that_scoring_reads(tmp_path, language_model, scheme, kind, max_prompt_length):
    """Guarantee 4, byte for byte, truncation included."""
    backbone, options = ("all-MiniLM-L6-v2", TINY) if kind == "encoder" else (language_model, None)

    def rows(limit):
        args = PRMTrainingConfig(
            output_dir=tmp_path,
            scheme=scheme,
            max_length=limit,
            max_prompt_length=max_prompt_length,
            initialization="random",
            model_kwargs=options,
        )
        tokenizer, data = load_tokenizer(backbone), StepDataset(DATA.X, DATA.y)
        trainer = PRMTrainer(backbone, args, train_dataset=data, processing_class=tokenizer)
        records = token_records(tokenizer, DATA.X, trainer.scheme, trainer.max_tokens, "drop")
        return trainer.train_dataset, records

    _, whole = rows(1000)
    of_problem = np.array([int((record.blocks == 0).sum()) for record in whole])
    of_steps = np.array([len(record.input_ids) for record in whole]) - of_problem
    learnt, scored = rows(max(of_problem.max() + 10, of_steps.max() + 3))
    assert [r.input_ids.tolist() for r in scored] != [r.input_ids.tolist() for r in whole], "nothing was cut"
    positions = [np.flatnonzero(np.array(labels) != -100).tolist() for labels in learnt["labels"]]
    assert sorted(zip(learnt["input_ids"], positions, strict=True)) == sorted(
        (record.input_ids.tolist(), record.step_positions.tolist()) for record in scored
    )
    if scheme != "prefix":
        assert sorted(zip(learnt["input_ids"], learnt["blocks"], strict=True)) == sorted(
            (record.input_ids.tolist(), record.blocks.tolist()) for record in scored
        )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_more_reward_is_never_worse_however_few_problems_calibrate(n_classes):
    """A free logistic regression on rewards that point the wrong way would turn every decision round."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, n_classes, 60)
    with pytest.warns(UserWarning, match="does not go with better steps"):
        misled = ProbabilityMap.calibrated(-codes + rng.normal(size=60), codes, n_classes)
    np.testing.assert_allclose(misled(np.array([-3.0, 3.0]))[0], np.bincount(codes) / 60, atol=1e-3)
    proba = ProbabilityMap.calibrated(codes + rng.normal(size=60), codes, n_classes)(np.linspace(-5, 5, 50))
    assert (np.diff(proba[:, 0]) <= 0).all()
    assert (np.diff(proba[:, -1]) >= 0).all()


def test_fit_is_a_short_walk():
    """A reader of ``fit`` meets few files of prmkit: those entered at run time are counted."""
    root, files = str(Path(prmkit.__file__).parent), set()

    def enter(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(root):
            files.add(frame.f_code.co_filename)

    head = tiny().fit(DATA.X[50:80], DATA.y[50:80])  # modules are imported before files are counted
    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        clone(head).fit(DATA.X[50:80], DATA.y[50:80])
    finally:
        sys.setprofile(before)
    # One more than before states were features: what both passes share has a folder of its own.
    assert 10 < len(files) <= 24, sorted(files)
