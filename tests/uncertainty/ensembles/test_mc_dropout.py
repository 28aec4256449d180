"""MCDropout: members are fixed sub-networks of one model, which comes out of it as it went in."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score

from prmkit import PRMClassifier, StratifiedProblemKFold
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.models import StepMLP, StepTransformer, TokenPRM
from prmkit.uncertainty import MCDropout
from prmkit.uncertainty.ensembles._mc_dropout import sub_network

TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
TINY["initializer_range"] = 0.3
KINDS = ("perceptron", "transformer", "tokens")


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(12, 2, error_rate=0.5, neutral_rate=0.3, random_state=0)


@pytest.fixture(scope="module")
def models(data):
    heads = {
        "perceptron": StepMLP(16, dropout=0.3, max_epochs=5),
        "transformer": StepTransformer(hidden_size=16, n_layers=1, n_heads=2, dropout=0.2, max_epochs=2),
        "tokens": TokenPRM(initialization="random", model_kwargs=TINY, num_train_epochs=1, show_progress=False),
    }
    return {
        kind: PRMClassifier("tokens" if kind == "tokens" else StepStatistics(), head, random_state=0).fit(
            data.X, data.y
        )
        for kind, head in heads.items()
    }


def of(models, kind, n_members=4, **options):
    """MC dropout of a model; token models need a rate."""
    return MCDropout(models[kind], n_members, **({"rate": 0.2} if kind == "tokens" else {}) | options)


def module_of(classifier):
    head = classifier.head_
    return head.module_


def has_hooks(module):
    """Whether a dropout layer has any; transformers hooks other layers for itself."""
    return any(layer._forward_hooks for layer in module.modules() if isinstance(layer, torch.nn.Dropout))


@pytest.mark.parametrize("kind", KINDS)
class TestEveryModel:
    def test_members_differ_and_are_averaged(self, kind, models, data):
        found = of(models, kind).member_proba(data.X)
        assert found.shape == (4, len(data.X), 3)
        np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-5)
        assert all(np.abs(found[i] - found[j]).max() > 1e-3 for i in range(4) for j in range(i))
        np.testing.assert_allclose(of(models, kind).predict_proba(data.X), found.mean(axis=0))

    def test_the_model_stays_as_it_was(self, kind, models, data):
        before = models[kind].predict_proba(data.X)
        bits, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        of(models, kind).uncertainty(data.X)
        np.testing.assert_array_equal(models[kind].predict_proba(data.X), before)
        assert not has_hooks(module_of(models[kind]))
        assert not module_of(models[kind]).training
        assert torch.equal(torch.get_rng_state(), bits)
        np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002

    def test_deterministic_by_seed(self, kind, models, data):
        one, same, other = (of(models, kind, random_state=seed).member_proba(data.X[:8]) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()
        np.testing.assert_array_equal(of(models, kind, 2).member_proba(data.X[:8]), one[:2])

    def test_each_member_answers_a_step_alone_as_among_others(self, kind, models, data):
        """Not the mean alone: every single sub-network is one function of a step and its prefix."""
        found = of(models, kind)
        whole = found.member_proba(data.X)
        order = np.random.default_rng(0).permutation(len(data.X))
        turned = found.member_proba(data[order].X)
        np.testing.assert_allclose(turned, whole[:, order], atol=1e-5)
        for i in (0, 7, len(data.X) - 1):
            np.testing.assert_allclose(found.member_proba([data.X[i]])[:, 0], whole[:, i], atol=1e-5)

    def test_a_small_rate_is_the_model_itself(self, kind, models, data):
        expected = models[kind].predict_proba(data.X)
        far, near = (np.abs(of(models, kind, rate=rate).member_proba(data.X) - expected).max() for rate in (0.5, 1e-6))
        assert near < 1e-4 < far

    def test_hooks_go_also_after_an_error(self, kind, models, data, monkeypatch):
        module = module_of(models[kind])

        def broken(*args, **kwargs):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(module, "forward", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            of(models, kind).member_proba(data.X[:2])
        assert not has_hooks(module)

    def test_save_and_load(self, kind, models, data, tmp_path):
        found = of(models, kind, random_state=5).fit(data.X, data.y)
        found.save(tmp_path / "model")
        read = MCDropout.load(tmp_path / "model")
        np.testing.assert_allclose(read.member_proba(data.X), found.member_proba(data.X), atol=1e-6)
        np.testing.assert_array_equal(read.training_problems_, found.training_problems_)
        assert read.label_order_ == (-1, 0, 1)


def test_perceptron_by_hand(models, data):
    """The masked network written out: the same hidden units go for every row, the others grow by 1 / (1 - rate)."""
    classifier = models["perceptron"]
    rows = classifier.featurizer_.transform(data.X)
    module = classifier.head_.module_
    first, _, _, last = module.layers
    with torch.no_grad():
        hidden = torch.nn.functional.gelu(first(module.scaled(torch.as_tensor(rows, dtype=torch.float32))))
        for member, found in enumerate(MCDropout(classifier, 3, random_state=7).member_proba(data.X)):
            kept = np.random.default_rng([7, member, 0]).random(16) >= 0.3
            assert 0 < kept.sum() < 16
            logits = last(hidden * torch.as_tensor(kept / 0.7, dtype=torch.float32))
            np.testing.assert_allclose(found, softmax(logits.numpy(), axis=1), atol=1e-5)


def test_share_of_dropped_features_is_the_rate():
    layer = torch.nn.Sequential(torch.nn.Dropout(0.25)).eval()
    dropped = []
    for member in range(20):
        with sub_network(layer, [0, member]):
            out = layer(torch.ones(2, 3, 500))
        assert (out == out[0, 0]).all()  # one mask for all rows and positions
        assert out.unique().tolist() == pytest.approx([0, 4 / 3])
        dropped.append((out[0, 0] == 0).float().mean().item())
    assert np.mean(dropped) == pytest.approx(0.25, abs=0.015)


def test_attention_probabilities_stay_whole():
    layer = torch.nn.Sequential(torch.nn.Dropout(0.5)).eval()
    with sub_network(layer, [0]):
        layer(torch.ones(2, 8))
        attention = torch.full((1, 2, 4, 4), 0.25)
        torch.testing.assert_close(layer(attention), attention)


def test_layers_have_masks_of_their_own():
    layers = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Dropout(0.5)).eval()
    with sub_network(layers, [0]):
        one, other = layers[0](torch.ones(64)), layers[1](torch.ones(64))
    assert (one != other).any()


def test_one_pass_of_the_featurizer(models, data, monkeypatch):
    calls = []
    transform = StepStatistics.transform
    monkeypatch.setattr(StepStatistics, "transform", lambda self, X: calls.append(1) or transform(self, X))
    for kind in ("perceptron", "transformer"):
        calls.clear()
        of(models, kind, 5).member_proba(data.X)
        assert len(calls) == 1


def test_uncertainty(models, data):
    found = of(models, "perceptron", 20).uncertainty(data.X)
    assert (found.epistemic >= 0).all()
    assert found.epistemic.mean() > 1e-3
    assert (found.risk_variance > 0).any()


class TestFitting:
    def test_ready_without_fit_and_kept_by_fit(self, models, data):
        ready = of(models, "perceptron")
        expected = ready.predict_proba(data.X)
        assert ready.classes_.tolist() == [-1, 0, 1]
        assert len(ready.score_solutions(data.solutions[:2])) == 2
        fitted = ready.fit(data.X[:10], data.y[:10])
        assert fitted.classifier_ is models["perceptron"]
        np.testing.assert_array_equal(fitted.predict_proba(data.X), expected)
        np.testing.assert_array_equal(clone(fitted).predict_proba(data.X), expected)
        frozen = MCDropout(FrozenEstimator(models["perceptron"]), 4)
        np.testing.assert_array_equal(frozen.predict_proba(data.X), expected)

    def test_fits_what_is_not_fitted(self, models, data):
        unfitted = MCDropout(clone(models["perceptron"]), 4)
        for method in (unfitted.predict, unfitted.predict_proba, unfitted.member_proba, unfitted.uncertainty):
            with pytest.raises(NotFittedError):
                method(data.X)
        found = unfitted.fit(data.X, data.y)
        np.testing.assert_array_equal(found.predict_proba(data.X), of(models, "perceptron").predict_proba(data.X))

    def test_cross_validation(self, data):
        model = MCDropout(PRMClassifier(StepStatistics(), StepMLP(16, max_epochs=20), random_state=0), 5)
        scores = cross_val_score(model, data.X, data.y, cv=StratifiedProblemKFold(2))
        assert (scores > 0.4).all()

    def test_a_head_alone(self, data):
        rows = StepStatistics().fit_transform(data.X)
        head = StepMLP(8, max_epochs=2, random_state=0).fit(rows, data.y)
        found = MCDropout(head, 3)
        assert found.member_proba(rows).shape == (3, len(rows), 3)
        assert found.label_order_ == (-1, 0, 1)
        assert found.training_problems_ is None
        with pytest.raises(TypeError, match="StepMLP, which cannot be saved"):
            found.save("nowhere")

    def test_sequences_of_numbers(self):
        X = np.random.default_rng(0).normal(size=(40, 4))
        y, groups = (X[:, 0] > 0).astype(int), np.repeat(np.arange(8), 5)
        head = StepTransformer(hidden_size=16, n_layers=1, n_heads=2, max_epochs=1, random_state=0)
        answers = [
            MCDropout(model, 2).fit(X, y, groups=groups).member_proba(X, groups)
            for model in (head, PRMClassifier("precomputed", head))
        ]
        np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)

    def test_labels_that_the_classifier_does_not_know(self, models, data):
        with pytest.raises(ValueError, match=r"labels \[5\], which the classifier was not fitted on"):
            of(models, "perceptron").fit(data.X[:2], [1, 5])


class TestNothingToDrop:
    @pytest.mark.parametrize("head", [StepMLP(8, dropout=0.0, max_epochs=1), StepMLP(0, max_epochs=1)])
    def test_model_without_dropout(self, head, data):
        classifier = PRMClassifier(StepStatistics(), head)
        with pytest.raises(ValueError, match=r"no dropout in use.*StepMLP\(dropout=0.3\).*rate=.*StepEnsemble"):
            MCDropout(classifier).fit(data.X, data.y)
        with pytest.raises(ValueError, match="no dropout in use"):
            MCDropout(classifier.fit(data.X, data.y)).predict_proba(data.X)

    def test_a_rate_drops_what_was_trained_without(self, data):
        classifier = PRMClassifier(StepStatistics(), StepMLP(8, dropout=0.0, max_epochs=1))
        found = MCDropout(classifier, 3, rate=0.3).fit(data.X, data.y).member_proba(data.X)
        assert found.std(axis=0).max() > 0

    def test_scikit_learn_head(self, data):
        with pytest.raises(TypeError, match=r"Pipeline is no torch model.*StepEnsemble"):
            MCDropout(PRMClassifier(StepStatistics())).fit(data.X, data.y)

    def test_token_model_without_a_rate(self, models, data):
        with pytest.raises(ValueError, match=r"trained without dropout.*rate=0.1"):
            MCDropout(models["tokens"]).predict_proba(data.X)

    def test_only_attention_has_dropout(self):
        layer = torch.nn.Sequential(torch.nn.Dropout(0.5)).eval()
        with pytest.raises(ValueError, match="no dropout in use"), sub_network(layer, [0]):
            layer(torch.ones(1, 2, 4, 4))

    @pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": 1.0}, {"n_members": 0}, {"random_state": None}])
    def test_parameters(self, options, models, data):
        with pytest.raises(ValueError, match="parameter of MCDropout must be"):
            MCDropout(models["perceptron"], **options).fit(data.X, data.y)


@pytest.mark.parametrize(
    "wrong", [{"rate": 1}, {"rate": -0.5}, {"rate": "a"}, {"n_members": 0}, {"random_state": None}]
)
def test_parameters_are_checked_without_fit_too(models, data, wrong):
    with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter"):
        MCDropout(models["perceptron"], **wrong).member_proba(data.X[:2])


def test_threads_do_not_see_each_other_s_masks(models, data):
    model = models["perceptron"]
    plain, dropped = model.predict_proba(data.X), of(models, "perceptron").member_proba(data.X)
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(model.predict_proba, data.X)
            if turn % 2
            else pool.submit(of(models, "perceptron").member_proba, data.X)
            for turn in range(24)
        ]
    for turn, answer in enumerate(asked):
        np.testing.assert_array_equal(answer.result(), plain if turn % 2 else dropped)


def test_labels_of_another_length_are_refused(models, data):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        of(models, "perceptron").fit(data.X, data.y[:3])
