"""Local and remote files, plain or compressed, and the JSON lines in them, read one at a time."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from glob import has_magic
from importlib.util import find_spec
from io import BufferedReader, RawIOBase
from os import PathLike, fspath
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

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
_ZstdError: type[Exception] = zlib.error
if find_spec("zstandard"):
    import zstandard

    _ZstdError = zstandard.ZstdError

DAMAGED = (EOFError, zlib.error, LZMAError, _ZstdError, OSError)
"""Errors of compressed data that are cut off or altered. bz2 and gzip raise an OSError."""
MAX_DEPTH = 64
"""Largest number of lists and objects within each other that a record may have."""
# The first bytes of a file tell its compression also where its name does not.
_ZSTD = "zstd by lines"
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": _ZSTD}
_HTML = "an HTML page, perhaps an error of the server: download the data again"
_UTF_16 = "text in UTF-16, expected UTF-8: convert it, as by iconv -f UTF-16 -t UTF-8"
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive: unpack it, and pass what it holds. A spreadsheet is one too: save it as CSV"),
    (b"\xff\xfe\x00\x00", "text in UTF-32, expected UTF-8: convert it, as by iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", _UTF_16),
    (b"\xfe\xff", _UTF_16),
    (b"<!doctype html", _HTML),
    (b"<html", _HTML),
    (b"<?xml", "an XML page, perhaps an error of the server: download the data again"),
    (b"%PDF", "a PDF document"),
    (b"\x80\x04", "a pickle, which could run code when it is read: write it as JSON lines"),
    (b"\x80\x05", "a pickle, which could run code when it is read: write it as JSON lines"),
    (b"\x93NUMPY", "an array of numpy, expected records: write it as JSON lines"),
)
_ARCHIVE = re.compile(r"\.(tar|tgz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"


class MissingPackageError(ImportError, ValueError):
    """A file needs a package that is not installed."""


class MalformedRecordError(ValueError):
    """A record breaks the rules of its format. Skipped records are counted by the reason, a short name of the rule."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class ContradictoryRecordError(MalformedRecordError):
    """The label of a record does not fit its own solution, as in some rows of published files."""


def iter_json_lines(
    path: str | PathLike[str], *, on_error: Literal["raise", "skip"] = "raise", counts: Counter[str] | None = None
) -> Iterator[tuple[int, Any]]:
    """Yield the number, from 1, and the value of each line of a JSON-lines file, which `open_file` opens.

    No more is read than is asked for. Blank lines are passed over. With ``on_error="skip"``, lines that are not JSON
    are counted under "malformed: not JSON", and those that are nested too deeply under that name. Git-LFS pointers and
    damaged data always raise, because the rest of the file is then missing.
    """
    for number, line in _iter_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            if line.count(b"[") + line.count(b"{") > MAX_DEPTH:
                check_depth(value)
        except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            is_json = isinstance(error, (RecursionError, MalformedRecordError))
            reason = "nested too deeply" if is_json else "not JSON"
            if on_error == "raise":
                why = f"more than {MAX_DEPTH} levels" if is_json else f"{error}{encoding_hint(error)}"
                raise ValueError(
                    f"{path}, line {number}: {reason} ({why}), starts with {line[:40]!r}. Expected one "
                    "JSON object per line; pass on_error='skip' to leave such lines out."
                ) from None
            if counts is not None:
                counts[f"malformed: {reason}"] += 1
            continue
        yield number, value


def check_depth(value: object) -> None:
    """Raise MalformedRecordError if a value holds more than `MAX_DEPTH` lists and objects within each other."""
    inside: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        if not inside:
            return
        parts = (
            one.values() if isinstance(one, Mapping) else one for one in inside if isinstance(one, (Mapping, list))
        )
        inside = [one for part in parts for one in part if isinstance(one, (Mapping, list))]
    raise MalformedRecordError("nested too deeply", f"more than {MAX_DEPTH} levels")


def encoding_hint(error: Exception) -> str:
    """Return what to do about text that is not UTF-8. "" for another error."""
    is_latin = isinstance(error, UnicodeDecodeError)
    return ": if the text is in Latin-1, convert it, as by iconv -f LATIN1 -t UTF-8" if is_latin else ""


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

    A URL is any that fsspec reads, such as ``https://…``, ``hf://datasets/…`` or ``s3://…``. Data compressed by gzip,
    bz2, xz or zstd are recognised by their first bytes. Not every file can seek backwards.

    Raises
    ------
    MissingPackageError
        If zstd's package is not installed.
    ValueError
        If the file is of a kind that prmkit does not read, such as a web page. The message names it.
    """
    system, name = file_system(path)
    with OpenFile(system, name, "rb") as file:
        head = file.read(32)
    compression = next((kind for magic, kind in _COMPRESSIONS.items() if head.startswith(magic)), None)
    if compression is not None and compression not in compr:
        raise MissingPackageError(f"{path} is compressed by zstd: pip install zstandard, or unpack the file")
    for magic, kind in _FOREIGN:
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(magic.lower()):
            raise ValueError(f"{path} is {kind}")
    for kind, zeros in (("LE", head[1:4:2]), ("BE", head[:3:2])):  # of two letters of ASCII, without a mark before them
        if zeros == b"\0\0":
            raise ValueError(f"{path} is {_UTF_16.replace('-f UTF-16', f'-f UTF-16{kind}')}")
    if _ARCHIVE.search(name):
        raise ValueError(f"{path} is a tar archive: unpack it, and pass what it holds")
    return OpenFile(system, name, "rb", compression=compression)


class _ZstdReader(RawIOBase):
    """The data that zstd compressed, in any number of frames. The package's reader takes a cut file for a whole one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: Any = None
        self._packed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            packed = self._packed or self._file.read(1 << 16)
            if not packed:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("they end within a frame of zstd")
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._plain = memoryview(self._frame.decompress(packed))
            self._packed = self._frame.unused_data if self._frame.eof else b""
        n = min(len(buffer), len(self._plain))
        buffer[:n], self._plain = self._plain[:n], self._plain[n:]
        return n


def _zstd_lines(file: IO[bytes], **_: Any) -> BufferedReader:
    return BufferedReader(_ZstdReader(file), 1 << 16)


if find_spec("zstandard"):
    compr.setdefault(_ZSTD, _zstd_lines)


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
    """Return the sorted files that a pattern with ``*``, ``?`` or ``[…]`` names, such as ``phase*_test.jsonl``.

    The list is empty where there is none of these signs, where no file matches, or where a file has this very name.
    """
    text = fspath(pattern)
    system, name = file_system(text)
    if not has_magic(text) or system.isfile(name):
        return []
    names = sorted(match for match in system.glob(name) if system.isfile(match))
    return [system.unstrip_protocol(match) for match in names] if is_url(text) else names


def _lfs_message(path: str | PathLike[str], pointer: bytes) -> str:
    size = re.search(r"^size (\d+)", pointer.decode("utf-8", "replace"), re.MULTILINE)
    expected = f"a file of {int(size[1]):,} bytes ({size[0]!r})" if size else "a data file"
    return (
        f"{path} is a Git-LFS pointer of {len(pointer)} bytes, expected {expected}: the repository "
        "was cloned or downloaded without Git LFS. Type 'git lfs install' and 'git lfs pull' in the clone."
    )


def iter_hub_records(name: str, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Hugging Face data set, streamed. If it cannot be read, the error names both ways out."""
    import datasets

    try:
        dataset = datasets.load_dataset(name, split=split, streaming=True)
        rows = iter(with_class_names(dataset, getattr(dataset, "features", None)))
        first = next(rows, None)
    except Exception as error:  # the hub, the network and the file format each raise their own kind
        raise ConnectionError(
            f"{name!r} is no local file or folder, and as a Hugging Face data set its split {split!r} could "
            f"not be read ({type(error).__name__}: {error}). Either pass the path of a file or folder that is there "
            "(of PRM800K, the folder with phase1_train.jsonl and the others), or name a data set and make "
            "huggingface.co reachable (HF_HUB_OFFLINE unset). Without a network, pass the folder that 'hf download "
            f"{name} --repo-type dataset --local-dir FOLDER' has made elsewhere."
        ) from error
    if first is not None:
        yield first
        yield from rows


def with_class_names(records: Iterable[Any], features: object) -> Iterator[Any]:
    """Yield records with the names of their classes, where the features of a data set number them (`ClassLabel`).

    A number alone does not tell whether its class is wrong or right: the names come in any order.
    """
    types: Any = features.to_dict() if hasattr(features, "to_dict") else features
    columns = {name: kind for name, kind in (types or {}).items() if "ClassLabel" in str(kind)}
    for record in records:
        named = {name: _named(record.get(name), kind) for name, kind in columns.items()}
        yield {**record, **named} if named else record


def _named(value: Any, kind: Any) -> Any:
    """Return a value with names in place of class numbers, by its type as ``datasets`` writes it."""
    if isinstance(kind, Mapping) and kind.get("_type") == "ClassLabel":
        names = kind.get("names") or []
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    inner = kind.get("feature") if isinstance(kind, Mapping) else kind[0] if isinstance(kind, list) and kind else None
    if inner is None:
        is_record = isinstance(value, Mapping) and isinstance(kind, Mapping) and "_type" not in kind
        return {name: _named(part, kind.get(name)) for name, part in value.items()} if is_record else value
    # A sequence of records is a record of sequences there.
    if isinstance(value, Mapping):
        return {name: _named(part, [inner.get(name)]) for name, part in value.items()}
    return [_named(part, inner) for part in value] if isinstance(value, list) else value
