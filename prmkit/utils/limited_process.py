"""A function in a process of its own, which is killed when a call takes too long.

No limit inside a process is certain: a signal needs the main thread and Unix, and cannot end a computation in C.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor

_SECONDS_TO_START = 120.0
# An idle process ends by itself: it must not outlive a killed owner.
_IDLE_SECONDS = 300
_HAS_CPU_TIMER = hasattr(signal, "ITIMER_PROF")
# A request may wait this many times as long as it may compute, because other programs take their turns. Where a timer
# of computing time ends the process, waiting is only limited for a process that sleeps.
_PATIENCE = 100.0 if _HAS_CPU_TIMER else 4.0
_OF_PARENTS: list[ProcessPoolExecutor] = []
# What this process is asked for, if it is one of these processes.
_function: Callable[..., Any] | None = None


class LimitedProcess:
    """Calls a function in another process, which is killed when one call takes too long.

    The process starts when first asked, and again after it was killed. Threads may share an instance: it answers one
    request at a time. A copy, or a forked process, starts its own. ``pid`` is None while there is no process.

    ``function`` and ``prepare``, which runs once in a new process, are sent there. With ``computing=True``, the
    seconds are those of computing, so that a busy machine changes no answer. Otherwise they are those of waiting.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        seconds: float,
        *,
        prepare: Callable[[], None] | None = None,
        computing: bool = False,
    ) -> None:
        self.function = function
        self.seconds = seconds
        self.prepare = prepare
        self.computing = computing
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("function", "seconds", "prepare", "computing")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        """Begin without a process. One of the parent is not this process's to end."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._executor: ProcessPoolExecutor | None = None
        self._ending: Any = None
        self.pid: int | None = None

    def ask(self, *arguments: Any) -> Any:
        """Return what the function returns, or raise what it raises.

        A TimeoutError says that it takes too long. A ChildProcessError says that it ends the process.
        """
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            # The process may have died before the request. A second death is this request's fault.
            for _ in range(2):
                with suppress(BrokenProcessPool):
                    return self._reply(arguments)
                self._stop()
            raise ChildProcessError("the process ended while it worked on this request: out of memory, or a crash")

    def close(self) -> None:
        """End the process, if there is one."""
        if self._owner == os.getpid():
            with self._lock:
                self._stop()

    def _reply(self, arguments: tuple[Any, ...]) -> Any:
        executor = self._executor or self._start()
        start = time.perf_counter()
        try:
            future = executor.submit(_call_within, self.seconds if self.computing else None, arguments)
            return future.result(self.seconds * (_PATIENCE if self.computing else 1.0))
        except BrokenProcessPool:
            # The timer ends the process too. Less waiting than computing means that it died of something else.
            if not self.computing or time.perf_counter() - start < self.seconds:
                raise
        except FutureTimeoutError:
            # That of the function itself is its own answer.
            if future.done():
                raise
        self._stop()
        raise TimeoutError(f"no reply within {self.seconds} s{' of computing' if self.computing else ''}")

    def _start(self) -> ProcessPoolExecutor:
        executor = ProcessPoolExecutor(
            1, timeout=_IDLE_SECONDS, initializer=_begin, initargs=(self.function, self.prepare)
        )
        self._executor, self._ending = executor, weakref.finalize(self, _end, executor, os.getpid())
        try:
            self.pid = executor.submit(os.getpid).result(_SECONDS_TO_START)
        except (FutureTimeoutError, BrokenProcessPool) as error:
            self._stop()
            module = getattr(self.function, "__module__", None) or type(self.function).__module__
            raise RuntimeError(
                f"the process that answers did not start: does `python -c 'import {module}'` run?"
            ) from error
        return executor

    def _stop(self) -> None:
        if self._ending is not None:
            self._ending()
        self._executor = self._ending = self.pid = None


def limit_memory(n_bytes: int) -> None:
    """Limit the address space of this process for good. Windows has no such limit."""
    with suppress(ImportError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _end(executor: ProcessPoolExecutor, owner: int) -> None:
    if os.getpid() == owner:
        executor.shutdown(kill_workers=True)
    else:
        # After a fork the executor is the parent's. Its collection here would disturb the parent's process.
        _OF_PARENTS.append(executor)


def _begin(function: Callable[..., Any], prepare: Callable[[], None] | None) -> None:
    global _function
    _function = function
    if prepare is not None:
        prepare()


def _call_within(seconds: float | None, arguments: tuple[Any, ...]) -> Any:
    """Call the function. The system ends this process after some seconds of computing, even in C code."""
    assert _function is not None
    if seconds is None or not _HAS_CPU_TIMER:
        return _function(*arguments)
    # Without a handler, the signal of this timer ends the process.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return _function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
