"""A log of all that a generator answers, so that a killed run goes on and nothing is generated twice."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from prmkit.data.solution import Solution
from prmkit.decoding.generation import (
    TOKEN_FACTS,
    Generation,
    RandomState,
    Request,
    TextGenerator,
    check_request_settings,
    checked_row,
    checked_rows,
    fingerprint_of,
    seeds_of,
    solutions_of,
)
from prmkit.utils.files import check_path, locked

_HEAD = {"prmkit": "log of a generator", "version": 1}
_SETTINGS = ("generator", "problem", "steps", "tokens", "n", "stop", "max_tokens", "temperature", "seed")
"""What makes two requests the same."""
_SUM = re.compile(rb'\{"sum": (\d+), ')


class LoggedGenerator:
    r"""A generator that writes each answer to a file, and takes from this file what it has answered before.

    A search or a labelling that was killed goes on where it was: run the same call with the same seed again.

    Parameters
    ----------
    generator : TextGenerator
        Generator that answers what the file does not hold.
    path : str or Path
        File of JSON lines, one per request that was answered. It is made if it does not exist. One process writes it at
        a time: a file ``PATH.lock`` beside it is the lock, from the first request to ``close()``, or to the end of a
        ``with`` block.

    Attributes
    ----------
    n_asked : int
        Number of requests that the generator was asked for.
    n_found : int
        Number of requests that the file answered.

    Raises
    ------
    BlockingIOError
        If another process, or another object, writes this file now. This and the next error come at the first request.
    ValueError
        If the file is no such log, or one of its lines is damaged: the error tells the number of the line. If a request
        has no seed: it could not be told from another one.

    Warns
    -----
    UserWarning
        If the file holds answers, and none of them is of this generator.

    Notes
    -----
    Two requests are the same if generator, problem, steps, ``n``, ``stop``, ``max_tokens``, ``temperature`` and seed
    are equal, and also the tokens in ``meta["token_ids"]`` from which a model goes on. Other requests are not matched,
    so one file can serve many searches. A generator is known by its attribute ``fingerprint``, a text, and by its class
    if it has none: use another file for another model then.

    A row of generations with a failed one (``finish="error"``) is no answer. It is not written, and is asked again.

    The result is the one without a kill if the generator answers a request in the same way whatever is asked with it.
    If it does not, as some servers, what was answered still stands, and the rest is drawn anew.

    Each line is given to the system as soon as its answer is there, so killing the process loses no answer. If the
    wrapped generator has ``iter_generate``, that is one request; without it, one call. The file is synced to the disk
    once per call: a power failure can cost the answers of one call. What the last line lacks is lost with it: a line
    without an end is dropped.

    Examples
    --------
    >>> import tempfile
    >>> from prmkit.decoding import CallableGenerator
    >>> def guess(problem, steps, n, seed):
    ...     return [(f"The answer is {(seed + i) % 5}.", "eos") for i in range(n)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with LoggedGenerator(CallableGenerator(guess), f"{folder}/log.jsonl") as generator:
    ...         first = generator.generate(["2 + 2?"], n=2, seed=0)
    ...     with LoggedGenerator(CallableGenerator(guess), f"{folder}/log.jsonl") as generator:
    ...         again = generator.generate(["2 + 2?"], n=2, seed=0)
    ...         generator.n_asked, generator.n_found, again == first
    (0, 1, True)
    """

    def __init__(self, generator: TextGenerator, path: str | Path) -> None:
        self.generator = generator
        self.path = path
        self.n_asked = self.n_found = 0
        self._held: ExitStack | None = None
        self._places: dict[bytes, int] = {}

    def __getattr__(self, name: str) -> Any:
        # What a generator may have beside the protocol, such as step_separator, is that of the wrapped one.
        if name.startswith("_") or name == "generator":
            raise AttributeError(name)
        return getattr(self.generator, name)

    def __enter__(self) -> LoggedGenerator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None, "_places": {}}

    def close(self) -> None:
        """Close the file, and let others write it. The next request opens it again."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def generate(
        self,
        requests: Sequence[Request],
        *,
        n: int = 1,
        stop: Sequence[str] = (),
        max_tokens: int = 512,
        temperature: float = 1.0,
        seed: int | Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        """Continue each solution n times, see :class:`TextGenerator`. What the file holds is not generated.

        Parameters
        ----------
        requests : sequence of Solution or str
            Solutions to continue. A text is a problem without steps.
        n : int, default=1
            Number of continuations of each.
        stop : sequence of str, default=()
            Texts at which a continuation stops.
        max_tokens : int, default=512
            Largest number of tokens of a continuation.
        temperature : float, default=1.0
            Temperature of the draws.
        seed : int or sequence of int
            Seed of all requests, or one per request.

        Returns
        -------
        list of list of Generation
            One list of n continuations per request.

        Raises
        ------
        BlockingIOError, ValueError
            See the class.
        """
        rows: list[list[Generation]] = [[]] * len(requests)
        settings = {"n": n, "stop": stop, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        for i, row in self.iter_generate(requests, **settings):  # type: ignore[arg-type]
            rows[i] = row
        return rows

    def iter_generate(
        self,
        requests: Sequence[Request],
        *,
        n: int = 1,
        stop: Sequence[str] = (),
        max_tokens: int = 512,
        temperature: float = 1.0,
        seed: int | Sequence[int] | None = None,
    ) -> Iterator[tuple[int, list[Generation]]]:
        """Yield the number of each request and its continuations as they come, those of the file first.

        Parameters
        ----------
        requests : sequence of Solution or str
            Solutions to continue.
        n, stop, max_tokens, temperature, seed : optional
            As in ``generate``.

        Yields
        ------
        tuple of (int, list of Generation)
            Number of the request, and its continuations. Each request comes once.
        """
        check_request_settings(n, max_tokens, temperature, stop)
        solutions = solutions_of(requests)
        seeds = [_known_seed(one) for one in seeds_of(seed, len(solutions))]
        shared = {"n": int(n), "stop": list(stop), "max_tokens": int(max_tokens), "temperature": float(temperature)}
        told = {"generator": fingerprint_of(self.generator), **shared}
        asked = [_request(solution, one, told) for solution, one in zip(solutions, seeds, strict=True)]
        self._open()
        missing: dict[bytes, list[int]] = {}
        for i, request in enumerate(asked):
            key = _key(request)
            if key in self._places:
                self.n_found += 1
                yield i, self._answer_at(self._places[key])
            else:
                missing.setdefault(key, []).append(i)
        if not missing:
            return
        places = list(missing.values())
        first = [where[0] for where in places]
        answers = _answers(
            self.generator,
            [solutions[i] for i in first],
            {**shared, "stop": tuple(stop), "seed": [seeds[i] for i in first]},
        )
        try:
            for k, row in answers:
                self.n_asked += 1
                if all(one.finish != "error" for one in row):
                    self._append(asked[first[k]], row)
                for i in places[k]:
                    yield i, list(row)
        finally:
            if self._held is not None:
                os.fsync(self._file.fileno())

    def _open(self) -> None:
        """Lock and read the file if that is not done."""
        if self._held is not None:
            return
        path = Path(self.path).expanduser()
        check_path(path)
        with ExitStack() as held:
            busy = (
                f"another process writes the log {path} now, or another LoggedGenerator of this process: wait for it, "
                "call its close(), or choose another file"
            )
            held.enter_context(locked(path.with_name(f"{path.name}.lock"), busy))
            self._places, generators = _read(path)
            name = fingerprint_of(self.generator)
            if generators and name not in generators:
                warnings.warn(
                    f"{path} holds {len(self._places)} answers of {' and '.join(sorted(generators))}, and none of "
                    f"{name}: nothing of it is used. Is it the right file?",
                    stacklevel=4,
                )
            # Without a buffer: a line is with the system as soon as it is written.
            self._file = held.enter_context(path.open("ab", buffering=0))
            self._reader = held.enter_context(path.open("rb"))
            self._held = held.pop_all()

    def _answer_at(self, place: int) -> list[Generation]:
        self._reader.seek(place)
        return [_generation(one) for one in _record(self._reader.readline())["generations"]]

    def _append(self, request: Mapping[str, Any], row: list[Generation]) -> None:
        """Write an answer, and take back what was written if it is not whole, as on a full disk."""
        place = os.fstat(self._file.fileno()).st_size
        told = [{field.name: getattr(one, field.name) for field in fields(one)} for one in row]
        line = _line({**request, "generations": told})
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, f"the log {self.path} cannot grow: the disk is full")
        except BaseException:
            with suppress(OSError):
                os.truncate(self._file.fileno(), place)
            raise
        self._places[_key(request)] = place


def _answers(
    generator: TextGenerator, solutions: Sequence[Solution], settings: Mapping[str, Any]
) -> Iterator[tuple[int, list[Generation]]]:
    """Yield the number and the answer of each request, in the order in which they come."""
    ask = getattr(generator, "iter_generate", None)
    if ask is None:
        yield from enumerate(checked_rows(generator, solutions, settings))
        return
    name, waiting = type(generator).__name__, set(range(len(solutions)))
    for k, row in ask(solutions, **settings):
        if k not in waiting:
            raise ValueError(f"{name}.iter_generate gave request {k!r} of {len(solutions)} twice, or knows no such one")
        waiting.remove(k)
        yield k, checked_row(name, k, row, settings["n"])
    if waiting:
        raise ValueError(f"{name}.iter_generate ended without requests {sorted(waiting)[:5]}, expected each once")


def check_seed_for_log(random_state: RandomState) -> None:
    """Raise if a run with a log could not be had again."""
    if isinstance(random_state, bool) or not hasattr(random_state, "__index__"):
        raise ValueError(
            f"a log needs a seed, found random_state={random_state!r}: pass an int, so that the same call asks the "
            "same requests when it goes on"
        )


def _known_seed(seed: int | None) -> int:
    if seed is None:
        raise ValueError("a log needs seeds, found seed=None: pass an int, or random_state= to the search")
    return seed


def _request(solution: Solution, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request, as the log holds them."""
    ids = (solution.meta or {}).get(TOKEN_FACTS[0])
    tokens = None if ids is None else hashlib.sha256(repr([list(map(int, one)) for one in ids]).encode()).hexdigest()
    own = {"problem": solution.problem, "steps": list(solution.steps), "tokens": tokens, "seed": seed}
    return {name: {**settings, **own}[name] for name in _SETTINGS}


def _key(request: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps([request[name] for name in _SETTINGS]).encode()).digest()


def _line(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line that begins with a sum of the rest. ASCII alone: any text of a model can be written."""
    text = json.dumps(record, default=_plain)
    return f'{{"sum": {zlib.crc32(text.encode())}, {text[1:]}\n'.encode()


def _read(path: Path) -> tuple[dict[bytes, int], set[str]]:
    """Return where the answers of a log stand by the key of their request, and the names of their generators.

    A log that does not exist is begun. What stands after the last end of a line is cut off.
    """
    head = _line(_HEAD)
    places: dict[bytes, int] = {}
    generators: set[str] = set()
    with path.open("a+b") as file:
        file.seek(0)
        begin = file.readline()
        if begin != head:
            if not head.startswith(begin):
                raise ValueError(f"{path} is no log of a generator: line 1 is {begin[:60]!r}. Choose another file")
            file.truncate(0)
            file.write(head)
            return places, generators
        end = len(head)
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                break
            try:
                record = _record(line)
                places[_key(record)] = end
                generators.add(record["generator"])
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"line {number} of the log {path} is damaged or not of a log ({error}): {line[:60]!r}. Remove this "
                    "line, and its request is asked again"
                ) from None
            end += len(line)
        file.truncate(end)
    return places, generators


def _record(line: bytes) -> dict[str, Any]:
    """Return what a line holds, if its sum is right."""
    found = _SUM.match(line)
    if found is None or zlib.crc32(b"{" + line[found.end() : -1]) != int(found[1]):
        raise ValueError("its sum is wrong or missing")
    record: dict[str, Any] = json.loads(line)
    return record


def _generation(record: Mapping[str, Any]) -> Generation:
    return Generation(**{name: _as_tuple(value) for name, value in record.items()})


def _plain(value: object) -> object:
    """Return a number of numpy as one of Python."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a generation holds {type(value).__name__}, expected texts and numbers")


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
