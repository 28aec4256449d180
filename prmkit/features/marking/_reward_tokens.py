"""Which vocabulary entries are the classes of a language model: the texts' tokens where they would be written."""

from __future__ import annotations

from typing import Any

from prmkit.features.marking._scheme import MarkingScheme
from prmkit.features.marking._text import EXAMPLE, SolutionWriter, text_ids


def reward_token_ids(tokenizer: Any, scheme: MarkingScheme) -> list[int]:
    """Return the ids of the scheme's reward tokens, worst class first, as they are after a marked step.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    scheme : MarkingScheme

    Raises
    ------
    ValueError
        If the scheme names none, or one of them is not a single known token there: tokenizers that mark leading
        spaces give another id at the start of a text, hence "in context".
    """
    if not scheme.reward_tokens:
        raise ValueError(
            f"scheme {scheme.name!r} has no reward tokens: give one text per class, worst first, such as ('-', '+')"
        )
    context = "".join(SolutionWriter(tokenizer, scheme).write(EXAMPLE, 1).pieces)
    ids = [_single(tokenizer, context, token) for token in scheme.reward_tokens]
    for token, found in zip(scheme.reward_tokens, ids, strict=True):
        if found is None:
            raise ValueError(_instead(tokenizer, context, token))
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"reward_tokens={scheme.reward_tokens} are the tokens {ids}: two classes share one, choose others"
        )
    return [int(found) for found in ids if found is not None]


def _added(tokenizer: Any, context: str, token: str) -> list[int]:
    """The tokens that ``token`` adds to ``context``; none if it changes those before."""
    before, whole = text_ids(tokenizer, context), text_ids(tokenizer, context + token)
    return whole[len(before) :] if whole[: len(before)] == before else []


def _single(tokenizer: Any, context: str, token: str) -> int | None:
    """The one known token that ``token`` is after ``context``; None if it is not."""
    added = _added(tokenizer, context, token)
    unknown = getattr(tokenizer, "unk_token_id", None)
    return added[0] if len(added) == 1 and (added[0] != unknown or token == tokenizer.unk_token) else None


def _instead(tokenizer: Any, context: str, token: str) -> str:
    bare = token.strip()
    tried = [text for text in (bare, f" {bare}", "+", "-", " +", " -", "Yes", "No") if text.strip()]
    known = [repr(text) for text in dict.fromkeys(tried) if _single(tokenizer, context, text) is not None]
    added = _added(tokenizer, context, token)
    found = f"{len(added)} tokens" if len(added) > 1 else "unknown" if added else "no token of its own"
    choices = f"such as {', '.join(known[:3])}" if known else "or add it with tokenizer.add_tokens"
    return (
        f"the reward token {token!r} is {found} after {context[-12:]!r} in this tokenizer, expected a single one: "
        f"choose a text that is one token there, {choices}"
    )
