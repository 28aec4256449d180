"""Requests to a server: many at a time, repeated where they fail, and ended as soon as nobody waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Generic, TypeAlias, TypeVar

from prmkit.utils.environment import import_optional

T = TypeVar("T")
Client: TypeAlias = Any  # openai.AsyncOpenAI, which prmkit does not require
LONGEST_PAUSE = 120.0
"""Seconds. A server that asks for more is not asked again."""
_REPEATED = (408, 409, 425, 429)
_lock = threading.Lock()
_jitter = random.Random()  # the draws of the caller stay as they are


@cache
def _certificates() -> Any:
    """Return what servers are trusted by. It is read once: a search has a client per round."""
    return import_optional("httpx2", "OpenAIGenerator").create_ssl_context()


class AnswerError(ValueError):
    """A server answered with something that is no answer. Asking again may help."""


class Secret:
    """A text that is never shown."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "None" if self.text is None else "'***'"

    def hidden_in(self, message: str) -> str:
        """Return a message without this text."""
        return message.replace(self.text, "***") if self.text else message


@dataclass
class Pace:
    """When the next request may start. All requests to one server share it."""

    interval: float = 0.0
    free_at: float = 0.0

    def turn(self, now: float) -> float:
        """Return the seconds to wait for the next turn, and take it."""
        with _lock:
            start = max(now, self.free_at)
            self.free_at = start + self.interval if self.interval else self.free_at
        return start - now

    def pause(self, until: float) -> None:
        """Give no turn before a time."""
        with _lock:
            self.free_at = max(self.free_at, until)


@dataclass
class Exchange:
    """How a server is asked: limits of time and number, repetitions, and what was counted."""

    base_url: str | None
    api_key: Secret
    max_concurrency: int
    max_retries: int
    backoff: float
    timeout: float
    pace: Pace
    counts: Counter[str] = field(default_factory=Counter)

    def count(self, name: str, n: int = 1) -> None:
        """Count something that happened."""
        with _lock:
            self.counts[name] += n

    def client(self) -> Client:
        """Return a client of the server."""
        openai = import_optional("openai", "OpenAIGenerator")
        key = self.api_key.text
        if key is None and self.base_url is not None:
            key = "none"  # else the client sends the key for OpenAI's server, which the environment may hold
        http = openai.DefaultAsyncHttpxClient(verify=_certificates())
        return openai.AsyncOpenAI(
            api_key=key, base_url=self.base_url, max_retries=0, timeout=self.timeout, http_client=http
        )

    def told(self, error: BaseException) -> str:
        """Return the message of an error without the key."""
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
            return f"TimeoutError: no whole answer within {self.timeout:g} seconds"
        cause = f" ({error.__cause__!r})" if type(error).__name__ == "APIConnectionError" and error.__cause__ else ""
        return self.api_key.hidden_in(f"{type(error).__name__}: {error}{cause}")[:500]

    async def repeated(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what a request gives. It is repeated while that may help, and its last error is raised."""
        for attempt in range(self.max_retries + 1):
            await asyncio.sleep(self.pace.turn(time.monotonic()))
            self.count("requests")
            try:
                return await asyncio.wait_for(ask(), self.timeout)
            except Exception as error:
                pause = self._pause_after(error, attempt)
                if pause is None:
                    raise
            self.count("retries")
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _pause_after(self, error: Exception, attempt: int) -> float | None:
        """Return the seconds until a request is repeated, None if it is not."""
        if attempt == self.max_retries:
            return None
        if (response := getattr(error, "response", None)) is not None:
            if response.status_code not in _REPEATED and response.status_code < 500:
                return None
            asked = seconds_asked(response.headers)
            if asked is not None:
                if asked > LONGEST_PAUSE:
                    return None
                self.pace.pause(time.monotonic() + asked)  # the others are refused as well
                return 0.0
        elif not _is_of_transport(error):
            return None
        return float(min(self.backoff * 2**attempt, 8.0) * _jitter.uniform(0.75, 1))


def _is_of_transport(error: Exception) -> bool:
    """Whether an error came on the way to the server or back, or what came back is no answer (a ValueError)."""
    openai, httpx = import_optional("openai", "OpenAIGenerator"), import_optional("httpx2", "OpenAIGenerator")
    kinds = (openai.APIConnectionError, httpx.HTTPError, OSError, TimeoutError, asyncio.TimeoutError, ValueError)
    return isinstance(error, kinds) or type(error) is openai.APIError


def seconds_asked(headers: Any) -> float | None:
    """Return the seconds that a server asks to wait: ``Retry-After`` as a number or a date. None if it does not."""
    found = headers.get("retry-after-ms"), headers.get("retry-after")
    for text, scale in zip(found, (1e-3, 1.0), strict=True):
        if text is None:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, TypeError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


class Work(Generic[T]):
    """Jobs that share a client in a thread of their own. Whoever iterates has the results as they come.

    Closing the iterator, or an interrupt while it waits, ends all requests and the thread.
    """

    def __init__(self, exchange: Exchange, jobs: Sequence[Callable[[Client], Awaitable[T]]]) -> None:
        self.exchange = exchange
        self.jobs = jobs
        self._found: queue.SimpleQueue[tuple[int, T] | BaseException | None] = queue.SimpleQueue()

    def results(self) -> Generator[tuple[int, T], None, None]:
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._all_jobs())
        thread = threading.Thread(target=self._run, args=(loop, task), name="prmkit-requests", daemon=True)
        thread.start()
        try:
            while (one := self._found.get()) is not None:
                if isinstance(one, BaseException):
                    raise one
                yield one
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to end
                loop.call_soon_threadsafe(task.cancel)
            thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(task)
            loop.run_until_complete(loop.shutdown_asyncgens())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # it is raised where the results are read
            self._found.put(error)
        finally:
            self._found.put(None)
            loop.close()

    async def _all_jobs(self) -> None:
        todo = iter(enumerate(self.jobs))

        async def work(client: Client) -> None:
            for i, job in todo:
                self._found.put((i, await job(client)))

        async with self.exchange.client() as client:
            n_workers = min(self.exchange.max_concurrency, len(self.jobs))
            workers = [asyncio.create_task(work(client)) for _ in range(n_workers)]
            try:
                await asyncio.gather(*workers)
            finally:
                for one in workers:
                    one.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
