"""Losses on rewards at the edges: identities, padding, half precision, bad input."""

import math

import numpy as np
import pytest
import torch

from prmkit.models.losses import ablate_rank_loss, bce_loss, mse_loss, orm_loss, rank_loss, theory_rank_loss
from prmkit.models.losses._registry import binary_labels

RANKING = [rank_loss, theory_rank_loss, ablate_rank_loss]
ALL = [*RANKING, orm_loss, bce_loss, mse_loss]


def sp(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def row(*values, dtype=torch.float64):
    return torch.tensor([values], dtype=dtype, requires_grad=True)


def labels(*values):
    return torch.tensor([values])


@pytest.mark.parametrize("r", [-30.0, -1.0, 0.0, 0.7, 30.0])
def test_one_step(r):
    assert rank_loss(row(r), labels(1)).item() == pytest.approx(sp(-r), rel=1e-14)
    assert rank_loss(row(r), labels(0), zeta=2.5).item() == pytest.approx(sp(r + 2.5), rel=1e-14)
    assert ablate_rank_loss(row(r), labels(0)).item() == pytest.approx(sp(r), rel=1e-14)


def test_without_wrong_steps_the_start_state_is_in_every_denominator():
    expected = (sp(-1.0) + math.log(1 + math.e + math.exp(0.5)) - 0.5) / 2
    assert rank_loss(row(1.0, 0.5), labels(1, 1)).item() == pytest.approx(expected)


def test_all_wrong_is_the_start_term_alone():
    expected = math.log(1 + math.exp(1 + 4) + math.exp(0.5 + 4))
    assert rank_loss(row(1.0, 0.5), labels(0, 0)).item() == pytest.approx(expected)


def test_a_later_wrong_step_weighs_on_an_earlier_right_one_and_a_later_right_one_does_not():
    moved = rank_loss(row(0.1, 0.2, 9.0), labels(1, 0, 1)) - rank_loss(row(0.1, 0.2, 0.3), labels(1, 0, 1))
    assert moved < 0  # a later right step stands in its own term alone
    assert rank_loss(row(0.1, 9.0), labels(1, 0)) > rank_loss(row(0.1, 0.2), labels(1, 0)) + 5


def test_rewards_have_an_absolute_zero():
    assert rank_loss(row(1.0, 0.0), labels(1, 0)) != rank_loss(row(2.0, 1.0), labels(1, 0))


def test_ablation_reads_the_first_wrong_step_alone():
    rewards = row(1.0, -0.5, 0.3, 7.0, 0.2)
    ablate_rank_loss(rewards, labels(1, 0, 1, 0, 1)).backward()
    assert rewards.grad[0, 3] == 0
    assert rewards.grad[0, 1] > 0


def test_orm_reads_the_last_step_with_a_target():
    rewards = row(1.0, -0.5, 0.3, 7.0)
    loss = orm_loss(rewards, labels(1, -100, 1, -100))
    loss.backward()
    assert loss.item() == pytest.approx(sp(-0.3))
    assert (rewards.grad != 0).tolist() == [[False, False, True, False]]


def test_gradients_of_the_ranking_loss_sum_to_the_start_states_share(draw_batch):
    """The identity (h - W_0) / (h + |P|), and a wrong step's gradient is never negative."""
    for seed in range(40):
        rewards, y = draw_batch(seed, garbage=False)
        for r, targets in zip(rewards.detach(), y, strict=True):
            if (targets == -100).all():
                continue
            r = r[None].clone().requires_grad_()
            rank_loss(r, targets[None], zeta=1.5).backward()
            values, kinds = r[0].tolist(), targets.tolist()
            wrong = sum(math.exp(v + 1.5) for v, kind in zip(values, kinds, strict=True) if kind == 0)
            h = int(0 in kinds)
            share = 1 / (1 + wrong) if h else 0.0
            before = 1 + wrong
            for v, kind in zip(values, kinds, strict=True):
                if kind == 1:
                    before += math.exp(v)
                    share += 1 / before
            assert r.grad.sum().item() == pytest.approx((h - share) / (h + kinds.count(1)), abs=1e-12)
            assert (r.grad[targets[None] == 0] >= 0).all()


@pytest.mark.parametrize("loss", [rank_loss, ablate_rank_loss])
def test_raising_a_wrong_step_never_lowers_the_loss(loss, draw_batch):
    for seed in range(40):
        rewards, y = draw_batch(seed, garbage=False)
        raised = torch.where(y == 0, rewards.detach() + 0.5, rewards.detach())
        assert loss(raised, y) >= loss(rewards.detach(), y)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("garbage", [math.inf, -math.inf, math.nan, 1e38])
def test_padding_has_no_influence(loss, garbage):
    """On the left, in the middle, on the right, and a row of nothing else."""
    plain = torch.tensor([[0.3, -1.2, 2.0], [0.5, 0.1, -3.0]], requires_grad=True)
    targets = torch.tensor([[1, 0, 1], [1, 1, 0]])
    value = loss(plain, targets)
    value.backward()
    padded = torch.full((3, 7), garbage)
    wide = torch.full((3, 7), -100)
    for i, places in enumerate([[1, 2, 5], [0, 3, 6]]):
        padded[i, places] = plain.detach()[i]
        wide[i, places] = targets[i]
    padded.requires_grad_()
    found = loss(padded, wide)
    found.backward()
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(padded.grad[wide != -100].view(2, 3), plain.grad)
    assert (padded.grad[wide == -100] == 0).all()


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 0)])
def test_nothing_to_learn_is_zero_with_zero_gradient(loss, shape):
    rewards = torch.full(shape, math.nan, requires_grad=True)
    value = loss(rewards, torch.full(shape, -100))
    value.backward()
    assert value.item() == 0
    assert (rewards.grad == 0).all()


@pytest.mark.parametrize("loss", ALL)
def test_order_of_solutions_does_not_matter(loss, draw_batch):
    for seed in range(20):
        rewards, y = draw_batch(seed)
        order = torch.as_tensor(np.random.default_rng(seed).permutation(len(y)))
        torch.testing.assert_close(loss(rewards[order], y[order]), loss(rewards, y), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", ALL)
def test_one_solution_needs_no_batch_axis(loss):
    rewards, y = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([1, 0, 1])
    torch.testing.assert_close(loss(rewards, y), loss(rewards[None], y[None]))


@pytest.mark.parametrize("zeta", [0, 100])
def test_any_margin(zeta):
    rewards = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    for loss in (rank_loss, theory_rank_loss):
        value = loss(rewards, labels(0, 1, 1, 0), zeta=zeta)
        value.backward()
        assert value.isfinite()
        assert rewards.grad.isfinite().all()


def test_a_confident_right_step_keeps_its_digits():
    """Where the loss is small, a difference of nearly equal numbers would be noise in float32."""
    for r in (12.0, 40.0):
        single = torch.tensor([[r]])
        for loss in (rank_loss, bce_loss, orm_loss):
            assert loss(single, labels(1)).item() == pytest.approx(math.log1p(math.exp(-r)), rel=1e-5)


def test_half_precision_is_computed_in_float32(draw_batch):
    for seed in range(20):
        rewards, y = draw_batch(seed)
        half = rewards.detach().bfloat16()
        for loss in ALL:
            torch.testing.assert_close(loss(half, y), loss(half.float(), y), rtol=0, atol=0)


def test_a_long_solution():
    rewards = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = (torch.arange(40_000).view(2, -1) % 3 > 0).long()
    for loss in RANKING:
        loss(rewards, y).backward()
    assert rewards.grad.isfinite().all()


@pytest.mark.parametrize("loss", [rank_loss, theory_rank_loss, ablate_rank_loss, orm_loss])
def test_soft_labels_are_refused_where_right_or_wrong_is_needed(loss):
    with pytest.raises(ValueError, match=r"hold 0\.5, expected 1 \(right\) or 0 \(wrong\), and -100"):
        loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.5]]))
    loss(torch.zeros(1, 2), torch.tensor([[1.0, -100.0]]))  # whole numbers may be floats


@pytest.mark.parametrize("loss", ALL)
def test_bad_input_is_refused_in_words(loss):
    with pytest.raises(ValueError, match=r"shape \(1, 3\) and labels \(1, 2\)"):
        loss(torch.zeros(1, 3), labels(1, 0))
    with pytest.raises(ValueError, match=r"shape \(1, 2, 1\) and labels \(1, 2\)"):
        loss(torch.zeros(1, 2, 1), labels(1, 0))
    with pytest.raises(ValueError, match="hold -1, 2, expected"):
        loss(torch.zeros(1, 3), labels(1, 2, -1))
    with pytest.raises(ValueError, match="hold nan"):
        loss(torch.zeros(1, 2), torch.tensor([[1.0, math.nan]]))
    with pytest.raises(ValueError, match=r"torch\.int64, expected floating-point"):
        loss(labels(1, 0), labels(1, 0))
    with pytest.raises(TypeError, match="labels are list"):
        loss(torch.zeros(1, 2), [[1, 0]])


def test_bad_options_are_refused_in_words():
    rewards, y = torch.zeros(1, 2), labels(1, 0)
    with pytest.raises(ValueError, match="zeta=-1, expected a finite number of at least 0"):
        rank_loss(rewards, y, zeta=-1)
    with pytest.raises(ValueError, match="zeta=nan"):
        theory_rank_loss(rewards, y, zeta=math.nan)
    with pytest.raises(ValueError, match="divisor='both', expected 'code' or 'single'"):
        theory_rank_loss(rewards, y, divisor="both")


def test_classes_become_right_and_wrong_by_a_stated_policy():
    codes = torch.tensor([[0, 1, 2, -100]])
    assert binary_labels(codes, 3).tolist() == [[0, 1, 1, -100]]
    assert binary_labels(codes, 3, neutral="negative").tolist() == [[0, 0, 1, -100]]
    assert binary_labels(codes, 3, neutral="drop").tolist() == [[0, -100, 1, -100]]
    assert binary_labels(np.array([1, 0, -100]), 2, neutral="drop").tolist() == [1, 0, -100]
    assert codes.tolist() == [[0, 1, 2, -100]]
    soft = torch.tensor([0.25, -100.0])
    assert binary_labels(soft, 3) is soft
    for bad, message in [([3], "class codes from 0"), ([-1], "hold -1"), ([1.5], "from 0 to 1")]:
        with pytest.raises(ValueError, match=message):
            binary_labels(bad, 3)
    with pytest.raises(ValueError, match="neutral='maybe', expected one of"):
        binary_labels(codes, 3, neutral="maybe")
    with pytest.raises(ValueError, match="n_classes=1"):
        binary_labels([0], 1)
