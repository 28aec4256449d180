"""``TextEncoder``: texts become vectors, in batches of texts that have about the same number of tokens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.features.encoding.model_path import file_sha256, load_network, resolve_model, written_token_limit
from prmkit.marking.scheme import readable
from prmkit.utils.environment import best_device, has_bfloat16, no_more_threads_than_cores
from prmkit.utils.ragged import distinct_texts, token_batches

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

_DTYPES = ("float32", "bfloat16", "float16")
# ``batch_size`` times this number is the token budget of a batch.
_TOKENS_PER_TEXT = {"cpu": 16, "gpu": 256}
# Some published folders hold this file. The vectors do not depend on it.
_NOT_WEIGHTS = ("data_config.json",)


class TextEncoder:
    """Turn texts into float32 rows by a sentence-transformers model, which is loaded when it is first needed.

    Its weights rest on the CPU. Make a new encoder to change a parameter, since a loaded model keeps the old one.
    ``batch_size`` sets the token budget of a batch: 16 tokens per text on a CPU and 256 on a GPU, padding included.
    ``dtype`` is the precision of the matrix products. Residuals, normalisation and pooling stay in float32.
    ``n_truncated_`` counts the distinct texts that the last ``encode`` cut to ``max_length`` tokens.
    """

    def __init__(
        self,
        model: str | Path = "all-MiniLM-L6-v2",
        *,
        batch_size: int = 64,
        device: str | None = None,
        dtype: str | None = None,
        max_length: int | None = None,
        show_progress: bool = False,
        store_weights_in_pickle: bool = False,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
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

        A caller can store the rows of a batch while the next batch is computed. Equal texts are not merged, and cut
        texts give no warning.
        """
        from tqdm.auto import tqdm

        if not len(texts):
            return
        device, network = self._device(), self._network
        texts = readable(texts, self.tokenizer)
        n_tokens, truncated = self._count_tokens(texts)
        budget = self.batch_size * _TOKENS_PER_TEXT["cpu" if device == "cpu" else "gpu"]
        bar = tqdm(
            total=len(texts),
            unit="text",
            desc="encode",
            delay=1.0,
            # tqdm takes None for "show it on a terminal only".
            disable=None if self.show_progress else True,
        )
        try:
            with bar, no_more_threads_than_cores():
                for indices in token_batches(n_tokens, budget):
                    batch = [texts[i] for i in indices]
                    with self._precision(device):
                        vectors = network.encode(batch, batch_size=len(batch), device=device, show_progress_bar=False)
                    bar.update(len(batch))
                    yield indices, np.asarray(vectors, dtype=np.float32), truncated[indices]
        finally:
            network.to("cpu")

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
                return written
        limit = self._network.max_seq_length
        return None if limit is None or math.isinf(limit) else int(limit)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        tokenizer: PreTrainedTokenizerBase = self._network.tokenizer
        return tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights, the configuration, the precision and the length, but not of the path."""
        folder, dtype = self._folder, self.precision
        files = sorted(
            path
            for pattern in ("*.json", "*.txt", "*.model", "*.safetensors")
            for path in folder.rglob(pattern)
            if path.name not in _NOT_WEIGHTS and path.relative_to(folder).parts[0] not in ("onnx", "openvino")
        )
        content = [(path.relative_to(folder).as_posix(), file_sha256(path)) for path in files]
        digest = hashlib.blake2b(json.dumps(content).encode(), digest_size=12).hexdigest()
        return f"{digest}-{dtype}-{self.max_length or 'full'}"

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
        """Name of the precision: ``dtype``, or the hardware's own if ``dtype`` is None."""
        if self.dtype is not None:
            if self.dtype not in _DTYPES:
                expected = "None, 'float32', 'bfloat16' or 'float16'"
                raise ValueError(f"dtype is {self.dtype!r}, expected {expected}")
            return self.dtype
        return "bfloat16" if has_bfloat16(self._device()) else "float32"

    def _precision(self, device: str) -> contextlib.AbstractContextManager[Any]:
        import torch

        dtype = self.precision
        if dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(device).type, getattr(torch, dtype))

    def _count_tokens(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Count the tokens of each text after truncation, and say which texts were cut."""
        # The tokenizer comes first: it loads the model, which knows its own limit.
        tokenizer = self.tokenizer
        limit = self.token_limit
        if limit is None or not hasattr(tokenizer, "model_max_length"):
            # A bag of words has no tokens to pad.
            return np.ones(len(texts), dtype=int), np.zeros(len(texts), dtype=bool)
        cut = tokenizer(list(texts), truncation=True, max_length=limit, verbose=False)["input_ids"]
        n_tokens = np.array([len(ids) for ids in cut])
        truncated = n_tokens >= limit
        full = np.flatnonzero(truncated)
        # A text that fills the limit exactly is not cut, so these are counted again in full.
        if len(full):
            whole = tokenizer([texts[i] for i in full.tolist()], truncation=False, verbose=False)["input_ids"]
            truncated[full] = [len(ids) > limit for ids in whole]
        return n_tokens, truncated

    def __getstate__(self) -> dict[str, Any]:
        if self.store_weights_in_pickle:
            return self.__dict__.copy()
        return {key: value for key, value in self.__dict__.items() if key not in ("_network", "_folder")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.model)!r})"


def warn_truncated(n_truncated: int, limit: int | None) -> None:
    """Warn that texts were cut, naming the limit. Zero texts give no warning."""
    if n_truncated:
        warnings.warn(
            f"{n_truncated} distinct text(s) are longer than {limit} tokens and were cut there: the rest of them "
            f"is not read. Split long steps, or pass max_length above {limit}, if the model takes more.",
            stacklevel=3,
        )
