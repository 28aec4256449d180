"""Embeddings on disk, keyed by text, so that folds, processes and runs encode every text once."""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from prmkit.features._batching import distinct_texts
from prmkit.features._cache_file import (
    CachedVectors,
    connect,
    count_vectors,
    delete_vectors,
    read_vectors,
    write_vectors,
)
from prmkit.features._encoder import warn_truncated

_T = TypeVar("_T")
_FILE = "embeddings-v1.sqlite3"  # another layout gets another name, so versions never misread each other
_DEFAULT_MAX_BYTES = 2 * 1024**3
_ROWS_PER_WRITE = 1024
_SECONDS_PER_WRITE = 5.0


class Encoder(Protocol):
    """What ``encode_cached`` needs of an encoder."""

    @property
    def fingerprint(self) -> str:
        """Equal for two encoders if and only if they give the same vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def token_limit(self) -> int | None:
        """Tokens kept of a text."""
        ...

    def iter_encode(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield ``(indices, vectors, truncated)`` until every text was given."""
        ...


class EmbeddingCache:
    """One SQLite file of float32 vectors, keyed by namespace (an encoder's fingerprint) and text.

    Many processes may read and write at once, and any of them may be killed. A cache never stands in the
    way: a corrupt file is replaced by an empty one, and where nothing can be written (or read) a warning
    says so once and everything is computed.

    Parameters
    ----------
    directory : str or Path, optional
        By default the environment variable ``PRMKIT_CACHE_DIR``, else the user's cache folder.
    max_bytes : int, optional
        Size of the file, in bytes, above which the oldest entries go; by default the environment variable
        ``PRMKIT_CACHE_MAX_BYTES``, else 2 GiB.

    Raises
    ------
    ValueError
        If ``max_bytes`` is not a positive integer.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = EmbeddingCache(folder)
    ...     cache.put_many("encoder", ["a"], np.ones((1, 2), dtype="float32"))
    ...     vectors, found, truncated = cache.get_many("encoder", ["a", "b"])
    >>> found, vectors[0]
    (array([ True, False]), array([1., 1.], dtype=float32))
    """

    def __init__(self, directory: str | Path | None = None, *, max_bytes: int | None = None) -> None:
        self.directory = Path(directory).expanduser() if directory is not None else _default_directory()
        self.max_bytes = _checked_max_bytes(max_bytes)
        self._warned = False

    @property
    def path(self) -> Path:
        """The database file; it may not exist yet."""
        return self.directory / _FILE

    def get_many(self, namespace: str, texts: Sequence[str]) -> CachedVectors:
        """Look up texts.

        Parameters
        ----------
        namespace : str
        texts : sequence of str

        Returns
        -------
        CachedVectors
            ``(vectors, found, truncated)``. A damaged vector counts as not found.
        """
        known = self._attempt(lambda connection: read_vectors(connection, namespace, texts))
        if known is not None:
            return known
        nothing = np.zeros(len(texts), dtype=bool)
        return CachedVectors(np.empty((len(texts), 0), dtype=np.float32), nothing, nothing.copy())

    def put_many(
        self, namespace: str, texts: Sequence[str], vectors: np.ndarray, truncated: np.ndarray | None = None
    ) -> None:
        """Store vectors, replacing older ones; those that are not finite are left out.

        Parameters
        ----------
        namespace : str
        texts : sequence of str
        vectors : array of shape (n_texts, dimension)
        truncated : array of bool, shape (n_texts,), optional
            Which texts were cut when they were encoded.

        Raises
        ------
        ValueError
            If the lengths differ.
        """
        vectors = np.asarray(vectors, dtype=np.float32)
        cut = np.zeros(len(texts), dtype=bool) if truncated is None else np.asarray(truncated, dtype=bool)
        if vectors.ndim != 2 or len(vectors) != len(texts) or len(cut) != len(texts):
            raise ValueError(
                f"vectors has shape {vectors.shape} and truncated {cut.shape} for {len(texts)} texts, "
                "expected one row and one flag per text"
            )
        if len(texts):
            self._attempt(
                lambda connection: write_vectors(connection, namespace, texts, vectors, cut, self.max_bytes),
                create=True,
            )

    def info(self) -> dict[str, Any]:
        """Return ``path``, ``entries``, ``bytes``, ``max_bytes``, and the entries of each namespace."""
        namespaces = self._attempt(count_vectors) or {}
        return {
            "path": str(self.path),
            "entries": sum(namespaces.values()),
            "bytes": self.path.stat().st_size if self.path.is_file() else 0,
            "max_bytes": self.max_bytes,
            "namespaces": namespaces,
        }

    def clear(self) -> int:
        """Forget everything; return the number of entries that went."""
        return self._attempt(delete_vectors) or 0

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], create: bool = False) -> _T | None:
        """Do the work on a connection of its own; None where there is no file, or (with a warning) no way.

        A connection per call costs less than a millisecond and is what makes the object safe to
        fork and to pickle.
        """
        for repaired in (False, True):
            identity = _identity(self.path)
            if identity is None and not create:
                return None
            try:
                with closing(connect(self.path)) as connection:
                    return work(connection)
            except (OSError, sqlite3.DatabaseError) as error:
                # Only the bare class means "not a database" or "malformed"; locked, read-only, full or
                # unreachable files raise its subclasses and are left alone.
                if type(error) is sqlite3.DatabaseError and not repaired and self._discard(identity):
                    self._warn(
                        f"was corrupt ({error}) and is started anew: its embeddings are computed again"
                    )
                    continue
                self._warn(
                    f"cannot be used ({error}): embeddings are computed, not kept. Set PRMKIT_CACHE_DIR or "
                    "cache_dir to a folder that can be written, or pass cache=False"
                )
                return None
        return None

    def _discard(self, identity: tuple[int, int] | None) -> bool:
        """Delete the file, unless another process has already put a new one in its place."""
        try:
            if identity is not None and _identity(self.path) == identity:
                self.path.unlink(missing_ok=True)
                self.path.with_name(f"{_FILE}-journal").unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"the embedding cache {self.path} {what}.", stacklevel=5)


def encode_cached(encoder: Encoder, texts: Sequence[str], cache: EmbeddingCache | None) -> np.ndarray:
    """Encode texts, computing only distinct ones that the cache does not hold.

    New vectors are stored as they are made, so a run that is killed loses seconds, not hours.

    Parameters
    ----------
    encoder : TextEncoder
    texts : sequence of str
    cache : EmbeddingCache or None
        None computes everything.

    Returns
    -------
    ndarray of shape (n_texts, dimension), dtype float32
        Rows in the order of the texts.
    """
    distinct, inverse = distinct_texts(texts)
    if cache is None:
        nothing = np.zeros((2, len(distinct)), dtype=bool)
        known = CachedVectors(np.empty((len(distinct), 0)), *nothing)
    else:
        known = cache.get_many(encoder.fingerprint, distinct)
    if known.found.all() and len(distinct):
        rows, cut = known.vectors, known.truncated
    else:
        rows = np.empty((len(distinct), encoder.dimension), dtype=np.float32)
        if known.found.any():
            rows[known.found] = known.vectors[known.found]
        cut = known.truncated & known.found
        missing = np.flatnonzero(~known.found)
        for where, vectors, flags in _stored(encoder, [distinct[i] for i in missing], cache):
            rows[missing[where]], cut[missing[where]] = vectors, flags
    if cut.any():
        warn_truncated(int(cut.sum()), encoder.token_limit)
    return rows[inverse]


def _stored(
    encoder: Encoder, texts: list[str], cache: EmbeddingCache | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield what the encoder yields, in larger portions, each stored before it is given on."""
    pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_pending, since = 0, time.monotonic()

    def flush() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        where, vectors, flags = (np.concatenate(parts) for parts in zip(*pending, strict=True))
        if cache is not None:
            cache.put_many(encoder.fingerprint, [texts[i] for i in where], vectors, flags)
        pending.clear()
        return where, vectors, flags

    for batch in encoder.iter_encode(texts):
        pending.append(batch)
        n_pending += len(batch[0])
        if n_pending >= _ROWS_PER_WRITE or time.monotonic() - since > _SECONDS_PER_WRITE:
            yield flush()
            n_pending, since = 0, time.monotonic()
    if pending:
        yield flush()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _default_directory() -> Path:
    from_environment = os.environ.get("PRMKIT_CACHE_DIR")
    if from_environment:
        return Path(from_environment).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("prmkit"))


def _checked_max_bytes(max_bytes: int | None) -> int:
    value: Any = max_bytes if max_bytes is not None else os.environ.get("PRMKIT_CACHE_MAX_BYTES")
    if value is None:
        return _DEFAULT_MAX_BYTES
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(
            f"max_bytes (or PRMKIT_CACHE_MAX_BYTES) is {value!r}, expected a positive number of bytes"
        )
    return number
