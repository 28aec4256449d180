"""A growing solution through a token-level model: keys and values are kept, and only new tokens are read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prmkit.data.solution import Solution, Step
from prmkit.features.passes.block_causal import random_rows, unwrapped
from prmkit.features.passes.past import Past, SharedProblem, grows_in_parts, keys_know_length
from prmkit.features.passes.prefix_tree import n_common
from prmkit.marking.encoding import SolutionEncoder, TokenRecord, token_records
from prmkit.models.tokens.scoring_pass import Readout, TokenScorer, marked_outputs, ready
from prmkit.utils.environment import best_device, no_more_threads_than_cores, safe_after_fork

_N_TRIED = 18


class GrowingTokens:
    """A solution as a token-level model has read it so far. ``extend`` returns the outputs of the new steps."""

    def __init__(self, scorer: TokenScorer, problem: str, *, too_long: str, device: str | None) -> None:
        self._scorer, self._too_long, self._device = scorer, too_long, device
        self._encoder = SolutionEncoder(scorer.tokenizer, scorer.scheme)
        self._solution = Solution(problem, ())
        self._ids = self._blocks = np.empty(0, dtype=np.int64)
        self._past = Past()
        self._problem = SharedProblem()

    @property
    def n_bytes(self) -> int:
        """Size of the keys and values, those included that forks share."""
        return self._past.n_bytes

    def extend(self, steps: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the outputs of the new steps, as ``TokenScorer.outputs`` does."""
        before = self._solution
        self._solution = Solution(before.problem, (*before.steps, *steps))
        new = [Step(self._solution, t) for t in range(before.n_steps, self._solution.n_steps)]
        scorer = self._scorer
        records = token_records(
            scorer.tokenizer, new, scorer.scheme, scorer.max_length, self._too_long, encoder=self._encoder
        )
        return scorer.step_outputs(new, records, [self._read(record) for record in records], self._too_long)

    def fork(self) -> GrowingTokens:
        """Return a copy, which shares all keys and values."""
        return copy.copy(self)

    def _read(self, record: TokenRecord) -> npt.NDArray[np.float32]:
        """Return the outputs at the marked positions of the new steps, NaN at the others."""
        marks = record.step_positions[record.steps]
        by_blocks = self._scorer.readout.by_blocks
        if not len(self._past):
            self._ids, self._past = self._problem.begin(self._ids, self._past)
            self._blocks = np.zeros_like(self._ids)  # the problem is block 0
        # A tokenizer that reads the whole text may read its end otherwise when more follows.
        start = min(n_common(self._ids, record.input_ids), int(marks.min()))
        if by_blocks:
            start = _block_start((self._blocks, record.blocks), start)
        outputs, self._past = advance(
            self._scorer.model,
            self._past.cut(start),
            torch.from_numpy(record.input_ids[start:]),
            torch.from_numpy(marks - start),
            self._scorer.readout,
            blocks=torch.from_numpy(record.blocks) if by_blocks else None,
            device=self._device,
        )
        self._ids, self._blocks = record.input_ids, record.blocks
        self._past = self._problem.leave(self._ids, self._past, int((record.blocks == 0).sum()))
        found = outputs.cpu().numpy()
        table = np.full((len(record.step_positions), *found.shape[1:]), np.nan, dtype=np.float32)
        table[record.steps] = found
        return table


def advance(
    model: torch.nn.Module,
    past: Past,
    new_ids: torch.Tensor,
    positions: torch.Tensor,
    readout: Readout,
    *,
    blocks: torch.Tensor | None = None,
    device: str | None = None,
) -> tuple[torch.Tensor, Past]:
    """Read the tokens that follow a past. Return the outputs at some of them, counted from the first new one, and the
    past with all of them.

    With ``blocks``, of all tokens, attention is block-causal: the past must end with a block.
    """
    place = device or best_device()
    batch = {
        "input_ids": new_ids[None],
        "attention_mask": torch.ones(1, len(past) + len(new_ids), dtype=torch.long),
        "positions": positions[None],
    }
    if blocks is not None:
        batch["blocks"] = blocks[None]
    with safe_after_fork(), no_more_threads_than_cores(), ready(model, place), torch.inference_mode():
        cache = past.cache()
        outputs = marked_outputs(model, {name: value.to(place) for name, value in batch.items()}, readout, cache)
        return outputs[0], past.grown(cache)


def can_grow(scorer: TokenScorer, device: str | None) -> bool:
    """Whether a model gives the same for a text in parts, with keys and values of the parts before, as for the whole.

    It is tried on a few random tokens, once per model.
    """
    config: Any = unwrapped(scorer.model).config.get_text_config()
    if scorer.scheme.name == "prefix" or keys_know_length(config):
        return False
    readout = scorer.readout.for_scoring()
    weight: Any = unwrapped(scorer.model).get_input_embeddings().weight
    ids = random_rows(config, weight.shape[0], _N_TRIED, _N_TRIED)[0]
    blocks = torch.arange(3).repeat_interleave(_N_TRIED // 3) if readout.by_blocks else None

    def read(past: Past, part: torch.Tensor) -> tuple[torch.Tensor, Past]:
        return advance(
            scorer.model,
            past,
            part,
            torch.arange(len(part)),
            readout,
            blocks=None if blocks is None else blocks[: len(past) + len(part)],
            device=device,
        )

    return grows_in_parts(scorer.model, ids, read)


def _block_start(texts: Sequence[npt.NDArray[np.int64]], at: int) -> int:
    """Return the last place up to ``at`` where a block begins or ends in all texts."""
    while at and any(at < len(blocks) and blocks[at] == blocks[at - 1] for blocks in texts):
        at -= 1
    return at
