"""JSON lines, plain or gzipped, one line at a time: most published step labels come as such files."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class MalformedRecordError(ValueError):
    """A record that breaks the schema; ``reason`` is short, to count by."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


_GZIP_MAGIC = b"\x1f\x8b"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"


def iter_json_lines(
    path: str | Path, *, on_error: str = "raise", counts: Counter[str] | None = None
) -> Iterator[tuple[int, Any]]:
    r"""Yield ``(line number, value)`` of a JSON-lines file, reading no further than asked.

    Parameters
    ----------
    path : str or Path
        UTF-8; gzip is recognised by its content, not by its name. Blank lines are passed over.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a line that is not JSON.
    counts : Counter, optional
        Skipped lines are added to its key "malformed: not JSON".

    Yields
    ------
    number : int
        1-based.
    value : object
        What the line says, not only objects.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        For a line that is not JSON (``on_error="raise"``); for a Git-LFS pointer in place of the file
        and for damaged gzip data in any case, because the rest of the file is then missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "two.jsonl")
    ...     _ = path.write_text('{"rating": 1}\n\n{"rating": -1}\n')
    ...     list(iter_json_lines(path))
    [(1, {'rating': 1}), (3, {'rating': -1})]
    """
    path = Path(path)
    for number, line in _iter_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both one
            if on_error == "raise":
                raise ValueError(
                    f"{path}, line {number}: not JSON ({error}), starts with {line[:40]!r}. Expected one "
                    "JSON object per line; pass on_error='skip' to leave such lines out."
                ) from None
            if counts is not None:
                counts["malformed: not JSON"] += 1
            continue
        yield number, value


def _iter_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    with open_unzipped(path) as file:
        try:
            for line in file:
                number += 1
                if number == 1 and line.startswith(_LFS_POINTER):
                    raise ValueError(_lfs_message(path, line + file.read(1000)))
                yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path}: the gzip data is damaged or cut off after line {number} ({error}). "
                "Expected a whole file: download it again."
            ) from None


def open_unzipped(path: Path) -> IO[bytes]:
    """Open a file for reading; gzip is recognised by its content."""
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return gzip.open(path, "rb") if is_gzip else path.open("rb")  # type: ignore[return-value]


def _lfs_message(path: Path, pointer: bytes) -> str:
    size = next(
        (line for line in pointer.decode("utf-8", "replace").splitlines() if line.startswith("size ")), ""
    )
    expected = (
        f"a file of {int(size.split()[1]):,} bytes ({size!r})"
        if size[5:].strip().isdigit()
        else "a data file"
    )
    return (
        f"{path} is a Git-LFS pointer of {path.stat().st_size} bytes, expected {expected}: the repository "
        "was cloned or downloaded without Git LFS. Type 'git lfs install' and 'git lfs pull' in the clone."
    )
