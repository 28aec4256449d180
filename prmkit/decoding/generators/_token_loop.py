"""The loop that makes tokens: each prompt is read once, each row draws by its own seed, and ended rows leave."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from prmkit.decoding.generation import Finish, Generation, first_stop
from prmkit.decoding.generators.prompts import decoded
from prmkit.features.passes.block_causal import random_rows, unwrapped
from prmkit.features.passes.past import Past, grows_like, joined, keys_know_length
from prmkit.utils.environment import no_more_threads_than_cores, safe_after_fork

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

_N_TRIED = 18
# Every one is compared with a new prompt.
_MOST_KEPT = 256
_UNFINISHED = "\ufffd"
"""What a tokenizer decodes the first bytes of a character to."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How the next token is chosen from the logits."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def choose(self, logits: torch.Tensor, keys: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return one token per row: the highest of logits with Gumbel noise, which is a draw by the probabilities.

        The noise of a token follows from the key of its row and from its number, so no other row changes it.
        Since it belongs to the token, logits that differ in their last bits nearly always give the same draw.
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        scores = (logits - logits.amax(-1, keepdim=True)) / self.temperature
        if self.top_k is not None and self.top_k < scores.shape[-1]:
            scores = scores.where(scores >= scores.topk(self.top_k).values[:, -1:], -torch.inf)
        if self.top_p is not None:
            shares, order = scores.softmax(-1).sort(-1, descending=True)
            beyond = shares.cumsum(-1) - shares >= self.top_p
            scores = scores.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
        tokens = torch.arange(scores.shape[-1], device=logits.device)
        bits = _mixed(tokens ^ torch.from_numpy(keys).to(logits.device)[:, None])
        waits = bits.float().add_(0.5).mul_(-(2.0**-32)).log1p_().neg_()
        return (scores - waits.log_()).argmax(-1)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """Return 32 bits that look random for each of 32 bits (the hash lowbias32)."""
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return bits ^ (bits >> 16)


@dataclass(eq=False)
class Row:
    """One continuation that is being made."""

    prompt: tuple[int, ...]
    max_tokens: int
    seed: tuple[int, int]
    stops: tuple[str, ...]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None
    keys: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    # The text of all tokens but the last ones, whose text may change with the next token.
    _text: str = ""
    _first: int = 0
    _last: int = 0

    def add(self, token: int, logprob: float, loop: TokenLoop) -> None:
        """Take the next token, and note whether it is the last one."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in loop.eos_ids:
            self.finish = "eos"
        elif self.stops and first_stop(self._grown(loop), self.stops) is not None:
            self.finish = "stop"
        elif len(self.ids) >= self.max_tokens:
            self.finish = "length"

    def generation(self, loop: TokenLoop) -> Generation:
        """Return what was made."""
        if self.finish == "error":
            return Generation.failed("the model gives logits that are not numbers: pass dtype='float32'")
        assert self.finish is not None
        text = loop.decode(self.ids[: -1 if self.finish == "eos" else None], self.stops)
        tokens: tuple[int, ...] | None = tuple(self.ids)
        mark = None
        if self.finish == "stop":
            known = first_stop(text, self.stops)
            grown = text if known is not None else self._grown(loop)
            place, mark = known or first_stop(grown, self.stops) or (len(grown), None)
            tokens = tokens if text == grown[:place] + (mark or "") else None
            text = grown[:place]
        return Generation(text, self.finish, tokens, tuple(self.logprobs), len(self.ids), mark)

    def _grown(self, loop: TokenLoop) -> str:
        """Return the text of all tokens, decoding the last ones alone: a token may change the text around it."""
        before = loop.decode(self.ids[self._first : self._last], self.stops)
        after = loop.decode(self.ids[self._first :], self.stops)
        text = self._text + after[len(before) :]
        if not after.endswith(_UNFINISHED):
            self._text, self._first, self._last = text, self._last, len(self.ids)
        return text


class TokenLoop:
    """A language model that continues rows of tokens. It keeps keys and values of what it has read and written."""

    def __init__(
        self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, eos_ids: frozenset[int], kept_bytes: int
    ) -> None:
        self.network, self.tokenizer, self.eos_ids = network, tokenizer, eos_ids
        self._kept = KeptPasts(kept_bytes)
        self._weights: object = None
        self._accepted = set(inspect.signature(unwrapped(network).forward).parameters)
        self._special = {str(token) for token in tokenizer.all_special_tokens}
        self._can_batch: bool | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.network.parameters()).device

    def decode(self, ids: Sequence[int], stops: Sequence[str]) -> str:
        """Return the text of tokens. Special tokens are a part of it only if a stop string holds one."""
        shown = any(token in stop for stop in stops for token in self._special)
        return decoded(self.tokenizer, ids, skip_special_tokens=not shown)

    def run(self, rows: Sequence[Row], draws: Draws) -> None:
        """Continue all rows to their end."""
        for row in rows:
            row.keys = np.random.default_rng(row.seed).integers(2**32, size=row.max_tokens)
        with safe_after_fork(), no_more_threads_than_cores(), _evaluated(self.network), torch.inference_mode():
            self._forget_if_changed()
            if self._can_batch is None:
                self._can_batch = self._tried()
            if self._can_batch:
                self._run_together(rows, draws)
            else:
                for row in rows:
                    self._run_alone(row, draws)

    def _run_together(self, rows: Sequence[Row], draws: Draws) -> None:
        numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(row.prompt for row in rows))}
        logits, cache, padding, pasts = self._read(list(numbers))
        places = [numbers[row.prompt] for row in rows]
        _select(cache, places)
        logits, padding = logits[places], padding[places]
        live = list(rows)
        while True:
            self._add(live, logits, draws)
            for i, row in enumerate(live):
                # Only what may go on is worth keeping. The last token was not read.
                if row.finish in ("stop", "length") and pasts is not None:
                    past = pasts[numbers[row.prompt]].grown(cache, i, int(padding[i]))
                    self._kept.add(np.array([*row.prompt, *row.ids[:-1]]), past)
            on = [i for i, row in enumerate(live) if row.finish is None]
            if not on:
                return
            if len(on) < len(live):
                _select(cache, on)
                live, padding = [live[i] for i in on], padding[on]
            logits = self._forward(np.array([row.ids[-1:] for row in live]), cache, padding)

    def _run_alone(self, row: Row, draws: Draws) -> None:
        """Continue one row and read all of it for every token, for models whose keys and values cannot be reused."""
        while row.finish is None:
            self._add([row], self._forward(np.array([[*row.prompt, *row.ids]]), None, np.zeros(1, dtype=int)), draws)

    def _add(self, rows: Sequence[Row], logits: torch.Tensor, draws: Draws) -> None:
        """Add the next token to each row."""
        logits = logits.float()
        chosen = draws.choose(logits, np.array([row.keys[len(row.ids)] for row in rows]))
        known = logits.gather(-1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
        for row, token, logprob in zip(rows, chosen.tolist(), known.tolist(), strict=True):
            if np.isfinite(logprob):
                row.add(token, logprob, self)
            else:
                row.finish = "error"

    def _read(
        self, prompts: Sequence[tuple[int, ...]]
    ) -> tuple[torch.Tensor, DynamicCache, npt.NDArray[np.intp], list[Past] | None]:
        """Read prompts, as far as they are not known, padded on the left.

        The result: the logits after each, the cache, the width of the padding, and the pasts if they are kept.
        """
        lengths = np.array([len(ids) for ids in prompts])
        known = [self._kept.longest(np.array(ids)) for ids in prompts]
        n_new = max(int(n) - len(past) for n, past in zip(lengths, known, strict=True))
        # All rows have as many new tokens, so that padding is at the beginning alone.
        known = [past.cut(max(0, int(n) - n_new)) for n, past in zip(lengths, known, strict=True)]
        cache = joined(known)
        ids = np.zeros((len(prompts), n_new), dtype=np.int64)
        for line, prompt in zip(ids, prompts, strict=True):
            new = prompt[-n_new:]
            line[n_new - len(new) :] = new
        padding = int(lengths.max()) - lengths
        logits = self._forward(ids, cache, padding)
        if not self._kept.n_bytes:
            return logits, cache, padding, None
        pasts = [past.grown(cache, i, int(padding[i])) for i, past in enumerate(known)]
        for prompt, past in zip(prompts, pasts, strict=True):
            self._kept.add(np.array(prompt), past)
        return logits, cache, padding, pasts

    def _forward(
        self, ids: npt.NDArray[np.int64], cache: DynamicCache | None, padding: npt.NDArray[np.intp]
    ) -> torch.Tensor:
        """Return the logits after the last token of each row. The cache is extended."""
        n_before = 0 if cache is None else int(cache.get_seq_length())
        columns = np.arange(n_before + ids.shape[1])
        batch = {
            "input_ids": ids,
            "attention_mask": (columns >= padding[:, None]).astype(np.int64),
            "position_ids": np.maximum(columns[n_before:] - padding[:, None], 0),
        }
        arguments: dict[str, Any] = {
            name: torch.from_numpy(one).to(self.device) for name, one in batch.items() if name in self._accepted
        }
        if "logits_to_keep" in self._accepted:
            arguments["logits_to_keep"] = 1
        if cache is not None:
            arguments["past_key_values"] = cache
        output = self.network(**arguments, use_cache=cache is not None)
        last: torch.Tensor = output.logits[:, -1]
        return last

    def _tried(self) -> bool:
        """Whether padding on the left, and keys and values of earlier tokens, change nothing."""
        config = unwrapped(self.network).config.get_text_config()
        if keys_know_length(config):
            return False
        ids = random_rows(config, len(self.tokenizer), _N_TRIED, 0).numpy()

        def in_parts() -> torch.Tensor:
            from transformers import DynamicCache

            cache, padding = DynamicCache(), np.array([0, 4])
            rows = np.stack([ids[0], np.roll(ids[1], 4)])
            for part in np.split(rows, [7, 8], axis=1):
                logits = self._forward(part, cache, padding)
            if cache.get_seq_length() != _N_TRIED:
                raise ValueError("the model has kept no keys and values")
            return logits

        def whole() -> torch.Tensor:
            rows = ids[:1], ids[1:, :-4]
            return torch.cat([self._forward(row, None, np.zeros(1, dtype=int)) for row in rows])

        return grows_like(self.network, whole, in_parts)

    def _forget_if_changed(self) -> None:
        """Forget what was read if the weights are others now, as in training, or the adapters."""
        weights: list[object] = [
            (one.data_ptr(), 0 if one.is_inference() else one._version) for one in self.network.parameters()
        ]
        weights += [
            (str(one._active_adapter), getattr(one, "_disable_adapters", None))
            for one in self.network.modules()
            if hasattr(one, "_active_adapter")
        ]
        if weights != self._weights:
            self._kept.clear()
            self._weights = weights


class KeptPasts:
    """Pasts of texts, the last used ones, up to a number of bytes."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._pasts: OrderedDict[bytes, tuple[npt.NDArray[np.int64], Past, int]] = OrderedDict()
        self._used = 0

    def clear(self) -> None:
        """Forget all of them."""
        self._pasts.clear()
        self._used = 0

    def add(self, ids: npt.NDArray[np.int64], past: Past) -> None:
        """Keep the past of a text. The pieces that it shares with its beginning count there."""
        key = ids.tobytes()
        if key in self._pasts:
            self._pasts.move_to_end(key)
            return
        size = past.n_own_bytes
        self._pasts[key] = ids, past, size
        self._used += size
        while self._used > self.n_bytes or len(self._pasts) > _MOST_KEPT:
            _, (_, _, left) = self._pasts.popitem(last=False)
            self._used -= left

    def longest(self, ids: npt.NDArray[np.int64]) -> Past:
        """Return the past of the longest known beginning of a text. The last token must be read anyway."""
        from prmkit.features.passes.prefix_tree import n_common

        best = max(((n_common(ids[:-1], one), key) for key, (one, _, _) in self._pasts.items()), default=(0, b""))
        if not best[0]:
            return Past()
        self._pasts.move_to_end(best[1])
        return self._pasts[best[1]][1].cut(best[0])


def _select(cache: DynamicCache, places: Sequence[int]) -> None:
    cache.batch_select_indices(torch.tensor(places))


@contextmanager
def _evaluated(network: torch.nn.Module) -> Iterator[None]:
    """Switch off dropout, and afterwards on again."""
    training = network.training
    if training:
        network.eval()
    try:
        yield
    finally:
        if training:
            network.train()
