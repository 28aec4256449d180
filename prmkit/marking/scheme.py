"""Marking schemes: what is written around problem and steps, and at which token the score of a step is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

SCHEMES = ("separator", "special_token", "reward_tokens", "prefix")


@dataclass(frozen=True, slots=True)
class MarkingScheme:
    r"""How a solution is written for a token-level model, and where its scores are read.

    The text is ``opening``, then for each step ``step``, ``marker`` and, before the next one, ``between``.

    Parameters
    ----------
    name : {"separator", "special_token", "reward_tokens", "prefix"}
        ``"separator"``: a classifier reads each step at the last token of the marker. ``"special_token"``: the same,
        with a marker that is one token, added to the vocabulary if need be. ``"reward_tokens"``: a causal language
        model's logits of ``reward_tokens`` at the last token of the marker. ``"prefix"``: one row per step, made of
        the problem and the steps up to it, read by a sequence classifier: n passes for n steps.
    step_separator : str or None, default=None
        What closes a step. None: a line break, or the tokenizer's own separator where it drops white space, as
        BERT's does. With ``"special_token"`` None stands for ``"[PRM]"``. ``"{pad}"`` is the tokenizer's pad token.
        With ``chat="turns"`` the marker is ``""``: the score is read where the verdict would be written. So it may
        be with ``"separator"``, not joint: a step is read at its own last token, and must have one.
    reward_tokens : tuple of str or None
        One text per class, worst first, each a single token in context. Only for ``"reward_tokens"``.
    opening : str
        Text before the first step; holds ``{problem}``, and may hold ``{bos}``, after which no other is added. In a
        chat it is the user's message.
    step : str
        Text of a step; holds ``{step}`` and may hold ``{number}``, counted from 1.
    between : str
        Text between a marker and the next step.
    joint : bool
        Whether the whole text is tokenised at once, as some published models were trained. False: problem, steps and
        marker apart, as TRL does, so that with any tokenizer the tokens of a cut solution are a prefix of the whole
        one's. True: an error where the marker's last token depends on the texts around it.
    chat : {"answer", "turns"} or None
        ``"answer"``: the tokenizer's chat template, the problem being the user's message and the steps the
        assistant's, tokenised at once.
        ``"turns"``: each step is a message of the user, answered by the best reward token.
    system : str or None
        The system message of the chat.
    max_prompt_length : int or None
        A longer problem loses its beginning. The cut is the same however many steps follow, so nothing looks ahead.

    Raises
    ------
    ValueError
        If a field has another value than these, or two of them do not go together.

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
                raise ValueError(
                    f"reward_tokens={self.reward_tokens!r} is one text: one per class, worst first"
                )
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
            yield f"reward_tokens={tokens}, expected one text per class, each another one, such as ('-', '+')"
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
            yield "chat='turns' goes with name='reward_tokens', step_separator='' and between='': the template parts the turns"

    @property
    def reads_language_model(self) -> bool:
        """Whether the scores are logits of the vocabulary, not of a classifier."""
        return self.name == "reward_tokens"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> MarkingScheme:
        """Rebuild what ``to_dict`` wrote."""
        return cls(**fields)
