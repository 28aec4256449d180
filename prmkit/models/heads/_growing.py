"""Growing solutions through a head that attends over steps: keys and values are kept, and a step is one position."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from prmkit.data.growing import growing
from prmkit.data.solution import Solution, Step
from prmkit.features.passes.past import Past, grows_in_parts
from prmkit.models.heads._training import CausalEncoder
from prmkit.models.heads.head import Featurizer
from prmkit.utils.environment import safe_after_fork

_N_TRIED = 6


class GrowingSequence:
    """A solution as a causal encoder over steps has read it. ``extend`` returns the logits of the new steps.

    The keys and values of earlier steps are kept, so a new step is one position.
    """

    def __init__(self, module: CausalEncoder, featurizer: Featurizer, problem: str, device: str) -> None:
        self._module, self._featurizer, self._device = module, featurizer, device
        self._problem = problem
        self._rows = growing(featurizer, problem, "transform")
        self._past = Past()

    def extend(self, steps: Sequence[str]) -> np.ndarray:
        """Return the logits of the new steps, of shape (n_steps, n_classes)."""
        rows = [self._rows.extend(steps)]
        if not len(self._past):
            # The problem is the first position, a step without a problem.
            rows.insert(0, self._featurizer.transform([Step(Solution("", (self._problem,)), 0)]))
        values = np.concatenate([np.asarray(part, dtype=np.float32) for part in rows])
        module = self._module.to(self._device)
        try:
            logits, self._past = _advance(module, self._past, torch.from_numpy(values).to(self._device))
        finally:
            module.cpu()
        return logits[-len(steps) :].double().cpu().numpy()

    def fork(self) -> GrowingSequence:
        """Return a copy, which shares all keys and values."""
        other = copy.copy(self)
        other._rows = self._rows.fork()
        return other


def can_grow(module: CausalEncoder) -> bool:
    """Whether the backbone keeps keys and values. It is tried on random rows, once per module."""
    weight = next(module.parameters())
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(_N_TRIED, len(module.mean), generator=generator).to(weight)

    return grows_in_parts(module, values, lambda past, part: _advance(module, past, part))


@safe_after_fork()
def _advance(module: CausalEncoder, past: Past, values: torch.Tensor) -> tuple[torch.Tensor, Past]:
    """Read the positions that follow a past. Return their logits, and the past with them."""
    module.eval()
    with torch.inference_mode():
        cache = past.cache()
        logits = module(values[None].to(next(module.parameters()).dtype), cache)[0]
        grown = past.grown(cache)
    if len(grown) != len(past) + len(values):
        raise ValueError("the backbone has kept no keys and values")
    return logits, grown
