"""The torch heads: what they can learn, what they see, and how training behaves."""

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
from prmkit.features.sequences import StepSequences
from prmkit.models import StepMLP, StepTransformer
from prmkit.models.heads._training import batches


@pytest.fixture(scope="module")
def memory_task():
    """The label of a row is the sign of the first feature of the row before: one must look back, once."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 4)).astype(np.float32)
    groups = np.repeat(np.arange(500), 6)
    before = np.roll(X[:, 0], 1)
    before[::6] = 0
    return X, (before > 0).astype(int), groups


@pytest.mark.slow
def test_transformer_looks_back_and_the_perceptron_cannot(memory_task):
    X, y, groups = memory_task
    train, test = groups < 400, groups >= 400
    transformer = StepTransformer(hidden_size=32, max_epochs=30, batch_size=256, learning_rate=3e-3, random_state=0)
    transformer.fit(X[train], y[train], groups=groups[train])
    with_context = (transformer.predict(X[test], groups=groups[test]) == y[test]).mean()
    alone = (StepMLP(random_state=0).fit(X[train], y[train]).predict(X[test]) == y[test]).mean()
    assert with_context > 0.85 > 0.7 > alone


def test_loss_falls_and_early_stopping_keeps_the_best(memory_task):
    X, y, groups = memory_task
    head = StepTransformer(hidden_size=16, max_epochs=12, patience=3, random_state=0).fit(X, y, groups=groups)
    assert head.loss_curve_[-1] < head.loss_curve_[0]
    assert len(head.loss_curve_) == len(head.validation_curve_) == head.n_iter_
    noise = np.random.default_rng(0).integers(0, 2, len(y))
    stopped = StepMLP(max_epochs=100, patience=2, learning_rate=1e-2, random_state=0).fit(X, noise, groups=groups)
    assert stopped.n_iter_ < 100


def test_class_weight_raises_the_rare_class(memory_task):
    X, _, _ = memory_task
    y = (X[:, 0] > 1.5).astype(int)
    options = {"hidden_size": 0, "learning_rate": 1e-2, "random_state": 0}
    plain = StepMLP(**options).fit(X, y)
    balanced = StepMLP(**options, class_weight="balanced").fit(X, y)
    assert balanced.predict_proba(X)[:, 1].mean() > 1.5 * plain.predict_proba(X)[:, 1].mean()


def test_pretrained_backbone_really_loads_weights():
    import torch
    from transformers import AutoModel

    from prmkit.features.encoding.model_path import resolve_model

    X = np.random.default_rng(0).normal(size=(20, 384)).astype(np.float32)
    y = np.arange(20) % 2
    heads = {
        kind: StepTransformer(
            "all-MiniLM-L6-v2", initialization=kind, max_epochs=1, learning_rate=1e-12, random_state=0
        )
        for kind in ("pretrained", "random")
    }
    weight = "encoder.layer.0.attention.self.query.weight"
    official = AutoModel.from_pretrained(resolve_model("all-MiniLM-L6-v2")).state_dict()[weight]
    states = {kind: head.fit(X, y).module_.backbone.state_dict()[weight] for kind, head in heads.items()}
    torch.testing.assert_close(states["pretrained"], official, atol=1e-6, rtol=0)
    assert (states["random"] - official).abs().max() > 0.01


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "distilbert"])
def test_other_backbones_are_causal(family, tmp_path):
    """A tiny model of each family, saved, loaded by path, with an input projection, sees nothing later."""
    from transformers import AutoConfig, AutoModel

    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 60,
    }
    if family == "distilbert":
        sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 60}
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    if family in ("bert", "distilbert"):
        special = {"pad_token_id": 0}
    AutoModel.from_config(AutoConfig.for_model(family, **sizes, **special)).save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(60, 5)).astype(np.float32), np.repeat(np.arange(12), 5)
    head = StepTransformer(tmp_path, max_epochs=2, random_state=0).fit(X, np.arange(60) % 2, groups=groups)
    proba = head.predict_proba(X, groups=groups)
    changed = X.copy()
    changed[4::5] += 10  # the last row of each solution
    after = head.predict_proba(changed, groups=groups)
    kept = np.arange(60) % 5 != 4
    np.testing.assert_allclose(after[kept], proba[kept], atol=1e-6)
    assert np.abs(after[~kept] - proba[~kept]).max() > 1e-4


def test_solutions_longer_than_the_encoder_knows_are_scored_whole():
    head = StepTransformer(hidden_size=8, n_heads=1, n_layers=1, max_epochs=1, early_stopping=False, random_state=0)
    X = np.random.default_rng(0).normal(size=(700, 2)).astype(np.float32)
    head.fit(X, np.arange(700) % 2, groups=np.zeros(700))
    assert np.isfinite(head.predict_proba(X, groups=np.zeros(700))).all()


def test_batches_hold_every_sequence_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    for rng in (None, np.random.RandomState(0)):
        parts = list(batches(lengths, 100, rng))
        assert sorted(np.concatenate(parts)) == list(range(500))
        assert all(len(part) == 1 or len(part) * lengths[part].max() <= 100 for part in parts)


@pytest.mark.slow
def test_validation_is_cut_by_problem(monkeypatch):
    """No problem is on both sides of the early-stopping split."""
    from prmkit.models.heads import _training

    seen = []

    def spy(module, sequences, targets, plan, *, rng, validation=None):
        seen.append((set(sequences.problems), set(validation[0].problems)))
        return [1.0], [1.0]

    monkeypatch.setattr(_training, "train", spy)
    data = make_arithmetic_solutions(15, 3, random_state=0)
    for head in (StepMLP(random_state=0), StepTransformer(hidden_size=16, random_state=0)):
        PRMClassifier(head=head).fit(data.X, data.y)
    assert len(seen) == 2
    for learn, check in seen:
        assert check
        assert not learn & check


def test_a_loss_that_is_not_finite_stops_in_words():
    X = np.full((20, 2), 1e38, dtype=np.float32)
    X[::2] *= -1
    head = StepMLP(max_epochs=3, learning_rate=1e30, early_stopping=False, max_norm=1e30, random_state=0)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        head.fit(X, np.arange(20) % 2)


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="multiple of n_heads"):
        StepTransformer(hidden_size=10, n_heads=4).fit(np.eye(4), [0, 1, 0, 1])


def test_one_pass_per_sequence_and_rows_in_any_order():
    rng = np.random.default_rng(0)
    sequences = StepSequences.from_rows(rng.normal(size=(30, 3)).astype(np.float32), np.repeat(np.arange(6), 5))
    head = StepTransformer(hidden_size=8, n_heads=1, max_epochs=1, random_state=0)
    head.fit(sequences, np.arange(30) % 2)
    positions = []
    hook = head.module_.register_forward_pre_hook(lambda _, args: positions.append(args[0].shape[:2].numel()))
    head.predict_proba(sequences)
    hook.remove()
    assert sum(positions) == 30


@pytest.mark.parametrize(
    "head", [StepMLP(max_epochs=3, random_state=0), StepTransformer(hidden_size=16, max_epochs=2, random_state=0)]
)
def test_fits_in_threads_are_the_fit_alone_and_leave_the_generators(head):
    import random

    import torch

    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6)).astype("float32")
    y, groups = X[:, 0] > 0, np.arange(120) // 4
    head.set_params(random_state=0)
    alone = clone(head).fit(X, y, groups=groups).predict_proba(X, groups=groups)
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    fits = Parallel(6, prefer="threads")(delayed(clone(head).fit)(X, y, groups=groups) for _ in range(6))
    for fitted in fits:
        np.testing.assert_allclose(fitted.predict_proba(X, groups=groups), alone, atol=1e-5)
    after = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert (before[2] == after[2]).all()
