"""Local and remote files, plain or compressed, and the JSON lines in them, read one at a time.

Most published step labels come as such files.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from glob import has_magic
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fsspec.compression import compr
from fsspec.core import OpenFile, url_to_fs
from fsspec.implementations.local import LocalFileSystem

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without it
    LZMAError = zlib.error  # type: ignore[misc, assignment]

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed files."""
DAMAGED = (EOFError, zlib.error, LZMAError, OSError)
"""Errors of compressed data that are cut off or altered. bz2 and gzip raise an OSError."""
# The first bytes of a file tell its compression also where its name does not.
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"


class MalformedRecordError(ValueError):
    """A record breaks the rules of its format.

    Parameters
    ----------
    reason : str
        Short name of the broken rule. Skipped records are counted by it.
    detail : str
        The field, the value that was found and the value that was expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def iter_json_lines(
    path: str | PathLike[str],
    *,
    on_error: Literal["raise", "skip"] = "raise",
    counts: Counter[str] | None = None,
) -> Iterator[tuple[int, Any]]:
    r"""Yield the number and the value of each line of a JSON-lines file.

    No more is read than is asked for.

    Parameters
    ----------
    path : path or URL
        File in UTF-8, which may be compressed. See `open_file`. Blank lines are passed over.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a line that is not JSON.
    counts : Counter, optional
        Number of skipped lines is added to its key "malformed: not JSON".

    Yields
    ------
    number : int
        Number of the line, from 1.
    value : object
        JSON value of the line, which need not be an object.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line is not JSON (with ``on_error="raise"``). If the file is a Git-LFS pointer, or its
        compressed data are damaged, in any case, because the rest of the file is then missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "two.jsonl")
    ...     _ = path.write_text('{"rating": 1}\n\n{"rating": -1}\n')
    ...     list(iter_json_lines(path))
    [(1, {'rating': 1}), (3, {'rating': -1})]
    """
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


def _iter_lines(path: str | PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines. Name the last whole line where the data are damaged."""
    number = 0
    with open_file(path) as file:
        try:
            for line in file:
                number += 1
                if number == 1 and line.startswith(_LFS_POINTER):
                    raise ValueError(_lfs_message(path, line + file.read(1000)))
                yield number, line
        except DAMAGED as error:
            raise ValueError(
                f"{path}: the data are damaged or cut off after line {number} ({error}). "
                "Expected a whole file: download it again."
            ) from None


def open_file(path: str | PathLike[str]) -> OpenFile:
    """Return a context manager that opens a local or remote file for reading bytes.

    Parameters
    ----------
    path : path or URL
        Local path, or a URL that fsspec reads, such as ``https://…``, ``hf://datasets/…`` or
        ``s3://…``. Data compressed by gzip, bz2, xz or zstd are recognised by their first bytes.

    Returns
    -------
    OpenFile
        Context manager that yields a binary file. Not every file can seek backwards.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If a package for this URL or this compression is not installed.
    """
    system, name = file_system(path)
    with OpenFile(system, name, "rb") as file:
        head = file.read(max(map(len, _COMPRESSIONS)))
    compression = next((kind for magic, kind in _COMPRESSIONS.items() if head.startswith(magic)), None)
    if compression is not None and compression not in compr:
        raise ImportError(f"{path} is compressed by {compression}: pip install zstandard")
    return OpenFile(system, name, "rb", compression=compression)


def file_system(path: str | PathLike[str]) -> tuple[AbstractFileSystem, str]:
    """Return where a path or URL leads, and its name there."""
    if is_url(path):
        system, name = url_to_fs(path)
        return system, name
    return LocalFileSystem(), fspath(Path(path).expanduser())


def is_url(path: str | PathLike[str]) -> bool:
    """Return whether a text is a URL, rather than a local path or the name of a data set."""
    return isinstance(path, str) and "://" in path


def matching_files(pattern: str | PathLike[str]) -> list[str]:
    """Return the sorted files that a pattern such as ``phase*_test.jsonl`` names.

    Parameters
    ----------
    pattern : path or URL
        Text with ``*``, ``?`` or ``[…]``. A file that exists under this very name wins.

    Returns
    -------
    list of str
        Paths or URLs of the files. The list is empty where ``pattern`` has none of these signs, or
        no file matches.
    """
    text = fspath(pattern)
    system, name = file_system(text)
    if not has_magic(text) or system.isfile(name):
        return []
    names = sorted(match for match in system.glob(name) if system.isfile(match))
    return [system.unstrip_protocol(match) for match in names] if is_url(text) else names


def _lfs_message(path: str | PathLike[str], pointer: bytes) -> str:
    size = next(
        (line for line in pointer.decode("utf-8", "replace").splitlines() if line.startswith("size ")), ""
    )
    expected = (
        f"a file of {int(size.split()[1]):,} bytes ({size!r})"
        if size[5:].strip().isdigit()
        else "a data file"
    )
    return (
        f"{path} is a Git-LFS pointer of {len(pointer)} bytes, expected {expected}: the repository "
        "was cloned or downloaded without Git LFS. Type 'git lfs install' and 'git lfs pull' in the clone."
    )


def iter_hub_records(name: str, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Hugging Face data set, streamed.

    Parameters
    ----------
    name : str
        Name "owner/name" of the data set.
    split : str
        Name of the split to read.

    Yields
    ------
    row : dict
        One row of the data set.

    Raises
    ------
    ConnectionError
        If the data set cannot be read. The message names both ways out.
    """
    import datasets

    try:
        rows = iter(datasets.load_dataset(name, split=split, streaming=True))
        first = next(rows, None)
    except Exception as error:  # the hub, the network and the file format each raise their own kind
        raise ConnectionError(
            f"{name!r} is no local file or folder, and as a Hugging Face data set its split {split!r} could "
            f"not be read ({type(error).__name__}: {error}). Either pass the path of a PRM800K file or of "
            "the folder with phase1_train.jsonl and the others, or name a data set in PRM800K's own schema "
            "and make huggingface.co reachable (HF_HUB_OFFLINE unset)."
        ) from error
    if first is not None:
        yield first
        yield from rows
