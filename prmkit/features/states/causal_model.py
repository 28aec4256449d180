"""A frozen causal language model that is read: its hidden states and log-probabilities at the tokens of solutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from prmkit.features.encoding.model_path import LANGUAGE_MODEL_WAYS_OUT, folder_digest, resolve_model
from prmkit.features.passes.model_files import load_tokenizer, read_weights, token_limit
from prmkit.marking.encoding import MarkedTokens, TokenRecord
from prmkit.utils.environment import best_device, fast_bfloat16, no_more_threads_than_cores, on_device, safe_after_fork
from prmkit.utils.ragged import token_batches

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

    from prmkit.features.passes.past import Past

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# The two middle layers that were best on a small model, as shares of its depth.
_DEFAULT_DEPTHS = (0.4, 0.67)
# Positions whose logits of the whole vocabulary are held at once.
_LOGITS_AT_ONCE = 128
_N_TRIED = 18
_INSTEAD = (
    "kind='states' reads a decoder-only language model, such as 'Qwen/Qwen2.5-Math-1.5B'. For an encoder pass "
    "kind='embeddings'"
)


class _EnoughError(Exception):
    """All layers that were asked for are known, so the model need not go on."""


class TokenReading(NamedTuple):
    """What a model holds at the tokens of the steps of one solution, end to end.

    ``states`` has shape (n_tokens, n_layers, width). ``log_probs`` and ``entropies`` are those of each token as the
    token before it predicts it, NaN for a token that nothing stands before. None if they were not asked for.
    """

    states: FloatArray
    log_probs: FloatArray | None
    entropies: FloatArray | None


class CausalModel:
    """A frozen language model, which is loaded when it is first needed. Its weights rest on the CPU.

    Layer 0 are the embeddings, layer k what k blocks have made of them, the last one after the final norm. ``layer``
    counts from the end if negative. ``log_probs`` needs the head of the vocabulary too.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        layer: int | Sequence[int] | None,
        log_probs: bool,
        dtype: str,
        device: str | None,
        instead: str = _INSTEAD,
    ) -> None:
        self.model, self.log_probs = model, log_probs
        self._layer, self._dtype, self._device, self._instead = layer, dtype, device, instead
        self._lock = Lock()

    @cached_property
    def folder(self) -> Path:
        """The folder of the model."""
        return resolve_model(self.model, LANGUAGE_MODEL_WAYS_OUT)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, with a token to pad with."""
        return _tokenizer(self.folder, folder_digest(self.folder))

    @cached_property
    def config(self) -> Any:
        """The part of its configuration that is about text."""
        from transformers import AutoConfig

        whole = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        if getattr(whole, "is_encoder_decoder", False):
            raise ValueError(f"{self.model} is an encoder-decoder ({whole.model_type}): {self._instead}")
        return whole.get_text_config()

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers to read, as numbers from 0 on."""
        return layers_of(self._layer, int(self.config.num_hidden_layers), str(self.model))

    @property
    def width(self) -> int:
        """Length of a state."""
        return int(self.config.hidden_size)

    @cached_property
    def device(self) -> str:
        """Where it is computed."""
        return self._device or best_device()

    @cached_property
    def precision(self) -> str:
        """Name of the precision in which it is computed."""
        if self._dtype != "auto":
            return self._dtype
        return "bfloat16" if fast_bfloat16(self.device) else "float32"

    @cached_property
    def weights(self) -> str:
        """A text that changes with any file of the model."""
        return folder_digest(self.folder)

    @property
    def digest(self) -> str:
        """A text that changes with any file of the model, and with the precision."""
        return f"{self.weights}-{self.precision}"

    def token_limit(self, max_length: int | None) -> int | None:
        """Return the most tokens of a solution."""
        holder: Any = SimpleNamespace(config=self.config)
        return token_limit(holder, max_length)

    @cached_property
    def number_tokens(self) -> npt.NDArray[np.bool_]:
        """Which tokens of the vocabulary hold a digit."""
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        return np.array([any(map(str.isdigit, str(token))) for token in tokens])

    @cached_property
    def network(self) -> PreTrainedModel:
        """The model itself, without the head of the vocabulary unless log-probabilities are asked for."""
        import torch
        from transformers import AutoModel, AutoModelForCausalLM

        from prmkit.features.passes.block_causal import is_causal

        kind = AutoModelForCausalLM if self.log_probs else AutoModel
        self._refuse_encoders()
        network, info = read_weights(kind, self.folder, dtype=getattr(torch, self.precision))
        lacking = sorted(info["missing_keys"]) + sorted(key for key, *_ in info["mismatched_keys"])
        # A pooler, which some encoders have, is not read.
        if lacking:
            raise ValueError(f"{self.model} lacks {len(lacking)} weights of a language model, such as {lacking[0]}")
        if not is_causal(network):
            raise ValueError(self._encoder_error())
        network.requires_grad_(False).eval()  # type: ignore[no-untyped-call]
        return network

    def _refuse_encoders(self) -> None:
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        )

        kind = self.config.model_type
        listed = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if listed and not getattr(self.config, "is_decoder", False):
            raise ValueError(self._encoder_error())

    def _encoder_error(self) -> str:
        return f"{self.model} is an encoder ({self.config.model_type}), whose states look ahead: {self._instead}"

    def read(self, rows: Sequence[MarkedTokens | TokenRecord], budget: int) -> Iterator[tuple[int, TokenReading]]:
        """Yield the number of each row and what the model holds at the tokens of its steps.

        A pass has at most ``budget`` tokens. A longer row is a pass of its own, unless rows share their beginnings.
        """
        import torch

        network = self.network
        extended = [self._with_marks(row) for row in rows]
        with (
            self._lock,
            safe_after_fork(),
            no_more_threads_than_cores(),
            on_device(network, self.device),
            torch.inference_mode(),
        ):
            for i, outputs in self._outputs(extended, budget):
                yield i, self._reading(extended[i], outputs)

    def read_on(self, row: MarkedTokens | TokenRecord, past: Past, n_known_steps: int) -> tuple[TokenReading, Past]:
        """Return what the model holds at the tokens of the steps after the known ones, and the past with them.

        The past holds the first tokens of the row. It is empty if the model cannot read a text in parts.
        """
        import torch

        blocks = np.maximum(row.blocks - n_known_steps, 0)
        # The last token before the new steps predicts their first one, so its state is needed too.
        first = int((blocks == 0).sum())
        past = past.cut(min(len(past), max(first - self.log_probs, 0)))
        new = self._with_marks(MarkedTokens(row.input_ids[len(past) :], row.step_positions, blocks[len(past) :]))
        with (
            self._lock,
            safe_after_fork(),
            no_more_threads_than_cores(),
            on_device(self.network, self.device),
            torch.inference_mode(),
        ):
            outputs, grown = self._advance(past, torch.from_numpy(new.input_ids), new.step_positions)
            return self._reading(new, outputs), grown if self._can_read_on else past

    @cached_property
    def _can_read_on(self) -> bool:
        """Whether a text in parts, with keys and values of the parts before, gives what the whole text gives."""

        from prmkit.features.passes.block_causal import random_rows
        from prmkit.features.passes.past import grows_in_parts, keys_know_length

        if keys_know_length(self.config):
            return False
        weight: Any = self.network.get_input_embeddings().weight
        ids = random_rows(self.network.config, weight.shape[0], _N_TRIED, _N_TRIED)[0]
        return grows_in_parts(self.network, ids, lambda past, part: self._advance(past, part, np.arange(len(part))))

    def _advance(self, past: Past, new_ids: torch.Tensor, positions: IntArray) -> tuple[torch.Tensor, Past]:
        """Read the tokens that follow a past. Return the states at some of them, and the past with all of them."""
        import torch

        cache = past.cache()
        batch = {
            "input_ids": new_ids[None],
            "attention_mask": torch.ones(1, len(past) + len(new_ids), dtype=torch.long),
            "positions": torch.from_numpy(positions)[None],
        }
        outputs = self._forward({name: value.to(self.device) for name, value in batch.items()}, cache)
        return outputs[0], past.grown(cache)

    def _with_marks(self, row: MarkedTokens | TokenRecord) -> MarkedTokens:
        """Mark all tokens of steps, and the token before them, which predicts the first one."""
        first = int((row.blocks == 0).sum())
        return MarkedTokens(
            row.input_ids, np.arange(first - (self.log_probs and first > 0), len(row.blocks)), row.blocks
        )

    def _outputs(self, rows: Sequence[MarkedTokens], budget: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the states at the marked tokens of each row, of shape (n_marks, n_layers * width)."""
        import torch

        from prmkit.features.passes.prefix_tree import shared_beginnings
        from prmkit.features.passes.tree_attention import longest_shared, position_offset, tree_outputs

        network, device = self.network, torch.device(self.device)
        indices, shared = shared_beginnings(rows, longest=longest_shared(network))
        offset = position_offset(network, self._forward, False, False, device) if indices else None
        by_itself = np.arange(len(rows))
        if offset is not None:
            chosen = [rows[i] for i in indices]
            found, _ = tree_outputs(
                network, chosen, shared, self._forward, budget=budget, by_blocks=False, offset=offset, device=device
            )
            yield from zip(indices, found, strict=True)
            by_itself = np.setdiff1d(by_itself, indices)
        for batch in token_batches(np.array([len(rows[i].input_ids) for i in by_itself.tolist()]), budget):
            members = [rows[i] for i in by_itself[batch].tolist()]
            shape = len(members), max(len(row.input_ids) for row in members)
            ids, mask = np.zeros((2, *shape), dtype=np.int64)
            # The states of all tokens are read, and those of padding are left out below.
            for line, seen, row in zip(ids, mask, members, strict=True):
                line[: len(row.input_ids)], seen[: len(row.input_ids)] = row.input_ids, 1
            positions = np.tile(np.arange(shape[1]), (shape[0], 1))
            arrays = {"input_ids": ids, "attention_mask": mask, "positions": positions}
            outputs = self._forward({name: torch.from_numpy(one).to(device) for name, one in arrays.items()})
            for i, row, output in zip(by_itself[batch], members, outputs, strict=True):
                yield int(i), output[row.step_positions[0] : len(row.input_ids)]

    def _forward(self, batch: Mapping[str, torch.Tensor], cache: DynamicCache | None = None) -> torch.Tensor:
        """Run the model once. Return the states of all layers at ``batch["positions"]``, side by side, in float32.

        With a ``cache`` of earlier tokens, the mask is that of all tokens, and the cache is extended.
        """
        import torch

        positions = batch["positions"]
        base = getattr(self.network, self.network.base_model_prefix, self.network) if self.log_probs else self.network
        wanted = {*self.layers, *([self.config.num_hidden_layers] if self.log_probs else [])}
        names = "attention_mask" if "attention_mask" in batch else "position_ids"
        options: dict[str, Any] = {names: batch[names], "use_cache": cache is not None}
        if cache is not None:
            options["past_key_values"] = cache
        with _captured(base, self.config.num_hidden_layers, wanted) as (states, more):
            try:
                output = base(input_ids=batch["input_ids"], **options, **more)
            except _EnoughError:
                pass
            else:
                for layer, state in enumerate(getattr(output, "hidden_states", None) or ()):
                    states.setdefault(layer, state)
                states[self.config.num_hidden_layers] = output.last_hidden_state
        order = [*self.layers, *([self.config.num_hidden_layers] if self.log_probs else [])]
        where = positions[..., None]
        chosen = [states[layer].gather(1, where.expand(-1, -1, states[layer].shape[-1])) for layer in order]
        return torch.cat(chosen, dim=-1).float()

    def _reading(self, row: MarkedTokens, outputs: torch.Tensor) -> TokenReading:
        n_before = int((row.blocks == 0).sum()) - int(row.step_positions[0])
        states = outputs.reshape(len(outputs), -1, self.width)
        if not self.log_probs:
            return TokenReading(states.cpu().numpy(), None, None)
        # Each state predicts the token after it.
        predicted = np.full((2, len(row.input_ids) - int((row.blocks == 0).sum())), np.nan, dtype=np.float32)
        found = self._predictions(states[:-1, -1], row.input_ids[int(row.step_positions[0]) + 1 :])
        predicted[:, predicted.shape[1] - found.shape[1] :] = found
        return TokenReading(states[n_before:, :-1].cpu().numpy(), predicted[0], predicted[1])

    def _predictions(self, states: torch.Tensor, targets: npt.NDArray[np.int64]) -> FloatArray:
        """Return log-probability and entropy of each target, a part of the tokens at a time."""
        import torch

        head: Any = self.network.get_output_embeddings()  # type: ignore[no-untyped-call]
        ids = torch.tensor(targets, device=states.device)  # a copy: the array may be read-only
        parts = [torch.empty(2, 0, device=states.device)]
        for start in range(0, len(ids), _LOGITS_AT_ONCE):
            here = slice(start, start + _LOGITS_AT_ONCE)
            logits = _capped(head(states[here].to(head.weight.dtype)).float(), self.config)
            total = logits.logsumexp(-1)
            own = logits.gather(1, ids[here, None])[:, 0]
            mean = (logits.sub(total[:, None]).exp() * logits).sum(-1)
            parts.append(torch.stack([own - total, total - mean]))
        found: FloatArray = torch.cat(parts, dim=1).cpu().numpy()
        return found


def layers_of(layer: int | Sequence[int] | None, n_layers: int, model: str) -> tuple[int, ...]:
    """Return the layers of a model that are asked for, as numbers from 0 on."""
    if layer is None:
        return tuple(dict.fromkeys(max(1, round(depth * n_layers)) for depth in _DEFAULT_DEPTHS))
    asked = np.atleast_1d(np.asarray(layer))
    if asked.dtype.kind not in "iu" or asked.ndim != 1 or not len(asked):
        raise ValueError(f"layer={layer!r}, expected a whole number, several of them, or None")
    wrong = [one for one in asked.tolist() if not -n_layers - 1 <= one <= n_layers]
    if wrong:
        raise ValueError(
            f"layer {wrong[0]} does not exist: {model} has layers 0 (the embeddings) to {n_layers}, or -1 "
            f"(the last) to {-n_layers - 1}"
        )
    layers = tuple(one % (n_layers + 1) for one in asked.tolist())
    if len(set(layers)) < len(layers):
        raise ValueError(f"layer={layer!r} names a layer twice")
    return layers


@lru_cache(maxsize=2)
def _tokenizer(folder: Path, _digest: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer once for all clones of a featurizer, as long as its files stay the same."""
    return load_tokenizer(folder)


def _capped(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """Do to the logits what some architectures do after their head."""
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
    cap = getattr(config, "final_logit_softcapping", None)
    logits = logits if scale == 1 else logits * scale
    return (logits / cap).tanh() * cap if cap else logits


@contextmanager
def _captured(
    base: torch.nn.Module, n_layers: int, wanted: set[int]
) -> Iterator[tuple[dict[int, torch.Tensor], dict[str, Any]]]:
    """Keep what enters the blocks that are wanted, and stop the model when no later one is needed.

    Where the blocks cannot be found, the model is asked for the states of all layers.
    """
    import torch

    kept: dict[int, torch.Tensor] = {}
    lists = [one for one in base.modules() if isinstance(one, torch.nn.ModuleList) and len(one) == n_layers]
    if not lists:
        yield kept, {"output_hidden_states": True}
        return

    def note(layer: int) -> Any:
        def hook(_module: object, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            kept[layer] = args[0] if args else options["hidden_states"]
            if layer == max(wanted):
                raise _EnoughError

        return hook

    with ExitStack() as stack:
        for layer in wanted - {n_layers}:
            block = lists[0][layer]
            stack.callback(block.register_forward_pre_hook(note(layer), with_kwargs=True).remove)
        yield kept, {}
