"""Files of scores: ``score_file`` scores a source of any size into one, and ``merge_scores`` joins those of shards."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm.auto import tqdm

from prmkit.data.formats.solutions import check_apart, iter_solutions_of, n_records, source_state
from prmkit.data.formats.sources import OnError, Source, name_of, skipped_in
from prmkit.data.solution import Solution
from prmkit.fitted import FittedClassifier, Label
from prmkit.scoring.blocks import BLOCK_STEPS, Block, BlockScorer, BlockWorker, blocks_of, check_numbers, tell_of
from prmkit.scoring.parts import Parts, check_out, differences, doubled_ids, read_about, read_tables, write_tables
from prmkit.utils.files import replacing

if TYPE_CHECKING:
    import pyarrow

Engine = Literal["local", "ray"]
_ENGINES = {"local": "prmkit.scoring.files", "ray": "prmkit.scoring._ray"}
"""Where the function ``scored_blocks(scorer, blocks, n_workers)`` of each engine is."""
_PER_WORKER = 2
"""Number of blocks per worker that are in memory at once."""


def score_file(
    model: FittedClassifier | str | Path,
    source: Source | Iterable[Solution],
    out: str | Path,
    *,
    format: str | None = None,  # noqa: A002 (the word of the field)
    engine: Engine = "local",
    shard: tuple[int, int] | str | None = None,
    resume: bool = True,
    batch_tokens: int | None = None,
    n_workers: int | None = None,
    fields: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
    label_order: Sequence[Label] | None = None,
    block_steps: int = BLOCK_STEPS,
    command: str | None = None,
    show_progress: bool = True,
) -> Path:
    """Score the solutions of a source of any size into a Parquet file, in constant memory.

    What is scored is kept in the folder ``OUT.parts`` until the file is whole. So after an interruption, even kill -9,
    the same call goes on where the last one was, and the file is the one of an undisturbed run.

    Parameters
    ----------
    model : fitted classifier of steps, str or path
        A fitted classifier, a folder that prmkit saved, or an existing PRM by its folder or hub name, also with its
        layout in front (``"skywork:FOLDER"``).
    source : Source, or iterable of Solution
        What :func:`iter_scores` takes: files of any format with labels or without, sampled solutions, a data set of
        the hub, a table, or solutions.
    out : str or path
        File to write, which ends in ``.parquet``. Of a shard, its number is added: ``scores-1-of-4.parquet``.
    format : str, optional
        Format of the source. If None, the first records tell it.
    engine : {"local", "ray"}, default="local"
        Where the model runs: in processes on this machine, or in actors of Ray.
    shard : (int, int) or str, optional
        ``(i, n)`` or ``"i/n"``, with i from 1 to n: score the i-th of n parts of the source. The source is cut into
        blocks, which end with the solution that fills them up to ``block_steps``, and shard i gets blocks i, i + n and
        so on. :func:`merge_scores` joins the files.
    resume : bool, default=True
        Whether to go on with what the same call has scored before. If False, everything is scored anew, and a file of
        scores at ``out`` is replaced.
    batch_tokens : int, optional
        Number of tokens in a batch of a language model. If None, the model's own.
    n_workers : int, optional
        Number of processes that score, each of which loads the model. If None, one: this one (with "ray", what the
        cluster has).
    fields, options, on_error, limit, split, label_order : object, optional
        As in :func:`iter_scores`.
    block_steps : int, default=4096
        Number of steps that are scored at once and kept as one part. A killed run loses at most one per worker.
    command : str, optional
        What was typed, for the metadata of the file.
    show_progress : bool, default=True
        Whether to show a bar with rate and remaining time, in a terminal.

    Returns
    -------
    Path
        The file. It has one row per solution, in the order of the source: ``id``, ``proba`` (a list of probabilities
        for each step), ``rewards`` and ``risks`` (a number for each step), ``min``, ``product``, ``mean`` and ``last``
        of the rewards, ``p_no_error``, ``first_error_distribution`` (a number for each step, then P(no error)), and
        ``n_cut``, the number of steps that the model cannot read. Their numbers are null, and so are those of their
        solution as a whole. ``pyarrow.parquet.read_schema(out).metadata[b"prmkit"]`` is JSON with classes, label order,
        model, source, settings, version, command and counts of records.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the model or the source cannot be read, or the folder of ``out`` does not exist.
    FileExistsError
        If a file, or parts, of another run are there, or a file for which records were skipped, and none may be.
    BlockingIOError
        If another process writes the same file.
    OSError
        If the disk is full. What is scored is kept.
    ValueError
        If a setting has a senseless value, a record breaks its format (with ``on_error="raise"``), or nothing is left.

    Warns
    -----
    UserWarning
        If records were skipped, steps have no score, or ids stand there more than once.

    Examples
    --------
    >>> import tempfile
    >>> import pandas
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> X, y = make_arithmetic_solutions(20, 2, random_state=0)
    >>> clf = PRMClassifier(StepStatistics()).fit(X, y)
    >>> rows = [{"id": "a", "problem": "2 + 3?", "steps": ["2 + 3 = 6.", "It is 6."]}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame = pandas.read_parquet(score_file(clf, rows, f"{folder}/scores.parquet"))
    >>> frame.id.tolist(), [len(risks) for risks in frame.risks]
    (['a'], [2])
    """
    check_numbers(batch_tokens=batch_tokens)
    return write_blocks(
        BlockScorer(model, label_order, batch_tokens),
        source,
        out,
        reading={"format": format, "fields": fields, "options": options, "limit": limit, "split": split},
        engine=engine,
        shard=shard,
        resume=resume,
        n_workers=n_workers,
        on_error=on_error,
        block_steps=block_steps,
        command=command,
        show_progress=show_progress,
    )


def write_blocks(
    worker: BlockWorker,
    source: Source | Iterable[Solution],
    out: str | Path,
    *,
    reading: Mapping[str, Any],
    engine: Engine,
    shard: tuple[int, int] | str | None,
    resume: bool,
    n_workers: int | None,
    on_error: OnError,
    block_steps: int,
    command: str | None,
    show_progress: bool,
) -> Path:
    """Write the file of what a worker makes of each block of a source. ``reading`` says how the source is read."""
    check_numbers(n_workers=n_workers, block_steps=block_steps)
    if engine not in _ENGINES:
        raise ValueError(f"engine is {engine!r}, expected one of {', '.join(map(repr, _ENGINES))}")
    out, of = Path(out).expanduser(), shard_numbers(shard)
    out = out if of is None else shard_file(out, of)
    check_out(out)
    check_apart(source, out)
    named, identity = worker.identity()
    run = {
        "version": _version(),
        **identity,
        "source": source_state(source, reading["split"]),
        "settings": {name: _plain(value) for name, value in reading.items()},
        "block_steps": block_steps,
        "shard": None if of is None else list(of),
    }
    counts: Counter[str] = Counter()
    parts = Parts(out, run, resume)
    with parts.opened() as is_whole:
        if is_whole:
            if on_error == "raise":
                _check_all_read(out)
            return out
        solutions = iter_solutions_of(source, on_error=on_error, counts=counts, **reading)
        blocks = _Missing(blocks_of(map(_lean, count(), solutions), block_steps, counts), parts, of)
        scored = scored_blocks if engine == "local" else import_module(_ENGINES[engine]).scored_blocks
        total = n_records(source, reading["limit"])
        with tqdm(
            total=total, desc=worker.doing, unit="record", disable=None if show_progress else True, delay=1
        ) as bar:
            for block, table in scored(worker, blocks.over(bar), n_workers):
                parts.write(block.number, table)
                bar.update(max(0, block.n_records - bar.n))
        if not blocks.n_solutions:
            tell_of(counts, 0, 0)
        about = {"model": named, "source": name_of(source), "command": command, "counts": dict(counts)}
        n_rows, n_cut = parts.join(blocks.own, about, worker.schema())
    tell_of(counts, blocks.n_solutions, n_cut, worker.doing, stacklevel=4)
    _tell_of_ids(out, n_rows, stacklevel=4)
    return out


def _check_all_read(out: Path) -> None:
    """Raise if records were skipped for a file. Its parts need no such check: a source is read anew, and whole."""
    n_skipped, reasons = skipped_in(Counter(read_about(out)["counts"]))
    if n_skipped:
        raise FileExistsError(
            f"{out} is there already, made with on_error='skip', and {n_skipped} malformed records were skipped "
            f"({reasons}). Pass on_error='skip' to accept it, or resume=False to replace it"
        )


class _Missing:
    """The blocks of a shard that are not scored yet, and what was seen of the source while it was read."""

    def __init__(self, blocks: Iterable[Block], parts: Parts, shard: tuple[int, int] | None) -> None:
        self._blocks, self._parts = blocks, parts
        self._number, self._n_shards = shard or (1, 1)
        self.own: list[int] = []
        self.n_solutions = 0

    def over(self, bar: tqdm[Any]) -> Iterator[Block]:
        """Yield the blocks. The bar does not count what was scored before into its rate."""
        for block in self._blocks:
            self.n_solutions += len(block.solutions)
            if block.number % self._n_shards != self._number - 1:
                continue
            self.own.append(block.number)
            if not self._parts.has(block.number, len(block.solutions)):
                yield block
            elif not bar.disable and block.n_records > bar.n:
                bar.initial += block.n_records - bar.n
                bar.update(block.n_records - bar.n)


def _lean(number: int, solution: Solution) -> Solution:
    """Return a solution with an id, and without what else is known of it, which would go to other processes."""
    name = str(number if solution.id is None else solution.id)
    # Half of a pair of surrogates is no text that Parquet could hold.
    return Solution(solution.problem, solution.steps, name.encode("utf-8", "replace").decode())


def scored_blocks(
    scorer: BlockWorker, blocks: Iterable[Block], n_workers: int | None = None
) -> Iterator[tuple[Block, pyarrow.Table]]:
    """Score blocks in this process, or in several others, and yield each with its table as soon as it is there.

    Few blocks are in memory at a time. They may come in another order.

    Raises
    ------
    ChildProcessError
        If a process ended on its own.
    """
    if n_workers in (None, 1):
        yield from ((block, scorer(block.solutions)) for block in blocks)
        return
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = str(max(1, (os.cpu_count() or 1) // (n_workers or 1)))
    pool = ProcessPoolExecutor(
        n_workers, timeout=60, initializer=_begin_worker, initargs=(scorer,), env={"OMP_NUM_THREADS": threads}
    )
    waiting: dict[Future[pyarrow.Table], Block] = {}
    rest = iter(blocks)
    try:
        while True:
            room = _PER_WORKER * (n_workers or 1) - len(waiting)
            waiting |= {pool.submit(_score, block.solutions): block for block in islice(rest, room)}
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    except TerminatedWorkerError:
        raise ChildProcessError(
            "a process that scores has ended, perhaps since the memory is full: take fewer of them, or smaller batches "
            "or blocks. What is scored is kept"
        ) from None
    finally:
        pool.shutdown(wait=True, kill_workers=True)


_worker: list[BlockWorker] = []


def _begin_worker(scorer: BlockWorker) -> None:
    _worker[:] = [scorer]


def _score(solutions: Sequence[Solution]) -> pyarrow.Table:
    return _worker[0](solutions)


def merge_scores(out: str | Path, shards: Sequence[str | Path] | None = None, *, overwrite: bool = False) -> Path:
    """Join the files of all shards of a source, in the order of the source.

    Parameters
    ----------
    out : str or path
        File to write, the one that each shard was given.
    shards : list of str or path, optional
        Files of the shards. If None, those beside ``out`` are taken: ``scores-1-of-4.parquet`` and so on.
    overwrite : bool, default=False
        Whether to replace a file of scores that is there.

    Returns
    -------
    Path
        The file, with the rows that one process would have written. The files of the shards stay.

    Raises
    ------
    FileExistsError
        If ``out`` is there already.
    FileNotFoundError, ValueError
        If a shard is missing, comes twice, or is of another run, or a file is none of a shard.

    Warns
    -----
    UserWarning
        If ids stand there more than once.

    Examples
    --------
    >>> import tempfile
    >>> import pandas
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(20, 2, random_state=0)
    >>> clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in (1, 2):
    ...         file = score_file(clf, data, f"{folder}/scores.parquet", shard=(i, 2), block_steps=20)
    ...         print(file.name)
    ...     len(pandas.read_parquet(merge_scores(f"{folder}/scores.parquet")))
    scores-1-of-2.parquet
    scores-2-of-2.parquet
    40
    """
    from pyarrow.parquet import read_schema

    out = Path(out).expanduser()
    check_out(out)
    files = _shards_beside(out) if shards is None else [Path(file).expanduser() for file in shards]
    found = _checked_shards(files, out)
    if out.exists():
        read_about(out)
        if not overwrite:
            raise FileExistsError(f"{out} is there already: pass overwrite=True to replace it, or choose another name")
    _, first = found[0]
    known = next((about for _, about in found if about.get("classes")), first)
    about: dict[str, Any] = {**first, "blocks": None}
    about |= {name: known[name] for name in ("classes", "label_order") if name in known}
    about["run"] = {**first["run"], "shard": None}
    with replacing(out) as file:
        n_rows, _ = write_tables(file, _in_turn(found), about, read_schema(found[0][0]).remove_metadata())
    _tell_of_ids(out, n_rows)
    return out


def _shards_beside(out: Path) -> list[Path]:
    pattern = re.compile(rf"{re.escape(out.stem)}-\d+-of-\d+\.parquet")
    files = sorted(file for file in out.parent.iterdir() if pattern.fullmatch(file.name))
    if not files:
        raise FileNotFoundError(f"{out.parent} holds no file of a shard such as {shard_file(out, (1, 2)).name}")
    return files


def _checked_shards(files: Sequence[Path], out: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the files of all shards in their order, each with its metadata."""
    found: dict[int, tuple[Path, dict[str, Any]]] = {}
    first: dict[str, Any] | None = None
    n_shards = 0
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"the shard {file} does not exist")
        about = read_about(file)
        if about["run"]["shard"] is None:
            raise ValueError(f"{file} holds the scores of a whole source, expected those of a shard")
        number, n = about["run"]["shard"]
        one = comparable(about["run"])
        first, n_shards = first or one, n_shards or n
        if one != first or n != n_shards:
            what = differences(first, one) if n == n_shards else f"the number of shards ({n_shards} and {n})"
            raise ValueError(f"{file} is of another run than {files[0]}: they differ in {what}. Score it again")
        if number in found:
            raise ValueError(f"shard {number} of {n} comes twice: {found[number][0]} and {file}")
        found[number] = (file, about)
    if missing := [number for number in range(1, n_shards + 1) if number not in found]:
        names = ", ".join(f"{number}/{n_shards} ({shard_file(out, (number, n_shards)).name})" for number in missing[:5])
        raise FileNotFoundError(f"{len(missing)} of {n_shards} shards are missing: {names}. Score them first")
    return [found[number] for number in sorted(found)]


def comparable(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the shards of one source have in common, wherever their copies of it are."""
    source = run["source"]
    if isinstance(source, list):
        source = [{name: value for name, value in one.items() if name != "time"} for one in source]
    return {**run, "source": source, "shard": None}


def _in_turn(shards: Sequence[tuple[Path, dict[str, Any]]]) -> Iterator[list[pyarrow.Table]]:
    """Yield the rows of each block, one shard after the other."""
    readers = [_Rows(file) for file, _ in shards]
    sizes = [about["blocks"] for _, about in shards]
    for number in range(sum(map(len, sizes))):
        shard, place = number % len(shards), number // len(shards)
        if place >= len(sizes[shard]):
            raise ValueError(f"{shards[shard][0]} lacks block {number}: score this shard again")
        yield readers[shard].take(sizes[shard][place])


class _Rows:
    """The rows of a file, taken from its beginning."""

    def __init__(self, file: Path) -> None:
        self._tables = read_tables(file)
        self._left: pyarrow.Table | None = None

    def take(self, n: int) -> list[pyarrow.Table]:
        """Return the next rows."""
        taken: list[pyarrow.Table] = []
        while n:
            if self._left is None or not self._left.num_rows:
                self._left = next(self._tables)
            taken.append(self._left.slice(0, n))
            n -= taken[-1].num_rows
            self._left = self._left.slice(taken[-1].num_rows)
        return taken


def shard_numbers(shard: tuple[int, int] | str | None) -> tuple[int, int] | None:
    """Return the number of a shard, from 1, and the number of all."""
    if shard is None:
        return None
    parts = shard.split("/") if isinstance(shard, str) else shard
    try:
        number, n = (int(part) if isinstance(part, str) else part for part in parts)
        is_shard = all(type(one) is int for one in (number, n)) and 1 <= number <= n
    except (TypeError, ValueError):
        is_shard = False
    if not is_shard:
        raise ValueError(f"shard is {shard!r}, expected i/n with i from 1 to n, such as '1/4'")
    return number, n


def shard_file(out: Path, shard: tuple[int, int]) -> Path:
    """Return the file of a shard of the source whose file is ``out``."""
    return out.with_name(f"{out.stem}-{shard[0]}-of-{shard[1]}{out.suffix}")


def _plain(value: Any) -> Any:
    """Return a setting as JSON holds it, so that it compares equal after reading."""
    return json.loads(json.dumps(value, default=repr))


def _version() -> str:
    from prmkit import __version__

    return __version__


def _tell_of_ids(out: Path, n_rows: int, stacklevel: int = 3) -> None:
    n_doubled, name = doubled_ids(out, n_rows)
    if n_doubled:
        warnings.warn(
            f"{n_doubled:,} of {n_rows:,} rows of {out} have the id of a row before them, such as {name!r}: tell them "
            "apart by their order, which is that of the source",
            UserWarning,
            stacklevel=stacklevel,
        )
