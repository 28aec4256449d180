"""Reward models that rate attributes, such as helpfulness and verbosity, behind the API of chat completions."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, solutions_with_steps
from prmkit.decoding.generation import STEP_SEPARATOR, check_counts

if TYPE_CHECKING:
    import pandas as pd

FloatArray: TypeAlias = npt.NDArray[np.float64]
Messages: TypeAlias = list[dict[str, str]]
_Interaction: TypeAlias = tuple[str, tuple[str, ...]]
_LONGEST_SHOWN = 200


class ChatClient(Protocol):
    """A client with ``chat.completions.create(model=, messages=)``, such as ``openai.OpenAI()``."""

    @property
    def chat(self) -> Any:
        """What has ``completions``."""


@dataclass(frozen=True, slots=True)
class AttributeScores:
    """Ratings of the steps of a solution, or of several solutions.

    Parameters
    ----------
    rewards : ndarray of shape (n,)
        Weighted sum of the attributes of each row. NaN where the request failed.
    attributes : mapping of str to ndarray of shape (n,)
        Each attribute by itself.
    errors : tuple of (str or None)
        What went wrong in each row.
    """

    rewards: FloatArray
    attributes: Mapping[str, FloatArray]
    errors: tuple[str | None, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame: a row per step or solution, a column per attribute, and ``reward``.

        Returns
        -------
        DataFrame
            The ratings.
        """
        import pandas as pd

        return pd.DataFrame({**self.attributes, "reward": self.rewards})


class AttributeRewardModel:
    r"""Score solutions by a model that rates several attributes in one answer, behind an API.

    Such models read a question and an answer, and return a text such as
    ``helpfulness:1.6,correctness:1.7,coherence:3.3,complexity:0.5,verbosity:0.5`` (Nemotron-4-340B-Reward). The reward
    is the weighted sum.

    Parameters
    ----------
    client : openai.OpenAI or callable
        A client, or any object with ``chat.completions.create(model=…, messages=…)``. Its retries, time limits and keys
        are its own affair. A callable takes the messages, and returns the text of the answer.
    model : str or None
        Name of the model. None for a callable.
    weights : mapping of str to float
        Weight of each attribute. It names every attribute that the model rates: 0 for one that does not count.
    step_separator : str, default="\n\n"
        Text between two steps of the answer that the model reads.
    messages : callable, optional
        ``messages(problem, text)`` returns the messages. If None, the problem is the user's, and the text that of the
        assistant, as reward models expect it.
    request : mapping, optional
        Further arguments of ``create``, such as ``max_tokens`` or ``extra_body``.
    max_concurrency : int, default=8
        Largest number of requests at one time.
    on_error : {"raise", "nan"}, default="raise"
        What happens if a request fails, or an answer cannot be read. With ``"nan"``, its row is NaN, and a warning
        counts such rows.
    n_kept : int, default=100000
        Largest number of answers to remember, so that no text is rated twice.

    Attributes
    ----------
    counts : Counter
        Number of requests by result: ``"rated"``, ``"malformed"`` (the answer cannot be read) and ``"failed"``.

    Raises
    ------
    TypeError
        If ``client`` is neither, or is asynchronous.
    ValueError
        If a weight is missing or not finite, or a setting is out of range.

    Warns
    -----
    UserWarning
        If rows are NaN, with ``on_error="nan"``.

    Notes
    -----
    An answer is ``name:number`` pairs with commas or line ends between, or a JSON object of numbers. Servers that leave
    the text empty and put the ratings where the log-probabilities of tokens stand are read too. An answer without one
    of the attributes, with another one, or with a number that is not finite is an error that shows the text. No rating
    has a default. A TypeError is a fault of the program, and is raised in any case.

    :meth:`score_solutions` asks for every beginning of a solution: one request per step. Where only whole solutions
    matter, :meth:`score_interactions` needs one request each.

    Examples
    --------
    >>> def rates(messages):
    ...     return f"helpfulness:2.0,verbosity:{len(messages[-1]['content'].split())}"
    >>> scorer = AttributeRewardModel(rates, None, {"helpfulness": 1.0, "verbosity": -0.1})
    >>> solution = Solution("2 + 3 * 4?", ["3 * 4 = 12.", "So 14."])
    >>> scorer.score_solutions([solution])[0].rewards
    array([1.5, 1.3])
    >>> scorer.score_interactions([solution]).to_frame()
       helpfulness  verbosity  reward
    0          2.0        7.0     1.3

    The weights that the authors of Nemotron-4-340B-Reward recommend:

    >>> helpsteer = {
    ...     "helpfulness": 0.3, "correctness": 0.74, "coherence": 0.46, "complexity": 0.47, "verbosity": -0.33
    ... }
    """

    def __init__(
        self,
        client: ChatClient | Callable[[Messages], str],
        model: str | None,
        weights: Mapping[str, float],
        *,
        step_separator: str = STEP_SEPARATOR,
        messages: Callable[[str, str], Messages] | None = None,
        request: Mapping[str, Any] | None = None,
        max_concurrency: int = 8,
        on_error: Literal["raise", "nan"] = "raise",
        n_kept: int = 100_000,
    ) -> None:
        is_client = hasattr(client, "chat")
        if not is_client and not callable(client):
            raise TypeError(
                f"client is {type(client).__name__}, expected an object with chat.completions.create, such as "
                "openai.OpenAI(), or a callable that takes messages and returns a text"
            )
        if (model is None) is is_client:
            raise ValueError(f"model is {model!r}, expected {'its name' if is_client else 'None for a callable'}")
        if not isinstance(weights, Mapping) or not weights:
            raise ValueError(f"weights is {weights!r}, expected a weight per attribute: {{'helpfulness': 0.3, …}}")
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
                raise ValueError(f"the weight of {name} is {weight!r}, expected a finite number")
        if on_error not in ("raise", "nan"):
            raise ValueError(f"on_error is {on_error!r}, expected raise or nan")
        check_counts(max_concurrency=max_concurrency)
        if n_kept != 0:
            check_counts(n_kept=n_kept)
        self.client = client
        self.model = model
        self.weights = dict(weights)
        self.step_separator = step_separator
        self.messages = messages
        self.request = dict(request or {})
        self.max_concurrency = max_concurrency
        self.on_error = on_error
        self.n_kept = n_kept
        self.counts: Counter[str] = Counter()
        self._kept: dict[_Interaction, dict[str, float]] = {}

    def __repr__(self) -> str:
        # The client may hold a key.
        return f"{type(self).__name__}(model={self.model!r}, weights={self.weights})"

    def score_solutions(self, solutions: Iterable[Solution]) -> list[AttributeScores]:
        """Rate every beginning of each solution: the problem, and the steps up to one.

        Parameters
        ----------
        solutions : iterable of Solution
            Solutions to score.

        Returns
        -------
        list of AttributeScores
            One per solution, with a row per step. Its ``rewards`` make this object a scorer of searches.

        Raises
        ------
        TypeError, ValueError
            If a solution is none or has no steps. An answer that cannot be read is a ValueError too.
        Exception
            What the client raises, with ``on_error="raise"``.
        """
        checked = solutions_with_steps(solutions)
        prefixes = [[(one.problem, one.steps[: t + 1]) for t in range(one.n_steps)] for one in checked]
        rated = self._rate([prefix for row in prefixes for prefix in row])
        return [self._scores([rated[prefix] for prefix in row]) for row in prefixes]

    def score_interactions(self, solutions: Iterable[Solution]) -> AttributeScores:
        """Rate whole solutions: the problem, and all steps.

        Parameters
        ----------
        solutions : iterable of Solution
            Solutions to score.

        Returns
        -------
        AttributeScores
            A row per solution.

        Raises
        ------
        TypeError, ValueError
            If a solution is none or has no steps. An answer that cannot be read is a ValueError too.
        Exception
            What the client raises, with ``on_error="raise"``.
        """
        wholes = [(one.problem, one.steps) for one in solutions_with_steps(solutions)]
        rated = self._rate(wholes)
        return self._scores([rated[whole] for whole in wholes])

    def _scores(self, rows: Sequence[dict[str, float] | str]) -> AttributeScores:
        attributes = {
            name: np.array([np.nan if isinstance(row, str) else row[name] for row in rows]) for name in self.weights
        }
        rewards = np.sum([self.weights[name] * values for name, values in attributes.items()], axis=0)
        return AttributeScores(rewards, attributes, tuple(row if isinstance(row, str) else None for row in rows))

    def _rate(self, interactions: Sequence[_Interaction]) -> dict[_Interaction, dict[str, float] | str]:
        """Return the attributes of each distinct interaction, or what went wrong."""
        wanted = list(dict.fromkeys(interactions))
        rated: dict[_Interaction, dict[str, float] | str] = {
            one: self._kept[one] for one in wanted if one in self._kept
        }
        asked = [one for one in wanted if one not in rated]
        if not asked:
            return rated
        pool = ThreadPoolExecutor(min(self.max_concurrency, len(asked)))
        futures: list[Future[dict[str, float]]] = [pool.submit(self._ask, *one) for one in asked]
        try:
            for one, future in zip(asked, futures, strict=True):
                error = future.exception()
                if error is None:
                    rated[one] = future.result()
                elif self.on_error == "raise" or isinstance(error, TypeError) or not isinstance(error, Exception):
                    raise error
                else:
                    rated[one] = f"{type(error).__name__.lstrip('_')}: {error}"
        finally:
            # What was answered before an error is paid for, and kept.
            pool.shutdown(cancel_futures=True)
            for one, future in zip(asked, futures, strict=True):
                self._note(one, future)
        failed = [told for told in rated.values() if isinstance(told, str)]
        if failed:
            warnings.warn(
                f"{len(failed):,} of {len(rated):,} ratings are NaN, since their requests went wrong. The first: "
                f"{failed[0]}",
                UserWarning,
                stacklevel=3,
            )
        return rated

    def _note(self, interaction: _Interaction, future: Future[dict[str, float]]) -> None:
        """Count a request, and keep what it gave."""
        if future.cancelled():
            return
        error = future.exception()
        self.counts[
            "rated" if error is None else "malformed" if isinstance(error, _MalformedAnswerError) else "failed"
        ] += 1
        if error is None and self.n_kept:
            if len(self._kept) >= self.n_kept:
                del self._kept[next(iter(self._kept))]
            self._kept[interaction] = future.result()

    def _ask(self, problem: str, steps: tuple[str, ...]) -> dict[str, float]:
        text = self.step_separator.join(steps)
        if self.messages is None:
            messages = [{"role": "user", "content": problem}, {"role": "assistant", "content": text}]
        else:
            messages = self.messages(problem, text)
        client: Any = self.client
        if not hasattr(client, "chat"):
            return self._checked(_read(client(messages)))
        reply = client.chat.completions.create(model=self.model, messages=messages, **self.request)
        if inspect.isawaitable(reply):
            if inspect.iscoroutine(reply):
                reply.close()
            raise TypeError("the client is asynchronous, expected one that answers at once: openai.OpenAI()")
        return self._checked(_read_reply(reply))

    def _checked(self, answer: tuple[dict[str, float], str]) -> dict[str, float]:
        found, text = answer
        missing = [name for name in self.weights if name not in found]
        unknown = [name for name in found if name not in self.weights]
        endless = [name for name, value in found.items() if not math.isfinite(value)]
        if missing:
            raise _MalformedAnswerError(f"the answer rates no {', '.join(missing)}: {_shown(text)}")
        if unknown:
            raise _MalformedAnswerError(
                f"weights has no {', '.join(unknown)}, which the answer rates: {_shown(text)}. Give each a weight, 0 "
                "if it does not count"
            )
        if endless:
            raise _MalformedAnswerError(f"the rating of {', '.join(endless)} is not finite: {_shown(text)}")
        return found


class _MalformedAnswerError(ValueError):
    """An answer that is no rating of the attributes."""


def _shown(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"


def _read_reply(reply: Any) -> tuple[dict[str, float], str]:
    """Return the ratings in a reply of the API: in its text, or else where log-probabilities of tokens stand."""
    choices = getattr(reply, "choices", None)
    if not choices:
        raise _MalformedAnswerError(f"the reply has no choices: {_shown(reply)}")
    message = getattr(choices[0], "message", None)
    # One server wraps the message in a list.
    message = message[0] if isinstance(message, list) and message else message
    text = getattr(message, "content", None)
    tokens = getattr(getattr(choices[0], "logprobs", None), "content", None)
    if not text and tokens:
        pairs = [(str(one.token).strip(), one.logprob) for one in tokens]
        text = ",".join(f"{name}:{value}" for name, value in pairs)
    if not text:
        raise _MalformedAnswerError(f"the reply has no text: {_shown(reply)}")
    return _read(text)


def _read(text: object) -> tuple[dict[str, float], str]:
    """Return the ratings of an answer, and the answer itself."""
    if not isinstance(text, str):
        raise _MalformedAnswerError(f"the answer is {type(text).__name__}, expected a text: {_shown(text)}")
    plain = text.strip()
    try:
        if plain.startswith("{"):
            pairs = json.loads(plain, object_pairs_hook=list)
        else:
            parts = [part for part in plain.replace("\n", ",").split(",") if part.strip()]
            # Python reads 1_0 as ten, and a model does not write it.
            pairs = [
                (name.strip(), float(value.replace("_", "?")))
                for name, _, value in (part.partition(":") for part in parts)
            ]
        found = {}
        for name, value in pairs:
            if name in found or isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(name)
            found[name] = float(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise _MalformedAnswerError(
            f"the answer is no list of ratings: {_shown(text)}, expected such as 'helpfulness:1.6,correctness:1.7'"
        ) from None
    return found, text
