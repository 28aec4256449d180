"""What a generator gives, the protocol that all generators share, and the checks of what they give."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args, runtime_checkable

import numpy as np

from prmkit.data.solution import Solution

Finish: TypeAlias = Literal["stop", "eos", "length", "error"]
Request: TypeAlias = Solution | str
"""A solution to continue: the problem and its steps so far. A text is a problem without steps."""
RandomState: TypeAlias = int | np.random.Generator | None
STEP_SEPARATOR = "\n\n"
"""What stands between two steps, unless a generator has an own ``step_separator``."""
TOKEN_FACTS = ("token_ids", "token_logprobs")
"""What ``meta`` of a solution holds of the generated tokens: one tuple per step."""


class ProtocolError(TypeError, ValueError):
    """A generator gave something else than generations: another type, or another number of them."""


@dataclass(frozen=True, slots=True)
class Generation:
    r"""One continuation of a solution, and why it ended.

    Parameters
    ----------
    text : str
        Text that was generated, without the stop string that ended it.
    finish : {"stop", "eos", "length", "error"}
        Why it ended. ``"stop"``: a stop string came, so a step is complete, and the solution may go on. ``"eos"``: the
        model ended the solution. ``"length"``: ``max_tokens`` were generated. ``"error"``: the request failed.
    token_ids : tuple of int or None, default=None
        Every token that was generated, the stop string and the end included. Decoded they are ``text`` and ``stop``.
        None if they are not known, or if the last token holds more than the stop string.
    logprobs : tuple of float or None, default=None
        Log-probability of each generated token under the model, without temperature. None if they are not known.
    n_tokens : int, default=0
        Number of generated tokens.
    stop : str or None, default=None
        Stop string that ended it.
    error : str or None, default=None
        What went wrong, if ``finish`` is ``"error"``.

    Raises
    ------
    TypeError
        If the text is no string.
    ValueError
        If ``finish`` is unknown, or ``n_tokens`` is no number of tokens.

    Examples
    --------
    >>> Generation("3 * 4 = 12.", "stop", n_tokens=6, stop="\n\n").finish
    'stop'
    """

    text: str
    finish: Finish
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    n_tokens: int = 0
    stop: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"text is {type(self.text).__name__}, expected str")
        if self.finish not in get_args(Finish):
            raise ValueError(f"finish is {self.finish!r}, expected one of {', '.join(get_args(Finish))}")
        if not _is_whole(self.n_tokens) or self.n_tokens < 0:
            raise ValueError(f"n_tokens is {self.n_tokens!r}, expected a whole number of 0 or more")
        # A number of numpy would spread into costs, which JSON cannot write then.
        object.__setattr__(self, "n_tokens", int(self.n_tokens))

    @classmethod
    def failed(cls, error: BaseException | str) -> Generation:
        """Return the generation of a request that failed.

        Parameters
        ----------
        error : exception or str
            What went wrong.

        Returns
        -------
        Generation
            An empty text with ``finish="error"`` and the message.
        """
        told = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        return cls("", "error", error=told)


@runtime_checkable
class TextGenerator(Protocol):
    """The protocol of generators: whatever has this method can be searched with.

    A generator may also have ``step_separator`` (str), the text between two steps, ``count_tokens(text) -> int``,
    ``fingerprint`` (str), which names all that its answers depend on beside a request, such as model and template, and
    ``iter_generate``, which takes what ``generate`` takes and yields ``(number of the request, its continuations)``
    in the order in which they are ready.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> isinstance(CallableGenerator(lambda problem, steps, n, seed: [("So 14.", "eos")] * n), TextGenerator)
    True
    """

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
        """Continue each solution n times.

        Parameters
        ----------
        requests : sequence of Solution or str
            Solutions to continue. A text is a problem without steps.
        n : int, default=1
            Number of continuations of each.
        stop : sequence of str, default=()
            Texts at which a continuation stops, with ``finish="stop"``.
        max_tokens : int, default=512
            Largest number of tokens of a continuation.
        temperature : float, default=1.0
            Temperature of the draws. 0 takes the likeliest token.
        seed : int or sequence of int, optional
            Seed of all requests, or one per request.

        Returns
        -------
        list of list of Generation
            One list of n continuations per request, in their order. A request that failed has ``finish="error"``.
        """


def as_solution(request: Request) -> Solution:
    """Return a request as a solution, which has no steps if a problem is given alone."""
    if isinstance(request, Solution):
        return request
    if isinstance(request, str):
        return Solution(request, ())
    raise TypeError(f"a request is {type(request).__name__}, expected a Solution, or a str for a problem without steps")


def solutions_of(requests: Sequence[Request]) -> list[Solution]:
    """Return requests as solutions. One that is not in a list is refused: a text would be cut into its characters."""
    if isinstance(requests, (str, Solution)):
        raise TypeError(f"requests is one {type(requests).__name__}, expected a list of requests: [request]")
    return [as_solution(request) for request in requests]


def check_generator(generator: object, name: str = "generator") -> None:
    """Raise for what has no method ``generate``."""
    if isinstance(generator, TextGenerator) and not isinstance(generator, type):
        return
    if isinstance(generator, type):
        found, hint = f"the class {generator.__name__}", f"make one: {generator.__name__}(…)"
    elif callable(generator):
        found, hint = type(generator).__name__, "a function of (problem, steps, n, seed) goes into CallableGenerator"
    else:
        found, hint = type(generator).__name__, "see TextGenerator"
    raise TypeError(f"{name} is {found}, expected an object with the method generate: {hint}")


def check_request_settings(n: int, max_tokens: int, temperature: float, stop: Sequence[str] = ()) -> None:
    """Raise for settings that no generator can meet."""
    check_counts(n=n, max_tokens=max_tokens)
    if not isinstance(temperature, Real) or not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature is {temperature!r}, expected a number of 0 or more")
    if isinstance(stop, str):
        raise TypeError(f"stop is one text, expected a list of texts: [{stop!r}]")
    if not isinstance(stop, Iterable):
        raise TypeError(f"stop is {stop!r}, expected a list of texts")
    if not all(isinstance(mark, str) and mark for mark in stop):
        raise ValueError(f"stop is {list(stop)!r}, expected texts that are not empty")


def check_counts(**counts: int) -> None:
    """Raise for a number that is not whole, or less than 1."""
    for name, value in counts.items():
        if not _is_whole(value) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected a whole number of 1 or more")


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def seeds_of(seed: int | Sequence[int] | None, n_requests: int) -> list[int | None]:
    """Return one seed per request. Requests of one seed do not draw the same numbers, nor do later ones change them."""
    if seed is None:
        return [None] * n_requests
    if _is_whole(seed):
        one = int(cast(int, seed))
        return [derived_seed(one, i) if i else one for i in range(n_requests)]
    if not isinstance(seed, (Sequence, np.ndarray)) or not all(map(_is_whole, seed)):
        raise TypeError(f"seed is {seed!r:.60}, expected an int, a list of one int per request, or None")
    seeds = [int(one) for one in seed]
    if len(seeds) != n_requests:
        raise ValueError(f"seed holds {len(seeds)} numbers for {n_requests} requests, expected one per request")
    return list(seeds)


def derived_seed(root: int, *names: object) -> int:
    """Return a seed, in [0, 2**31), for one part of the work. It depends on nothing but the root and the names."""
    digest = hashlib.sha256(repr((int(root), *names)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def root_seed(random_state: RandomState) -> int:
    """Return a whole number for a ``random_state``."""
    if _is_whole(random_state):
        return int(cast(int, random_state))
    if random_state is None or isinstance(random_state, np.random.Generator):
        return int(np.random.default_rng(random_state).integers(2**31))
    raise TypeError(f"random_state is {type(random_state).__name__}, expected an int, a numpy Generator or None")


def first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Return where the first stop string stands in a text, and which it is. The longest of several counts."""
    found = [(place, -len(mark), mark) for mark in stops if (place := text.find(mark)) >= 0]
    return (min(found)[0], min(found)[2]) if found else None


def step_separator_of(generator: TextGenerator) -> str:
    """Return the text between two steps of a generator."""
    return str(getattr(generator, "step_separator", STEP_SEPARATOR))


def n_tokens_of(generator: TextGenerator, text: str) -> int:
    """Return the number of tokens of a text: the generator's own, or the number of its words."""
    count = getattr(generator, "count_tokens", None)
    return len(text.split()) if count is None else int(count(text))


def fingerprint_of(generator: TextGenerator) -> str:
    """Return by what a log knows a generator: its ``fingerprint``, or the name of its class."""
    return str(getattr(generator, "fingerprint", None) or type(generator).__name__)


def generate_checked(
    generator: TextGenerator,
    requests: Sequence[Solution],
    *,
    n: int,
    stop: Sequence[str],
    max_tokens: int,
    temperature: float,
    seeds: Sequence[int],
) -> list[list[Generation]]:
    """Ask a generator, and refuse an answer that is not n generations for each request."""
    if not requests:
        return []
    settings = {"n": n, "stop": tuple(stop), "max_tokens": max_tokens, "temperature": temperature, "seed": list(seeds)}
    return checked_rows(generator, requests, settings)


def checked_rows(
    generator: TextGenerator, requests: Sequence[Solution], settings: Mapping[str, Any]
) -> list[list[Generation]]:
    """Ask a generator with these settings, and refuse an answer that is not n generations for each request."""
    check_generator(generator)
    rows = generator.generate(requests, **settings)
    name = type(generator).__name__
    if not isinstance(rows, (list, tuple)) or len(rows) != len(requests):
        found = f"{len(rows)} rows" if isinstance(rows, (list, tuple)) else type(rows).__name__
        raise ProtocolError(
            f"{name}.generate gave {found} for {len(requests)} requests, expected a list of one per request"
        )
    checked = [checked_row(name, i, row, settings["n"]) for i, row in enumerate(rows)]
    if any(one.n_tokens > settings["max_tokens"] for row in checked for one in row):
        warnings.warn(
            f"{name}.generate gave a continuation of more tokens than max_tokens allows, so budgets can be passed: the "
            "generator must stop there, with finish='length'",
            stacklevel=2,
        )
    return checked


def checked_row(name: str, i: int, row: object, n: int) -> list[Generation]:
    """Return the answer to request ``i`` of the generator of this name, refused if it is not n generations."""
    if not isinstance(row, (list, tuple)) or len(row) != n:
        found = f"{len(row)} generations" if isinstance(row, (list, tuple)) else type(row).__name__
        raise ProtocolError(f"{name}.generate gave {found} for request {i}, expected a list of n = {n} Generation")
    for one in row:
        if not isinstance(one, Generation):
            raise ProtocolError(f"{name}.generate gave {type(one).__name__} for request {i}, expected Generation")
    return list(row)


def extended(solution: Solution, generation: Generation, separator: str = STEP_SEPARATOR) -> Solution:
    """Return a solution with the steps that a generation adds.

    The text is cut at the separator, and blank pieces are no steps. ``meta`` keeps the generated tokens of each step
    (``token_ids``, so that a generator continues from exactly these) and their log-probabilities (``token_logprobs``)
    as long as every step has them.
    """
    steps = tuple(piece.strip() for piece in generation.text.split(separator) if piece.strip())
    meta: dict[str, Any] = {name: value for name, value in (solution.meta or {}).items() if name not in TOKEN_FACTS}
    for name, found in zip(TOKEN_FACTS, (generation.token_ids, generation.logprobs), strict=True):
        before = _known_tokens(solution, name)
        if found is not None and before is not None and len(steps) == 1:
            meta[name] = (*before, tuple(found))
        elif not steps and name in (solution.meta or {}):
            meta[name] = (solution.meta or {})[name]
    return Solution(solution.problem, (*solution.steps, *steps), id=solution.id, meta=meta or None)


def _known_tokens(solution: Solution, name: str) -> Sequence[Sequence[float]] | None:
    """Return what meta holds of the tokens of each step, () without steps, or None if a step lacks it."""
    if not solution.steps:
        return ()
    meta: Mapping[str, Any] = solution.meta or {}
    known: Sequence[Sequence[float]] | None = meta.get(name)
    return known if known is not None and len(known) == solution.n_steps else None
