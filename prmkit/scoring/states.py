"""``extract_states``: the states of a source of any size, computed once by the engine of ``score_file``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from prmkit.data.formats.sources import OnError, Source
from prmkit.data.solution import Solution
from prmkit.scoring.blocks import BLOCK_STEPS, BlockWorker
from prmkit.scoring.files import Engine, shard_file, shard_numbers, write_blocks
from prmkit.scoring.parts import differences, read_about


class ReadsStates(Protocol):
    """A featurizer of states: ``PRMFeaturizer(kind="states", …)``."""

    def state_extractor(self) -> BlockWorker:
        """Return what writes the states of a block."""


def extract_states(
    featurizer: ReadsStates,
    source: Source | Iterable[Solution],
    out: str | Path,
    *,
    format: str | None = None,  # noqa: A002 (the word of the field)
    engine: Engine = "local",
    shard: tuple[int, int] | str | None = None,
    resume: bool = True,
    n_workers: int | None = None,
    fields: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
    block_steps: int = BLOCK_STEPS,
    command: str | None = None,
    show_progress: bool = True,
) -> Path:
    """Compute the states of the solutions of a source of any size into a folder, in constant memory.

    ``PRMFeaturizer(kind="states", …, states=FOLDER)`` reads the folder, on a machine without the language model too.
    An interrupted run goes on where it was, as that of :func:`score_file` does.

    Parameters
    ----------
    featurizer : PRMFeaturizer
        One with ``kind="states"``: its model, layers, pooling, marking, precision and device count.
    source : Source, or iterable of Solution
        What :func:`iter_scores` takes.
    out : str or path
        Folder to write into. It is made if need be. The file in it is ``states.parquet``, that of a shard
        ``states-1-of-4.parquet``. All shards may go to one folder, which is read as a whole: nothing is merged.
    format : str, optional
        Format of the source. If None, the first records tell it.
    engine : {"local", "ray"}, default="local"
        Where the model runs: in processes on this machine, or in actors of Ray.
    shard : (int, int) or str, optional
        ``(i, n)`` or ``"i/n"``, with i from 1 to n: read the i-th of n parts of the source, as in :func:`score_file`.
    resume : bool, default=True
        Whether to go on with what the same call has computed before. If False, all is computed anew and replaced.
    n_workers : int, optional
        Number of processes, each of which loads the model. If None, one: this one (with "ray", what the cluster has).
    fields, options, on_error, limit, split : object, optional
        As in :func:`iter_scores`.
    block_steps : int, default=4096
        Number of steps that are read at once and kept as one part. A killed run loses at most one per worker.
    command : str, optional
        What was typed, for the metadata of the file.
    show_progress : bool, default=True
        Whether to show a bar with rate and remaining time, in a terminal.

    Returns
    -------
    Path
        The folder. Its file has one row per solution: ``id``, ``keys`` (16 bytes per step, a hash of the problem and
        the steps up to it), ``lengths`` (tokens of each step that was read), ``places`` (for each step, which of those
        it is, -1 for none), ``states`` (float16), ``columns`` (float32) and ``n_cut``, the number of steps that the
        model cannot read. The metadata hold the fingerprint of the model and all settings.

    Raises
    ------
    TypeError, ValueError
        If the featurizer makes no states, a setting has a senseless value, or a record breaks its format.
    FileNotFoundError, ConnectionError
        If the model or the source cannot be read, or the folder in which ``out`` is to be does not exist.
    FileExistsError
        If a file, or parts, of another run are there.
    BlockingIOError
        If another process writes the same file.

    Warns
    -----
    UserWarning
        If records were skipped, steps have no states, or ids stand there more than once.

    Examples
    --------
    >>> from prmkit import PRMFeaturizer
    >>> extract_states(PRMFeaturizer(), [], "states")
    Traceback (most recent call last):
        ...
    ValueError: kind='embeddings' makes no states: pass PRMFeaturizer(kind='states', model=…)
    """
    if not hasattr(featurizer, "state_extractor"):
        raise TypeError(
            f"featurizer is {type(featurizer).__name__}, expected PRMFeaturizer(kind='states', model=…, layer=…, …)"
        )
    worker = featurizer.state_extractor()
    folder = Path(out).expanduser()
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file, expected a folder to write states into: choose another name")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"the folder {folder.parent} does not exist: make it first")
    own, of = folder / "states.parquet", shard_numbers(shard)
    if resume:
        _refuse_other_states(folder, own if of is None else shard_file(own, of), worker)
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        write_blocks(
            worker,
            source,
            own,
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
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
    return folder


def _refuse_other_states(folder: Path, own: Path, worker: BlockWorker) -> None:
    """Raise before a pass is made whose states could not be read beside those in the folder."""
    files = sorted(set(folder.glob("*.parquet")) - {own})
    # The identity is a hash of the files of the model.
    asked = worker.identity()[1].get("states", {}) if files else {}
    for file in files:
        if (found := read_about(file)["run"].get("states", {})) != asked:
            raise FileExistsError(
                f"{file} holds states of other settings, and a folder is read as a whole: they differ in "
                f"{differences(found, asked)}. Choose another folder, or delete that file"
            )
