"""Files and folders that appear when they are whole, or not at all."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, cast
from uuid import uuid4


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a hidden place beside ``path`` for a file or a folder, which takes the place of ``path`` when it is written.

    Parameters
    ----------
    path : Path
        File or folder to write. What stands there stays as it is if the writing fails.

    Yields
    ------
    Path
        The hidden place. Nothing stands there yet.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as unfinished:
    ...         _ = unfinished.write_text("whole")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    unfinished = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        yield unfinished
        if unfinished.is_dir() and path.exists():
            _replace_folder(unfinished, path)
        else:
            unfinished.replace(path)
    except BaseException:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)
        raise


def _replace_folder(new: Path, path: Path) -> None:
    """Put a folder in the place of another one, which is put back if that fails."""
    old = new.with_name(f"{new.name}-old")
    path.replace(old)
    try:
        new.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def writing(path: Path, *, as_array: bool = False) -> Iterator[Callable[[str], None]]:
    """Give a function that adds a record, JSON on one line, to a file that appears when all went well.

    Parameters
    ----------
    path : Path
        File to write. It is gzipped if its name ends in ``.gz``.
    as_array : bool, default=False
        Whether to write one JSON array instead of JSON lines.

    Yields
    ------
    callable
        Takes a record, as text.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If the folder does not exist, or the path is a folder.
    ValueError
        If the ending is one of a kind of file that this is not.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.json"), as_array=True) as add:
    ...         add('{"a": 1}')
    ...     print(Path(folder, "a.json").read_text())
    [
    {"a": 1}
    ]
    """
    check_path(path)
    with replacing(path) as unfinished, unfinished.open("wb") as raw, _zipped(raw, path) as file:
        before = "[\n" if as_array else ""

        def add(record: str) -> None:
            nonlocal before
            file.write(before + record + ("" if as_array else "\n"))
            before = ",\n" if as_array else ""

        yield add
        if as_array:
            file.write("\n]\n" if before == ",\n" else "[]\n")


def check_path(path: Path) -> None:
    """Raise where no file of records can be written; errors as :func:`writing`."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the name of a file")
    if path.name.endswith((".csv", ".csv.gz", ".parquet")):
        raise ValueError(
            f"{path.name} does not end in .jsonl, .json or these with .gz: prmkit writes JSON, and would read it as "
            "something else"
        )


@contextmanager
def _zipped(raw: IO[bytes], path: Path) -> Iterator[TextIOWrapper]:
    if path.suffix == ".gz":  # without name and time, so that equal data give equal bytes
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
            TextIOWrapper(cast(IO[bytes], packed), encoding="utf-8", newline="\n") as file,
        ):
            yield file
    else:
        with TextIOWrapper(raw, encoding="utf-8", newline="\n") as file:
            yield file
