"""Losses by name: exact means over any split of a batch, what each reads, and refusals in words."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from prmkit.models import losses
from prmkit.models.losses import get_loss, register_loss
from prmkit.models.losses._registry import StepLoss, loss_names

OPTIONS = [
    ("cross_entropy", {}),
    ("cross_entropy", {"class_weight": [2.0, 0.5], "label_smoothing": 0.1}),
    ("reward_token", {"token_ids": (4, 1)}),
    ("reward_token", {"token_ids": (4, 1), "full_vocabulary": True}),
    ("soft_cross_entropy", {}),
    ("bce", {}),
    ("mse", {}),
    ("orm", {}),
    ("rank", {"zeta": 2.0}),
    ("theory_rank", {"divisor": "single"}),
    ("ablate_rank", {}),
]


def draw(loss, seed, n=8, steps=6):
    """Outputs of the shape that a loss reads, and labels with missing steps and solutions."""
    rng = np.random.default_rng(seed)
    width = {"classes": (2,), "reward": (), "vocabulary": (7,)}[loss.reads]
    labels = rng.integers(0, 2, (n, steps))
    labels[rng.random((n, steps)) < 0.4] = -100
    labels[rng.integers(n, size=2)] = -100
    outputs = torch.as_tensor(rng.normal(0, 2, (n, steps, *width))).requires_grad_()
    return outputs, torch.as_tensor(labels)


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_totals_over_counts_of_the_parts_are_the_loss_of_the_whole(name, options):
    """Value and gradient, for parts of unequal length, one of them without any target."""
    loss = get_loss(name, **options)
    for seed in range(20):
        outputs, labels = draw(loss, seed)
        labels[2:4] = -100
        whole = loss(outputs, labels)
        whole.backward()
        gradient, outputs.grad = outputs.grad, None
        parts = [slice(0, 2), slice(2, 4), slice(4, 5), slice(5, 8)]
        count = sum(loss.count(labels[part]) for part in parts)
        value = 0.0
        for part in parts:  # as under gradient accumulation: one backward per part
            share = loss.total(outputs[part], labels[part]) / count
            share.backward()
            value += share.item()
        tolerance = 1e-6 if "class_weight" in options else 1e-12  # the count is float32
        assert value == pytest.approx(whole.item(), rel=tolerance)
        torch.testing.assert_close(outputs.grad, gradient, rtol=tolerance, atol=1e-15)


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_a_named_loss_is_the_function(name, options):
    function = getattr(losses, f"{name}_loss")
    loss = get_loss(name, **options)
    for seed in range(10):
        outputs, labels = draw(loss, seed)
        torch.testing.assert_close(loss(outputs, labels), function(outputs, labels, **options))


def test_counts_are_steps_solutions_or_weights():
    labels = torch.tensor([[1, 0, -100], [-100, -100, -100], [1, -100, -100]])
    counts = {name: get_loss(name, **options).count(labels) for name, options in OPTIONS if not options}
    assert {name: count.item() for name, count in counts.items()} == {
        "cross_entropy": 3,
        "soft_cross_entropy": 3,
        "bce": 3,
        "mse": 3,
        "orm": 2,
        "ablate_rank": 2,
    }
    assert all(count.dtype == torch.float32 for count in counts.values())
    assert get_loss("rank").count(labels) == 2
    assert get_loss("cross_entropy", class_weight=[2, 0.5]).count(labels) == 3.0
    assert get_loss("cross_entropy", class_weight=[2, 0.5]).count(labels[2]) == 0.5
    assert get_loss("bce").count(torch.full((2, 2), -100)) == 0


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_nothing_to_learn_is_zero(name, options):
    loss = get_loss(name, **options)
    outputs, labels = draw(loss, 0)
    outputs = torch.full_like(outputs, torch.nan).requires_grad_()
    value = loss(outputs, torch.full_like(labels, -100))
    value.backward()
    assert value.item() == 0
    assert (outputs.grad == 0).all()


def test_what_each_loss_reads():
    kinds = {}
    for name in loss_names():
        loss = get_loss(name, **({"token_ids": (0, 1, 2)} if name == "reward_token" else {}))
        kinds[name] = (loss.reads, loss.averaging, loss.soft)
    assert kinds == {
        "cross_entropy": ("classes", "micro", False),
        "reward_token": ("vocabulary", "micro", False),
        "soft_cross_entropy": ("classes", "micro", True),
        "bce": ("reward", "micro", True),
        "mse": ("reward", "micro", True),
        "orm": ("reward", "solution", False),
        "rank": ("reward", "macro", False),
        "theory_rank": ("reward", "macro", False),
        "ablate_rank": ("reward", "macro", False),
    }
    assert get_loss("reward_token", token_ids=[3, 5]).soft


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_soft_says_whether_float_labels_are_taken(name, options):
    loss = get_loss(name, **options)
    outputs, labels = draw(loss, 0)
    chances = torch.where(labels == 1, 0.7, labels.double())
    if loss.soft:
        assert loss(outputs, chances) != loss(outputs, labels)
    else:
        with pytest.raises(ValueError, match=r"expected class codes|expected 1"):
            loss(outputs, chances)


def test_a_loss_is_a_value():
    loss = get_loss("cross_entropy", class_weight=np.array([1.0, 2.0]), label_smoothing=0.1)
    assert isinstance(loss, StepLoss)
    assert loss == get_loss("cross_entropy", class_weight=[1, 2], label_smoothing=0.1)
    assert pickle.loads(pickle.dumps(loss)) == copy.deepcopy(loss) == loss
    assert hash(loss) == hash(copy.deepcopy(loss))
    with pytest.raises(AttributeError):
        loss.name = "bce"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ranking", {}, "loss 'ranking' is unknown, expected one of cross_entropy, reward_token, .*ablate_rank"),
        ("rank", {"zetta": 2}, "'rank' has no option zetta: expected zeta"),
        ("bce", {"zeta": 2}, "'bce' has no option zeta: it has none"),
        ("reward_token", {}, "needs token_ids"),
        ("reward_token", {"token_ids": ["+", "-"]}, "token_ids=.*, expected the token ids"),
        ("reward_token", {"token_ids": [5]}, "two or more"),
        ("cross_entropy", {"class_weight": {0: 1.0}}, "expected None or a finite weight"),
        ("cross_entropy", {"class_weight": [0, 0]}, "not all 0"),
        ("cross_entropy", {"class_weight": [1, -1]}, "at least 0"),
        ("cross_entropy", {"label_smoothing": "much"}, "label_smoothing='much'"),
        ("rank", {"zeta": "4"}, "zeta='4', expected a finite number"),
        ("theory_rank", {"divisor": None}, "divisor=None"),
    ],
)
def test_unknown_names_and_options_are_refused_at_once(name, options, message):
    with pytest.raises(ValueError, match=message):
        get_loss(name, **options)


def test_public_names_are_lazy_and_documented():
    assert set(losses.__all__) >= {f"{name}_loss" for name in loss_names()} | {"get_loss"}
    assert all(getattr(losses, name).__doc__ for name in losses.__all__)
    code = "import sys, prmkit.models.losses; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """The doctest of register_loss may have registered its loss in this process."""
    from prmkit.models.losses import _registry

    monkeypatch.delitem(_registry._LOSSES, "absolute_error", raising=False)


@pytest.fixture
def absolute_error(monkeypatch):
    """A loss of a user's own, which is forgotten after the test."""
    from prmkit.models.losses import _registry

    monkeypatch.setattr(_registry, "_LOSSES", dict(_registry._LOSSES))

    @register_loss("absolute_error", reads="reward", soft=True)
    def absolute_error_loss(rewards, labels, *, power=1.0):
        """Mean distance of the probability from the label."""
        valid = labels != -100
        return torch.where(valid, (rewards.sigmoid() - labels).abs() ** power, 0.0).sum()

    return absolute_error_loss


def test_a_loss_of_ones_own_is_registered_in_one_place(absolute_error):
    from prmkit.models import PRMTrainingConfig

    rewards, labels = torch.zeros(2, 2), torch.tensor([[1, 0], [1, -100]])
    assert get_loss("absolute_error", power=2.0)(rewards, labels) == 0.25
    assert absolute_error(rewards, labels, power=2.0) == 0.25
    assert absolute_error.__doc__ == "Mean distance of the probability from the label."
    assert loss_names()[-1] == "absolute_error"
    assert PRMTrainingConfig(loss="absolute_error", use_cpu=True).loss == "absolute_error"
    with pytest.raises(ValueError, match="has no option zeta: expected power"):
        get_loss("absolute_error", zeta=1)


def test_a_name_belongs_to_one_loss(absolute_error):
    with pytest.raises(ValueError, match="a loss 'rank' exists already"):
        register_loss("rank", reads="reward")(lambda rewards, labels: rewards.sum())


def test_a_loss_is_read_from_a_pickle_in_a_new_process():
    text = pickle.dumps(get_loss("rank", zeta=2.0)).hex()
    code = (
        f"import pickle, torch; loss = pickle.loads(bytes.fromhex('{text}')); "
        "print(loss(torch.tensor([[0.25, 1.0, -2.0]]), torch.tensor([[1, 1, 0]])))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "tensor(0.8081)"


def test_names_may_be_spelled_as_in_pqm():
    assert get_loss("theory-rank") == get_loss("theory_rank")
