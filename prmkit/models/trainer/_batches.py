"""From rows of tokens to batches: which rows go together under a budget of tokens, and how they are padded."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from prmkit.models.tokens.scoring_pass import padded
from prmkit.models.trainer._targets import IGNORE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Integers = npt.NDArray[np.int64]

_JITTERS = (0.05, 0.025, 0.0125, 0.0)
"""How far lengths may be disturbed before sorting, as a share. The first that needs no extra batch is taken."""


class TokenBudgetSampler(Sampler[list[int]]):
    """Yield lists of row numbers such that rows x longest stays within a budget of tokens.

    Lengths are disturbed a little and sorted, so that rows of similar length meet, and not always the same ones. The
    batches come in random order. Each epoch holds every row once, in the same number of batches. This number depends
    only on the lengths and the arguments, so every process makes the same plan and takes its part of it: process p of
    P takes batches p, p + P, p + 2P, … A row longer than the budget is a batch of its own.

    The number of batches is a multiple of ``batches_per_step`` (processes x accumulated batches), so that no step is
    short, and small batches share a step. The budget is exceeded in one case: if there are not enough rows to split,
    pairs of the shortest batches are merged. With fewer rows than ``batches_per_step`` the number is a multiple of
    ``n_processes`` only, and the epoch is a single step.

    >>> sampler = TokenBudgetSampler([3, 9, 4, 5, 2], budget=10, seed=0)
    >>> sorted(sorted(batch) for batch in sampler)
    [[0, 4], [1], [2, 3]]
    """

    def __init__(
        self,
        lengths: npt.ArrayLike,
        budget: int,
        *,
        seed: int,
        batches_per_step: int | None = None,
        n_processes: int = 1,
        process: int = 0,
    ) -> None:
        self.lengths = np.maximum(np.asarray(lengths, dtype=np.int64), 1)
        if self.lengths.ndim != 1:
            raise ValueError(f"lengths has shape {self.lengths.shape}, expected (n_rows,): tokens per row")
        if budget < 1:
            raise ValueError(f"budget is {budget}, expected tokens per batch, 1 or more")
        if not 0 <= process < n_processes:
            raise ValueError(f"process is {process}, expected 0 to n_processes - 1 = {n_processes - 1}")
        if len(self.lengths) < n_processes:
            raise ValueError(
                f"{len(self.lengths)} rows for {n_processes} processes, expected one or more for each: "
                "add data, or start fewer processes"
            )
        unit = n_processes if batches_per_step is None else batches_per_step
        if unit % n_processes or unit < 1:
            raise ValueError(f"batches_per_step is {unit}, expected a multiple of n_processes={n_processes}")
        self.budget = budget
        self.seed = seed
        self.n_processes = n_processes
        self.process = process
        self.epoch = 0
        self._unit = unit if unit <= len(self.lengths) else n_processes
        n_greedy = len(self._cuts(self._order(0, _JITTERS[0])))
        n_possible = len(self.lengths) // self._unit * self._unit
        self._n_batches = min(-(-n_greedy // self._unit) * self._unit, n_possible)

    def set_epoch(self, epoch: int) -> None:
        """Choose the plan: other batches in another order each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of this process, the same in every epoch and on every process."""
        return self._n_batches // self.n_processes

    def __iter__(self) -> Iterator[list[int]]:
        order, cuts = self._plan()
        stops = np.append(cuts[1:], len(order))
        in_turn = self._mixed(np.maximum.reduceat(self.lengths[order], cuts) * (stops - cuts))
        for batch in in_turn[self.process :: self.n_processes]:
            yield order[cuts[batch] : stops[batch]].tolist()

    def _plan(self) -> tuple[Integers, Integers]:
        """Return the rows of the epoch in order, and where each of exactly ``_n_batches`` batches starts."""
        for jitter in _JITTERS:
            order = self._order(self.epoch, jitter)
            cuts = self._cuts(order)
            # Sorted exactly, the rows need the fewest batches possible: the last jitter, 0, fits if any does.
            if len(cuts) <= self._n_batches:
                return order, self._split(order, cuts)
        n_surplus = len(cuts) - self._n_batches
        # The shortest stand last: each joins the one before.
        merged = len(cuts) - 1 - 2 * np.arange(n_surplus)
        return order, np.delete(cuts, merged)

    def _order(self, epoch: int, jitter: float) -> Integers:
        """Sort the rows by disturbed length, longest first, and rows of equal length at random."""
        noise = np.random.default_rng([self.seed, epoch]).random(len(self.lengths))
        return np.argsort(-(self.lengths + noise * np.maximum(jitter * self.lengths, 0.5)), kind="stable")

    def _cuts(self, order: Integers) -> Integers:
        """Fill one batch after the other, and return where each starts."""
        cuts, start, longest = [0], 0, 0
        for i, length in enumerate(self.lengths[order].tolist()):
            longest = max(longest, length)
            if longest * (i - start + 1) > self.budget and i > start:
                cuts.append(i)
                start, longest = i, length
        return np.array(cuts)

    def _split(self, order: Integers, cuts: Integers) -> Integers:
        """Halve the largest batches until there are ``_n_batches``."""
        sizes = np.diff(np.append(cuts, len(order)))
        tokens = np.maximum.reduceat(self.lengths[order], cuts) * sizes
        # A row alone cannot be split, so it counts as the smallest.
        heap = list(zip((-tokens * (sizes > 1)).tolist(), cuts.tolist(), (cuts + sizes).tolist(), strict=True))
        heapq.heapify(heap)
        for _ in range(self._n_batches - len(cuts)):
            _, start, stop = heapq.heappop(heap)
            middle = (start + stop) // 2
            for left, right in ((start, middle), (middle, stop)):
                size = right - left
                n_tokens = int(self.lengths[order[left:right]].max()) * size
                heapq.heappush(heap, (-n_tokens * (size > 1), left, right))
        return np.array(sorted(start for _, start, _ in heap))

    def _mixed(self, n_tokens: Integers) -> Integers:
        """Return the batches in random order, such that batches well below the budget share steps.

        Otherwise the processes of a step would wait for the one with a full batch.
        """
        generator = np.random.default_rng([self.seed, self.epoch, 1])
        # Counted in quarters of the budget. Most batches are in the last one.
        fullness = np.minimum(4 * n_tokens // self.budget, 3)
        mixed = generator.permutation(len(n_tokens))
        steps = mixed[np.argsort(fullness[mixed], kind="stable")].reshape(-1, self._unit)
        return generator.permuted(generator.permutation(steps), axis=1).ravel()


@dataclass(frozen=True)
class Collator:
    """Pad rows of different lengths, on the right, to the longest of them.

    With ``soft``, targets are probabilities (float32) and not class codes (int64). ``with_blocks`` says that the
    model needs the block of each token, as an encoder does. ``others`` are columns with the codes of further
    objectives.

    >>> rows = [{"input_ids": [5, 6, 7], "labels": [-100, 1, 0]}, {"input_ids": [8, 9], "labels": [-100, 1]}]
    >>> batch = Collator(0, soft=False, with_blocks=False)(rows)
    >>> batch["input_ids"].tolist(), batch["attention_mask"].tolist()
    ([[5, 6, 7], [8, 9, 0]], [[1, 1, 1], [1, 1, 0]])
    >>> batch["positions"].tolist(), batch["labels"].tolist()
    ([[1, 2], [1, 0]], [[1, 0], [1, -100]])
    """

    pad_token_id: int
    soft: bool
    with_blocks: bool
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pad_token_id is None:
            raise ValueError(
                "the tokenizer has no pad token, expected one to pad batches with: "
                "tokenizer.pad_token = tokenizer.eos_token"
            )

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of B rows with L tokens in the longest and T targets in the row with most of them.

        ``input_ids``, ``attention_mask`` and ``blocks`` (-1 in padding) have shape (B, L). ``positions`` of the
        tokens with a target, padded with 0, and their ``labels``, padded with -100, have shape (B, T). With K further
        objectives, ``objectives`` holds their codes in the shape (B, T, K).
        """
        ids = [np.asarray(row["input_ids"], dtype=np.int64) for row in rows]
        label_type = np.float32 if self.soft else np.int64
        labels = [np.asarray(row["labels"], dtype=label_type) for row in rows]
        others = [np.array([row[name] for name in self.others], dtype=np.int64) for row in rows]
        marked = [
            np.flatnonzero((label != IGNORE) | (codes != IGNORE).any(axis=0))
            for label, codes in zip(labels, others, strict=True)
        ]
        batch = {
            "input_ids": padded(ids, self.pad_token_id),
            "attention_mask": padded([np.ones_like(row) for row in ids], 0),
            "positions": padded(marked, 0),
            "labels": padded([label[at] for label, at in zip(labels, marked, strict=True)], IGNORE),
        }
        if self.others:
            batch["objectives"] = np.stack(
                [
                    padded([codes[k, at] for codes, at in zip(others, marked, strict=True)], IGNORE)
                    for k in range(len(self.others))
                ],
                axis=-1,
            )
        token_columns: dict[str, list[npt.NDArray[Any]]] = {"labels": labels}
        if self.with_blocks:
            token_columns["blocks"] = [*_blocks(rows)]
            batch["blocks"] = padded(token_columns["blocks"], -1)
        for name, column in token_columns.items():
            for i, (row, tokens) in enumerate(zip(column, ids, strict=True)):
                if len(row) != len(tokens):
                    raise ValueError(
                        f"row {i} of the batch has {len(row)} {name} for {len(tokens)} input_ids, expected one each"
                    )
        return {name: torch.from_numpy(array) for name, array in batch.items()}


class RewardDataCollator(Collator):
    """Pad tokenised rows to batches. :class:`PRMTrainer` makes one by itself.

    It has the name and the first argument of sdiehl/prm's. The trainer sets what labels and model need.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the rows. Its pad token, or EOS without one, fills them up on the right.
    soft : bool, default=False
        Whether labels are probabilities.
    with_blocks : bool, default=False
        Whether rows need a column ``blocks``, as those of an encoder do.

    Examples
    --------
    >>> from prmkit.features.passes.model_files import load_tokenizer
    >>> collate = RewardDataCollator(load_tokenizer("all-MiniLM-L6-v2"))
    >>> batch = collate([{"input_ids": [5, 6, 7], "labels": [-100, 1, 0]}, {"input_ids": [8], "labels": [1]}])
    >>> batch["input_ids"].tolist(), batch["labels"].tolist()
    ([[5, 6, 7], [8, 0, 0]], [[1, 0], [1, -100]])
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, soft: bool = False, with_blocks: bool = False) -> None:
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        super().__init__(pad, soft, with_blocks)


def _blocks(rows: Sequence[Mapping[str, Any]]) -> list[Integers]:
    """Return the column of blocks, which only rows of prmkit's own have for sure."""
    if any(row.get("blocks") is None for row in rows):
        raise ValueError(
            "pre-tokenised rows for an encoder need a column blocks (one per token: 0 the problem, t + 1 step t), "
            f"found {', '.join(rows[0])}: without it a step would see the later ones. Add it, or pass the rows "
            "with prompt, completions and labels"
        )
    return [np.asarray(row["blocks"], dtype=np.int64) for row in rows]
