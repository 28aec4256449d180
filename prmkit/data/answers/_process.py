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
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import lru_cache
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor

# Bytes of address space.
_MEMORY_LIMIT = 4 * 2**30
_SECONDS_TO_START = 120.0
# An idle process ends by itself: it must not outlive a killed owner.
_IDLE_SECONDS = 300
_HAS_CPU_TIMER = hasattr(signal, "ITIMER_PROF")
# A request may wait this many times as long as it may compute, because other programs take their turns. Where a timer
# of computing time ends the process, waiting is only limited for a process that sleeps.
_PATIENCE = 100.0 if _HAS_CPU_TIMER else 4.0
# Digits to which exact numbers are compared, and the largest difference, as a share of the larger one.
_DIGITS, _SHARE = 60, 1e-40
_OF_PARENTS: list[ProcessPoolExecutor] = []


class AnswerProcess:
    """Compares answers in another process, which may compute some seconds for one request.

    The process starts when first asked, and again after it was killed. Threads may share an instance: it answers one
    request at a time. A copy, or a forked process, starts its own. ``pid`` is None while there is no process.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._forget()

    def __reduce__(self) -> tuple[type[AnswerProcess], tuple[float]]:
        return AnswerProcess, (self.seconds,)

    def _forget(self) -> None:
        """Begin without a process. One of the parent is not this process's to end."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._executor: ProcessPoolExecutor | None = None
        self._ending: Any = None
        self.pid: int | None = None

    def ask(self, a: str, b: str | None) -> bool | None:
        """Return whether two answers are equal, None if the process cannot read one, or runs out of memory.

        With ``b=None``, the reply says whether ``a`` can be evaluated. A TimeoutError says that it takes too long.
        """
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            # The process may have died before the request. A second death is this request's fault.
            for _ in range(2):
                with suppress(BrokenProcessPool):
                    return self._reply(a, b)
                self._stop()
            return None

    def close(self) -> None:
        """End the process, if there is one."""
        if self._owner == os.getpid():
            with self._lock:
                self._stop()

    def _reply(self, a: str, b: str | None) -> bool | None:
        executor = self._executor or self._start()
        start = time.perf_counter()
        try:
            future = executor.submit(_compare_within, self.seconds, a, b)
            reply: bool | None = future.result(_PATIENCE * self.seconds)
            return reply
        except (FutureTimeoutError, BrokenProcessPool) as error:
            # The timer ends the process too. Less waiting than computing means that it died of something else.
            if isinstance(error, BrokenProcessPool) and time.perf_counter() - start < self.seconds:
                raise
        self._stop()
        raise TimeoutError(f"no reply within {self.seconds} s of computing")

    def _start(self) -> ProcessPoolExecutor:
        executor = ProcessPoolExecutor(1, timeout=_IDLE_SECONDS, initializer=_prepare)
        self._executor, self._ending = executor, weakref.finalize(self, _end, executor, os.getpid())
        try:
            self.pid = executor.submit(os.getpid).result(_SECONDS_TO_START)
        except (FutureTimeoutError, BrokenProcessPool) as error:
            self._stop()
            raise RuntimeError(
                "the process that runs math-verify did not start: does `python -c 'import math_verify'` run?"
            ) from error
        return executor

    def _stop(self) -> None:
        if self._ending is not None:
            self._ending()
        self._executor = self._ending = self.pid = None


def _end(executor: ProcessPoolExecutor, owner: int) -> None:
    if os.getpid() == owner:
        executor.shutdown(kill_workers=True)
    else:
        # After a fork the executor is the parent's. Its collection here would disturb the parent's process.
        _OF_PARENTS.append(executor)


def _prepare() -> None:
    """Set the process up: no output, a limit of memory, and the libraries loaded before the first request."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    logging.disable(logging.CRITICAL)
    # Windows has no such limit.
    with suppress(ImportError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = _MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(_MEMORY_LIMIT, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    # The first comparison loads further libraries, which must not count against the time of a request.
    with suppress(Exception):
        _compare("y+1", "1+y")


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
    from sympy import Expr, Float, Integer, Rational

    first = _parsed(a)
    second = [Integer(1)] if b is None else _parsed(b)
    if not first or not second:
        return None
    no_limit: dict[str, Any] = {"timeout_seconds": None}
    is_equal = verify(first, second, **no_limit) or verify(second, first, **no_limit)
    if b is None:
        return True
    pair = first[0], second[0]
    if not all(isinstance(number, Expr) and number.is_number for number in pair):
        return bool(is_equal)
    # math-verify takes all numbers near zero for equal, and adds 0.1 and 0.2 in doubles.
    one, other = (number.replace(lambda x: x.is_Float, lambda x: Rational(str(x))) for number in pair)
    larger = max(abs(one.evalf(_DIGITS)), abs(other.evalf(_DIGITS)))
    if not larger.is_finite:
        return bool(is_equal)
    if abs((one - other).evalf(_DIGITS)) <= _SHARE * larger:
        return True
    return bool(is_equal) and any(number.has(Float) for number in pair)


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> Any:
    """Return the expressions that math-verify reads in an answer, an empty list if it reads none."""
    from math_verify import parse

    return parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
