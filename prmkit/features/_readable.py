"""Texts as a tokenizer can read them, so that nothing in them is lost without a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


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
