"""Files and folders that appear when they are whole, or not at all."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from io import TextIOWrapper
from pathlib import Path
from typing import IO, cast
from uuid import uuid4

# What the name of a folder ends in while another one takes its place.
_OLD = "-old"


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a hidden path beside ``path`` for a file or a folder, which takes the place of ``path`` when it is written.

    If the writing fails, the file or folder at ``path`` stays as it is. If the process is killed while one folder takes
    the place of another, :func:`replaced` finds them.
    """
    unfinished, left = path.with_name(f".{path.name}-{uuid4().hex}"), replaced(path)
    try:
        yield unfinished
        if unfinished.is_dir() and path.exists():
            _replace_folder(unfinished, path)
        else:
            unfinished.replace(path)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)
        raise


def replaced(path: Path) -> list[Path]:
    """Return the whole folders beside ``path``, the newer one first, that a process left which was killed.

    There are some if it had moved the old folder away and not yet put the new one in its place.
    """
    if path.exists():
        return []
    found = []
    for old in sorted(path.parent.glob(f".{escape(path.name)}-*{_OLD}")):
        found += [old.with_name(old.name.removesuffix(_OLD)), old]
    return [folder for folder in found if folder.is_dir()]


def _replace_folder(new: Path, path: Path) -> None:
    """Put a folder in the place of another one, which is put back if that fails."""
    old = new.with_name(f"{new.name}{_OLD}")
    path.replace(old)
    try:
        new.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold the file ``path`` as a lock, which ends with this process, however it ends, and remove it afterwards.

    ``busy`` is the message of the BlockingIOError that another process raises meanwhile. On a file system without
    locks, as some networks have, a warning says so.
    """
    while True:
        file = path.open("a+b")
        try:
            try:
                _lock(file)
            except (BlockingIOError, PermissionError):
                raise BlockingIOError(errno.EAGAIN, busy) from None
            except OSError as error:
                warnings.warn(f"{path.parent} has no locks ({error}): let no two processes write there", stacklevel=3)
            with suppress(OSError):
                # Whoever held it before may have removed it.
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    break
            file.close()
        except BaseException:
            file.close()
            raise
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            path.unlink()
        file.close()
        if os.name == "nt":
            with suppress(OSError):
                path.unlink()


def _lock(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def writing(path: Path, *, as_array: bool = False) -> Iterator[Callable[[str], None]]:
    r"""Give a function that adds a record, JSON as text, to a file that appears when all went well.

    The file holds JSON lines, or one JSON array. It is gzipped if its name ends in ``.gz``. Errors are those of
    :func:`check_path`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.json"), as_array=True) as add:
    ...         add('{"a": 1}')
    ...     Path(folder, "a.json").read_text()
    '[\n{"a": 1}\n]\n'
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
    """Raise if no file of records can be written: no folder, a folder of this name, or the ending of another kind of
    file.
    """
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
