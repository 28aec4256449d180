"""``TextEncoder``: texts become vectors, in batches of texts that have about the same number of tokens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.features.encoding.model_path import file_sha256, load_network, resolve_model, written_token_limit
from prmkit.marking.scheme import readable
from prmkit.utils.environment import best_device, has_bfloat16, no_more_threads_than_cores, safe_after_fork
from prmkit.utils.ragged import distinct_texts, fixed_batches

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

_DTYPES = ("float32", "bfloat16", "float16")
# ``batch_size`` times this number is the token budget of a batch. Every batch is as large, a single text's too, and a
# CPU gains little by larger ones.
_TOKENS_PER_TEXT = {"cpu": 4, "gpu": 256}
# A length that no model has: transformers writes 1e30 where none is known.
_NO_LIMIT = 10**9
# Some published folders hold this file. The vectors do not depend on it.
_NOT_WEIGHTS = ("data_config.json",)


class TextEncoder:
    """Turn texts into float32 rows by a sentence-transformers model, which is loaded when it is first needed.

    Its weights rest on the CPU. Make a new encoder to change a parameter, since a loaded model keeps the old one.
    ``batch_size`` sets the size of every batch: 4 tokens per text on a CPU and 256 on a GPU, padding included. The
    shape of a text's batch depends on its own length alone, so a vector does not depend on the other texts.
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
        device, lock = self._device(), self._lock
        with lock:
            network = self._network
            texts = readable(texts, self.tokenizer)
            n_tokens, truncated = self._count_tokens(texts)
        budget = self.batch_size * _TOKENS_PER_TEXT["cpu" if device == "cpu" else "gpu"]
        shapes = fixed_batches(n_tokens, budget, self.token_limit)
        bar = tqdm(
            total=len(texts),
            unit="text",
            desc="encode",
            delay=1.0,
            # tqdm takes None for "show it on a terminal only".
            disable=None if self.show_progress else True,
        )
        try:
            with bar, safe_after_fork(), no_more_threads_than_cores():
                for indices, n_rows, width in shapes:
                    batch = [texts[i] for i in indices]
                    with lock, self._precision(device), _filled_up(network, n_rows, width):
                        found = network.encode(batch, batch_size=len(batch), device=device, show_progress_bar=False)
                    vectors = np.asarray(found, dtype=np.float32)
                    self._check_finite(batch, vectors)
                    bar.update(len(batch))
                    yield indices, vectors, truncated[indices]
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
                return written if written < _NO_LIMIT else None
        limit = self._network.max_seq_length
        return None if limit is None or limit >= _NO_LIMIT else int(limit)

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
        if not hasattr(tokenizer, "model_max_length"):
            # A bag of words has no tokens to pad.
            return np.ones(len(texts), dtype=int), np.zeros(len(texts), dtype=bool)
        # What the model puts in front of each text takes room, too.
        network = self._network
        prompt = (network.prompts or {}).get(network.default_prompt_name or "", "") or ""
        texts = [prompt + text for text in texts]
        if limit is None:
            whole = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
            return np.array([len(ids) for ids in whole]), np.zeros(len(texts), dtype=bool)
        cut = tokenizer(texts, truncation=True, max_length=limit, verbose=False)["input_ids"]
        n_tokens = np.array([len(ids) for ids in cut])
        truncated = n_tokens >= limit
        full = np.flatnonzero(truncated)
        # A text that fills the limit exactly is not cut, so these are counted again in full.
        if len(full):
            whole = tokenizer([texts[i] for i in full.tolist()], truncation=False, verbose=False)["input_ids"]
            truncated[full] = [len(ids) > limit for ids in whole]
        return n_tokens, truncated

    def _check_finite(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        lost = ~np.isfinite(vectors).all(axis=1)
        if lost.any():
            way_out = (
                "its weights may be damaged"
                if self.precision == "float32"
                else f"numbers overflow in {self.precision}, so pass dtype='float32' or 'bfloat16'"
            )
            raise FloatingPointError(
                f"the vector of {int(lost.sum())} text(s) is not finite, of {texts[int(lost.argmax())]!r:.60} first: "
                f"{self.model} computes NaN or infinity in {self.precision}. Perhaps {way_out}."
            )

    def __getstate__(self) -> dict[str, Any]:
        left_out = {"_own_lock"} if self.store_weights_in_pickle else {"_own_lock", "_network", "_folder"}
        return {key: value for key, value in self.__dict__.items() if key not in left_out}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.model)!r})"


@contextlib.contextmanager
def _filled_up(network: SentenceTransformer, n_rows: int, width: int) -> Iterator[None]:
    """Bring the tokens of a batch to a shape, by padding, and by copies of the first row, whose vectors are dropped."""
    from torch.nn.functional import pad

    tokenizer = network.tokenizer
    fillers = {"attention_mask": 0, "input_ids": getattr(tokenizer, "pad_token_id", None) or 0}
    fillers["token_type_ids"] = getattr(tokenizer, "pad_token_type_id", 0)
    on_the_left = getattr(tokenizer, "padding_side", "right") == "left"

    def fill(_module: object, arguments: tuple[Any, ...]) -> None:
        tokens = arguments[0]
        # A bag of words has no mask.
        for name in fillers.keys() & tokens.keys() if "attention_mask" in tokens else ():
            table = tokens[name]
            missing = max(0, width - table.shape[1])
            table = pad(table, (missing, 0) if on_the_left else (0, missing), value=fillers[name])
            tokens[name] = table[[*range(len(table)), *[0] * (n_rows - len(table))]]

    hook = network[0].register_forward_pre_hook(fill)
    try:
        yield
    finally:
        hook.remove()


def warn_truncated(n_truncated: int, limit: int | None, where: str = "") -> None:
    """Warn that texts were cut, naming the limit, and ``where`` they stand. Zero texts give no warning."""
    if n_truncated:
        warnings.warn(
            f"{n_truncated} distinct text(s){where} are longer than {limit} tokens and were cut there: the rest of "
            f"them is not read. Split long steps, or pass max_length above {limit}, if the model takes more.",
            stacklevel=3,
        )
