"""Records from wherever they lie: files, folders, URLs, lists, data frames; and the account of what is left out."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from itertools import chain, islice
from os import PathLike, fspath
from os.path import exists
from pathlib import Path, PurePath
from typing import IO, Any, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit

from prmkit.data.jsonlines import (
    COMPRESSED,
    DAMAGED,
    MAX_DEPTH,
    MalformedRecordError,
    MissingPackageError,
    check_depth,
    encoding_hint,
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
"""A path, pattern, URL or hub name, several of them, or the records themselves: a list, data frame or Dataset."""
OnError: TypeAlias = Literal["raise", "skip"]

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
_ABOUT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files that ``datasets`` writes beside the data."""
_N_LINES = 20
"""Number of lines that tell whether a file holds JSON lines, if its first line is damaged."""
_N_FOLDERS = 3
"""Number of folders within each other in which a folder's files are looked for."""
_TABLES = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrow"}
"""First bytes of tables."""
_BLANK = b"\xef\xbb\xbf \t\r\n"
# A record whose fields are all lists looks like an object of lists of records, unless its fields are these.
_FIELDS_OF_LISTS = {"conversations"}
_SPLITS = ("train", "test", "validation", "valid", "val", "dev")
_SPLIT_OF_NAME = re.compile(
    rf"^({'|'.join(_SPLITS)})(?![a-z])|(?<![a-z])({'|'.join(_SPLITS)})(-\d+-of-\d+)?$", re.IGNORECASE
)
_SCALARS = frozenset((str, int, float, bool, type(None)))
"""Types that JSON has too."""
_N_CONVERTED = 10_000
"""Number of rows of a data frame that become records at once."""
_MISSING = ("NAType", "NaTType")
"""Types of a missing value of pandas."""
MALFORMED, PUBLISHED, _LOST = "malformed: ", "left out, wrong as published: ", "labels left out: "
"""Beginnings of the names of counts."""
_N_NAMED = 20
"""Number of skipped records that a description names."""
MERGED = "records of several splits, read as one"
"""Name of the count that says that a local source has splits, and none was asked for."""


class Found(NamedTuple):
    """A record, the place where it stands for error messages, and the id of its solution."""

    record: Any
    place: str
    solution_id: str


def iter_records(
    source: Source, *, split: str | None = None, on_error: OnError = "raise", counts: Counter[str] | None = None
) -> Iterator[Found]:
    """Yield the records of a source, one in memory at a time where its kind allows it.

    A file holds JSON lines, a JSON array of records, one JSON object of lists of records (its keys become part of the
    ids), CSV or TSV with a header, Parquet or Arrow. Each may be compressed. A folder stands for all such files in it,
    in the order of their names. If it holds none, the folders in it are looked into, as in a copy of a data set of the
    hub (data/train-00000-of-00001.parquet) and in what ``save_to_disk`` writes. A pattern such as ``"part-*.jsonl"``
    stands for the files that match. A URL is opened by fsspec. The name "owner/name" is a data set of the Hugging Face
    hub. Data frames of pandas and polars and Arrow tables are read by row. Arrays and tuples in a record become lists.
    Lines that are not JSON, if skipped, are counted.

    ``split`` names the files of a folder (train.jsonl), the part of a mapping or of a JSON object, or the split of a
    data set on the hub.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a folder holds no file that can be read.
    TypeError, ValueError
        If the source is none of these, or a file is damaged.
    ConnectionError
        If a data set of the hub cannot be read.
    """
    if isinstance(source, str) and not source.strip():  # else it stands for the folder one works in
        raise ValueError(f"the source is {source!r}, an empty path: pass '.' for the folder that you work in")
    if isinstance(source, (str, PathLike)):
        yield from _from_address(source, split, on_error, counts)
        return
    if isinstance(source, Mapping) and split is not None:
        if split not in source:
            raise ValueError(f"there is no split {split!r}; the parts are {_quoted(source)}")
        source, split = source[split], None
    if isinstance(source, Mapping) or not (isinstance(source, Iterable) or hasattr(source, "to_pylist")):
        kind = type(source).__name__
        if isinstance(source, Mapping):
            kind = f"a mapping of {_quoted(source)}, as a DatasetDict or one record is"
        raise TypeError(f"the source is {kind}, expected a path, a list of records or one Dataset, or split=…")
    if addresses := several_addresses(source):
        for address in addresses:
            yield from _from_address(address, split, on_error, counts)
        return
    if split is not None and str(getattr(source, "split", None)) != split:
        raise ValueError(f"split={split!r}, but the records of a {name_of(source)} are no splits: leave split out")
    for number, record in enumerate(_rows_of(source)):
        place = f"record {number}"
        try:
            yield Found(_plain(record), place, str(number))
        except MalformedRecordError as error:
            _skip(error, place, on_error, counts)


def _skip(error: MalformedRecordError, place: str, on_error: OnError, counts: Counter[str] | None) -> None:
    if on_error == "raise":
        raise ValueError(f"{place}: {error}. Pass on_error='skip' to leave such records out.") from None
    if counts is not None:
        counts[f"{MALFORMED}{error.reason}"] += 1


def _quoted(names: Iterable[object]) -> str:
    return ", ".join(map(repr, islice(names, 8)))


def _rows_of(source: Any) -> Iterator[Any]:
    """Yield the rows of a data frame, an Arrow table, or anything that yields its records."""
    if hasattr(source, "to_pylist"):  # Arrow
        yield from with_class_names(source.to_pylist(), _class_names(getattr(source, "schema", None)))
    elif hasattr(source, "iter_rows"):  # polars
        yield from source.iter_rows(named=True)
    elif hasattr(source, "itertuples"):  # pandas, where NaN and NA stand for a missing cell
        names = list(source.columns)
        for start in range(0, len(source), _N_CONVERTED):
            part = source.iloc[start : start + _N_CONVERTED]
            cells = [_cells(part.iloc[:, i]) for i in range(len(names))]
            for row in zip(*cells, strict=True):
                yield dict(zip(names, row, strict=True))
    else:
        yield from with_class_names(source, getattr(source, "features", None))


def _class_names(schema: Any) -> object:
    """Return the features that ``datasets`` has written into the schema of an Arrow table."""
    return (
        json.loads((getattr(schema, "metadata", None) or {}).get(b"huggingface", b"{}")).get("info", {}).get("features")
    )


def _cells(column: Any) -> list[Any]:
    """Return the cells of a column of pandas, None where one is missing."""
    cells: list[Any] = column.astype(object).tolist()
    missing = column.isna().to_numpy()
    return [None if is_none else cell for cell, is_none in zip(cells, missing, strict=True)] if missing.any() else cells


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value of numpy, Arrow or Python as JSON has it: lists, objects and scalars."""
    if type(value) in _SCALARS:
        return value
    if type(value).__name__ in _MISSING:
        return None
    if depth > MAX_DEPTH:
        raise MalformedRecordError("nested too deeply", f"more than {MAX_DEPTH} levels")
    if depth == 0 and hasattr(value, "to_dict"):  # a row of a data frame
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {name: one if type(one) in _SCALARS else _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, depth + 1) for one in value]
    for method in ("tolist", "as_py", "to_list"):
        if hasattr(value, method):
            return _plain(getattr(value, method)(), depth + 1)
    return value


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


def _from_address(
    address: Address, split: str | None, on_error: OnError, counts: Counter[str] | None
) -> Iterator[Found]:
    text = fspath(address)
    system, name = file_system(text)
    # A name of the hub looks like a path, so a file or folder of this name comes first.
    if not is_url(text) and not Path(name).exists() and _HUB_NAME.fullmatch(text) and not _is_readable(text):
        for number, record in enumerate(iter_hub_records(text, split or "train")):
            yield Found(record, f"{text}, {split or 'train'}, record {number}", f"{text}:{number}")
        return
    stems = {file: _stem(file) for file in matching_files(text) or [text]}
    # Over HTTP, the question whether a file is a folder would download it.
    if not (is_url(text) and _is_readable(text)) and system.isdir(name):
        stems = _in_folder(text)
    elif list(stems) == [text] and not is_url(text) and not Path(name).is_file():
        raise FileNotFoundError(
            f"{text} does not exist (looked for {Path(name).absolute()}), expected a file ({_endings()}), a folder of "
            "such, a pattern that matches some, a URL, or the name 'owner/name' of a Hugging Face data set"
        )
    files = list(stems)
    if split is None:
        parts = {
            (match[1] or match[2]).lower()
            for stem in stems.values()
            for match in map(_SPLIT_OF_NAME.search, stem.split("/"))
            if match
        }
        is_merged = len(parts) > 1
    else:
        is_merged = False
        chosen = [file for file, stem in stems.items() if split.lower() in re.split(r"[^a-z0-9]+", stem.lower())]
        if not chosen and len(files) > 1:
            raise ValueError(f"{text} has no file of the split {split!r}; its files are {_quoted(stems.values())}")
        # One file of another name may hold its splits as the fields of an object.
        files, split = chosen or files, None if chosen else split
    for file in files:
        for found in _from_file(file, stems[file], split, on_error, counts):
            if is_merged and counts is not None:
                counts[MERGED] += 1
            yield found


def _in_folder(folder: str) -> dict[str, str]:
    """Return the files of a folder, or else those of the folders in it, and how each is called."""
    system, root = file_system(folder)
    inside = sorted(str(file) for file in system.find(root, maxdepth=_N_FOLDERS))
    names: dict[str, tuple[str, ...]]
    names = {file: PurePath(file).relative_to(PurePath(system._strip_protocol(root))).parts for file in inside}
    readable = {
        file: parts
        for file, parts in names.items()
        if _is_readable(file) and parts[-1] not in _ABOUT_DATA and not any(part.startswith(".") for part in parts)
    }
    if any(len(parts) == 1 for parts in readable.values()):
        readable = {file: parts for file, parts in readable.items() if len(parts) == 1}
    if not readable:
        raise FileNotFoundError(f"{folder} holds no file that ends in {_endings()}, nor do the folders in it")
    # A folder for each split is one data set. Other folders are configurations of it, or something else.
    where = {parts[:-1] for parts in readable.values()}
    if len({parts[:-1] for parts in where}) > 1 or (
        len(where) > 1 and not {parts[-1] for parts in where} <= set(_SPLITS)
    ):
        folders = _quoted(sorted("/".join(parts) for parts in where))
        raise ValueError(f"{folder} holds files in several folders ({folders}): pass one of them")
    return {
        system.unstrip_protocol(file) if is_url(folder) else file: "/".join([*parts[:-1], _stem(parts[-1])])
        for file, parts in readable.items()
    }


def _stem(file: str) -> str:
    """Return the name of a file, without the endings that tell how it is written."""
    name = PurePath(_without_query(file)).name
    return name.split(".", 1)[0] if _kind(file) else name


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


def _from_file(
    file: str, stem: str, split: str | None, on_error: OnError, counts: Counter[str] | None
) -> Iterator[Found]:
    """Yield the records of a file, or of one part of it, if it is one JSON object of lists."""
    kind = _kind(file) if _kind(file) in (".csv", ".tsv", ".parquet", ".arrow") else _table_kind(file)
    whole = None if kind else _whole_value(file)
    if split is not None and not isinstance(whole, dict):
        raise ValueError(f"{file} has no splits, and split={split!r} was asked for: leave split out")
    if kind in (".csv", ".tsv"):
        yield from _from_csv(file, stem, "," if kind == ".csv" else "\t")
        return
    if kind:
        for number, record in enumerate(_from_table(file, kind)):
            yield Found(record, f"{file}, row {number}", f"{stem}:{number}")
        return
    # An array or object is read whole. Lines come one by one, since they may be many.
    if whole is None:
        for number, record in iter_json_lines(file, on_error=on_error, counts=counts):
            yield Found(record, f"{file}, line {number}", f"{stem}:{number}")
        return
    for found in _in_whole(whole, file, stem, split, counts):
        try:
            check_depth(found.record)
            yield found
        except MalformedRecordError as error:  # noqa: PERF203 (each record may be)
            _skip(error, found.place, on_error, counts)


def _in_whole(
    whole: list[Any] | dict[str, list[Any]], file: str, stem: str, split: str | None, counts: Counter[str] | None
) -> Iterator[Found]:
    """Yield the records of a JSON array, or of an object of arrays."""
    if isinstance(whole, list):
        for number, record in enumerate(whole):
            yield Found(record, f"{file}, record {number}", f"{stem}:{number}")
        return
    if split is not None and split not in whole:
        raise ValueError(f"{file} has no split {split!r}; its parts are {_quoted(whole)}")
    if split is None and counts is not None and sum(name in _SPLITS for name in whole) > 1:
        counts[MERGED] += sum(map(len, whole.values()))
    for key, records in whole.items() if split is None else [(split, whole[split])]:
        for number, record in enumerate(records):
            yield Found(record, f"{file}, {key!r}, record {number}", f"{stem}:{key}:{number}")


def _table_kind(file: str) -> str:
    """Return the ending of the kind of table that the first bytes tell. "" if they tell none."""
    with open_file(file) as stream:
        try:
            head = stream.read(8)
        except DAMAGED:
            return ""  # the reader of lines names the damage
    return next((kind for magic, kind in _TABLES.items() if head.startswith(magic)), "")


def _from_table(file: str, kind: str) -> Iterator[Any]:
    """Yield the rows of a Parquet or Arrow file."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with open_file(file) as stream:
            if kind == ".parquet":
                table = ParquetFile(stream)
                batches, schema = table.iter_batches(batch_size=1024), table.schema_arrow
            else:
                is_stream = _is_stream(file)
                table = pyarrow.ipc.open_stream(stream) if is_stream else pyarrow.ipc.open_file(stream)
                batches = iter(table) if is_stream else map(table.get_batch, range(table.num_record_batches))
                schema = table.schema
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from with_class_names(rows, _class_names(schema))
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{file} is no {kind[1:].title()} file, or is damaged ({error})") from None


def _is_stream(file: str) -> bool:
    with open_file(file) as stream:
        return bool(stream.read(6) != b"ARROW1")


def _from_csv(file: str, stem: str, delimiter: str) -> Iterator[Found]:
    with open_file(file) as stream, TextIOWrapper(cast(IO[bytes], stream), encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text, strict=True, delimiter=delimiter)
        try:
            names = next(rows, [])
            if len(names) == 1 and (others := [mark for mark in ";\t|" if mark in names[0]]):
                raise ValueError(
                    f"{file} separates its columns by {others[0]!r}, expected {delimiter!r}: "
                    f"write it so, or pass pandas.read_csv({file!r}, sep={others[0]!r})"
                )
            for number, row in enumerate(filter(None, rows)):
                # A row of another width than the header is no record. Each format says so of a value that is no object.
                record = dict(zip(names, row, strict=True)) if len(row) == len(names) else row
                yield Found(record, f"{file}, row {number} (line {rows.line_num})", f"{stem}:{number}")
        except (csv.Error, UnicodeDecodeError, *DAMAGED) as error:
            raise ValueError(
                f"{file} is not CSV in UTF-8 ({error}{encoding_hint(error)}), near line {rows.line_num}"
            ) from None


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
    except RecursionError:
        if first.startswith(b"{") or _holds_lines(file):
            return None  # the reader of lines names the record
        raise ValueError(f"{file}: nested too deeply, more than {MAX_DEPTH} levels") from None
    except ValueError as error:
        if isinstance(error, MissingPackageError) or not first:
            raise  # the file could not be opened
        if first.startswith(b"{") or _holds_lines(file):
            return None  # JSON lines with a damaged first line, which the reader of lines names
        raise ValueError(f"{file} starts like a JSON array and is none ({error}{encoding_hint(error)})") from None
    if isinstance(value, dict) and (
        set(value) <= _FIELDS_OF_LISTS or not all(isinstance(records, list) for records in value.values())
    ):
        return [value]  # one record, alone in its file
    return cast("list[Any] | dict[str, list[Any]]", value)


def _holds_lines(file: str) -> bool:
    """Tell whether most of the first lines after the first one are objects by themselves."""
    with open_file(file) as stream:
        lines = list(islice((line for line in stream if line.strip(_BLANK)), 1, _N_LINES))
    return bool(2 * sum(line.lstrip().startswith(b"{") and _is_json(line) for line in lines) > len(lines))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8-sig"))
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


class LabelAccount:
    """Which labels were read, and which of them a skipped record took along."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def add(self, labels: Iterable[object], *, lost: bool) -> None:
        """Add the labels of a record, as they are written."""
        names = Counter(_label_name(label) for label in labels if label is not None)
        self._read += names
        if lost:
            self._lost += names

    def report(self, counts: Counter[str]) -> None:
        """Add the number of labels that were lost to the counts, for each label."""
        for name, n in sorted(self._lost.items()):
            counts[f"{_LOST}{name}, of {self._read[name]} ({n / self._read[name]:.0%})"] += n


def lost_labels(counts: Counter[str]) -> str:
    """Return a sentence on the labels that skipped records took along. "" if there are none."""
    lost = ", ".join(f"{n} labels {key.removeprefix(_LOST)}" for key, n in counts.items() if key.startswith(_LOST))
    return f". With them went {lost}" if lost else ""


def _label_name(label: object) -> str:
    if isinstance(label, float) and label not in (0.0, 1.0, -1.0):
        return "a probability below 0.5" if label < 0.5 else "a probability from 0.5 on"
    return f"{label!r:.20}"


def check_reading(on_error: object, limit: object) -> None:
    """Raise ValueError for an unknown ``on_error`` or a ``limit`` that is no positive number."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit is {limit!r}, expected a positive number of records, or None for all")


def named_skips(skipped: list[str]) -> list[str]:
    """Return a line for each record that was left out, the first twenty."""
    rest = [f"skipped: {len(skipped) - _N_NAMED:,} more"] if len(skipped) > _N_NAMED else []
    return [f"skipped: {reason}" for reason in skipped[:_N_NAMED]] + rest


def skipped_in(counts: Counter[str], prefix: str = MALFORMED) -> tuple[int, str]:
    """Return how many records were skipped, and why, as in "2 not JSON, 1 without steps"."""
    skipped = {key.removeprefix(prefix): n for key, n in counts.items() if key.startswith(prefix)}
    return sum(skipped.values()), ", ".join(f"{n} {reason}" for reason, n in skipped.items())


def warn_of_skipped(counts: Counter[str], named_by: str = "the description names", *, rows: bool = False) -> None:
    """Warn if records were skipped: the file may be damaged, or of another format. Warn if splits were merged."""
    if counts[MERGED]:
        warnings.warn(
            f"{counts[MERGED]} records of several splits were read as one: pass split='train' or another for one of "
            "them",
            UserWarning,
            stacklevel=4,
        )
    with_labels, places = lost_labels(counts), "them" if rows else "their files and lines"
    for prefix, what in (
        (MALFORMED, "rows were left out or lost their label" if rows else "malformed records were skipped"),
        (PUBLISHED, "rows that contradict themselves, as published, were left out"),
    ):
        n_skipped, reasons = skipped_in(counts, prefix)
        if n_skipped:
            warnings.warn(
                f"{n_skipped} {what} ({reasons}); {named_by} {places}{with_labels}", UserWarning, stacklevel=4
            )
