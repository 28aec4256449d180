"""How a problem and its steps so far become the text, or the tokens, that a model continues."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prmkit.data.solution import Solution
from prmkit.decoding.generation import STEP_SEPARATOR
from prmkit.marking.scheme import active_tokens, readable, render_chat, text_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = "{problem}\n\n"
"""Template of ``prompt="plain"``."""
_FIELD = "{problem}"
_CHAT_NAME = re.compile(r"(?i)(?<![a-z])(instruct|chat|it)(?![a-z])")


@dataclass(frozen=True, slots=True)
class PromptStyle:
    r"""How a solution is written for a model that continues it.

    The steps follow the problem, joined by the separator, with one more separator after the last step. Nothing closes
    the turn of the assistant, so the model goes on with the next step.

    Parameters
    ----------
    prompt : str, default="auto"
        ``"chat"``: the problem is a message of the user, written by the chat template of the tokenizer.
        ``"plain"``: the problem and an empty line. ``"auto"``: a chat if the tokenizer has a template, else plain. Any
        other text is a template with ``{problem}`` in it.
    system : str, optional
        Message of the system, for a chat.
    step_separator : str, default="\n\n"
        Text between two steps, and after the last one.

    Raises
    ------
    ValueError
        If a template has no ``{problem}``, if a system message cannot be written, or if the separator is empty.

    Examples
    --------
    >>> PromptStyle("Q: {problem}\nA: ").text(Solution("2 + 3 * 4?", ["3 * 4 = 12."]))
    'Q: 2 + 3 * 4?\nA: 3 * 4 = 12.\n\n'
    """

    prompt: str = "auto"
    system: str | None = None
    step_separator: str = STEP_SEPARATOR

    def __post_init__(self) -> None:
        named = self.prompt in ("auto", "chat", "plain")
        if not named and (not isinstance(self.prompt, str) or _FIELD not in self.prompt):
            raise ValueError(
                f"prompt is {self.prompt!r}, expected 'auto', 'chat', 'plain', or a template with {_FIELD} in it"
            )
        if not self.step_separator:
            raise ValueError("step_separator is empty, expected a text that stands between two steps, such as '\\n\\n'")
        if self.system is not None and self.prompt not in ("auto", "chat"):
            raise ValueError("system is a message of a chat: pass prompt='chat', or put its text into the template")

    def text(self, solution: Solution, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
        """Return the text that a model continues.

        Special tokens inside problem and steps are broken up, so that they do not act. A chat holds the first token
        of its template (BOS). A server that adds one itself must not be given this text, but the tokens.
        """
        problem, *steps = self._plain((solution.problem, *solution.steps), tokenizer)
        return self._opening(problem, tokenizer) + "".join(step + self.step_separator for step in steps)

    def token_ids(self, solution: Solution, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the tokens that a model continues.

        If every step has the tokens that were generated for it (``meta["token_ids"]``), they follow the problem as they
        are. Tokens that this tokenizer decodes to another text, since another model made them, are not used.
        """
        known = known_token_ids(solution, tokenizer)
        start = Solution(solution.problem, ()) if known is not None else solution
        ids = text_ids(tokenizer, self.text(start, tokenizer))
        if not self.is_chat(tokenizer):
            first = _first_tokens(tokenizer)
            ids = ids if ids[: len(first)] == first else first + ids
        return ids if known is None else ids + known

    def messages(self, solution: Solution) -> list[dict[str, str]]:
        """Return the chat as messages, for a server that writes the template and continues the last message."""
        written = [] if self.system is None else [{"role": "system", "content": self.system}]
        written.append({"role": "user", "content": solution.problem})
        if solution.steps:
            content = "".join(step + self.step_separator for step in solution.steps)
            written.append({"role": "assistant", "content": content})
        return written

    def is_chat(self, tokenizer: PreTrainedTokenizerBase | None) -> bool:
        """Whether the problem is written by a chat template."""
        if self.prompt not in ("auto", "chat"):
            return False
        if tokenizer is None:
            raise ValueError(
                f"prompt={self.prompt!r} needs a tokenizer with a chat template: pass one, or prompt='plain', or a "
                f"template such as 'Question: {_FIELD}\\nAnswer: '"
            )
        if getattr(tokenizer, "chat_template", None) is not None:
            return True
        name = str(getattr(tokenizer, "name_or_path", ""))
        named_chat = _CHAT_NAME.search(re.split(r"[/\\]", name.rstrip("/\\"))[-1])
        if self.prompt == "chat" or named_chat or self.system is not None:
            why = "its name says that it is a chat model" if named_chat else "a chat is asked for"
            raise ValueError(
                f"the tokenizer {name or type(tokenizer).__name__} has no chat template, and {why}: set "
                "tokenizer.chat_template to the model's, pass prompt='plain' for a model that is no chat model, or a "
                f"template that writes the turns, such as 'User: {_FIELD}\\nAssistant: '"
            )
        return False

    def _opening(self, problem: str, tokenizer: PreTrainedTokenizerBase | None) -> str:
        if not self.is_chat(tokenizer):
            template = PLAIN if self.prompt in ("auto", "plain") else self.prompt
            return template.replace(_FIELD, problem)
        assert tokenizer is not None
        from jinja2 import TemplateError

        try:
            return render_chat(tokenizer, self.system, [problem])
        except TemplateError as error:
            raise ValueError(
                f"the chat template refuses the messages ({error}): pass system=None if it knows no system, or a "
                f"template with {_FIELD} as prompt"
            ) from error

    def _plain(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
        """Break up the special tokens in texts."""
        if tokenizer is None:
            return list(texts)
        active = active_tokens(tokenizer, "", True)
        written = readable(texts, tokenizer)
        return written if active is None else [active.sub(lambda t: f"{t[0][0]} {t[0][1:]}", one) for one in written]


def known_token_ids(solution: Solution, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """Return the tokens that were generated for all steps, or None if a step has none of this tokenizer."""
    known = (solution.meta or {}).get("token_ids")
    if not solution.steps or not isinstance(known, Sequence) or len(known) != solution.n_steps:
        return None
    size = len(tokenizer)
    for ids, step in zip(known, solution.steps, strict=True):
        if not isinstance(ids, Sequence) or not all(isinstance(one, int) and 0 <= one < size for one in ids):
            return None
        if not decoded(tokenizer, ids).strip().startswith(step.strip()):
            return None
    return [one for ids in known for one in ids]


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
    """Return the text of tokens as they stand, without special tokens."""
    ids = list(ids)
    return str(tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False))


def _first_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that the tokenizer sets before a text, such as BOS."""
    ids, alone = list(tokenizer("a")["input_ids"]), text_ids(tokenizer, "a")
    return next((ids[:k] for k in range(len(ids)) if ids[k : k + len(alone)] == alone), [])
