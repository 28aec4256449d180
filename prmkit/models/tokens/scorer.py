"""A model, its tokenizer and its scheme as one thing that answers steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from prmkit.data.solution import Step
from prmkit.marking.encoding import token_records
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.tokens._one_pass import Readout
from prmkit.utils.log_silence import quiet_loading


@dataclass(frozen=True)
class TokenScorer:
    """What is needed to score: the weights, and how text becomes marked tokens.

    Parameters
    ----------
    model, tokenizer
        Of transformers.
    scheme : MarkingScheme
    readout : Readout
    max_length : int or None
        The most tokens of a row.
    classes : tuple
        Labels that the outputs stand for, worst first.
    """

    model: Any
    tokenizer: Any
    scheme: MarkingScheme
    readout: Readout
    max_length: int | None
    classes: tuple[Any, ...]

    def outputs(
        self,
        steps: Sequence[Step],
        *,
        too_long: str,
        tokens_per_batch: int,
        device: str | None,
        show_progress: bool,
    ) -> np.ndarray:
        """Return the model's outputs for each step, in the order of the steps.

        Returns
        -------
        ndarray of float32, shape (n_steps,) for rewards, (n_steps, n_outputs) otherwise
            NaN for steps that do not fit, with ``too_long="nan"``.

        Raises
        ------
        ValueError
            If steps do not fit, unless ``too_long`` is "nan".
        """
        from prmkit.models.tokens._one_pass import score_marked

        records = token_records(self.tokenizer, steps, self.scheme, self.max_length, too_long)
        found = score_marked(
            self.model,
            records,
            self.readout,
            pad_token_id=self.tokenizer.pad_token_id,
            tokens_per_batch=tokens_per_batch,
            device=device,
            show_progress=show_progress,
        )
        shape = () if self.readout.reads == "reward" else (len(self.classes),)
        out = np.full((len(steps), *shape), np.nan, dtype=np.float32)
        for record, output in zip(records, found, strict=True):
            out[record.rows] = output[record.steps]
        lost = len(steps) - sum(len(record.rows) for record in records)
        if lost and too_long != "nan":
            raise ValueError(
                f"{lost} of {len(steps)} steps lie beyond the {self.max_length} tokens that are read: raise "
                "max_length if the model has room, or choose too_long='nan': no score for these"
            )
        return out

    def __getstate__(self) -> dict[str, Any]:
        """Weights and configuration in place of the module, whose hooks cannot be pickled."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        model = state.pop("model")
        if not hasattr(model, "save_pretrained"):
            raise TypeError(
                "a model of a published layout is pickled by its folder: store_weights_in_pickle=False"
            )
        return {**state, "kind": type(model), "config": model.config, "weights": model.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, config, weights = (state.pop(name) for name in ("kind", "config", "weights"))
        dtype = next(value.dtype for value in weights.values() if value.is_floating_point())
        state["model"] = _rebuilt(kind, config, dtype, weights)
        for name, value in state.items():
            object.__setattr__(self, name, value)


def _rebuilt(kind: Any, config: Any, dtype: Any, weights: dict[str, Any]) -> Any:
    import torch

    with torch.random.fork_rng():  # initial weights are drawn, only to be overwritten
        model = kind(config).to(dtype)
    model.load_state_dict(weights)
    return model.eval()


def save_scorer(scorer: TokenScorer, folder: Path, *, loss: str) -> None:
    """Write model, tokenizer and description to a folder, in the layout of transformers.

    Raises
    ------
    ValueError
        If the model is one of a published layout that transformers has no class for.
    """
    from prmkit.models.tokens._model_files import ModelDescription, write_description

    if not hasattr(scorer.model, "save_pretrained"):
        raise ValueError(
            "this model is in a published layout of its own, and its weights are not copied: keep its folder, and read "
            "it with PRMClassifier.from_pretrained(folder, layout=…)"
        )
    with quiet_loading():
        scorer.model.save_pretrained(folder)
    scorer.tokenizer.save_pretrained(folder)
    description = ModelDescription.of(
        scheme=scorer.scheme,
        tokenizer=scorer.tokenizer,
        readout=scorer.readout,
        classes=scorer.classes,
        loss=loss,
        max_length=scorer.max_length,
    )
    write_description(folder, description)


def loaded(head: Any) -> TokenScorer:
    """Return a head's scorer, read from where its weights lie if it is not in memory."""
    if head._scorer is None:
        head._scorer = head._origin.read()
    return head._scorer
