"""A tokenizer's chat template, rendered so that what was written once stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
