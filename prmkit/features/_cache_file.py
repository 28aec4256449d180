"""The SQLite file behind the embedding cache: its layout, and how it is read, written and kept small."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

_ROW_OVERHEAD = 96  # bytes: the key twice (row and index), checksum, cell headers; an estimate
_KEEP_FRACTION = 0.9  # an eviction makes some room, so that not every write has to evict
_PAGE_BYTES = 16384
_KEYS_PER_QUERY = 900  # older SQLite takes 999 parameters
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
    """What a cache knows about some texts; rows that are not ``found`` are undefined."""

    vectors: np.ndarray  # (n_texts, dimension) float32; dimension 0 when nothing was found
    found: np.ndarray  # (n_texts,) bool
    truncated: np.ndarray  # (n_texts,) bool: the text was cut when it was encoded


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, making it and its folder where they do not exist."""
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
    """Look texts up; a vector that is not what was written counts as not found."""
    keys = _keys(namespace, texts)
    found, truncated = np.zeros((2, len(keys)), dtype=bool)
    known = connection.execute("SELECT dimension FROM namespaces WHERE name = ?", (namespace,)).fetchone()
    if known is None:
        return CachedVectors(np.empty((len(keys), 0), dtype=np.float32), found, truncated)
    vectors = np.empty((len(keys), known[0]), dtype=np.float32)
    rows = {key: i for i, key in enumerate(keys)}
    wanted = list(rows)
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        part = wanted[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(part))
        query = f"SELECT key, truncated, checksum, vector FROM vectors WHERE key IN ({marks})"
        for key, cut, checksum, blob in connection.execute(query, part):
            if len(blob) == vectors.shape[1] * 4 and zlib.crc32(blob) == checksum:
                i = rows[key]
                vectors[i] = np.frombuffer(blob, dtype="<f4")
                found[i], truncated[i] = True, cut
    if len(rows) < len(keys):  # a text was asked for twice
        source = [rows[key] for key in keys]
        vectors, found, truncated = vectors[source], found[source], truncated[source]
    return CachedVectors(vectors, found, truncated)


def write_vectors(
    connection: sqlite3.Connection,
    namespace: str,
    texts: Sequence[str],
    vectors: np.ndarray,
    truncated: np.ndarray,
    max_bytes: int,
) -> None:
    """Store finite vectors in one transaction, pushing out the oldest where there is no room."""
    dimension = vectors.shape[1]
    # What does not fit beside an eviction's remainder would only push itself out.
    most = int(max_bytes * _KEEP_FRACTION) // (dimension * 4 + _ROW_OVERHEAD)
    keep = np.flatnonzero(np.isfinite(vectors).all(axis=1))[:most]
    keys, little_endian = _keys(namespace, [texts[i] for i in keep]), vectors[keep].astype("<f4")
    blobs = [vector.tobytes() for vector in little_endian]
    with _transaction(connection):
        connection.execute(
            "INSERT OR IGNORE INTO namespaces (name, dimension) VALUES (?, ?)", (namespace, dimension)
        )
        number = connection.execute("SELECT id FROM namespaces WHERE name = ?", (namespace,)).fetchone()[0]
        connection.executemany(
            "INSERT OR REPLACE INTO vectors (key, namespace, truncated, checksum, vector) "
            f"VALUES (?, {number}, ?, ?, ?)",
            zip(keys, map(int, truncated[keep]), map(zlib.crc32, blobs), blobs, strict=True),
        )
        _make_room(connection, max_bytes)


def count_vectors(connection: sqlite3.Connection) -> dict[str, int]:
    """Entries per namespace."""
    return dict(
        connection.execute(
            "SELECT name, COUNT(vectors.id) FROM namespaces "
            "LEFT JOIN vectors ON vectors.namespace = namespaces.id GROUP BY name ORDER BY name"
        )
    )


def delete_vectors(connection: sqlite3.Connection) -> int:
    """Delete everything; return how many entries there were."""
    with _transaction(connection):
        connection.execute("DELETE FROM namespaces")
        return connection.execute("DELETE FROM vectors").rowcount


def _make_room(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Delete the oldest rows until the file, once committed, is no larger than it may be."""
    page_bytes = _pragma(connection, "page_size")
    while True:
        used = (_pragma(connection, "page_count") - _pragma(connection, "freelist_count")) * page_bytes
        entries = connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0] if used > max_bytes else 0
        if not entries:
            return
        n_oldest = int(entries * (used - max_bytes * _KEEP_FRACTION) / used) + 1
        connection.execute(
            "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY id LIMIT ?)", (n_oldest,)
        )


def _keys(namespace: str, texts: Sequence[str]) -> list[bytes]:
    """128 bits per text; lone surrogates, which some data sets hold, are texts too."""
    seed = hashlib.blake2b(namespace.encode() + b"\0", digest_size=16)
    keys = []
    for text in texts:
        digest = seed.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        keys.append(digest.digest())
    return keys


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")  # waits its turn here, not half-way
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
