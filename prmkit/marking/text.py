"""A solution as pieces of text, by the templates of its marking scheme: what the tokenizer is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prmkit.data.solution import Solution
from prmkit.marking.scheme import MarkingScheme


def readable(texts: Sequence[str], tokenizer: Any) -> list[str]:
    """Break up what the tokenizer would read as nothing or not at all; other texts stay as they are.

    A WordPiece tokenizer reads a word above its limit (100 characters in BERT) as one unknown token: such words
    are split, so that their length counts and truncation is noticed. Halves of UTF-16 pairs, which JSON can
    bring, become replacement characters.
    """
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    limit = getattr(model, "max_input_chars_per_word", None)
    too_long = re.compile(rf"(\w{{{limit}}})(?=\w)") if limit else None
    return [_split(_paired(text), too_long) for text in texts]


def _paired(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _split(text: str, too_long: re.Pattern[str] | None) -> str:
    return text if too_long is None else too_long.sub(r"\1 ", text)


# Some templates write today's date: with a fixed one the same solution has the same tokens tomorrow.
_SAME_DATE = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"


def render_chat(tokenizer: Any, system: str | None, contents: Sequence[str]) -> str:
    """Return the chat of user, assistant, user … as text, up to where the next answer would be written.

    Raises
    ------
    ValueError
        If the tokenizer has no chat template.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(
            "the scheme writes a chat, but this tokenizer has no chat template: set tokenizer.chat_template, or "
            "choose a scheme with chat=None"
        )
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages += [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _SAME_DATE + template
    return tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True
    )


def render_turns(tokenizer: Any, system: str | None, messages: Sequence[str], verdict: str) -> Iterator[str]:
    """Yield, per message of the user, what it adds to the chat, up to where the verdict on it would be written.

    Each earlier message is answered by ``verdict``.

    Raises
    ------
    ValueError
        If a later message changes what the template wrote before.
    """
    before = ""
    for t in range(len(messages)):
        contents = [part for message in messages[:t] for part in (message, verdict)] + [messages[t]]
        text = render_chat(tokenizer, system, contents)
        if t and not text.startswith(before + verdict):
            raise ValueError(
                f"the chat template rewrites earlier turns: with turn {t + 1} the text up to the verdict of turn {t} "
                "is another. Choose a tokenizer whose template only appends, or chat='answer'"
            )
        yield text[len(before) :]
        before = text


def varying_span(render: Callable[[str], str], text: str) -> tuple[int, int]:
    """Return from where to where ``render(text)`` depends on ``text``, templates that trim it included."""
    one, other = render("A"), render("B")
    differ = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    after = len(one) - 1 - differ[-1]
    return differ[0], max(differ[0], len(render(text)) - after)


# An ordinary solution, to see how a tokenizer reads a scheme; its steps end in different characters on purpose.
EXAMPLE = Solution("What is 2 + 3 * 4?", ("3 * 4 = 12.", "So 2 + 12 = 14", "The answer is {14} × 1."))


@dataclass(frozen=True, slots=True)
class WrittenSolution:
    """What stands before the first step, and for each step what stands before it, itself, and its marker.

    Parameters
    ----------
    opening : str
    steps : tuple of (str, str, str)
    problem_span : tuple of (int, int)
        The characters of ``opening`` that come from the problem.
    """

    opening: str
    steps: tuple[tuple[str, str, str], ...]
    problem_span: tuple[int, int]

    @property
    def pieces(self) -> list[str]:
        """The opening, then one text per step that ends with its marker."""
        return [self.opening, *("".join(step) for step in self.steps)]


class SolutionWriter:
    """Write solutions by a scheme for a tokenizer.

    A special token written inside a problem or a step must not act as one: the marker's always, and every special
    token where the whole text is tokenised at once, are broken up by a space (``[PRM]`` is read as ``[ PRM]``).

    Parameters
    ----------
    tokenizer : transformers tokenizer
    scheme : MarkingScheme

    Raises
    ------
    ValueError
        If the tokenizer lacks the pad token, BOS token or chat template that the scheme names.
    """

    def __init__(self, tokenizer: Any, scheme: MarkingScheme) -> None:
        self.tokenizer = tokenizer
        self.scheme = scheme
        self.marker = marker_text(tokenizer, scheme)
        self.joint = scheme.joint or scheme.chat is not None
        self.own_bos = "{bos}" in scheme.opening or scheme.chat is not None
        bos = getattr(tokenizer, "bos_token", None) or ""
        if "{bos}" in scheme.opening and not bos:
            raise ValueError(
                f"opening={scheme.opening!r} holds {{bos}}, but the tokenizer has no BOS token: leave {{bos}} out"
            )
        before, after = scheme.opening.split("{problem}")
        self._around = before.replace("{bos}", bos), after.replace("{bos}", bos)
        self._active = _active_tokens(tokenizer, self.marker, self.joint)

    def write(self, solution: Solution, n_steps: int) -> WrittenSolution:
        """Write the problem and the first ``n_steps`` steps."""
        before, after = self._around
        problem = self._plain(solution.problem)
        steps = [self._step(text, t + 1) for t, text in enumerate(solution.steps[:n_steps])]
        if self.scheme.chat == "turns":
            return self._turns(problem, steps)
        opening = before + problem + after
        span = len(before), len(before) + len(problem)
        if self.scheme.chat == "answer":

            def render(text: str) -> str:
                return render_chat(self.tokenizer, self.scheme.system, [before + text + after])

            opening, span = render(problem), varying_span(render, problem)
        between = self.scheme.between
        written = tuple((between if t else "", step, self.marker) for t, step in enumerate(steps))
        return WrittenSolution(opening, written, span)

    def _turns(self, problem: str, steps: list[str]) -> WrittenSolution:
        """Problem and first step are the first message; the opening ends with the problem."""
        before, after = self._around
        system, verdict = self.scheme.system, (self.scheme.reward_tokens or ("",))[-1]
        if not verdict:
            raise ValueError("chat='turns' needs reward_tokens, worst first, such as ('-', '+')")
        first = f"{after} {steps[0]}" if steps else after

        def render(text: str) -> str:
            return render_chat(self.tokenizer, system, [before + text + first])

        span = varying_span(render, problem)
        messages = [before + problem + first, *steps[1:]]
        added = list(render_turns(self.tokenizer, system, messages, verdict))
        opening, added[0] = added[0][: span[1]], added[0][span[1] :]
        return WrittenSolution(opening, tuple(("", text, "") for text in added[: len(steps)]), span)

    def _step(self, text: str, number: int) -> str:
        before, after = (part.replace("{number}", str(number)) for part in self.scheme.step.split("{step}"))
        written = before + self._plain(text) + after
        # A joint marker may bring its own white space: with more before it, it would be another token.
        return written.rstrip() if self.joint and self.marker[:1].isspace() else written

    def _plain(self, text: str) -> str:
        (text,) = readable([text], self.tokenizer)
        return self._active.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text) if self._active else text


def marker_text(tokenizer: Any, scheme: MarkingScheme) -> str:
    """Return the text that closes a step for this tokenizer.

    Raises
    ------
    ValueError
        If the marker is ``"{pad}"`` and there is no pad token.
    """
    if scheme.chat == "turns":
        return ""
    if scheme.step_separator == "{pad}":
        if not tokenizer.pad_token:
            raise ValueError("step_separator='{pad}', but the tokenizer has no pad token: set tokenizer.pad_token")
        return tokenizer.pad_token
    if scheme.step_separator is not None:
        return scheme.step_separator
    if scheme.name == "special_token":
        return "[PRM]"
    separator = getattr(tokenizer, "sep_token", None)
    ids = text_ids(tokenizer, "\n")
    reads_line_break = ids and getattr(tokenizer, "unk_token_id", None) not in ids
    return "\n" if reads_line_break or not separator else separator


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of one text alone, with no special token added."""
    if not text:
        return []
    # Not verbose: what is too long is said by us, with what to do. Stand-ins for tokenizers need not know the word.
    quiet = {"verbose": False} if getattr(tokenizer, "is_fast", None) is True else {}
    return list(tokenizer(text, add_special_tokens=False, **quiet)["input_ids"])


def _active_tokens(tokenizer: Any, marker: str, joint: bool) -> re.Pattern[str] | None:
    """What finds, in a problem or step, the tokens that must not act there."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    active = {
        token.content
        for token in added
        if (token.special and (joint or token.content in marker)) or token.content == marker.strip()
    }
    longest_first = sorted((text for text in active if len(text) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
