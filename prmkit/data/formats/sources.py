"""Records from wherever they lie: JSON lines, a JSON array or object, gzip, Parquet, a folder, a list, the hub."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from prmkit.data.jsonlines import DAMAGED, iter_hub_records, iter_json_lines, open_file

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+$")
_CSV = (".csv", ".csv.gz")
_ENDINGS = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz", *_CSV)
_BLANK = b"\xef\xbb\xbf \t\r\n"
_FIELDS_OF_LISTS = {"conversations"}  # of a record, all of whose fields are lists; not ids of problems


class Found(NamedTuple):
    """A record and where it stands: ``place`` for errors, ``solution_id`` for the solution's."""

    record: Any
    place: str
    solution_id: str


def iter_records(
    source: Any, *, split: str = "train", on_error: str = "raise", counts: Counter[str] | None = None
) -> Iterator[Found]:
    """Yield the records of a source, one in memory at a time where its kind allows.

    Parameters
    ----------
    source : path, list of records, ``datasets.Dataset``, or the name "owner/name" of a Hugging Face data set
        A file: JSON lines, a JSON array of records, or one JSON object of lists of records (its key is put in front of
        the id), or CSV with a header; each also gzipped; or Parquet. A folder: all such files in it, in the order of
        their names.
    split : str, default="train"
        Of a data set on the hub.
    on_error : {"raise", "skip"}
        For a line that is not JSON.
    counts : Counter, optional
        Skipped lines are added to "malformed: not JSON".

    Raises
    ------
    FileNotFoundError
        If there is no such file, nor anything that could be read in the folder.
    TypeError, ValueError
        If the source is none of these, or a file is not JSON.
    ConnectionError
        If a data set of the hub cannot be read.
    """
    if isinstance(source, (str, PathLike)):
        yield from _from_path(source, split, on_error, counts)
        return
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        kind = "a DatasetDict or one record" if isinstance(source, Mapping) else type(source).__name__
        raise TypeError(f"the source is {kind}, expected a path, a list of records or one Dataset")
    for number, record in enumerate(source):
        yield Found(record, f"record {number}", str(number))


def _from_path(
    source: str | PathLike[str], split: str, on_error: str, counts: Counter[str] | None
) -> Iterator[Found]:
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(_ENDINGS))
        if not files:
            raise FileNotFoundError(f"{path} holds no file that ends in {', '.join(_ENDINGS)}")
        for file in files:
            yield from _from_file(file, on_error, counts)
    elif path.is_file():
        yield from _from_file(path, on_error, counts)
    elif _HUB_NAME.match(str(source)) and not str(source).endswith(_ENDINGS):
        for number, record in enumerate(iter_hub_records(str(source), split)):
            yield Found(record, f"{source}, {split}, record {number}", f"{source}:{number}")
    else:
        raise FileNotFoundError(
            f"{source} does not exist (looked for {path.absolute()}), expected a file ({', '.join(_ENDINGS)}), a "
            "folder of such, or the name 'owner/name' of a Hugging Face data set"
        )


def _from_file(path: Path, on_error: str, counts: Counter[str] | None) -> Iterator[Found]:
    stem = path.name.split(".", 1)[0] if path.name.endswith(_ENDINGS) else path.name
    if path.suffix == ".parquet":
        from pyarrow.parquet import ParquetFile

        number = 0
        for batch in ParquetFile(path).iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                yield Found(record, f"{path}, row {number}", f"{stem}:{number}")
                number += 1
        return
    if path.name.endswith(_CSV):
        yield from _from_csv(path, stem)
        return
    whole = _whole_value(path)
    if whole is None:
        for number, record in iter_json_lines(path, on_error=on_error, counts=counts):
            yield Found(record, f"{path}, line {number}", f"{stem}:{number}")
    elif isinstance(whole, list):
        for number, record in enumerate(whole):
            yield Found(record, f"{path}, record {number}", f"{stem}:{number}")
    else:
        for key, records in whole.items():
            for number, record in enumerate(records):
                yield Found(record, f"{path}, {key!r}, record {number}", f"{stem}:{key}:{number}")


def _from_csv(path: Path, stem: str) -> Iterator[Found]:
    with open_file(path) as file, TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text, strict=True)
        try:
            names = next(rows, [])
            for number, row in enumerate(filter(None, rows)):
                # A row of another width than the header is no record: each layout says so of what is no object.
                record = dict(zip(names, row, strict=True)) if len(row) == len(names) else row
                yield Found(record, f"{path}, row {number} (line {rows.line_num})", f"{stem}:{number}")
        except (csv.Error, UnicodeDecodeError, *DAMAGED) as error:
            raise ValueError(f"{path} is not CSV in UTF-8 ({error}), near line {rows.line_num}") from None


def _whole_value(path: Path) -> list[Any] | dict[str, list[Any]] | None:
    """Return the JSON array, or object of lists, that a file is; None where it is JSON lines."""
    try:
        with open_file(path) as file:
            first = next((line for line in file if line.strip(_BLANK)), b"").lstrip(_BLANK)
            if not first.startswith((b"[", b"{")):
                return None
            if first.startswith(b"{") and _is_json(first) and any(line.strip() for line in file):
                return None
            file.seek(0)
            value = json.loads(file.read().decode("utf-8-sig"))
    except DAMAGED:
        return None  # damaged gzip data: the reader of lines says so
    except ValueError as error:
        if first.startswith(b"{"):
            return None  # lines, of which the first is damaged: the reader of lines says which
        raise ValueError(f"{path} starts like a JSON array and is none ({error})") from None
    if isinstance(value, dict) and (
        set(value) <= _FIELDS_OF_LISTS or not all(isinstance(records, list) for records in value.values())
    ):
        return [value]  # one record, alone in its file
    return value


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8"))
    except ValueError:
        return False
    return True
