"""Blocks scored by Ray Data: a model in each of several actors, on one machine or on many."""

from __future__ import annotations

import logging
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Semaphore, Thread
from typing import TYPE_CHECKING, Any

from prmkit.data.solution import Solution
from prmkit.scoring.blocks import Block, BlockWorker
from prmkit.utils.environment import missing_package

if TYPE_CHECKING:
    import pyarrow

_PER_WORKER = 4
"""Number of blocks per actor that are read and not yet scored."""
_MOST_ATTEMPTS = 3
"""Ray starts a dead actor again without end. A block that has ended so many of them is an error."""


def scored_blocks(
    scorer: BlockWorker, blocks: Iterable[Block], n_workers: int | None = None
) -> Iterator[tuple[Block, pyarrow.Table]]:
    """Score blocks in actors of Ray, and yield each with its table as soon as it is there.

    They may come in another order. This process reads the source, a few blocks ahead of the actors. An actor that dies
    is started again and gets its block again, three times at most. An error of the model is raised here as it is.

    Raises
    ------
    ImportError
        If Ray is not installed.
    ChildProcessError
        If a block has ended several actors, or Ray gives up, for example since actors cannot start.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, read_datasource
        from ray.exceptions import RayError
    except ImportError:
        raise missing_package("'ray[data]'", "engine='ray' (the extra ray)") from None

    with _running():
        cluster: Any = ray
        has = cluster.cluster_resources()
        gpus, cpus = int(has.get("GPU", 0)), int(has.get("CPU", 1))
        size = n_workers or gpus or max(1, cpus)
        each = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        stream = _Stream(blocks, _PER_WORKER * size)
        try:
            scores = read_datasource(stream.source(), num_cpus=0, override_num_blocks=1).map_batches(
                _Actor,
                fn_constructor_args=(scorer, _attempts()),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=size),
                udf_modifying_row_count=False,
                **each,
            )
            for batch in scores.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
                for row in batch.to_pylist():
                    found = pickle.loads(row["payload"])  # noqa: S301 (an actor of this run has written it)
                    if isinstance(found, BaseException):
                        raise found
                    yield stream.taken(row["number"]), found
        except RayError as error:
            said = " ".join(str(error).split())
            raise ChildProcessError(f"Ray has stopped: {said:.300}. What is scored is kept") from error
        finally:
            stream.close()
        stream.check()


def _attempts() -> Any:
    """Return an actor that counts how often each block was begun."""
    import ray

    class Attempts:
        def __init__(self) -> None:
            self._begun: Counter[int] = Counter()

        def begin(self, number: int) -> int:
            self._begun[number] += 1
            return self._begun[number]

    return ray.remote(num_cpus=0)(Attempts).remote()


class _Actor:
    """A model in a process of its own, which is loaded with the first block."""

    def __init__(self, scorer: BlockWorker, attempts: Any) -> None:
        self._scorer, self._attempts = scorer, attempts

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Return the scores of the one block in the batch, or the error of the model."""
        import pyarrow

        number = batch["number"][0].as_py()
        try:
            solutions = pickle.loads(batch["payload"][0].as_py())  # noqa: S301 (this run has written it)
            payload = pickle.dumps(self._score(number, solutions))
        except Exception as error:
            try:
                payload = pickle.dumps(error)
                pickle.loads(payload)  # noqa: S301
            except Exception:  # some errors cannot be sent
                payload = pickle.dumps(ChildProcessError(f"{type(error).__name__}: {error}"))
        return pyarrow.table({"number": [number], "payload": [payload]})

    def _score(self, number: int, solutions: Sequence[Solution]) -> pyarrow.Table:
        import ray

        if ray.get(self._attempts.begin.remote(number)) > _MOST_ATTEMPTS:
            raise ChildProcessError(
                f"block {number}, from solution {solutions[0].id} to {solutions[-1].id}, has ended {_MOST_ATTEMPTS} "
                "actors, perhaps since the memory is full: pass a smaller n_workers, batch_tokens or block_steps. What "
                "is scored is kept"
            )
        return self._scorer(solutions)


class _Stream:
    """The blocks on their way from this process to Ray, never more than ``most`` of them."""

    def __init__(self, blocks: Iterable[Block], most: int) -> None:
        from ray.util.queue import Queue

        self._blocks, self._room = blocks, Semaphore(most)
        self._queue: Any = Queue(actor_options={"num_cpus": 0})
        self._waiting: dict[int, Block] = {}
        self._error: BaseException | None = None
        self._closed = False
        self._thread = Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        try:
            for block in self._blocks:
                self._room.acquire()
                if self._closed:
                    return
                self._waiting[block.number] = block
                self._queue.put((block.number, pickle.dumps(block.solutions)))
        except BaseException as error:  # it is raised in the thread of the caller
            self._error = error
        finally:
            if not self._closed:
                self._queue.put(None)

    def source(self) -> Any:
        """Return the blocks as a source of Ray Data: one row each, its number in front."""
        from ray.data.block import BlockMetadata
        from ray.data.datasource import Datasource, ReadTask

        queue = self._queue

        def read() -> Iterator[pyarrow.Table]:
            import pyarrow

            while (one := queue.get()) is not None:
                yield pyarrow.table({"number": [one[0]], "payload": [one[1]]})

        class Blocks(Datasource):
            def estimate_inmemory_data_size(self) -> None:
                return None

            def get_read_tasks(self, *_: object, **__: object) -> list[ReadTask]:
                return [ReadTask(read, BlockMetadata(None, None, None, None))]

        made: Any = Blocks
        return made()

    def taken(self, number: int) -> Block:
        """Return a block that is scored, and make room for another one."""
        self._room.release()
        return self._waiting.pop(number)

    def close(self) -> None:
        """Stop reading, and end the queue."""
        self._closed = True
        self._room.release()
        self._thread.join()
        self._queue.shutdown(force=True)

    def check(self) -> None:
        """Raise the error of the source, and for a block that Ray has lost."""
        if self._error is not None:
            raise self._error
        if self._waiting:
            raise ChildProcessError(f"Ray has lost {len(self._waiting)} blocks. What is scored is kept: run it again")


@contextmanager
def _running() -> Iterator[None]:
    """Start Ray on this machine, if it does not run yet, and keep it quiet. ``RAY_ADDRESS`` names a cluster."""
    import ray
    from ray.data import DataContext

    own = not ray.is_initialized()
    if own:
        ray.init(include_dashboard=False, logging_level="error", log_to_driver=False)  # type: ignore[arg-type]
    context, log = DataContext.get_current(), logging.getLogger("ray.data")
    # A row is a block of many steps: were rows joined, one actor would get all.
    wanted = {"target_max_block_size": 1, "enable_progress_bars": False, "print_on_execution_start": False}
    before, level = {name: getattr(context, name) for name in wanted}, log.level
    log.setLevel(logging.ERROR)
    try:
        for name, value in wanted.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        log.setLevel(level)
        if own:
            ray.shutdown()
