r"""The final answer in a solution's text, found by the marks that data sets and models use; pure text, no maths."""

from __future__ import annotations

import re
from typing import NamedTuple

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")
_BOXED_TOKEN = re.compile(r"\\boxed\s+([^\s${}]+)")
_HASHES = re.compile(r"^.*####[ \t]*(\S[^\n]*)", re.MULTILINE)
_HEADING = re.compile(r"^[ \t]*# Answer:?\s*(\S[^\n]*)", re.MULTILINE)
_SENTENCE = re.compile(r"\banswer\s+is\b[:\s*]*(?=([^\s:*][^\n]{0,400}))", re.IGNORECASE)
_LINE = re.compile(r"^[ \t*]*(?:final )?answer[ \t*]*:[ \t*]*([^\s*][^\n]*)", re.MULTILINE | re.IGNORECASE)
_LAST_LINE = re.compile(r"^A:[ \t]*(\S[^\n]*)\Z", re.MULTILINE)  # anywhere else it may be an option A
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-−])?(?:\d[\d,]*\d|\d)?(?:(?<=\d)\.\d+|(?<!\d)\.\d+|(?<=\d)/\d+|(?<=\d))%?"
)
_MARKS = (
    ("hashes", _HASHES),
    ("heading", _HEADING),
    ("sentence", _SENTENCE),
    ("line", _LINE),
    ("line", _LAST_LINE),
)
_SENTENCE_END = re.compile(r"[.!?](?=\s+[A-Z]|\s*$)")
_UNWRAPPED = "*_ \t\r"


class ExtractedAnswer(NamedTuple):
    """The answer found in a text, and the rule that found it; made by :func:`extract_answer`.

    Parameters
    ----------
    answer : str or None
        As written, without the mark around it; None if nothing was found.
    rule : str or None
        ``"boxed"``, ``"hashes"``, ``"heading"``, ``"sentence"``, ``"line"`` or ``"last_number"``.
    """

    answer: str | None
    rule: str | None


def extract_answer(text: str, *, last_number: bool = True) -> ExtractedAnswer:
    r"""Return the final answer in a solution's text, and which rule found it.

    The rules in order; of several matches of a rule the last counts: ``\boxed{…}`` with braces inside,
    ``#### …`` (GSM8K), a heading ``# Answer`` (PRM800K), ``The answer is …`` (Math-Shepherd), a line
    ``Answer: …`` or a last line ``A: …``, and the last number in the text.

    Parameters
    ----------
    text : str
    last_number : bool, default True
        False: only what is marked as an answer counts.

    Returns
    -------
    ExtractedAnswer
        ``(None, None)`` if nothing is found.

    Raises
    ------
    TypeError
        If ``text`` is no str: join the steps of a solution first.

    Examples
    --------
    >>> extract_answer(r"So we get $\boxed{\frac{1}{2}}$.")
    ExtractedAnswer(answer='\\frac{1}{2}', rule='boxed')
    >>> extract_answer("3 * 4 = 12.\n#### 12")
    ExtractedAnswer(answer='12', rule='hashes')
    >>> extract_answer("That makes 1,200 nuts in 3 days").answer
    '3'
    """
    if not isinstance(text, str):
        raise TypeError(
            f"text is a {type(text).__name__}, expected a str: join the steps with newlines first"
        )
    boxed = _last_boxed(text)
    if boxed is not None:
        return ExtractedAnswer(boxed, "boxed")
    for rule, pattern in _MARKS:
        found = pattern.findall(text.rstrip())
        answer = _trim(found[-1], rule) if found else ""
        if answer:
            return ExtractedAnswer(answer, rule)
    numbers = [number for number in _NUMBER.findall(text) if number] if last_number else []
    return ExtractedAnswer(numbers[-1], "last_number") if numbers else ExtractedAnswer(None, None)


def _last_boxed(text: str) -> str | None:
    r"""Return what the last ``\boxed{…}`` that is closed holds; one pass, however deep the braces."""
    open_braces: list[int | None] = []  # where the content of a box begins; None for another brace
    last: tuple[int, int] | None = None
    for brace in _BRACES.finditer(text):
        token = brace.group()
        if token == "}":
            start = open_braces.pop() if open_braces else None
            if (
                start is not None
                and (last is None or start > last[0])
                and text[start : brace.start()].strip()
            ):
                last = start, brace.start()
        elif len(token) > 2:
            open_braces.append(brace.end())
        elif token == "{":
            open_braces.append(None)
    bare = list(_BOXED_TOKEN.finditer(text))
    if bare and (last is None or bare[-1].start() > last[0]):
        return bare[-1].group(1).rstrip(".,;")
    return None if last is None else text[last[0] : last[1]].strip()


def _trim(answer: str, rule: str) -> str:
    """Cut at the end of a sentence, and take off emphasis, brackets of formulas and the final stop."""
    if rule == "sentence":
        end = _SENTENCE_END.search(answer)
        answer = answer[: end.start()] if end else answer
    answer = answer.strip(_UNWRAPPED)
    if answer.endswith(".") and not answer.endswith(".."):
        answer = answer[:-1].strip(_UNWRAPPED)
    return answer
