"""Marking schemes: how a solution is written as text for a token-level model, and where its scores are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from prmkit.data.solution import Solution

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCHEMES = ("separator", "special_token", "reward_tokens", "prefix")

# An ordinary solution, to see how a tokenizer reads a scheme. Its steps end in different characters on purpose.
EXAMPLE = Solution("What is 2 + 3 * 4?", ("3 * 4 = 12.", "So 2 + 12 = 14", "The answer is {14} × 1."))
# Some chat templates write today's date. With a fixed date a solution has the same tokens tomorrow.
_SAME_DATE = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"


@dataclass(frozen=True, slots=True)
class MarkingScheme:
    r"""Describe how a solution is written for a token-level model, and where its scores are read.

    The text is ``opening``, then for each step ``step`` and ``step_separator``, with ``between`` before the next step.

    Parameters
    ----------
    name : {"separator", "special_token", "reward_tokens", "prefix"}, default="separator"
        Where scores are read. ``"separator"``: a classifier reads each step at the last token of its separator.
        ``"special_token"``: the same, but the separator is a single token, which is added to the vocabulary if needed.
        ``"reward_tokens"``: a causal language model's logits of ``reward_tokens`` at the last token of the separator.
        ``"prefix"``: a sequence classifier reads one row per step, made of the problem and the steps up to it. This
        costs one pass per solution with decoder-only models, which compute the common beginnings of the rows once. With
        other models n steps cost n passes.
    step_separator : str or None, default=None
        Text that closes a step. If None, it is a line break, or the tokenizer's own separator if the tokenizer drops
        white space, as BERT's does. With ``"special_token"`` None stands for ``"[PRM]"``. ``"{pad}"`` stands for the
        tokenizer's pad token. It must be empty with ``chat="turns"``: the score is read where the verdict would be
        written. It may also be empty with ``"separator"`` unless ``joint``. A step is then read at its own last token.
    reward_tokens : tuple of str or None, default=None
        One text per class, worst first, each a single token in context. Only for ``"reward_tokens"``.
    opening : str, default="{problem}"
        Text before the first step. It holds ``{problem}``. It may hold ``{bos}``, and then no other BOS is added. In a
        chat it is the user's message.
    step : str, default="{step}"
        Text of a step. It holds ``{step}`` and may hold ``{number}``, counted from 1. A number that the step brings
        along, as in ``"Step {number}: {step}"`` for a step that begins with "Step 1:", is written once.
    between : str, default=""
        Text between a separator and the next step.
    joint : bool, default=False
        Whether the whole text is tokenised at once, as some published models were trained. If False, problem, steps
        and separator are tokenised apart, as TRL does. With any tokenizer the tokens of a cut solution then begin the
        tokens of the whole one. If True, a separator whose last token depends on the texts around it is an error.
    chat : {"answer", "turns"} or None, default=None
        Use of the tokenizer's chat template. The whole text is then tokenised at once. ``"answer"``: the problem is the
        user's message and the steps are the assistant's. ``"turns"``: each step is a message of the user, answered by
        the best reward token.
    system : str or None, default=None
        System message of the chat.
    max_prompt_length : int or None, default=None
        Most tokens of the problem. A longer problem loses its beginning. The cut does not depend on the number of
        steps, so nothing looks ahead.

    Raises
    ------
    ValueError
        If a field has another value than these, or two fields do not go together.

    Examples
    --------
    >>> MarkingScheme("separator", step_separator="\n\n").reads_language_model
    False
    """

    name: str = "separator"
    step_separator: str | None = None
    reward_tokens: tuple[str, ...] | None = None
    opening: str = "{problem}"
    step: str = "{step}"
    between: str = ""
    joint: bool = False
    chat: str | None = None
    system: str | None = None
    max_prompt_length: int | None = None

    def __post_init__(self) -> None:
        if self.reward_tokens is not None:
            if isinstance(self.reward_tokens, str):
                raise ValueError(f"reward_tokens={self.reward_tokens!r} is one text: one per class, worst first")
            object.__setattr__(self, "reward_tokens", tuple(self.reward_tokens))
        fault = next(self._faults(), None)
        if fault:
            raise ValueError(f"MarkingScheme: {fault}")

    def _faults(self) -> Iterator[str]:
        tokens = self.reward_tokens
        if self.name not in SCHEMES:
            yield f"name={self.name!r}, expected one of {', '.join(SCHEMES)}"
        if self.chat not in (None, "answer", "turns"):
            yield f"chat={self.chat!r}, expected 'answer', 'turns' or None"
        if tokens is not None and self.name != "reward_tokens":
            yield f"reward_tokens with name={self.name!r}: leave them out, or choose name='reward_tokens'"
        if tokens is not None and (len(set(tokens)) < max(2, len(tokens)) or not all(tokens)):
            yield f"reward_tokens={tokens}, expected one text per class, all different, such as ('-', '+')"
        if self.opening.count("{problem}") != 1:
            yield f"opening={self.opening!r} must hold {{problem}} once"
        if self.step.count("{step}") != 1:
            yield f"step={self.step!r} must hold {{step}} once"
        if self.opening.count("{bos}") > 1 or (self.chat and "{bos}" in self.opening):
            yield f"opening={self.opening!r}: {{bos}} at most once, and never in a chat, whose template places it"
        if self.system is not None and self.chat is None:
            yield "a system message without a chat: choose chat='answer' or chat='turns', or leave it out"
        if self.max_prompt_length is not None and self.max_prompt_length < 1:
            yield f"max_prompt_length={self.max_prompt_length}, expected at least 1, or None"
        if self.chat == "turns" and (self.name != "reward_tokens" or self.step_separator or self.between):
            yield (
                "chat='turns' goes with name='reward_tokens', step_separator='' and between='': the template parts "
                "the turns"
            )

    @property
    def reads_language_model(self) -> bool:
        """Whether the scores are logits of a vocabulary, not outputs of a classifier."""
        return self.name == "reward_tokens"


@dataclass(frozen=True, slots=True)
class WrittenSolution:
    """A solution as text. Each step is the text before it, its own text, and its separator.

    ``problem_span`` are the characters of ``opening`` that come from the problem.
    """

    opening: str
    steps: tuple[tuple[str, str, str], ...]
    problem_span: tuple[int, int]

    @property
    def pieces(self) -> list[str]:
        """The opening, then a text per step that ends with its separator."""
        return [self.opening, *("".join(step) for step in self.steps)]


class SolutionWriter:
    """Write solutions by a scheme for a tokenizer, which must have the tokens and the chat template that it names.

    A special token inside the text of a problem or step must not act as one. A space breaks it up: ``[PRM]`` is read
    as ``[ PRM]``. This applies to the separator, and to every special token if the whole text is tokenised at once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> None:
        self.tokenizer = tokenizer
        self.scheme = scheme
        self.separator = separator_text(tokenizer, scheme)
        self.joint = scheme.joint or scheme.chat is not None
        self.own_bos = "{bos}" in scheme.opening or scheme.chat is not None
        bos = getattr(tokenizer, "bos_token", None) or ""
        if "{bos}" in scheme.opening and not bos:
            raise ValueError(
                f"opening={scheme.opening!r} holds {{bos}}, but the tokenizer has no BOS token: leave {{bos}} out"
            )
        before, after = scheme.opening.split("{problem}")
        self._around = before.replace("{bos}", bos), after.replace("{bos}", bos)
        self._active = active_tokens(tokenizer, self.separator, self.joint)
        self._numbered = _written_number(scheme.step)

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
        written = tuple((between if t else "", step, self.separator) for t, step in enumerate(steps))
        return WrittenSolution(opening, written, span)

    def _turns(self, problem: str, steps: list[str]) -> WrittenSolution:
        """Write a chat in which problem and first step share a message. The opening ends with the problem."""
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
        if self._numbered is not None:
            brought = self._numbered(number).match(text)
            text = text[brought.end() :] if brought else text
        before, after = (part.replace("{number}", str(number)) for part in self.scheme.step.split("{step}"))
        written = before + self._plain(text) + after
        # A joint separator may bring its own white space: with more before it, it would be another token.
        return written.rstrip() if self.joint and self.separator[:1].isspace() else written

    def _plain(self, text: str) -> str:
        """Break up the special tokens in a text, and the words that the tokenizer cannot read."""
        (text,) = readable([text], self.tokenizer)
        return self._active.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text) if self._active else text


def _written_number(step: str) -> Callable[[int], re.Pattern[str]] | None:
    """Return what finds the number that a step brings along, such as "Step 1:", where the scheme writes it too.

    A template that begins with a word finds any number, with bold marks or another closing sign too. One that begins
    with the number itself finds that number alone.
    """
    word, is_numbered, after = step.partition("{step}")[0].partition("{number}")
    sign = after.strip()
    if not is_numbered or not sign:
        return None
    ends = r"[:.)]" if sign in (":", ".", ")") else re.escape(sign)
    ends = rf"\s*\**\s*(?::|{ends}(?=\s|$))\**\s*" if word.strip() else rf"\s*{ends}\s+"
    words = r"\s*".join(map(re.escape, word.split()))

    @cache
    def found(number: int) -> re.Pattern[str]:
        digits = r"\d+" if words else str(number)
        return re.compile(rf"\s*[*#\s]*{words}\s*{digits}{ends}", re.IGNORECASE)

    return lambda number: found(0 if words else number)


def separator_text(tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> str:
    """Return the text that closes a step for this tokenizer."""
    if scheme.chat == "turns":
        return ""
    if scheme.step_separator == "{pad}":
        if not tokenizer.pad_token:
            raise ValueError("step_separator='{pad}', but the tokenizer has no pad token: set tokenizer.pad_token")
        return str(tokenizer.pad_token)
    if scheme.step_separator is not None:
        return scheme.step_separator
    if scheme.name == "special_token":
        return "[PRM]"
    own_separator = getattr(tokenizer, "sep_token", None)
    ids = text_ids(tokenizer, "\n")
    reads_line_break = ids and getattr(tokenizer, "unk_token_id", None) not in ids
    return "\n" if reads_line_break or not own_separator else own_separator


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the tokens of one text, with no special token added."""
    if not text:
        return []
    # A text that is too long is reported by prmkit, with a way out. Tokenizers of other kinds may not know "verbose".
    quiet = {"verbose": False} if getattr(tokenizer, "is_fast", None) is True else {}
    return list(tokenizer(text, add_special_tokens=False, **quiet)["input_ids"])


def readable(texts: Sequence[str], tokenizer: object) -> list[str]:
    """Return the texts with those words broken up that the tokenizer would read as nothing.

    A WordPiece tokenizer reads a word above its limit (100 characters in BERT) as one unknown token. Such words are
    split, so that their length counts and truncation is noticed. JSON can bring halves of UTF-16 pairs, which become
    replacement characters.
    """
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    limit = getattr(model, "max_input_chars_per_word", None)
    too_long = re.compile(rf"(\w{{{limit}}})(?=\w)") if limit else None
    paired = [_without_half_pairs(text) for text in texts]
    return paired if too_long is None else [too_long.sub(r"\1 ", text) for text in paired]


def _without_half_pairs(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def active_tokens(tokenizer: PreTrainedTokenizerBase, separator: str, joint: bool) -> re.Pattern[str] | None:
    """Return a pattern of the tokens that must not act inside a problem or step."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    active = {
        token.content
        for token in added
        if (token.special and (joint or token.content in separator)) or token.content == separator.strip()
    }
    longest_first = sorted((text for text in active if len(text) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def render_chat(tokenizer: PreTrainedTokenizerBase, system: str | None, contents: Sequence[str]) -> str:
    """Return the chat of user, assistant, user … as text, up to the place of the next answer."""
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
    return str(
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    )


def render_turns(
    tokenizer: PreTrainedTokenizerBase, system: str | None, messages: Sequence[str], verdict: str
) -> Iterator[str]:
    """Yield the text that each message of the user adds to the chat, up to the place of the verdict on it.

    Each earlier message is answered by ``verdict``. A template that rewrites earlier text is refused.
    """
    before = ""
    for t in range(len(messages)):
        contents = [part for message in messages[:t] for part in (message, verdict)] + [messages[t]]
        text = render_chat(tokenizer, system, contents)
        if t and not text.startswith(before + verdict):
            raise ValueError(
                f"the chat template rewrites earlier turns: turn {t + 1} changes the text before the verdict of turn "
                f"{t}. Choose a tokenizer whose template only appends, or chat='answer'"
            )
        yield text[len(before) :]
        before = text


def varying_span(render: Callable[[str], str], text: str) -> tuple[int, int]:
    """Return the characters of ``render(text)`` that depend on ``text``, for templates that trim it too."""
    with_a, with_b = render("A"), render("B")
    differ = [i for i, (a, b) in enumerate(zip(with_a, with_b, strict=True)) if a != b]
    after = len(with_a) - 1 - differ[-1]
    return differ[0], max(differ[0], len(render(text)) - after)
