"""Embeddings on disk, keyed by text: folds, processes and runs encode every text once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from prmkit.features.encoding.encoder import warn_truncated
from prmkit.utils.environment import cache_folder
from prmkit.utils.ragged import distinct_texts

# An estimate in bytes: the key in the row and in the index, the checksum, the cell headers.
_ROW_OVERHEAD = 96
# An eviction makes room for several writes, so that not every write has to evict.
_KEEP_FRACTION = 0.9
_PAGE_BYTES = 16384
# Five such rows fill a page. Rows of many pages waste little.
_PIECE_BYTES, _LARGE_BYTES = 3200, 65536
# Older SQLite takes 999 parameters.
_KEYS_PER_QUERY = 900
_BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS namespaces (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS vectors (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, namespace INTEGER NOT NULL,
    truncated INTEGER NOT NULL, checksum INTEGER NOT NULL, vector BLOB NOT NULL
);
"""


class CachedVectors(NamedTuple):
    """The vectors that a cache holds for some texts.

    Rows that are not ``found`` are undefined. The dimension is 0 if no text was found. ``truncated`` says whether a
    text was cut when it was encoded.
    """

    vectors: npt.NDArray[np.float32]
    found: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]


def connect(path: Path) -> sqlite3.Connection:
    """Open the file. Make it and its folder if they do not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        # The rollback journal (not a write-ahead log) also works on network and read-only folders.
        connection.execute("PRAGMA synchronous = NORMAL")
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'vectors'").fetchone():
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = FULL")  # the file shrinks with its content
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def read_vectors(connection: sqlite3.Connection, namespace: str, texts: Sequence[str]) -> CachedVectors:
    """Look texts up. A row whose checksum is wrong, or that is another text's, counts as not found."""
    keys = _keys(namespace, texts)
    found, truncated = np.zeros((2, len(keys)), dtype=bool)
    entry = connection.execute("SELECT dimension FROM namespaces WHERE name = ?", (namespace,)).fetchone()
    if entry is None:
        return CachedVectors(np.empty((len(keys), 0), dtype=np.float32), found, truncated)
    vectors = np.empty((len(keys), entry[0]), dtype=np.float32)
    rows = {key: i for i, key in enumerate(keys)}
    for key, (cut, blob) in _read_rows(connection, list(rows)).items():
        if len(blob) == vectors.shape[1] * 4:
            i = rows[key]
            vectors[i] = np.frombuffer(blob, dtype="<f4")
            found[i], truncated[i] = True, cut
    # A text may be asked for twice: its vector was read once.
    if len(rows) < len(keys):
        source = [rows[key] for key in keys]
        vectors, found, truncated = vectors[source], found[source], truncated[source]
    return CachedVectors(vectors, found, truncated)


def _read_rows(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, tuple[int, bytes]]:
    """Return the rows of distinct keys that are there and whole: the flag, and the bytes."""
    found, wanted = {}, set(keys)
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        part = keys[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(part))
        query = f"SELECT key, truncated, checksum, vector FROM vectors WHERE key IN ({marks})"
        for key, cut, checksum, blob in connection.execute(query, part):
            # A damaged index leads to the row of another text, whole as it is.
            if key in wanted and isinstance(blob, bytes) and _checksum(key, cut, blob) == checksum:
                found[key] = cut, blob
    return found


def write_vectors(
    connection: sqlite3.Connection,
    namespace: str,
    texts: Sequence[str],
    vectors: np.ndarray,
    truncated: np.ndarray,
    max_bytes: int,
) -> None:
    """Store finite vectors in one transaction. Delete the oldest vectors if there is no room."""
    dimension = vectors.shape[1]
    # Rows beyond this number would only evict each other.
    most = int(max_bytes * _KEEP_FRACTION) // (dimension * 4 + _ROW_OVERHEAD)
    keep = np.flatnonzero(np.isfinite(vectors).all(axis=1))[:most]
    keys, little_endian = _keys(namespace, [texts[i] for i in keep]), vectors[keep].astype("<f4")
    blobs = [vector.tobytes() for vector in little_endian]
    _write_rows(connection, (namespace, dimension), keys, list(map(int, truncated[keep])), blobs, max_bytes)


def _write_rows(
    connection: sqlite3.Connection,
    namespace: tuple[str, int],
    keys: Sequence[bytes],
    truncated: Sequence[int],
    blobs: Sequence[bytes],
    max_bytes: int,
) -> None:
    """Store bytes in one transaction, under the name of a namespace and its dimension."""
    with _transaction(connection):
        connection.execute("INSERT OR IGNORE INTO namespaces (name, dimension) VALUES (?, ?)", namespace)
        number = connection.execute("SELECT id FROM namespaces WHERE name = ?", namespace[:1]).fetchone()[0]
        connection.executemany(
            "INSERT OR REPLACE INTO vectors (key, namespace, truncated, checksum, vector) "
            f"VALUES (?, {number}, ?, ?, ?)",
            [
                (key, cut, _checksum(key, cut, blob), blob)
                for key, cut, blob in zip(keys, truncated, blobs, strict=True)
            ],
        )
        _make_room(connection, max_bytes)


def count_vectors(connection: sqlite3.Connection) -> dict[str, int]:
    """Count the entries of each namespace."""
    query = (
        "SELECT name, COUNT(vectors.id) FROM namespaces "
        "LEFT JOIN vectors ON vectors.namespace = namespaces.id GROUP BY name ORDER BY name"
    )
    return dict(connection.execute(query))


def delete_vectors(connection: sqlite3.Connection) -> int:
    """Delete everything. Return the number of deleted entries."""
    with _transaction(connection):
        connection.execute("DELETE FROM namespaces")
        return connection.execute("DELETE FROM vectors").rowcount


def _make_room(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Delete the oldest rows until the committed file is no larger than allowed."""
    page_bytes = _pragma(connection, "page_size")
    while True:
        used = (_pragma(connection, "page_count") - _pragma(connection, "freelist_count")) * page_bytes
        entries = connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0] if used > max_bytes else 0
        if not entries:
            return
        n_oldest = int(entries * (used - max_bytes * _KEEP_FRACTION) / used) + 1
        connection.execute("DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY id LIMIT ?)", (n_oldest,))


def _keys(namespace: str, texts: Sequence[str | bytes]) -> list[bytes]:
    """Return a key of 128 bits per text or name. Lone surrogates occur in some data sets and are allowed."""
    seed = hashlib.blake2b(namespace.encode() + b"\0", digest_size=16)
    keys = []
    for text in texts:
        digest = seed.copy()
        digest.update(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        keys.append(digest.digest())
    return keys


def _checksum(key: bytes, truncated: int, blob: bytes) -> int:
    """Return a checksum of all that a row says of a text."""
    return zlib.crc32(blob, zlib.crc32(str(truncated).encode(), zlib.crc32(key)))


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE waits for other writers here, and not in the middle of the work.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


_T = TypeVar("_T")
# A new file format gets a new name, so that two versions never misread each other's file.
_FILE = "embeddings-v2.sqlite3"
_DEFAULT_MAX_BYTES = 2 * 1024**3
_ROWS_PER_WRITE = 1024
_SECONDS_PER_WRITE = 5.0


class Encoder(Protocol):
    """The part of an encoder that ``encode_cached`` uses."""

    @property
    def fingerprint(self) -> str:
        """A name that two encoders share if and only if they give the same vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def token_limit(self) -> int | None:
        """Largest number of tokens of a text."""
        ...

    def iter_encode(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield ``(indices, vectors, truncated)`` for batches of the texts."""
        ...


class EmbeddingCache:
    """Keep float32 vectors in one SQLite file, keyed by namespace (an encoder's fingerprint) and text.

    Many processes may read and write at once, and any of them may be killed. A corrupt file is replaced by an empty
    one. If the file cannot be read or written, one warning says so and every vector is computed. ``directory`` is
    ``$PRMKIT_CACHE_DIR`` by default, else the user's cache folder. Beyond ``max_bytes``, ``$PRMKIT_CACHE_MAX_BYTES``
    or 2 GiB by default, the oldest entries are deleted.
    """

    def __init__(self, directory: str | Path | None = None, *, max_bytes: int | None = None) -> None:
        self.directory = Path(directory).expanduser() if directory is not None else cache_folder()
        self.max_bytes = _checked_max_bytes(max_bytes)
        self._warned = False

    @property
    def path(self) -> Path:
        """The database file, which may not exist yet."""
        return self.directory / _FILE

    def get_many(self, namespace: str, texts: Sequence[str]) -> CachedVectors:
        """Look up texts. A damaged vector counts as not found."""
        cached = self._attempt(lambda connection: read_vectors(connection, namespace, texts))
        if cached is not None:
            return cached
        nothing = np.zeros(len(texts), dtype=bool)
        return CachedVectors(np.empty((len(texts), 0), dtype=np.float32), nothing, nothing.copy())

    def put_many(
        self, namespace: str, texts: Sequence[str], vectors: np.ndarray, truncated: np.ndarray | None = None
    ) -> None:
        """Store one vector per text, in place of older ones. Vectors that are not finite are not stored."""
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

    def get_bytes(self, namespace: str, names: Sequence[bytes], sizes: Sequence[int]) -> list[bytes | None]:
        """Look up what ``put_bytes`` has stored, None where there is nothing of this size, or a damaged row."""
        keys = [_keys(namespace, _piece_names(name, size)) for name, size in zip(names, sizes, strict=True)]
        distinct = list(dict.fromkeys(key for some in keys for key in some))
        rows = self._attempt(lambda connection: _read_rows(connection, distinct)) or {}
        found = [b"".join(rows[key][1] for key in some) if all(key in rows for key in some) else None for some in keys]
        return [one if one is None or len(one) == size else None for one, size in zip(found, sizes, strict=True)]

    def put_bytes(self, namespace: str, names: Sequence[bytes], blobs: Sequence[bytes]) -> None:
        """Store bytes of any length under a name. What is larger than the whole cache is not stored."""
        keys, pieces = [], []
        for name, blob in zip(names, blobs, strict=True):
            if len(blob) < self.max_bytes * _KEEP_FRACTION / 2:
                keys += _keys(namespace, _piece_names(name, len(blob)))
                pieces += _cut(blob)
        if keys:
            self._attempt(
                lambda connection: _write_rows(
                    connection, (namespace, 0), keys, [0] * len(keys), pieces, self.max_bytes
                ),
                create=True,
            )

    def info(self) -> dict[str, Any]:
        """Return ``path``, ``entries``, ``bytes``, ``max_bytes``, and the entries of each of the ``namespaces``."""
        namespaces = self._attempt(count_vectors) or {}
        return {
            "path": str(self.path),
            "entries": sum(namespaces.values()),
            "bytes": self.path.stat().st_size if self.path.is_file() else 0,
            "max_bytes": self.max_bytes,
            "namespaces": namespaces,
        }

    def clear(self) -> int:
        """Delete all vectors, and return their number."""
        return self._attempt(delete_vectors) or 0

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], create: bool = False) -> _T | None:
        """Do the work on a new connection. Return None if there is no file, or (with a warning) if it fails.

        A connection per call costs less than a millisecond. It makes the object safe to fork and to pickle.
        """
        for repaired in (False, True):
            identity = _identity(self.path)
            if identity is None and not create:
                return None
            try:
                with closing(connect(self.path)) as connection:
                    return work(connection)
            except (OSError, sqlite3.DatabaseError) as error:
                # Only the bare class means "not a database" or "malformed". Locked, read-only, full or
                # unreachable files raise its subclasses, and they must not be deleted.
                if type(error) is sqlite3.DatabaseError and not repaired and self._discard(identity):
                    self._warn(
                        f"was corrupt ({error}) and is replaced by an empty one: its embeddings are computed again"
                    )
                    continue
                self._warn(
                    f"cannot be used ({error}): embeddings are computed, not kept. Set PRMKIT_CACHE_DIR or "
                    "cache_dir to a folder that can be written, or pass cache=False"
                )
                return None
        return None

    def _discard(self, identity: tuple[int, int] | None) -> bool:
        """Delete the file, unless another process has already replaced it."""
        try:
            if identity is not None and _identity(self.path) == identity:
                self.path.unlink(missing_ok=True)
                self.path.with_name(f"{_FILE}-journal").unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"the embedding cache {self.path} {problem}.", stacklevel=5)


def _cut(blob: bytes) -> list[bytes]:
    """Cut bytes into rows of which several fill a page: SQLite would give a page of its own to a row of half a page."""
    size = len(blob) if len(blob) > _LARGE_BYTES else _PIECE_BYTES
    return [blob[start : start + size] for start in range(0, max(1, len(blob)), max(1, size))]


def _piece_names(name: bytes, size: int) -> list[bytes]:
    n_pieces = 1 if size > _LARGE_BYTES else max(1, -(-size // _PIECE_BYTES))
    return [name + piece.to_bytes(4, "little") for piece in range(n_pieces)]


def encode_cached(
    encoder: Encoder, texts: Sequence[str], cache: EmbeddingCache | None, place: Callable[[Set[str]], str] | None = None
) -> np.ndarray:
    """Return one float32 row per text, computing the distinct texts that the cache does not hold.

    New vectors are stored every few seconds, so a killed run loses seconds and not hours. Without a cache all are
    computed. If texts are cut, the warning asks ``place`` for words about where they stand.
    """
    distinct, inverse = distinct_texts(texts)
    if cache is None:
        nothing = np.zeros((2, len(distinct)), dtype=bool)
        cached = CachedVectors(np.empty((len(distinct), 0), dtype=np.float32), *nothing)
    else:
        cached = cache.get_many(encoder.fingerprint, distinct)
    if cached.found.all() and len(distinct):
        rows, cut = cached.vectors, cached.truncated
    else:
        rows = np.empty((len(distinct), encoder.dimension), dtype=np.float32)
        if cached.found.any():
            rows[cached.found] = cached.vectors[cached.found]
        cut = cached.truncated & cached.found
        missing = np.flatnonzero(~cached.found)
        for where, vectors, flags in _stored(encoder, [distinct[i] for i in missing], cache):
            rows[missing[where]], cut[missing[where]] = vectors, flags
    if cut.any():
        words = "" if place is None else place({distinct[i] for i in np.flatnonzero(cut)})
        warn_truncated(int(cut.sum()), encoder.token_limit, words)
    return rows[inverse]


def _stored(
    encoder: Encoder, texts: list[str], cache: EmbeddingCache | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the encoder's batches in larger portions, each of them stored before it is yielded."""
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
    """Return the numbers that tell one file from another, None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _checked_max_bytes(max_bytes: int | None) -> int:
    value: int | str | None = max_bytes if max_bytes is not None else os.environ.get("PRMKIT_CACHE_MAX_BYTES")
    if value is None:
        return _DEFAULT_MAX_BYTES
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"max_bytes (or PRMKIT_CACHE_MAX_BYTES) is {value!r}, expected a positive number of bytes")
    return number
