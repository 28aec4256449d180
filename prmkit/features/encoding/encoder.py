"""Texts become vectors: each distinct text once, in batches of similar token count, fast on a CPU."""

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
from prmkit.marking.text import readable
from prmkit.utils.batching import distinct_texts, token_batches
from prmkit.utils.hardware import best_device, has_bfloat16, no_more_threads_than_cores

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DTYPES = ("float32", "bfloat16", "float16")
_TOKENS_PER_TEXT = {"cpu": 16, "gpu": 256}  # batch_size times this is the token budget of a batch
_NOT_WEIGHTS = ("data_config.json",)  # part of some published folders, says nothing about the vectors


class TextEncoder:
    """A sentence-transformers model as a function from texts to float32 rows.

    Nothing is loaded before it is needed. The weights rest on the CPU. Parameters are not to be
    changed later: what they decided is kept.

    Parameters
    ----------
    model : str or Path
        See :func:`prmkit.features.encoding.model_path.resolve_model`.
    batch_size : int, default=64
        Sets the token budget of a batch: 16 tokens per text on a CPU, 256 on a GPU, padding included.
        It changes speed and memory, not the result.
    device : str, optional
        A torch device; by default a GPU if there is one.
    dtype : {None, "float32", "bfloat16", "float16"}
        Precision of the matrix products; residuals, normalisation and pooling stay in float32. None is
        bfloat16 where the hardware has it (2.7 times as fast as float32 on such a CPU; cosine to float32
        at least 0.9999 for MiniLM on 3,151 solution steps), else float32.
    max_length : int, optional
        Tokens kept of a text, special tokens included; by default the model's own limit.
    show_progress : bool, default=False
        A bar on a terminal, when encoding takes more than a moment.
    store_weights_in_pickle : bool, default=False
        Whether pickling keeps loaded weights; without, they are loaded again when needed.

    Attributes
    ----------
    n_truncated_ : int
        Distinct texts that the last ``encode`` had to cut to ``max_length`` tokens.

    Examples
    --------
    >>> encoder = TextEncoder("all-MiniLM-L6-v2", dtype="float16")
    >>> encoder  # nothing loaded yet
    TextEncoder('all-MiniLM-L6-v2')
    >>> TextEncoder("all-MiniLM-L6-v2", dtype="int8").fingerprint
    Traceback (most recent call last):
    ...
    ValueError: dtype is 'int8', expected None, 'float32', 'bfloat16' or 'float16'
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
        """Encode texts, each distinct one once.

        Parameters
        ----------
        texts : sequence of str

        Returns
        -------
        ndarray of shape (n_texts, dimension), dtype float32
            Rows in the order of the texts.

        Raises
        ------
        OSError, ValueError
            If the model cannot be found or is not safe to load.
        TypeError
            If a text is not a string.
        """
        distinct, inverse = distinct_texts(texts)
        rows = np.empty((len(distinct), self.dimension), dtype=np.float32)
        self.n_truncated_ = 0
        for indices, vectors, truncated in self.iter_encode(distinct):
            rows[indices] = vectors
            self.n_truncated_ += int(truncated.sum())
        warn_truncated(self.n_truncated_, self.token_limit)
        return rows[inverse]

    def iter_encode(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield ``(indices, vectors, truncated)`` batch by batch, longest texts first.

        What lets a caller keep finished rows while the rest is still being computed. Neither merges
        equal texts nor warns about truncation.

        Yields
        ------
        indices : ndarray of int, shape (n,)
        vectors : ndarray of float32, shape (n, dimension)
        truncated : ndarray of bool, shape (n,)
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
            disable=None if self.show_progress else True,  # None: shown on a terminal alone
        )
        try:
            with bar, no_more_threads_than_cores():
                for indices in token_batches(n_tokens, budget):
                    batch = [texts[i] for i in indices]
                    with self._precision(device):
                        vectors = network.encode(
                            batch, batch_size=len(batch), device=device, show_progress_bar=False
                        )
                    bar.update(len(batch))
                    yield indices, np.asarray(vectors, dtype=np.float32), truncated[indices]
        finally:
            network.to("cpu")

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        network = self._network
        # Renamed in later versions of the library.
        get = getattr(network, "get_embedding_dimension", None) or network.get_sentence_embedding_dimension
        return int(get() or 0)

    @property
    def token_limit(self) -> int | None:
        """Tokens kept of a text, None where the model knows no limit."""
        if (
            "_network" not in self.__dict__
        ):  # asked for beside cached vectors: loading would cost more than they
            known = self.max_length or written_token_limit(self._folder)
            if known is not None:
                return known
        limit = self._network.max_seq_length
        return None if limit is None or math.isinf(limit) else int(limit)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._network.tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Names what decides the vectors: weights, configuration, precision and length, not the path."""
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
        """``dtype``, with None resolved to what the hardware computes in."""
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
        """Tokens per text after truncation, and which texts were cut."""
        tokenizer = self.tokenizer  # loads the model, which then says its own limit
        limit = self.token_limit
        if limit is None or not hasattr(tokenizer, "model_max_length"):
            return np.ones(len(texts), dtype=int), np.zeros(
                len(texts), dtype=bool
            )  # a bag of words: no padding
        cut = tokenizer(list(texts), truncation=True, max_length=limit, verbose=False)["input_ids"]
        n_tokens = np.array([len(ids) for ids in cut])
        truncated = n_tokens >= limit
        full = np.flatnonzero(truncated)
        if len(full):  # those that fill the limit exactly are not cut
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
    """Warn, naming the limit, that texts were cut; silent for none."""
    if n_truncated:
        warnings.warn(
            f"{n_truncated} distinct text(s) are longer than {limit} tokens and were cut there: what follows "
            f"is lost. Split long steps, or pass max_length above {limit}, up to what the model takes.",
            stacklevel=3,
        )
