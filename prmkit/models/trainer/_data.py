"""From a data set to the trainer's batches: rows, a budget of tokens, and no row counted twice by several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from prmkit.features.marking._scheme import MarkingScheme
from prmkit.models.trainer._batches import TokenBudgetSampler
from prmkit.models.trainer._config import PRMTrainingConfig
from prmkit.models.trainer._rows import row_lengths, training_rows
from prmkit.models.trainer._target_plan import TargetPlan


def row_maker(
    args: PRMTrainingConfig,
    targets: TargetPlan,
    tokenizer: Any,
    scheme: MarkingScheme,
    max_length: int | None,
) -> Callable[..., Any]:
    """Return a function of a data set: its rows with targets, and the report on truncation."""

    def as_rows(dataset: Any, is_eval: bool = True) -> Any:
        rows, report = training_rows(
            dataset,
            tokenizer,
            scheme,
            classes=targets.classes,
            max_length=max_length,
            max_completion_length=args.max_completion_length,
            last_step_only=args.train_on_last_step_only,
            too_long=args.too_long,
            is_eval=is_eval,
            num_proc=args.dataset_num_proc,
        )
        return targets.keep_rows(rows), report

    return as_rows


def budget_loader(trainer: Any, budget: int) -> DataLoader:
    """Return the trainer's rows in batches of like length under a budget of tokens, each process its part.

    Processes and accumulated batches see in one update what a single process would see in as many batches.
    """
    args, dataset = trainer.args, trainer.train_dataset
    sampler = TokenBudgetSampler(
        row_lengths(dataset),
        budget,
        seed=args.seed if args.data_seed is None else args.data_seed,
        batches_per_step=args.world_size * args.gradient_accumulation_steps,
        n_processes=args.world_size,
        process=args.process_index,
    )
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=trainer.data_collator,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
    prepared = trainer.accelerator.prepare(loader)
    shard: Any = getattr(prepared, "batch_sampler", None)
    if getattr(shard, "batch_sampler", None) is sampler:  # it knows its process: do not divide again
        shard.num_processes, shard.process_index = 1, 0
        shard.set_epoch = sampler.set_epoch  # a resumed run asks the wrapper
    return prepared


def without_repeated(labels: torch.Tensor, accelerator: Any) -> torch.Tensor:
    """Return the labels of an evaluation batch, -100 in rows that only fill up the last batch of all processes."""
    state = accelerator.gradient_state
    if accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
        return labels
    n_own = state.remainder - accelerator.process_index * len(labels)
    row = torch.arange(len(labels), device=labels.device)[:, None]
    return torch.where(row < n_own, labels, -100)
