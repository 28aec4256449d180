"""A growing solution through a frozen language model: keys and values are kept, and only new tokens are read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, Step
from prmkit.features.passes.past import Past, SharedProblem
from prmkit.features.passes.prefix_tree import n_common
from prmkit.features.states.causal_model import CausalModel, TokenReading
from prmkit.features.states.solution_states import (
    SolutionStates,
    column_names,
    feature_rows,
    pooled_states,
    state_names,
    step_columns,
    token_states,
    warn_of_lost,
)
from prmkit.features.states.token_states import TokenStates
from prmkit.marking.encoding import SolutionEncoder, TokenRecord, token_records
from prmkit.marking.scheme import MarkingScheme


class GrowingStates:
    """A solution as a language model has read it so far. ``extend`` returns the rows of the new steps."""

    def __init__(
        self, model: CausalModel, problem: str, *, scheme: MarkingScheme, pooling: str, max_length: int | None
    ) -> None:
        self._model, self._scheme, self._pooling = model, scheme, pooling
        self._limit = model.token_limit(max_length)
        self._n_columns = len(state_names(model, pooling)) + len(column_names(model.log_probs))
        self._encoder = SolutionEncoder(model.tokenizer, scheme)
        self._solution = Solution(problem, ())
        self._ids: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._past = Past()
        self._problem = SharedProblem()
        # Of the tokens of all steps so far, since some columns compare a step with those before.
        self._predicted = np.empty((2, 0), dtype=np.float32)

    def extend(self, steps: Sequence[str]) -> npt.NDArray[np.float32] | TokenStates:
        """Return what ``transform`` gives for the new steps."""
        before, model = self._solution, self._model
        self._solution = Solution(before.problem, (*before.steps, *steps))
        new = [Step(self._solution, t) for t in range(before.n_steps, self._solution.n_steps)]
        records = token_records(model.tokenizer, new, self._scheme, self._limit, "nan", self._encoder)
        warn_of_lost(new, records, self._limit)
        found = iter([self._read(record) for record in records])
        if self._pooling == "tokens":
            return token_states(found, new, len(model.layers), model.width, model.log_probs)
        return feature_rows(found, new, self._n_columns)

    def fork(self) -> GrowingStates:
        """Return a copy, which shares all keys and values."""
        return copy.copy(self)

    def _read(self, record: TokenRecord) -> SolutionStates:
        # A step without tokens has no row, so the number of a step in the record may be less than its place.
        known = int(record.steps.min())
        self._ids, self._past = self._problem.begin(self._ids, self._past)
        self._past = self._past.cut(n_common(self._ids, record.input_ids))
        reading, self._past = self._model.read_on(record, self._past, known)
        self._ids = record.input_ids[: len(self._past)]
        self._past = self._problem.leave(self._ids, self._past, int((record.blocks == 0).sum()))
        is_new = record.blocks > known
        part: dict[str, Any] = {
            "input_ids": record.input_ids[is_new],
            "blocks": record.blocks[is_new] - known,
            "step_positions": record.step_positions[known:],
            "steps": record.steps - known,
        }
        states = pooled_states(self._model, replace(record, **part), reading, self._pooling)
        if reading.log_probs is None or reading.entropies is None:
            return states
        n_before = int(((record.blocks > 0) & ~is_new).sum())
        self._predicted = np.hstack([self._predicted[:, :n_before], [reading.log_probs, reading.entropies]])
        log_probs, entropies = self._predicted
        whole = step_columns(self._model, record, TokenReading(reading.states, log_probs, entropies))
        return replace(states, columns=whole[known:])
