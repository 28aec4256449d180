"""Batches by token budget: every row once, within the budget, the same plan everywhere; padding and its limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils.data import DataLoader

from prmkit.models.trainer._batches import Collator, TokenBudgetSampler

LENGTHS = st.lists(st.integers(1, 60), min_size=4, max_size=120)


def lengths_like_real(n_rows, seed=0):
    """Token counts spread as those of solutions are."""
    return np.clip(np.random.default_rng(seed).lognormal(5.3, 0.5, n_rows).astype(int), 20, 1024)


def n_padded(lengths, batches):
    return sum(len(batch) * lengths[batch].max() for batch in batches)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 200), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_each_epoch_holds_every_row_once_on_one_process_only(lengths, budget, n_processes, accumulated, epoch):
    parts = []
    for process in range(n_processes):
        sampler = TokenBudgetSampler(
            lengths,
            budget,
            seed=1,
            batches_per_step=n_processes * accumulated,
            n_processes=n_processes,
            process=process,
        )
        length_before = len(sampler)
        sampler.set_epoch(epoch)
        parts.append(list(sampler))
        assert len(sampler) == length_before == len(parts[-1])
    rows = [row for part in parts for batch in part for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert len({len(part) for part in parts}) == 1
    assert all(batch for part in parts for batch in part)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 200), st.integers(0, 5))
def test_the_budget_holds_for_every_batch_of_several_rows(lengths, budget, epoch):
    sampler = TokenBudgetSampler(lengths, budget, seed=2)
    sampler.set_epoch(epoch)
    for batch in sampler:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.integers(1, 200), st.integers(1, 2), st.integers(0, 3))
def test_processes_and_accumulation_see_the_same_global_batches(lengths, budget, accumulated, epoch):
    """P processes in one step see what one process sees in P times as many accumulated batches."""
    step = 2 * accumulated

    def plan(n_processes, process):
        sampler = TokenBudgetSampler(
            lengths, budget, seed=3, batches_per_step=step, n_processes=n_processes, process=process
        )
        sampler.set_epoch(epoch)
        return list(sampler)

    alone, first, second = plan(1, 0), plan(2, 0), plan(2, 1)
    assert [batch for pair in zip(first, second, strict=True) for batch in pair] == alone


def test_the_plan_depends_on_seed_and_epoch_alone():
    lengths = lengths_like_real(300)
    sampler = TokenBudgetSampler(lengths, 2048, seed=4)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    epochs = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        again = TokenBudgetSampler(lengths, 2048, seed=4)
        again.set_epoch(epoch)
        assert list(again) == epochs[-1]
    assert (np.random.get_state()[1] == state[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state[1])
    assert list(TokenBudgetSampler(lengths, 2048, seed=5)) != epochs[0]
    groups = [{frozenset(batch) for batch in batches} for batches in epochs]
    for other in groups[1:]:  # other rows meet, not just another order of the same batches
        assert len(groups[0] & other) < 0.2 * len(groups[0])


@pytest.mark.parametrize("n_rows", [50, 400, 5000])
def test_the_number_of_batches_is_stable_over_epochs(n_rows):
    sampler = TokenBudgetSampler(lengths_like_real(n_rows), 2048, seed=6, batches_per_step=4, n_processes=2)
    counts = set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        counts.add(len(list(sampler)))
    assert counts == {len(sampler)}
    assert 2 * len(sampler) % 4 == 0


def test_padding_is_a_small_part_of_what_it_is_in_fixed_batches():
    lengths = lengths_like_real(4000)
    waste_of_budget = 1 - lengths.sum() / n_padded(lengths, list(TokenBudgetSampler(lengths, 4096, seed=0)))
    shuffled = np.random.default_rng(0).permutation(4000).reshape(-1, 8)
    waste_of_fixed = 1 - lengths.sum() / n_padded(lengths, list(shuffled))
    assert waste_of_fixed > 0.4
    assert waste_of_budget < 0.05


def test_batches_of_a_step_are_alike_in_size():
    lengths = np.concatenate([lengths_like_real(600), [1000] * 5])
    sampler = TokenBudgetSampler(lengths, 2048, seed=7, batches_per_step=4)
    sizes = [len(batch) * lengths[batch].max() for batch in sampler]
    steps = np.array(sizes).reshape(-1, 4)
    assert np.median(steps.min(axis=1) / steps.max(axis=1)) > 0.8


def test_surplus_batches_are_merged_when_rows_are_too_few_to_split():
    """Seven rows, each beyond the budget, for four processes: one each, and three of them two."""
    parts = [
        list(TokenBudgetSampler([9, 8, 7, 6, 5, 4, 3], 2, seed=0, n_processes=4, process=process))
        for process in range(4)
    ]
    assert [len(part) for part in parts] == [1, 1, 1, 1]
    batches = sorted((sorted(batch) for part in parts for batch in part), key=len)
    assert batches == [[0], [1, 2], [3, 4], [5, 6]]


def test_a_million_rows_are_planned_in_seconds():
    import time

    start = time.process_time()
    sampler = TokenBudgetSampler(lengths_like_real(1_000_000), 8192, seed=0, n_processes=2)
    assert sum(map(len, sampler)) > 0
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": [3, 4], "n_processes": 3}, "2 rows for 3 processes"),
        ({"lengths": []}, "0 rows for 1 processes"),
        ({"lengths": [3], "budget": 0}, "budget is 0"),
        ({"lengths": [3, 4], "n_processes": 2, "process": 2}, "process is 2"),
        ({"lengths": [3, 4, 5], "n_processes": 2, "batches_per_step": 3}, "multiple of n_processes=2"),
        ({"lengths": [[3, 4]]}, "shape"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenBudgetSampler(**{"budget": 8, "seed": 0, **arguments})


# ---- with accelerate, as the trainer uses it


def loader_of(lengths, n_processes, process):
    """A prepared loader whose shard wrapper is a passthrough that forwards the epoch."""
    from accelerate.data_loader import prepare_data_loader

    sampler = TokenBudgetSampler(lengths, 100, seed=8, n_processes=n_processes, process=process)
    loader = DataLoader(range(len(lengths)), batch_sampler=sampler, collate_fn=list)
    prepared = prepare_data_loader(loader, num_processes=n_processes, process_index=process, put_on_device=False)
    shard = prepared.batch_sampler
    if n_processes > 1:
        shard.num_processes, shard.process_index = 1, 0
        shard.set_epoch = sampler.set_epoch
    return prepared, sampler


def start_epoch(loader, epoch):
    """Tell a loader the epoch the way transformers' trainer does."""
    loader.set_epoch(epoch)
    inner = getattr(loader.batch_sampler, "batch_sampler", None)
    if hasattr(inner, "set_epoch"):
        inner.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize("n_processes", [1, 2])
@pytest.mark.parametrize("epoch", [0, 2])
def test_resuming_skips_batches_of_the_right_epoch(n_processes, epoch):
    from accelerate import skip_first_batches

    lengths = lengths_like_real(40, seed=1) % 50 + 5
    whole, sampler = loader_of(lengths, n_processes, n_processes - 1)
    batches = start_epoch(whole, epoch)
    sampler.set_epoch(epoch)
    assert batches == list(sampler)
    assert len(batches) == len(whole)
    fresh, _ = loader_of(lengths, n_processes, n_processes - 1)
    resumed = skip_first_batches(fresh, 3)
    assert start_epoch(resumed, epoch) == batches[3:]
    assert len(resumed) == len(batches) - 3


def test_prepared_loaders_of_two_processes_share_the_rows():
    lengths = lengths_like_real(40, seed=2) % 50 + 5
    rows = [row for process in (0, 1) for batch in loader_of(lengths, 2, process)[0] for row in batch]
    assert sorted(rows) == list(range(40))


# ---- the collator


ROWS = [
    {"input_ids": [5, 6, 7, 8], "labels": [-100, 1, -100, 0], "blocks": [0, 1, 2, 2]},
    {"input_ids": [9, 10], "labels": [-100, 1], "blocks": [0, 1]},
]


def test_rows_are_padded_on_the_right_and_targets_gathered():
    batch = Collator(3, soft=False, with_blocks=True)(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, 3, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["blocks"].tolist() == [[0, 1, 2, 2], [0, 1, -1, -1]]
    assert batch["positions"].tolist() == [[1, 3], [1, 0]]
    assert batch["labels"].tolist() == [[1, 0], [1, -100]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_soft_targets_are_floats_to_the_end():
    rows = [{"input_ids": [5, 6], "labels": np.array([-100, 0.7], dtype=np.float32)}]
    batch = Collator(0, soft=True, with_blocks=False)(rows)
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[pytest.approx(0.7)]]
    assert "blocks" not in batch


def test_a_batch_without_targets_keeps_one_empty_place():
    batch = Collator(0, soft=False, with_blocks=False)([{"input_ids": [5, 6], "labels": [-100, -100]}])
    assert batch["labels"].tolist() == [[-100]]
    assert batch["positions"].tolist() == [[0]]


def test_targets_come_back_from_their_positions():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(20):
        n = int(rng.integers(1, 30))
        rows.append({"input_ids": rng.integers(0, 99, n), "labels": rng.choice([-100, 0, 1, 2], n)})
    batch = Collator(0, soft=False, with_blocks=False)(rows)
    for row, positions, labels in zip(rows, batch["positions"], batch["labels"], strict=True):
        dense = np.full(len(row["labels"]), -100)
        known = labels != -100
        dense[positions[known].numpy()] = labels[known].numpy()
        assert dense.tolist() == row["labels"].tolist()


def test_an_encoder_needs_blocks():
    with pytest.raises(ValueError, match="pre-tokenised rows for an encoder need a column blocks"):
        Collator(0, soft=False, with_blocks=True)([{"input_ids": [5], "labels": [1]}])


def test_broken_rows_and_a_missing_pad_token_are_named():
    with pytest.raises(ValueError, match="row 0 of the batch has 1 labels for 2 input_ids"):
        Collator(0, soft=False, with_blocks=False)([{"input_ids": [5, 6], "labels": [1]}])
    with pytest.raises(ValueError, match=r"tokenizer\.pad_token = tokenizer\.eos_token"):
        Collator(None, soft=False, with_blocks=False)
