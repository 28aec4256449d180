"""Random batches with everything in them that a batch may hold."""

import numpy as np
import pytest
import torch

GARBAGE = [float("inf"), float("-inf"), float("nan"), 1e30, 0.0]


@pytest.fixture
def draw_batch():
    """Draw rewards (float64) and labels: interleaved, all right, all wrong, padded anywhere or throughout."""

    def draw(seed, *, soft=False, garbage=True):
        rng = np.random.default_rng(seed)
        n, steps = rng.integers(1, 5), rng.integers(1, 7)
        rewards = rng.normal(0, rng.choice([0.5, 3.0, 8.0]), (n, steps))
        labels = rng.random((n, steps)) if soft else (rng.random((n, steps)) < rng.random()).astype(float)
        for row in range(n):
            kind = rng.integers(6)
            if kind < 2:
                labels[row] = kind
            if kind == 2:
                labels[row] = np.arange(steps) < rng.integers(steps + 1)  # right, then wrong
        labels[rng.random((n, steps)) < rng.choice([0, 0.3, 0.7])] = -100
        if n > 1 and rng.random() < 0.3:
            labels[rng.integers(n)] = -100
        if garbage:
            rewards = np.where(labels == -100, rng.choice(GARBAGE, (n, steps)), rewards)
        labels = torch.as_tensor(labels if soft else labels.astype(int))
        return torch.as_tensor(rewards).requires_grad_(), labels

    return draw
