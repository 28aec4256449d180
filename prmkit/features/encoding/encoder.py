"""``TextEncoder``: texts become vectors, in batches of texts that have about the same number of tokens."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.features.encoding.backends._torch import TorchBackend
from prmkit.features.encoding.backends.backend import BACKENDS, Backend, EncoderModel, Tokens, candidates, load_backend
from prmkit.features.encoding.backends.converted import CannotConvertError
from prmkit.features.encoding.backends.quantized import belongs_to, is_quantized, quantize
from prmkit.features.encoding.choice import Choice, Measured, choose, joined, measure_pairs
from prmkit.features.encoding.model_path import folder_digest, load_network, resolve_model, written_token_limit
from prmkit.features.encoding.text_tokens import TextTokens
from prmkit.marking.scheme import readable
from prmkit.utils.environment import (
    best_device,
    cache_folder,
    fast_bfloat16,
    in_threads,
    safe_after_fork,
    sharing_threads,
)
from prmkit.utils.ragged import distinct_texts, fixed_batches

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

# ``batch_size`` times this number is the token budget of a batch. Every batch is as large, a single text's too. In
# float32 a CPU gains little by larger ones. Elsewhere products are so fast that what a batch costs besides them counts.
_TOKENS_PER_TEXT = {"float32": 4, "other": 8, "gpu": 256}
# A length that no model has: transformers writes 1e30 where none is known.
_NO_LIMIT = 10**9
# Texts of 20, 50 and 120 tokens, as steps are, by which backends are timed.
_TYPICAL = ["So 12 + 7 * 3 = 33, and the total cost is 40 dollars. " * n for n in (1, 3, 7)]
# Texts whose tokens are held at the same time.
_TEXTS_AT_ONCE = 50_000


class TextEncoder:
    """Turn texts into float32 rows by a sentence-transformers model, which is loaded when it is first needed.

    Its weights rest on the CPU. Make a new encoder to change a parameter, since a loaded model keeps the old one.
    ``batch_size`` sets the size of every batch, padding included: on a CPU 4 tokens per text in float32 and 8 in other
    precisions, on a GPU 256. The shape of a text's batch depends on its own length alone, so a vector does not depend
    on the other texts.
    ``backend`` and ``dtype`` say what computes the matrix products, and in which precision. ``"auto"`` leaves it to a
    measurement, among precisions at least as exact as ``at_least``. ``quantized`` is the copy for a backend in eight
    bits, which :meth:`quantize` makes. In torch, residuals, normalisation and pooling
    stay in float32.
    ``n_truncated_`` counts the distinct texts that the last ``encode`` cut to ``max_length`` tokens.
    """

    def __init__(
        self,
        model: str | Path = "all-MiniLM-L6-v2",
        *,
        batch_size: int = 64,
        device: str | None = None,
        backend: str = "auto",
        dtype: str = "auto",
        at_least: str = "bfloat16",
        quantized: npt.NDArray[np.uint8] | None = None,
        max_length: int | None = None,
        show_progress: bool = False,
        store_weights_in_pickle: bool = False,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.device = device
        self.backend = backend
        self.dtype = dtype
        self.at_least = at_least
        self.quantized = quantized
        self.max_length = max_length
        self.show_progress = show_progress
        self.store_weights_in_pickle = store_weights_in_pickle

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one float32 row per text. A text that occurs twice is encoded once."""
        distinct, inverse = distinct_texts(texts)
        rows = np.empty((len(distinct), self.dimension), dtype=np.float32)
        self.n_truncated_ = 0
        for indices, vectors, truncated in self.iter_encode(distinct):
            rows[indices] = vectors
            self.n_truncated_ += int(truncated.sum())
        warn_truncated(self.n_truncated_, self.token_limit)
        return rows[inverse]

    def iter_encode(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield ``(indices, vectors, truncated)`` batch by batch, the longest texts first.

        A caller can store the rows of a batch while the next ones are computed. Equal texts are not merged, and cut
        texts give no warning.
        """
        from tqdm.auto import tqdm

        # tqdm takes None for "show it on a terminal only".
        disable = None if self.show_progress else True
        with tqdm(total=len(texts), unit="text", desc="encode", delay=1.0, disable=disable) as bar:
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                part = texts[start : start + _TEXTS_AT_ONCE]
                for indices, vectors, truncated in self._encode_part(part):
                    self._check_finite([part[i] for i in indices], vectors)
                    bar.update(len(indices))
                    yield indices + start, vectors, truncated

    def _encode_part(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        device, lock = self._device(), self._lock
        with lock:
            # The tokenizer comes first: it loads the model, which knows its own limit.
            texts = readable(texts, self.tokenizer)
            limit = self.token_limit
            tokens = TextTokens.of(self._network, texts, limit)
            backend = self._backend
        if tokens is None:
            lengths, truncated = np.ones(len(texts), dtype=int), np.zeros(len(texts), dtype=bool)
        else:
            lengths, truncated = tokens.lengths, tokens.truncated
        # Threads take turns where the weights move, and at a tokenizer, which keeps padding and length in itself.
        turn = lock if tokens is None or device != "cpu" else contextlib.nullcontext()

        def compute(batch: tuple[np.ndarray, int, int]) -> tuple[np.ndarray, np.ndarray]:
            indices = batch[0]
            with turn:
                if tokens is not None:
                    return indices, self._computed(backend, tokens.batch(*batch))[: len(indices)]
                assert isinstance(backend, TorchBackend)
                return indices, backend.encode([texts[i] for i in indices])

        kind = "gpu" if device != "cpu" else "float32" if self.precision == "float32" else "other"
        batches = fixed_batches(lengths, self.batch_size * _TOKENS_PER_TEXT[kind], limit)
        try:
            with safe_after_fork():
                for indices, vectors in in_threads(compute, batches, share=device == "cpu"):
                    yield indices, vectors, truncated[indices]
        finally:
            if isinstance(backend, TorchBackend):
                backend.rest()

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        network = self._network
        # Later versions of sentence-transformers renamed this method.
        get = getattr(network, "get_embedding_dimension", None) or network.get_sentence_embedding_dimension
        return int(get() or 0)

    @property
    def token_limit(self) -> int | None:
        """Largest number of tokens of a text, None if the model has no limit."""
        # Cached vectors need this number alone. To load the model for it would cost more than they save.
        if "_network" not in self.__dict__:
            written = self.max_length or written_token_limit(self._folder)
            if written is not None:
                return written if written < _NO_LIMIT else None
        limit = self._network.max_seq_length
        return None if limit is None or limit >= _NO_LIMIT else int(limit)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        tokenizer: PreTrainedTokenizerBase = self._network.tokenizer
        return tokenizer

    @property
    def fingerprint(self) -> str:
        """Digest of the weights, the configuration, the backend, the precision and the length, but not of the path."""
        choice = self.choice
        copy = "" if self.quantized is None else hashlib.blake2b(self.quantized.tobytes(), digest_size=12).hexdigest()
        return f"{self._digest}-{choice.name}-{choice.dtype}{copy}-{self.max_length or 'full'}"

    @cached_property
    def _digest(self) -> str:
        return folder_digest(self._folder)

    @property
    def _lock(self) -> Lock:
        """Threads take turns: a tokenizer keeps padding and length in itself, and batches have a shape."""
        lock: Lock = self.__dict__.setdefault("_own_lock", Lock())
        return lock

    @cached_property
    def _folder(self) -> Path:
        return resolve_model(self.model)

    @cached_property
    def _network(self) -> SentenceTransformer:
        return load_network(self._folder, self.max_length)

    def _device(self) -> str:
        return best_device() if self.device is None else self.device

    @property
    def precision(self) -> str:
        """Name of the precision of the matrix products."""
        return self.choice.dtype

    @cached_property
    def choice(self) -> Choice:
        """The backend and the precision: those asked for, else the fastest of those that are exact here."""
        device, backend, dtype = self._device(), self.backend, self.dtype
        if backend == "auto" and (pinned := os.environ.get("PRMKIT_BACKEND")):
            backend, _, precision = pinned.partition("-") if pinned not in BACKENDS else (pinned, "", "")
            dtype = precision if precision and dtype == "auto" else dtype
        pairs = candidates(backend, dtype, device)
        if dtype == "auto" and self.at_least == "float32":
            pairs = [pair for pair in pairs if pair[1] == "float32"]
        if device != "cpu" and len(pairs) > 1:
            fast = "bfloat16" if fast_bfloat16(device) else "float32"
            return Choice("torch", fast, {}, f"{fast} is the precision of this accelerator")
        return choose(pairs, cache_folder(), self._digest, str(self.model), self._measured)

    def _measured(self, pairs: Sequence[tuple[str, str]]) -> Measured:
        """Measure backends on texts as long as steps are."""
        with safe_after_fork():
            tokens = TextTokens.of(self._network, _TYPICAL, self.token_limit)
            if tokens is None:
                # Without tokens in rows there is nothing to convert, and next to nothing to multiply.
                return Measured({joined(pair): 0.0 for pair in pairs if pair[0] == "torch"}, {})
            budget = self.batch_size * _TOKENS_PER_TEXT["float32"]
            shapes = [*fixed_batches(tokens.lengths, budget, self.token_limit)]
            return measure_pairs(self._encoder_model, [tokens.batch(*shape) for shape in shapes[::-1]], pairs)

    @cached_property
    def _encoder_model(self) -> EncoderModel:
        network = self._network
        probe = TextTokens.of(network, [""], self.token_limit)
        extras = {} if probe is None else probe.extras
        copy = None if self.quantized is None else (self.choice.name, self.quantized)
        return EncoderModel(network, self._digest, cache_folder(), self._device(), sharing_threads(), extras, copy)

    @property
    def needs_texts(self) -> bool:
        """Whether a copy of this model in eight bits has to be made first."""
        if not is_quantized(self.choice.name):
            return False
        return self.quantized is None or not belongs_to(self.quantized, self._digest)

    def quantize(self, texts: Sequence[str]) -> float:
        """Make ``quantized`` from texts. Return the mean cosine of its vectors to those in float32, on other texts."""
        name = self.choice.name
        with self._lock, safe_after_fork():
            try:
                model = replace(self._encoder_model, quantized=None)
                self.quantized, cosine = quantize(model, name, readable(texts, self.tokenizer))
            except CannotConvertError as error:
                raise self._failure(name, "int8", error) from error
            for made in ("_encoder_model", "_backend"):
                self.__dict__.pop(made, None)
        return cosine

    @cached_property
    def _backend(self) -> Backend:
        """The model, ready to compute. The caller holds the lock."""
        choice = self.choice
        try:
            return load_backend(choice.name, choice.dtype, self._encoder_model)
        except Exception as error:  # whatever a runtime or a conversion raises
            raise self._failure(choice.name, choice.dtype, error) from error

    def _computed(self, backend: Backend, tokens: Tokens) -> np.ndarray:
        try:
            return backend(tokens)
        except Exception as error:
            if backend.name == "torch":
                raise
            raise self._failure(backend.name, backend.dtype, error) from error

    def _failure(self, backend: str, dtype: str, error: Exception) -> Exception:
        return RuntimeError(
            f"backend={backend!r} cannot compute {self.model} in {dtype} ({type(error).__name__}: {error}): pass "
            "backend='torch', which computes every model"
        )

    def _check_finite(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        lost = ~np.isfinite(vectors).all(axis=1)
        if lost.any():
            raise FloatingPointError(
                f"the vector of {int(lost.sum())} text(s) is not finite, of {texts[int(lost.argmax())]!r:.60} first: "
                f"{self.model} computes NaN or infinity in {self.precision}. Perhaps {why_not_finite(self.precision)}."
            )

    def __getstate__(self) -> dict[str, Any]:
        left_out = {"_own_lock", "_backend", "_encoder_model", "choice"} | (
            set() if self.store_weights_in_pickle else {"_network", "_folder"}
        )
        return {key: value for key, value in self.__dict__.items() if key not in left_out}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.model)!r})"


def why_not_finite(precision: str) -> str:
    """Return the likely reason why a model computes NaN or infinity in a precision, and the way out."""
    if precision == "float32":
        return "its weights may be damaged"
    return f"numbers overflow in {precision}, so pass dtype='float32' or 'bfloat16'"


def warn_truncated(n_truncated: int, limit: int | None, where: str = "") -> None:
    """Warn that texts were cut, naming the limit, and ``where`` they stand. Zero texts give no warning."""
    if n_truncated:
        warnings.warn(
            f"{n_truncated} distinct text(s){where} are longer than {limit} tokens and were cut there: the rest of "
            f"them is not read. Split long steps, or pass max_length above {limit}, if the model takes more.",
            stacklevel=3,
        )
