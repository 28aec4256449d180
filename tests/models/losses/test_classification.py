"""Cross entropies against plain loops and against PyTorch's own."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from prmkit.models.losses import bce_loss, cross_entropy_loss, get_loss, reward_token_loss, soft_cross_entropy_loss

NAN = math.nan


def draw(seed, n_classes, n_labels=None, *, soft=False):
    """Logits with garbage where there is no target, and labels."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, 2))
    logits = rng.normal(0, 3, (*shape, n_classes))
    labels = rng.random(shape) if soft else rng.integers(0, n_labels or n_classes, shape)
    missing = rng.random(shape) < rng.choice([0, 0.4, 0.8])
    labels = np.where(missing, -100, labels)
    logits[missing] = rng.choice([np.nan, np.inf, -np.inf], (missing.sum(), n_classes))
    return torch.as_tensor(logits).requires_grad_(), torch.as_tensor(labels)


def lse(values):
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def plain(logits, labels, step_loss):
    """Mean of ``step_loss(list of logits, label)`` over the steps with a target; 0 without any."""
    rows = zip(logits.detach().flatten(0, -2).tolist(), labels.flatten().tolist(), strict=True)
    losses = [step_loss(z, y) for z, y in rows if y != -100]
    return sum(losses) / len(losses) if losses else 0.0


def check(loss, logits, labels, step_loss):
    """Value by the plain loop, gradient by central differences along a random direction, none on padding."""
    value = loss(logits, labels)
    value.backward()
    assert value.item() == pytest.approx(plain(logits, labels, step_loss), rel=1e-12, abs=1e-14)
    assert (logits.grad[labels == -100] == 0).all()
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    up, down = (plain(logits + h * along, labels, step_loss) for h in (1e-5, -1e-5))
    assert (logits.grad * along).sum().item() == pytest.approx((up - down) / 2e-5, abs=1e-7)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_cross_entropy_is_the_plain_loop(n_classes):
    for seed in range(80):
        check(cross_entropy_loss, *draw(seed, n_classes), lambda z, y: lse(z) - z[y])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("class_weight", [None, [3.0, 1.5, 0.25]])
def test_weights_and_smoothing_are_those_of_pytorch(class_weight, label_smoothing):
    weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float64)
    for seed in range(40):
        logits, labels = draw(seed, 3)
        clean = torch.where(labels[..., None] == -100, 0.0, logits.detach()).requires_grad_()
        if (labels == -100).all():
            continue
        found = cross_entropy_loss(logits, labels, class_weight=class_weight, label_smoothing=label_smoothing)
        truth = cross_entropy(clean.flatten(0, -2), labels.flatten(), weight, label_smoothing=label_smoothing)
        found.backward()
        truth.backward()
        torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(logits.grad, clean.grad, rtol=1e-10, atol=1e-14)


def test_a_class_of_weight_zero_is_left_out_also_under_smoothing():
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    with_it = cross_entropy_loss(logits, torch.tensor([[0, 2, 1, 1]]), class_weight=[1, 0, 2], label_smoothing=0.1)
    without = cross_entropy_loss(logits[:, :2], torch.tensor([[0, 2]]), class_weight=[1, 0, 2], label_smoothing=0.1)
    torch.testing.assert_close(with_it, without)
    assert cross_entropy_loss(logits[:, :1], torch.tensor([[1]]), class_weight=[1, 0, 2]) == 0


def test_soft_cross_entropy_is_the_plain_loop_and_bce_of_the_difference():
    def step_loss(z, p):
        return -p * (z[1] - lse(z)) - (1 - p) * (z[0] - lse(z))

    for seed in range(80):
        logits, labels = draw(seed, 2, soft=seed % 2 == 0)
        check(soft_cross_entropy_loss, logits, labels, step_loss)
        difference = logits.detach()[..., 1] - logits.detach()[..., 0]
        torch.testing.assert_close(soft_cross_entropy_loss(logits, labels), bce_loss(difference, labels))


@pytest.mark.parametrize("token_ids", [(6, 2), (0, 6, 3)])
@pytest.mark.parametrize("full_vocabulary", [False, True])
def test_reward_tokens_are_the_plain_loop(token_ids, full_vocabulary):
    def hard(z, y):
        return lse(z if full_vocabulary else [z[i] for i in token_ids]) - z[token_ids[y]]

    def soft(z, p):
        return p * hard(z, 1) + (1 - p) * hard(z, 0)

    def loss(logits, labels):
        return reward_token_loss(logits, labels, token_ids, full_vocabulary=full_vocabulary)

    for seed in range(60):
        check(loss, *draw(seed, 7, len(token_ids)), hard)
        if len(token_ids) == 2:
            check(loss, *draw(seed, 7, soft=True), soft)


def test_training_raises_the_probability_of_the_right_token():
    """The polarity that published code inverted: labels 1 drive P(+) to 1, whatever the order of the ids."""
    minus, plus = 5, 2
    logits = torch.zeros(1, 1, 8, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(50):
        optimizer.zero_grad()
        reward_token_loss(logits, torch.tensor([[1]]), (minus, plus)).backward()
        optimizer.step()
    assert torch.sigmoid(logits[0, 0, plus] - logits[0, 0, minus]) > 0.95


def test_masked_out_vocabulary_has_no_influence():
    """Logits wider than the tokenizer's vocabulary are often -inf there."""
    logits = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 0]])
    wide = torch.cat([logits, torch.full((1, 2, 3), -math.inf)], -1).requires_grad_()
    for full_vocabulary in (False, True):
        value = reward_token_loss(wide, labels, (1, 4), full_vocabulary=full_vocabulary)
        torch.testing.assert_close(value, reward_token_loss(logits, labels, (1, 4), full_vocabulary=full_vocabulary))
        (gradient,) = torch.autograd.grad(value, wide)
        assert gradient.isfinite().all()


LOSSES_ON_LOGITS = {
    "cross_entropy": (cross_entropy_loss, 3),
    "soft_cross_entropy": (soft_cross_entropy_loss, 2),
    "reward_token": (lambda logits, labels: reward_token_loss(logits, labels, (3, 1)), 5),
    "full vocabulary": (lambda logits, labels: reward_token_loss(logits, labels, (3, 1), full_vocabulary=True), 5),
}


@pytest.mark.parametrize("name", LOSSES_ON_LOGITS)
def test_huge_half_precision_and_missing_logits(name):
    loss, width = LOSSES_ON_LOGITS[name]
    rng = np.random.default_rng(0)
    for dtype, scale in ((torch.float32, 1e4), (torch.bfloat16, 1e3), (torch.float16, 1e3)):
        logits = torch.as_tensor(rng.choice([-scale, 0, scale], (4, 6, width))).to(dtype).requires_grad_()
        labels = torch.as_tensor(rng.choice([0, 1, -100], (4, 6)))
        value = loss(logits, labels)
        value.backward()
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), loss(logits.detach().double(), labels), rtol=1e-5, atol=0)
        assert logits.grad.isfinite().all()
    for shape in ((2, 3), (0, 3)):
        logits = torch.full((*shape, width), NAN, requires_grad=True)
        value = loss(logits, torch.full(shape, -100))
        value.backward()
        assert value.item() == 0
        assert (logits.grad == 0).all()


def test_float_labels_are_refused_by_cross_entropy_in_words():
    labels = torch.tensor([[0.25, 1.0]])
    with pytest.raises(ValueError, match=r"labels are torch\.float32, expected class codes .*soft_cross_entropy"):
        cross_entropy_loss(torch.zeros(1, 2, 3), labels)
    with pytest.raises(ValueError, match=r"expected class codes"):
        get_loss("cross_entropy", class_weight=[1, 2, 1]).count(labels)
    with pytest.raises(ValueError, match="with 3 token_ids: chances of being right need two"):
        reward_token_loss(torch.zeros(1, 2, 9), labels, (1, 2, 3))


def test_bad_input_is_refused_in_words():
    logits, labels = torch.zeros(1, 2, 3), torch.tensor([[0, 2]])
    with pytest.raises(ValueError, match=r"hold -1, 3, expected class codes from 0 \(worst\) to 2, and -100"):
        cross_entropy_loss(logits, torch.tensor([[-1, 3]]))
    with pytest.raises(ValueError, match=r"shape \(1, 2\) and labels \(1, 2\), expected .* the classes last"):
        cross_entropy_loss(logits[..., 0], labels)
    with pytest.raises(ValueError, match="class_weight has 2 weights, the logits 3 classes"):
        cross_entropy_loss(logits, labels, class_weight=[1, 2])
    with pytest.raises(ValueError, match=r"logits have 3 classes, expected 2: wrong and right"):
        soft_cross_entropy_loss(logits, labels)
    with pytest.raises(ValueError, match=r"hold 2, expected chances of being right"):
        soft_cross_entropy_loss(logits[..., :2], labels)
    with pytest.raises(ValueError, match=r"token_ids=\[0, 3\], but the vocabulary has 3 logits"):
        reward_token_loss(logits, labels, (0, 3))
    with pytest.raises(ValueError, match=r"token_ids=\(1, 1\), expected the token ids"):
        reward_token_loss(logits, labels, (1, 1))
    with pytest.raises(ValueError, match="hold 2, expected class codes from 0"):
        reward_token_loss(logits, labels, (0, 1), full_vocabulary=True)
    with pytest.raises(ValueError, match="label_smoothing=2, expected a number from 0 to 1"):
        cross_entropy_loss(logits, labels, label_smoothing=2)


def test_soft_labels_agree_with_pytorch_in_float32():
    logits, labels = draw(3, 2, soft=True)
    valid = labels != -100
    difference = (logits[..., 1] - logits[..., 0]).float().detach()[valid]
    truth = binary_cross_entropy_with_logits(difference, labels[valid].float())
    torch.testing.assert_close(soft_cross_entropy_loss(logits.float(), labels.float()), truth)
