"""Records from wherever they lie: files, folders, patterns, URLs, lists, and data sets of the Hugging Face hub."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from itertools import chain
from os import PathLike, fspath
from os.path import exists
from pathlib import Path, PurePath
from typing import IO, Any, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit

from prmkit.data.jsonlines import (
    COMPRESSED,
    DAMAGED,
    file_system,
    is_url,
    iter_hub_records,
    iter_json_lines,
    matching_files,
    open_file,
    with_class_names,
)

Address: TypeAlias = str | PathLike[str]
Source: TypeAlias = Address | Iterable[object]
"""A path, pattern, URL or hub name, several of them, or the records themselves, such as a ``datasets.Dataset``."""
OnError: TypeAlias = Literal["raise", "skip"]

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_KINDS = (".jsonl", ".json", ".csv", ".parquet")
_BLANK = b"\xef\xbb\xbf \t\r\n"
# A record whose fields are all lists looks like an object of lists of records, unless its fields are these.
_FIELDS_OF_LISTS = {"conversations"}


class Found(NamedTuple):
    """A record, the place where it stands for error messages, and the id of its solution."""

    record: Any
    place: str
    solution_id: str


def iter_records(
    source: Source, *, split: str = "train", on_error: OnError = "raise", counts: Counter[str] | None = None
) -> Iterator[Found]:
    """Yield the records of a source, one in memory at a time where its kind allows it.

    A file holds JSON lines, a JSON array of records, one JSON object of lists of records (its keys become part of the
    ids), CSV with a header, or Parquet. Each may be compressed. A folder stands for all such files in it, in the order
    of their names. A pattern such as ``"part-*.jsonl"`` stands for the files that match. A URL is opened by fsspec. The
    name "owner/name" is a data set of the Hugging Face hub. Lines that are not JSON, if skipped, are counted.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a folder holds no file that can be read.
    TypeError, ValueError
        If the source is none of these, or a file is damaged.
    ConnectionError
        If a data set of the hub cannot be read.
    """
    if isinstance(source, (str, PathLike)):
        yield from _from_address(source, split, on_error, counts)
        return
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        kind = "a DatasetDict or one record" if isinstance(source, Mapping) else type(source).__name__
        raise TypeError(f"the source is {kind}, expected a path, a list of records or one Dataset")
    if addresses := several_addresses(source):
        for address in addresses:
            yield from _from_address(address, split, on_error, counts)
        return
    for number, record in enumerate(with_class_names(source, getattr(source, "features", None))):
        yield Found(record, f"record {number}", str(number))


def several_addresses(source: object) -> list[Address]:
    """Return the addresses that a list or tuple consists of. Nothing if it holds records."""
    is_list = isinstance(source, (list, tuple)) and all(map(_is_address, source))
    return list(source) if is_list else []  # type: ignore[call-overload]


def _is_address(value: object) -> bool:
    if not isinstance(value, str):
        return isinstance(value, PathLike)
    # A broken record may be a text too. Only a text that leads somewhere is an address.
    is_name = bool(_HUB_NAME.fullmatch(value)) or is_url(value) or _is_readable(value)
    return is_name or exists(value)  # noqa: PTH110 (a text that is too long for a path is no address)


def name_of(source: object) -> str:
    """Return how messages call a source."""
    if isinstance(source, (str, PathLike)):
        return fspath(source)
    return ", ".join(fspath(address) for address in several_addresses(source)) or type(source).__name__


def _from_address(address: Address, split: str, on_error: OnError, counts: Counter[str] | None) -> Iterator[Found]:
    text = fspath(address)
    system, name = file_system(text)
    # A name of the hub looks like a path, so a file or folder of this name comes first.
    if not is_url(text) and not Path(name).exists() and _HUB_NAME.fullmatch(text) and not _is_readable(text):
        for number, record in enumerate(iter_hub_records(text, split)):
            yield Found(record, f"{text}, {split}, record {number}", f"{text}:{number}")
        return
    files = matching_files(text) or [text]
    # Over HTTP, the question whether a file is a folder would download it.
    if not (is_url(text) and _is_readable(text)) and system.isdir(name):
        names = sorted(file for file in system.ls(name, detail=False) if _is_readable(str(file)))
        files = [system.unstrip_protocol(file) if is_url(text) else str(file) for file in names]
        if not files:
            raise FileNotFoundError(f"{text} holds no file that ends in {_endings()}")
    elif files == [text] and not is_url(text) and not Path(name).is_file():
        raise FileNotFoundError(
            f"{text} does not exist (looked for {Path(name).absolute()}), expected a file ({_endings()}), a folder of "
            "such, a pattern that matches some, a URL, or the name 'owner/name' of a Hugging Face data set"
        )
    for file in files:
        yield from _from_file(file, on_error, counts)


def _endings() -> str:
    return f"{', '.join(_KINDS)}, also with {', '.join(COMPRESSED)}"


def _kind(file: str) -> str:
    """Return the ending that tells how a file is written, without that of its compression. "" if there is none."""
    suffixes = PurePath(_without_query(file)).suffixes
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in _KINDS else ""


def _without_query(file: str) -> str:
    return urlsplit(file).path if is_url(file) else file


def _is_readable(file: str) -> bool:
    return bool(_kind(file))


def _from_file(file: str, on_error: OnError, counts: Counter[str] | None) -> Iterator[Found]:
    kind, name = _kind(file), PurePath(_without_query(file)).name
    stem = name.split(".", 1)[0] if kind else name
    if kind == ".csv":
        yield from _from_csv(file, stem)
        return
    if kind == ".parquet" or _is_parquet(file):
        from pyarrow.parquet import ParquetFile

        with open_file(file) as stream:
            table = ParquetFile(stream)
            # Where ``datasets`` has written the file, the schema holds the names of classes.
            written = json.loads((table.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
            rows = chain.from_iterable(batch.to_pylist() for batch in table.iter_batches(batch_size=1024))
            features = written.get("info", {}).get("features")
            for number, record in enumerate(with_class_names(rows, features)):
                yield Found(record, f"{file}, row {number}", f"{stem}:{number}")
        return
    # An array or object is read whole. Lines come one by one, since they may be many.
    whole = _whole_value(file)
    if whole is None:
        for number, record in iter_json_lines(file, on_error=on_error, counts=counts):
            yield Found(record, f"{file}, line {number}", f"{stem}:{number}")
    elif isinstance(whole, list):
        for number, record in enumerate(whole):
            yield Found(record, f"{file}, record {number}", f"{stem}:{number}")
    else:
        for key, records in whole.items():
            for number, record in enumerate(records):
                yield Found(record, f"{file}, {key!r}, record {number}", f"{stem}:{key}:{number}")


def _is_parquet(file: str) -> bool:
    with open_file(file) as stream:
        try:
            return bool(stream.read(4) == b"PAR1")
        except DAMAGED:
            return False  # the reader of lines names the damage


def _from_csv(file: str, stem: str) -> Iterator[Found]:
    with open_file(file) as stream, TextIOWrapper(cast(IO[bytes], stream), encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text, strict=True)
        try:
            names = next(rows, [])
            for number, row in enumerate(filter(None, rows)):
                # A row of another width than the header is no record. Each format says so of a value that is no object.
                record = dict(zip(names, row, strict=True)) if len(row) == len(names) else row
                yield Found(record, f"{file}, row {number} (line {rows.line_num})", f"{stem}:{number}")
        except (csv.Error, UnicodeDecodeError, *DAMAGED) as error:
            raise ValueError(f"{file} is not CSV in UTF-8 ({error}), near line {rows.line_num}") from None


def _whole_value(file: str) -> list[Any] | dict[str, list[Any]] | None:
    """Return the JSON array, or the object of lists, that a file is. None if it holds JSON lines."""
    first = b""
    try:
        with open_file(file) as stream:
            first = next((line for line in stream if line.strip(_BLANK)), b"").lstrip(_BLANK)
            if not first.startswith((b"[", b"{")):
                return None
            # One object that fills one line may be a record among others, or all there is.
            if first.startswith(b"{") and _is_json(first) and any(line.strip() for line in stream):
                return None
        with open_file(file) as stream:  # not every compressed file can seek backwards
            value = json.loads(stream.read().decode("utf-8-sig"))
    except DAMAGED:
        return None  # the reader of lines names the damage
    except ValueError as error:
        if first.startswith(b"{"):
            return None  # JSON lines with a damaged first line, which the reader of lines names
        raise ValueError(f"{file} starts like a JSON array and is none ({error})") from None
    if isinstance(value, dict) and (
        set(value) <= _FIELDS_OF_LISTS or not all(isinstance(records, list) for records in value.values())
    ):
        return [value]  # one record, alone in its file
    return cast("list[Any] | dict[str, list[Any]]", value)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8"))
    except ValueError:
        return False
    return True
