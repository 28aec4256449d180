"""The parts of a run beside its file: what is scored is kept there until the file is whole, and two runs never mix."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.utils.files import locked, replacing

if TYPE_CHECKING:
    import pyarrow

METADATA = b"prmkit"
"""Key of the schema's metadata, a JSON object: classes, label order, model, source, settings, version and command."""
_RUN, _LOCK, _JOINED = "run.json", "lock", "joined"
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_GROUP_ROWS, _GROUP_BYTES = 1 << 13, 1 << 22
"""Number of rows, or of bytes in them, after which a file begins a new group of rows."""
_N_IDS = 1 << 21
"""Number of ids that are compared at once."""


class Parts:
    """The parts of one run in the folder ``OUT.parts``, an atomic file for each block.

    Parameters
    ----------
    out : path
        File that the parts become.
    run : mapping
        What the scores depend on, as JSON. Parts and a file of another run are refused.
    resume : bool
        Whether to go on with parts of the same run. If not, parts and file are replaced.
    """

    def __init__(self, out: Path, run: Mapping[str, Any], resume: bool) -> None:
        self.out, self.run, self.resume = out, dict(run), resume
        self.folder = out.with_name(f"{out.name}.parts")
        self.n_rows: dict[int, int] = {}

    @contextmanager
    def opened(self) -> Iterator[bool]:
        """Hold the folder for this process alone, and tell whether the file is whole already."""
        check_out(self.out)
        if self.folder.exists() and not self.folder.is_dir():
            raise FileExistsError(
                f"{self.folder} is a file, and a folder of this name has to hold the parts of {self.out.name} until it "
                "is whole: rename that file, or choose another name"
            )
        with _told_if_full(self.folder):
            self.folder.mkdir(exist_ok=True)
            busy = f"another process writes {self.out} now: wait for it, or choose another name"
            try:
                with locked(self.folder / _LOCK, busy):
                    try:
                        is_whole = self._begin()
                        yield is_whole
                        if self.out.exists():
                            for file in self.folder.iterdir():
                                if file.name != _LOCK:
                                    file.unlink()
                    finally:
                        # Only who holds the lock knows that no other process is about to write parts.
                        if not any(self.folder.glob("*.parquet")):
                            (self.folder / _RUN).unlink(missing_ok=True)
            finally:
                with suppress(OSError):  # parts, or the lock of another process, are left
                    self.folder.rmdir()

    def _begin(self) -> bool:
        """Check what stands there already, and return whether the file is whole."""
        if self.out.exists():
            self._check(read_about(self.out)["run"], self.out, "is there already, of another run")
            if self.resume:
                return True
        place = self.folder / _RUN
        goes_on = self.resume and place.exists()  # parts without it could be of any run
        for file in self.folder.iterdir():
            if file.name not in (_LOCK, _RUN) and (not goes_on or file.suffix != ".parquet" or file.name[0] == "."):
                file.unlink()  # a process that was killed left it half written
        if goes_on:
            self._check(json.loads(place.read_text(encoding="utf-8")), self.folder, "holds parts of another run")
        else:
            with replacing(place) as file:
                file.write_text(json.dumps(self.run), encoding="utf-8")
        self.n_rows = {int(file.stem): n for file in self.folder.glob("*.parquet") if (n := _rows_in(file)) is not None}
        return False

    def _check(self, run: Mapping[str, Any], place: Path, what: str) -> None:
        if self.resume and run != self.run:
            differing = differences(run, self.run)
            raise FileExistsError(
                f"{place} {what}: it differs in {differing}. Choose another name, or pass resume=False to replace it"
            )

    def has(self, number: int, n_rows: int) -> bool:
        """Tell whether a block is scored."""
        return self.n_rows.get(number) == n_rows

    def write(self, number: int, table: pyarrow.Table) -> None:
        """Keep the scores of a block."""
        from pyarrow import parquet

        with replacing(self._file(number)) as file, file.open("wb") as stream:
            parquet.write_table(table, stream)
            stream.flush()
            os.fsync(stream.fileno())
        self.n_rows[number] = table.num_rows

    def join(self, numbers: Iterable[int], about: Mapping[str, Any], schema: pyarrow.Schema) -> tuple[int, int]:
        """Make the file of the parts with these numbers, and return its rows and the steps without a score."""
        kept = sorted(numbers)
        joined = self.folder / _JOINED
        known = _about(self._file(kept[0])) if kept else {"classes": [], "label_order": []}
        about = {**known, **about, "run": self.run}
        if self.run["shard"] is not None:
            about["blocks"] = [self.n_rows[number] for number in kept]
        counted = write_tables(joined, (read_tables(self._file(number)) for number in kept), about, schema)
        joined.replace(self.out)
        return counted

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:09d}.parquet"


def check_out(out: Path) -> None:
    """Raise if a file of scores cannot be written to ``out``."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"the folder {out.parent} does not exist: make it first")
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder, expected the name of a file such as {out / 'scores.parquet'}")
    if out.suffix != ".parquet":
        raise ValueError(f"{out.name} does not end in .parquet, and scores are written as Parquet: rename it")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"nothing can be written to the folder {out.parent}: choose another one")


@contextmanager
def _told_if_full(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno,
            f"the disk is full, or files may not be so large ({error.strerror}): what is scored is kept in {folder}. "
            "Make room, and do the same again: it goes on from there",
        ) from error


def differences(run: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return in words in which settings two runs differ."""
    named = [
        f"{name} ({run.get(name)!s:.60} and {other.get(name)!s:.60})"
        for name in {**run, **other}
        if run.get(name) != other.get(name)
    ]
    return ", ".join(named) or "nothing"


def read_about(file: Path) -> dict[str, Any]:
    """Return the metadata of a file of scores. ValueError says that it is none."""
    about = _about(file)
    if "run" not in about:
        raise ValueError(
            f"{file} was not written by score_file or extract_states, and is left as it is: choose another name"
        )
    return about


def _about(file: Path) -> dict[str, Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        about = (parquet.read_schema(file).metadata or {}).get(METADATA, b"{}")
        found: dict[str, Any] = json.loads(about)
    except (pyarrow.ArrowInvalid, ValueError):
        return {}
    return found


def _rows_in(file: Path) -> int | None:
    """Return the number of rows of a part. One that a crash of the machine damaged is deleted, and None."""
    import pyarrow
    from pyarrow import parquet

    try:
        n_rows: int = parquet.read_metadata(file).num_rows
    except (pyarrow.ArrowInvalid, OSError):
        file.unlink()
        return None
    return n_rows


def read_tables(file: Path) -> Iterator[pyarrow.Table]:
    """Yield the rows of a file, a group at a time."""
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        for group in range(opened.num_row_groups):
            yield opened.read_row_group(group, use_threads=False)


def write_tables(
    file: Path, parts: Iterable[Iterable[pyarrow.Table]], about: Mapping[str, Any], schema: pyarrow.Schema
) -> tuple[int, int]:
    """Write tables one after the other, in groups of rows of a good size, and return the rows and the ``n_cut``."""
    import pyarrow
    from pyarrow import parquet

    schema = schema.with_metadata({METADATA: json.dumps(about)})
    waiting: list[pyarrow.Table] = []
    n_rows = n_cut = n_bytes = 0
    with file.open("wb") as stream, parquet.ParquetWriter(stream, schema) as writer:

        def write() -> None:
            if waiting:
                together = pyarrow.concat_tables(waiting)
                writer.write_table(together.replace_schema_metadata(schema.metadata), together.num_rows)
                waiting.clear()

        for table in (table for tables in parts for table in tables):
            waiting.append(table.replace_schema_metadata(None))
            n_rows += table.num_rows
            n_cut += int(np.sum(table["n_cut"].to_numpy()))
            n_bytes += table.nbytes
            if sum(one.num_rows for one in waiting) >= _GROUP_ROWS or n_bytes >= _GROUP_BYTES:
                write()
                n_bytes = 0
        write()
    with file.open("rb+") as whole:
        os.fsync(whole.fileno())
    return n_rows, n_cut


def doubled_ids(file: Path, n_rows: int) -> tuple[int, str]:
    """Return how many rows have the id of another row before them, and one such id, in memory of a fixed size."""
    n_passes = max(1, -(-n_rows // _N_IDS))
    n_doubled, found = 0, None
    for number in range(n_passes):
        parts = [hashes[hashes % np.uint64(n_passes) == number] for _, hashes in _ids(file)]
        values, n_of = np.unique(np.concatenate(parts) if parts else np.empty(0, np.uint64), return_counts=True)
        n_doubled += int((n_of - 1).sum())
        found = values[n_of > 1][0] if found is None and (n_of > 1).any() else found
    if found is None:
        return 0, ""
    return n_doubled, next(names[int(i)] for names, hashes in _ids(file) for i in np.flatnonzero(hashes == found))


def _ids(file: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(1 << 14, columns=["id"], use_threads=False):
            names = batch.column(0).to_pylist()
            digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
            yield names, np.frombuffer(digests, dtype="<u8")
