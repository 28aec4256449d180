"""What servers with OpenAI's interface answer, as generations, and why each of them ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from prmkit.decoding.generation import Generation, first_stop
from prmkit.decoding.generators._exchange import AnswerError

Choice: TypeAlias = Mapping[str, Any]
CountTokens: TypeAlias = Callable[[str], int]
_REASONS = ("stop_reason", "matched_stop")
"""Fields of a choice that name the stop string: vLLM's and SGLang's. None or a token id is the end of the solution."""


class UntoldStopError(Exception):
    """A server says that a text stopped, and not whether a stop string or the end of the solution came."""


def choices_of(answer: object) -> list[Choice]:
    """Return the choices of an answer in their order. An answer without choices raises."""
    if not isinstance(answer, Mapping):
        raise AnswerError(f"the server gave {answer!r:.200}, expected an object of JSON with choices")
    found = answer.get("choices")
    if isinstance(found, Sequence) and not isinstance(found, str):
        choices = [one for one in found if isinstance(one, Mapping)]
        if choices:
            return sorted(choices, key=_place)
    told = answer.get("error") or f"choices: {found!r:.100}"
    raise AnswerError(f"the server gave no choices: {told!r:.300}")


def _place(choice: Choice) -> int:
    place = choice.get("index")
    return place if isinstance(place, int) else 0


def text_of(choice: Choice) -> str | None:
    """Return the text of a choice, or of a piece of it in a stream. None if it has none."""
    for name in ("message", "delta"):
        if isinstance(choice.get(name), Mapping):
            choice = {"text": choice[name].get("content")}
    text = choice.get("text")
    return text if isinstance(text, str) else None


def logprobs_of(choice: Choice) -> list[float]:
    """Return the log-probabilities of the tokens of a choice, in either of OpenAI's layouts. [] without them."""
    found = choice.get("logprobs")
    if not isinstance(found, Mapping):
        return []
    values = found.get("token_logprobs")
    if values is None:
        values = [one.get("logprob") for one in found.get("content") or () if isinstance(one, Mapping)]
    return [float(one) for one in values] if all(isinstance(one, (int, float)) for one in values) else []


def generations_of(
    answer: Mapping[str, Any], n: int, stops: Sequence[str], count_tokens: CountTokens, decode: Any = None
) -> list[Generation]:
    """Return at most n generations of an answer. ``UntoldStopError`` if it does not say why one of them ended."""
    choices = choices_of(answer)
    details = answer.get("__verbose")  # llama.cpp's, if asked for
    total = _n_generated(answer)
    generations = []
    for i, choice in enumerate(choices[:n]):
        if isinstance(details, Mapping) and len(choices) == 1:
            word = details.get("stopping_word") if details.get("stop_type") == "word" else None
            choice = {"stop_reason": word, "token_ids": details.get("tokens"), **choice}
        share = None if total is None else total // len(choices) + (i < total % len(choices))
        generations.append(generation_of(choice, stops, share, count_tokens, decode))
    return generations


def _n_generated(answer: Mapping[str, Any]) -> int | None:
    usage = answer.get("usage")
    n = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return n if isinstance(n, int) and n >= 0 else None


def generation_of(
    choice: Choice, stops: Sequence[str], n_tokens: int | None, count_tokens: CountTokens, decode: Any = None
) -> Generation:
    """Return a choice as a generation. What is neither an end, a stop nor a length is an error."""
    text, why = text_of(choice), choice.get("finish_reason")
    if text is None or why not in ("stop", "length"):
        found = {
            name: value for name, value in choice.items() if value is not None and name not in ("index", "logprobs")
        }
        return Generation.failed(
            f"finish_reason is {why!r}, expected 'stop' or 'length' and a text; what came: {found!r:.300}"
        )
    ids, logprobs = _token_ids(choice), logprobs_of(choice)
    n_tokens = len(ids) if ids else n_tokens
    if n_tokens is None:
        n_tokens = len(logprobs) or count_tokens(text)
    mark, whole, stop = first_stop(text, stops), text, None
    finish = why
    if mark is not None:
        whole, stop, finish = text[: mark[0]], mark[1], "stop"
        if len(whole) + len(stop) < len(text):  # the server wrote on: its tokens are those of a longer text
            return Generation(whole, "stop", n_tokens=n_tokens, stop=stop)
    elif why == "stop" and stops:
        told = [choice[name] for name in _REASONS if name in choice]
        if not told:
            raise UntoldStopError
        stop = told[0] if told[0] in stops else None
        finish = "eos" if stop is None else "stop"
    elif why == "stop":
        finish = "eos"
    if ids is not None and (decode is None or decode(ids) != whole + (stop or "")):
        ids = None
    return Generation(
        whole,
        finish,
        token_ids=None if ids is None else tuple(ids),
        logprobs=tuple(logprobs) if len(logprobs) == n_tokens else None,
        n_tokens=n_tokens,
        stop=stop,
    )


def _token_ids(choice: Choice) -> list[int] | None:
    ids = choice.get("token_ids")
    return ids if isinstance(ids, list) and ids and all(isinstance(one, int) for one in ids) else None


class StreamedChoice:
    """A choice that comes in pieces, up to the first stop string in it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.stop: str | None = None
        self._text = ""
        self._why: object = None
        self._logprobs: list[float] = []
        self._n_pieces = 0
        self._n_tokens: int | None = None

    def add(self, event: object) -> None:
        """Add what one event of the stream holds."""
        if not isinstance(event, Mapping):
            raise AnswerError(f"the stream holds {event!r:.200}, expected objects of JSON")
        self._n_tokens = _n_generated(event) or self._n_tokens
        for choice in event.get("choices") or ():
            piece = text_of(choice) or ""
            self._text += piece
            self._n_pieces += bool(piece)
            self._logprobs += logprobs_of(choice)
            self._why = choice.get("finish_reason") or self._why
        found = first_stop(self._text, self.stops)
        if found is not None:
            place, self.stop = found
            self._text, self._why, self._n_tokens = self._text[: place + len(self.stop)], "stop", None

    def generation(self, count_tokens: CountTokens | None) -> Generation:
        """Return what came. A stream that broke off raises."""
        if self._why is None:
            raise AnswerError(f"the stream ended after {self._text!r:.100} without a finish_reason")
        choice = {"text": self._text, "finish_reason": self._why, "stop_reason": None}
        if self._logprobs:
            choice["logprobs"] = {"token_logprobs": self._logprobs}
        return generation_of(choice, self.stops, self._n_tokens, count_tokens or (lambda _: self._n_pieces))
