"""A function as a generator: for tests, for examples, and for any system that prmkit does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import cast, get_args

from prmkit.data.solution import Solution
from prmkit.decoding.generation import (
    STEP_SEPARATOR,
    Finish,
    Generation,
    ProtocolError,
    Request,
    check_request_settings,
    first_stop,
    root_seed,
    seeds_of,
    solutions_of,
)


class CallableGenerator:
    r"""Generate by a function of the problem and the steps so far.

    Parameters
    ----------
    fn : callable
        ``fn(problem, steps, n, seed)`` returns n pairs ``(text, finish)``: the next step, or several of them with the
        separator between, and ``"stop"`` if the solution may go on, ``"eos"`` if it is complete. ``problem`` is a str,
        ``steps`` a tuple of str, ``n`` and ``seed`` are int. An exception becomes a :class:`Generation` with
        ``finish="error"`` for each of the n.
    step_separator : str, default="\n\n"
        Text between two steps.

    Notes
    -----
    A word is a token here: ``n_tokens`` is the number of words. A text of more than ``max_tokens`` words is cut, with
    ``finish="length"``. A stop string ends a text too. The temperature is the function's own affair.

    Examples
    --------
    >>> def two_steps(problem, steps, n, seed):
    ...     return [("3 * 4 = 12.", "stop") if not steps else ("So 14.", "eos")] * n
    >>> generator = CallableGenerator(two_steps)
    >>> [[one]] = generator.generate(["2 + 3 * 4?"])
    >>> one.text, one.finish, one.n_tokens
    ('3 * 4 = 12.', 'stop', 5)
    """

    def __init__(
        self,
        fn: Callable[[str, tuple[str, ...], int, int], Sequence[tuple[str, str]]],
        *,
        step_separator: str = STEP_SEPARATOR,
    ) -> None:
        self.fn = fn
        self.step_separator = step_separator

    @property
    def fingerprint(self) -> str:
        """By what a log knows this generator: the name of the function."""
        return f"{type(self).__name__}({getattr(self.fn, '__qualname__', type(self.fn).__qualname__)})"

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
        """Continue each solution n times, see :class:`TextGenerator`.

        Parameters
        ----------
        requests : sequence of Solution or str
            Solutions to continue. A text is a problem without steps.
        n : int, default=1
            Number of continuations of each.
        stop : sequence of str, default=()
            Texts at which a continuation stops.
        max_tokens : int, default=512
            Largest number of words of a continuation.
        temperature : float, default=1.0
            Not used.
        seed : int or sequence of int, optional
            Seed of all requests, or one per request. Without one, seeds are drawn.

        Returns
        -------
        list of list of Generation
            One list of n continuations per request.

        Raises
        ------
        TypeError, ValueError
            If the function returns anything but n pairs of a text and ``"stop"``, ``"eos"``, ``"length"`` or
            ``"error"``.
        """
        settings = {"n": n, "stop": stop, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        return [row for _, row in self.iter_generate(requests, **settings)]  # type: ignore[arg-type]

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
        """Yield the number and the n continuations of each request, as soon as the function has returned them.

        Parameters
        ----------
        requests : sequence of Solution or str
            Solutions to continue.
        n, stop, max_tokens, temperature, seed : optional
            As in ``generate``.

        Yields
        ------
        tuple of (int, list of Generation)
            Number of the request, and its continuations.
        """
        check_request_settings(n, max_tokens, temperature, stop)
        solutions = solutions_of(requests)
        seeds = seeds_of(root_seed(None) if seed is None else seed, len(solutions))
        for i, (solution, one) in enumerate(zip(solutions, seeds, strict=True)):
            yield i, self._asked(solution, n, cast(int, one), tuple(stop), max_tokens)

    def _asked(self, solution: Solution, n: int, seed: int, stop: Sequence[str], max_tokens: int) -> list[Generation]:
        try:
            pairs = self.fn(solution.problem, solution.steps, n, seed)
        except Exception as error:  # the function is the user's: what it raises belongs to this request alone
            return [Generation.failed(error)] * n
        if not isinstance(pairs, Sequence) or isinstance(pairs, str) or len(pairs) != n:
            found = f"{len(pairs)} pairs" if isinstance(pairs, (list, tuple)) else type(pairs).__name__
            raise ProtocolError(
                f"the function of the generator gave {found}, expected a list of n = {n} (text, finish)"
            )
        return [_generation(pair, stop, max_tokens) for pair in pairs]


def _generation(pair: object, stop: Sequence[str], max_tokens: int) -> Generation:
    """Return a checked pair of a function as a generation."""
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str) or pair[1] not in get_args(Finish):
        raise ProtocolError(
            f"the function of the generator gave {pair!r:.80}, expected a pair of a text and one of "
            f"{', '.join(get_args(Finish))}"
        )
    text, finish = pair
    if finish == "error":
        return Generation(text, "error", n_tokens=len(text.split()), error="the function said so")
    found = first_stop(text, stop)
    if found is not None:
        text, finish = text[: found[0]], "stop"
    words = text.split()
    if len(words) > max_tokens:
        return Generation(_first_words(text, max_tokens), "length", n_tokens=max_tokens)
    return Generation(text, cast(Finish, finish), n_tokens=len(words), stop=None if found is None else found[1])


def _first_words(text: str, n_words: int) -> str:
    """Return the beginning of a text that holds some words."""
    ends = [found.end() for found in re.finditer(r"\S+", text)]
    return text[: ends[n_words - 1]]
