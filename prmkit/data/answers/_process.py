"""math-verify in a process of its own, because an expression may take time or memory without end.

math-verify's own time limit needs the main thread and Unix, and cannot end a computation in C.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import weakref
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import lru_cache
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

# Bytes of address space.
_MEMORY_LIMIT = 4 * 2**30
_SECONDS_TO_START = 120.0
# An idle process ends by itself: it must not outlive a killed owner.
_IDLE_SECONDS = 300
# A request may wait this many times as long as it may compute, because other programs take their turns.
_PATIENCE = 4.0
_HAS_CPU_TIMER = hasattr(signal, "ITIMER_PROF")
_FOREIGN: list[ProcessPoolExecutor] = []


class AnswerProcess:
    """Compares answers in another process. It starts when first asked, and again after it was killed.

    Threads may share an instance: it answers one request at a time. A copy, or a forked process, starts
    its own.

    Parameters
    ----------
    seconds : float
        Computing time for one request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._forget()

    def __getstate__(self) -> dict[str, float]:
        return {"_seconds": self._seconds}

    def __setstate__(self, state: dict[str, float]) -> None:
        self._seconds = state["_seconds"]
        self._forget()

    @property
    def pid(self) -> int | None:
        """Number of the process, None if there is none."""
        return self._pid

    def ask(self, a: str, b: str | None) -> bool | None:
        """Return whether two answers are equal.

        Parameters
        ----------
        a : str
            Answer.
        b : str or None
            Answer to compare it with. With None, the reply says whether ``a`` can be evaluated.

        Returns
        -------
        bool or None
            None if an answer cannot be read, or the process ends itself, such as for lack of memory.

        Raises
        ------
        TimeoutError
            If the comparison takes too long.
        RuntimeError
            If the process does not start.
        """
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            try:
                return self._reply(a, b)
            except BrokenProcessPool:
                # The process may have died before the request. A second death is this request's fault.
                self._stop()
            try:
                return self._reply(a, b)
            except BrokenProcessPool:
                self._stop()
                return None

    def _reply(self, a: str, b: str | None) -> bool | None:
        if self._executor is None:
            self._start()
        assert self._executor is not None
        start = time.perf_counter()
        try:
            future = self._executor.submit(_compare_within, self._seconds, a, b)
            reply: bool | None = future.result(_PATIENCE * self._seconds)
            return reply
        except FutureTimeoutError:
            self._stop()
        except BrokenProcessPool:
            # The timer ends the process too. Less waiting than computing means another reason.
            if time.perf_counter() - start < self._seconds:
                raise
            self._stop()
        raise TimeoutError(f"no reply within {self._seconds} s of computing")

    def close(self) -> None:
        """End the process, if there is one."""
        if self._owner == os.getpid():
            with self._lock:
                self._stop()

    def _forget(self) -> None:
        """Begin without a process. One that this process did not start is not its own to end."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._executor: ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self._ending: Any = None

    def _start(self) -> None:
        executor = ProcessPoolExecutor(1, timeout=_IDLE_SECONDS, initializer=_prepare)
        self._executor, self._ending = executor, weakref.finalize(self, _end, executor, os.getpid())
        try:
            self._pid = executor.submit(os.getpid).result(_SECONDS_TO_START)
        except (FutureTimeoutError, BrokenProcessPool) as error:
            self._stop()
            raise RuntimeError(
                "the process that runs math-verify did not start: does `python -c 'import math_verify'` run?"
            ) from error

    def _stop(self) -> None:
        if self._ending is not None:
            self._ending()
        self._executor = self._pid = self._ending = None


def _end(executor: ProcessPoolExecutor, owner: int) -> None:
    if os.getpid() == owner:
        executor.shutdown(kill_workers=True)
    else:
        # After a fork the executor belongs to the parent. Its collection here would disturb the parent's.
        _FOREIGN.append(executor)


def _prepare() -> None:
    """Set the process up: a limit of memory, no output, and the libraries loaded before the first request."""
    # Whatever a library prints is not for the user's terminal.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    logging.disable(logging.CRITICAL)
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(_MEMORY_LIMIT, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    import math_verify  # noqa: F401


def _compare_within(seconds: float, a: str, b: str | None) -> bool | None:
    """Compare two answers. The system ends this process after some seconds of computing, even in C code."""
    if _HAS_CPU_TIMER:
        # Without a handler, the signal of this timer ends the process.
        signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return _compare(a, b)
    except Exception:  # whatever it is, an answer cannot be read
        return None
    finally:
        if _HAS_CPU_TIMER:
            signal.setitimer(signal.ITIMER_PROF, 0.0)


def _compare(a: str, b: str | None) -> bool | None:
    """Return whether two answers are equal in either order."""
    from math_verify import verify
    from sympy import Integer

    first = _parsed(a)
    second = [Integer(1)] if b is None else _parsed(b)
    if not first or not second:
        return None
    no_limit: dict[str, Any] = {"timeout_seconds": None}
    is_equal = verify(first, second, **no_limit) or verify(second, first, **no_limit)
    return True if b is None else bool(is_equal)


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> Any:
    """Return the expressions that math-verify reads in an answer, an empty list if it reads none."""
    from math_verify import parse

    return parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
