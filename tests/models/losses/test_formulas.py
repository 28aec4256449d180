"""Every loss on rewards against its formula, written as plain loops over one solution at a time."""

from functools import partial

import numpy as np
import pytest
import torch

from prmkit.models.losses import ablate_rank_loss, bce_loss, mse_loss, orm_loss, rank_loss, theory_rank_loss

N_CASES = 300
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def lse(members):
    return torch.logsumexp(torch.stack(members), 0)


def zero():
    return torch.zeros((), dtype=torch.float64)


def ranked(row, a, right):
    """Return l_0 and the l_t: the start state, the wrong steps ``a``, the right ones up to t."""
    always = [zero(), *a]
    terms = [lse(always)] if a else []
    for place in right:
        members = always + [row[i] for i in right if i < place] + [row[place]]
        terms.append(lse(members) - row[place])
    return terms


def rank_row(row, y, zeta):
    right = [t for t, label in enumerate(y) if label == 1]
    a = [row[t] + zeta for t, label in enumerate(y) if label == 0]
    terms = ranked(row, a, right)
    return sum(terms) / len(terms)


def theory_row(row, y, zeta, divisor):
    right = [t for t, label in enumerate(y) if label == 1]
    wrong = [t for t, label in enumerate(y) if label == 0]
    above = sum(ranked(row, [row[t] + zeta for t in wrong], right))
    among = sum((lse([row[i] for i in wrong if i >= j]) - row[j] for j in wrong), zero())
    n = len(right) + len(wrong)
    return above / (n + 1) + among / n if divisor == "code" else (above + among) / n


def ablate_row(row, y):
    right = [t for t, label in enumerate(y) if label == 1]
    wrong = [t for t, label in enumerate(y) if label == 0]
    terms = ranked(row, [row[wrong[0]]] if wrong else [], right)
    return sum(terms) / len(terms)


def orm_row(row, y):
    last = max(t for t, label in enumerate(y) if label != -100)
    return lse([zero(), row[last]]) - (0 if 0 in y else row[last])


def macro(row_loss, rewards, labels):
    """Mean over the solutions with a target; 0 without any."""
    losses = [
        row_loss(row, y) for row, y in zip(rewards, labels.tolist(), strict=True) if any(label != -100 for label in y)
    ]
    return sum(losses) / len(losses) if losses else zero()


def micro(step_loss, rewards, labels):
    """Mean over all steps with a target; 0 without any."""
    losses = [step_loss(r, y) for r, y in zip(rewards.flatten(), labels.flatten().tolist(), strict=True) if y != -100]
    return sum(losses) / len(losses) if losses else zero()


def plain_bce(r, y):
    return lse([zero(), r]) - y * r


def plain_mse(r, y):
    return ((1 + torch.tanh(r / 2)) / 2 - y) ** 2


CASES = {
    "rank": (rank_loss, partial(macro, partial(rank_row, zeta=4.0))),
    "rank, no margin": (partial(rank_loss, zeta=0), partial(macro, partial(rank_row, zeta=0.0))),
    "rank, zeta=0.3": (partial(rank_loss, zeta=0.3), partial(macro, partial(rank_row, zeta=0.3))),
    "theory": (theory_rank_loss, partial(macro, partial(theory_row, zeta=4.0, divisor="code"))),
    "theory, single": (
        partial(theory_rank_loss, zeta=1.0, divisor="single"),
        partial(macro, partial(theory_row, zeta=1.0, divisor="single")),
    ),
    "ablate": (ablate_rank_loss, partial(macro, ablate_row)),
    "orm": (orm_loss, partial(macro, orm_row)),
    "bce": (bce_loss, partial(micro, plain_bce)),
    "mse": (mse_loss, partial(micro, plain_mse)),
}


def expected(plain, rewards, labels):
    """Value and gradient of the plain loop."""
    rewards = rewards.detach().clone().requires_grad_()
    value = plain(rewards, labels)
    if not value.requires_grad:
        return value, torch.zeros_like(rewards)
    (gradient,) = torch.autograd.grad(value, rewards)
    return value.detach(), torch.where(labels == -100, 0.0, gradient)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "," in name else name for name in CASES]
)
def test_value_and_gradient_are_those_of_the_plain_loop(name, draw_batch):
    loss, plain = CASES[name]
    for seed in range(N_CASES):
        rewards, labels = draw_batch(seed, soft=name in ("bce", "mse") and seed % 2 == 0)
        value, gradient = expected(plain, rewards, labels)
        found = loss(rewards, labels)
        assert found.shape == ()
        assert found.dtype == torch.float64
        found.backward()
        torch.testing.assert_close(found.detach(), value, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(rewards.grad, gradient, rtol=1e-11, atol=1e-13)
        single = rewards.detach().float().requires_grad_()
        value, gradient = expected(plain, single.double(), labels)
        found = loss(single, labels)
        found.backward()
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.detach().double(), value, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(single.grad.double(), gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.float64, 1e4), (torch.float32, 1e4), (torch.bfloat16, 1e3), (torch.float16, 1e3)]
)
@pytest.mark.parametrize("name", CASES)
def test_huge_rewards_have_a_right_loss_and_gradient(name, dtype, scale, device):
    """Up to what float32 resolves at this size and the gradient's own dtype can hold."""
    loss, plain = CASES[name]
    rng = np.random.default_rng(0)
    rtol, atol = (1e-9, 1e-9) if dtype == torch.float64 else (1e-2, 2e-3)
    for draw in range(30):
        near = rng.normal(0, 2, (3, 6)) if draw % 2 else 0.0  # ties, and near ties at both ends
        values = torch.as_tensor(rng.choice([-scale, scale, 0.0, 1.0], (3, 6)) + near)
        y = torch.as_tensor(rng.choice([0, 1, -100], (3, 6)))
        rewards = values.clamp(-scale, scale).to(device, dtype).requires_grad_()
        value, gradient = expected(plain, rewards.double().cpu(), y)
        found = loss(rewards, y.to(device))
        found.backward()
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(found.detach().double().cpu(), value, rtol=1e-5, atol=atol / 2)
        torch.testing.assert_close(rewards.grad.double().cpu(), gradient, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_slope(name, draw_batch):
    """Central differences of the loss itself."""
    loss, _ = CASES[name]
    for seed in range(8):
        rewards, labels = draw_batch(seed, garbage=False)
        loss(rewards, labels).backward()
        with torch.no_grad():
            for place in range(rewards.numel()):
                step = torch.zeros(rewards.numel(), dtype=torch.float64)
                step[place] = 1e-5
                step = step.view_as(rewards)
                slope = (loss(rewards + step, labels) - loss(rewards - step, labels)) / 2e-5
                assert rewards.grad.flatten()[place] == pytest.approx(slope.item(), abs=1e-8)


def test_worked_examples():
    a = torch.tensor([[0.25, 1.0, -2.0]], dtype=torch.float64), torch.tensor([[1, 1, 0]])
    b = torch.tensor([[0.5, -0.5, 0.0, -1.0]], dtype=torch.float64), torch.tensor([[1, 0, 1, 0]])
    values = [
        (rank_loss(*a, zeta=2.0), 0.808120),
        (theory_rank_loss(*a, zeta=2.0), 0.606090),
        (theory_rank_loss(*a, zeta=2.0, divisor="single"), 0.808120),
        (ablate_rank_loss(*a), 0.465675),
        (bce_loss(*a), 0.338710),
        (mse_loss(*a), 0.092743),
        (orm_loss(*a), 0.126928),
        (rank_loss(*b, zeta=1.0), 1.433915),
        (theory_rank_loss(*b, zeta=1.0), 0.978868),
        (theory_rank_loss(*b, zeta=1.0, divisor="single"), 1.193955),
        (ablate_rank_loss(*b), 0.867500),
        (bce_loss(*b), 0.488641),
        (mse_loss(*b), 0.151851),
        (orm_loss(*b), 0.313262),
    ]
    for found, value in values:
        assert found.item() == pytest.approx(value, abs=6e-7)
