"""math-verify in a process that is killed when it takes too long: its own timeouts need the main thread and Unix."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import weakref
from typing import Any

_SECONDS_TO_START = 120.0


class AnswerProcess:
    """Compares answers in another process, started when first asked and again after it was killed.

    Threads may share it: one request at a time. A copy in another process starts its own.

    Parameters
    ----------
    seconds : float
        For one request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"_seconds": self._seconds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_seconds"])  # type: ignore[misc]

    def ask(self, a: str, b: str | None) -> bool | None:
        """Return the worker's reply, None if it cannot read an answer, or ends itself, for lack of memory, say.

        Raises
        ------
        TimeoutError
            If the reply takes too long.
        RuntimeError
            If the worker does not start.
        """
        if self._owner != os.getpid():  # after a fork: the pipes are the parent's
            self._forget()
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps({"answers": [a, b], "seconds": self._seconds}) + "\n")
                self._process.stdin.flush()
                reply = self._replies.get(timeout=self._seconds)
            except queue.Empty:
                self._stop()
                raise TimeoutError(f"no reply within {self._seconds} s") from None
            except OSError:  # it ended before it read the request
                reply = None
            if reply is None:
                self._stop()
                return None
            return json.loads(reply)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._owner == os.getpid():
            with self._lock:
                self._stop()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._ending: Any = None

    def _start(self) -> None:
        self._stop()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prmkit.data.answers._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=environment,
        )
        self._replies = queue.SimpleQueue()
        self._ending = weakref.finalize(self, _end, self._process, os.getpid())
        threading.Thread(target=_read, args=(self._process.stdout, self._replies), daemon=True).start()
        try:
            ready = self._replies.get(timeout=_SECONDS_TO_START)
        except queue.Empty:
            ready = None
        if ready is None:
            self._stop()
            raise RuntimeError(
                "the process that runs math-verify did not start: does `python -m prmkit.data.answers._worker` run?"
            )

    def _stop(self) -> None:
        if self._ending is not None:
            self._ending()
        self._process = self._ending = None


def _read(lines: Any, replies: queue.SimpleQueue[str | None]) -> None:
    """Hand on each line, and None at the end."""
    for line in lines:
        replies.put(line)
    lines.close()
    replies.put(None)


def _end(process: subprocess.Popen[str], owner: int) -> None:
    if os.getpid() != owner:
        return
    process.kill()
    process.wait()
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:  # a request that was never read
            return
