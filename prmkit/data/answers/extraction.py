r"""The final answer in a solution's text, found by the marks that data sets and models use."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

# A text with more characters is compared as it is.
_LONGEST = 300
_DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:>]|\\displaystyle|\^\{?\\circ\}?|\\(?:degree|circ)(?![a-z])"
    r"|\\?%|\\?\$|[€£¥°]|\*\*|\\\(|\\\)|\\\[|\\\]"
)
_WORDS = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)\s*(\d)|(\d)\s*\{([^{}]*)\}|\{([^{}]*)\}\s*(\d))")
_THOUSANDS = re.compile(r"(?<![\d.,(\[{])(\d{1,3})((?:,\d{3}|\{,\}\d{3})+)(?![\d,)\]}])")
_DEFINED = re.compile(r"^(?:\\?[A-Za-z]+(?:\([A-Za-z]\))?)\s*=\s*([^=]+)$")
_UNIT = re.compile(r"^([-+]?[\d.,/]*\d|.*\})\s*([A-Za-z][A-Za-z .]*[A-Za-z])(?:\s*\^\s*\{?\d\}?|²|³)?$")
# Words after a number that change it.
_NO_UNIT = re.compile(
    r"\b(?:and|or|to|pi|sqrt|sin|cos|tan|log|ln|exp|mod|times|over|plus|minus|by|of|base|hundred|thousand|million"
    r"|billion|trillion|dozen|half|halves|thirds?|quarters?|percent|remainder|choose|am|pm|[ap]\.m)\b",
    re.IGNORECASE,
)
_DECIMAL = r"(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})"
_PLAIN_NUMBER = re.compile(rf"^([-+]?)({_DECIMAL})(?:/({_DECIMAL}))?$")
_FRACTION = re.compile(rf"^([-+]?)(\d{{1,60}})?\\frac\{{([-+]?)({_DECIMAL})\}}\{{({_DECIMAL})\}}$")
_MIXED = re.compile(r"^([-+]?)(\d{1,60})\s+(\d{1,60})\s*/\s*(\d{1,60})$")
_POWER = re.compile(rf"^([-+]?)({_DECIMAL})(?:[eE]|\\times10\^|\\cdot10\^|\*10\^|×10\^)\{{?([-+]?\d{{1,2}})\}}?$")


def normal_answer(text: str) -> str:
    r"""Return a plain spelling of an answer, which equal answers share.

    Numbers become reduced fractions. Dollars, percent signs, degrees, units after a number
    (``18 insects``), ``x =``, commas of thousands and LaTeX without meaning are dropped. So 50% is 50, and not 0.5:
    the sign is a unit. ``5!`` is a factorial. An answer that is not a number keeps its letters, without white space.

    Parameters
    ----------
    text : str
        Answer, without the text around it.

    Returns
    -------
    str
        Plain spelling. It is empty if nothing is left.

    Examples
    --------
    >>> [normal_answer(text) for text in ("$0.50", r"\dfrac{1}{2}", "1/2 cup", "2/4", r"x = \frac12")]
    ['1/2', '1/2', '1/2', '1/2', '1/2']
    >>> normal_answer("1,234 apples"), normal_answer(r"\text{Evelyn}"), normal_answer("(3, 4)")
    ('1234', 'evelyn', '(3,4)')
    """
    text = " ".join(text.replace("−", "-").replace("~", " ").split())
    if len(text) > _LONGEST:
        return text
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\ ", " ")
    text = _WORDS.sub(r" \1 ", _DROPPED.sub("", text))
    text = " ".join(text.split()).rstrip(".,;: ").strip()
    # After a word "!" is punctuation. After a number, one letter or a bracket it is a factorial.
    text = re.sub(r"(?<=[A-Za-z]{2})!+$", "", text)
    text = _SHORT_FRACTION.sub(_full_fraction, text)
    text = _THOUSANDS.sub(lambda match: match[1] + re.sub(r"\D", "", match[2]), text)
    defined = _DEFINED.match(text)
    if defined:
        text = defined[1].strip()
    number = _as_fraction(text)
    if number is None:
        unit = _UNIT.match(text)
        if unit and not _NO_UNIT.search(unit[2]):
            number = _as_fraction(unit[1])
    if number is not None:
        return str(number)
    # A letter alone is a choice.
    if re.fullmatch(r"\(?([A-Za-z])\)?", text):
        return text.strip("()")
    if re.fullmatch(r"[A-Za-z .,'-]{2,}", text):
        return text.casefold()
    return re.sub(r"\s+", "", text)


def number_of_answer(text: str) -> Fraction | None:
    r"""Return the exact number that an answer writes, units and signs aside, or None if it is no number.

    >>> number_of_answer("$1,250.50"), number_of_answer(r"\frac{3}{4} \text{ g}"), number_of_answer("2x")
    (Fraction(2501, 2), Fraction(3, 4), None)
    """
    unit = _WORDS.search(text)
    if unit and unit.end() == len(text.rstrip(" .$")) and unit.start() and not _NO_UNIT.search(unit[1]):
        text = text[: unit.start()]
    plain = normal_answer(text)
    # Other spellings that Fraction reads, such as 1e999999999, may take time without end.
    if len(plain) > _LONGEST or not _WHOLE_OR_FRACTION.fullmatch(plain):
        return None
    return None if re.search(r"/0+$", plain) else Fraction(plain)


def _full_fraction(match: re.Match[str]) -> str:
    above, below = (match[i] or match[i + 2] or match[i + 4] for i in (1, 2))
    return rf"\frac{{{above}}}{{{below}}}"


def _as_fraction(text: str) -> Fraction | None:
    """Return the exact number that a text writes, or None. No power beyond 10**99 is computed."""
    mixed = _MIXED.match(text)
    text = text if mixed else re.sub(r"\s+", "", text)
    if mixed:
        sign, whole, above, below = mixed.groups()
        minus = ""
    elif match := _FRACTION.match(text):
        sign, whole, minus, above, below = match.groups()
        if whole and minus:
            return None
    elif match := _PLAIN_NUMBER.match(text):
        (sign, above, below), whole, minus = match.groups(), None, ""
    elif match := _POWER.match(text):
        sign, above, exponent = match.groups()
        return Fraction(f"{sign}{above}") * Fraction(10) ** int(exponent)
    else:
        return None
    if below is not None and not Fraction(below):
        return None
    value = Fraction(above) / Fraction(below or 1) + Fraction(whole or 0)
    return -value if (sign == "-") != (minus == "-") else value


_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")
_BOXED_TOKEN = re.compile(r"\\boxed\s+([^\s${}]+)")
_HASHES = re.compile(r"^.*####[ \t]*(\S[^\n]*)", re.MULTILINE)
_HEADING = re.compile(r"^[ \t]*# Answer:?\s*(\S[^\n]*)", re.MULTILINE)
_SENTENCE = re.compile(r"\banswer\s+is\b[:\s*]*(?=([^\s:*][^\n]{0,400}))", re.IGNORECASE)
_LINE = re.compile(r"^[ \t*]*(?:final )?answer[ \t*]*:[ \t*]*([^\s*][^\n]*)", re.MULTILINE | re.IGNORECASE)
# In any other line, "A:" may be an option.
_LAST_LINE = re.compile(r"^A:[ \t]*(\S[^\n]*)\Z", re.MULTILINE)
# Thousands of LaTeX and of print: 6{,}277, 6\,277, 6,\!277 and 6 277 with a thin space.
_GROUPED = r"\d{1,3}(?:(?:\{,\}|\\,|,\\!|[\u2009\u202f])\d{3})+(?!\d)"
_NUMBER = re.compile(
    # A look ahead, since most characters begin no number. It also tells that the slash of 1.5/3 does not.
    rf"(?=[-−.\d])(?:(?<![\w.)\]}}])[-−])?(?:{_GROUPED}|\d[\d,]*\d|\d)?"
    r"(?:(?<=\d)\.\d+|(?<!\d)\.\d+|(?<=\d)/\d+|(?<=\d))%?"
)
# Each rule, and what no text lacks in which it matches: that is found much faster.
_MARKS = (
    ("hashes", _HASHES, "####"),
    ("heading", _HEADING, "# answer"),
    ("sentence", _SENTENCE, "answer"),
    ("line", _LINE, "answer"),
    ("line", _LAST_LINE, "a:"),
)
_WHOLE_OR_FRACTION = re.compile(r"-?\d+(?:/\d+)?")
_SENTENCE_END = re.compile(r"[.!?](?=\s+[A-Z]|\s*$)")
_UNWRAPPED = "*_ \t\r"


class ExtractedAnswer(NamedTuple):
    """The answer in a text, and the rule that found it. `extract_answer` returns it.

    Parameters
    ----------
    answer : str or None
        Answer as it is written, without the mark around it. None if there is none.
    rule : {"boxed", "hashes", "heading", "sentence", "line", "last_number"} or None
        Rule that found the answer.
    """

    answer: str | None
    rule: str | None


def extract_answer(text: str, *, last_number: bool = True) -> ExtractedAnswer:
    r"""Return the final answer in a solution's text, and the rule that found it.

    The rules are tried in this order. Where a rule matches several times, the last match counts. What stands behind
    ``</think>`` comes before the thoughts.

    - "boxed": ``\boxed{…}``, also with braces inside
    - "hashes": ``#### …`` (GSM8K), a number or the last line, since Markdown writes headings so
    - "heading": the heading ``# Answer`` (PRM800K)
    - "sentence": ``The answer is …`` (Math-Shepherd)
    - "line": a line ``Answer: …``, or a last line ``A: …``
    - "last_number": the last number in the text

    Parameters
    ----------
    text : str
        Text of a solution.
    last_number : bool, default=True
        Whether the rule "last_number" counts. With False, an answer needs a mark.

    Returns
    -------
    ExtractedAnswer
        Answer and rule. It is ``(None, None)`` if no rule matches.

    Raises
    ------
    TypeError
        If ``text`` is not a string: join the steps of a solution first.

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
        raise TypeError(f"text is a {type(text).__name__}, expected a str: join the steps with newlines first")
    if "</think>" in text:
        said = extract_answer(text.rpartition("</think>")[2], last_number=last_number)
        if said.answer is not None:
            return said
    boxed = _last_boxed(text)
    if boxed is not None:
        return ExtractedAnswer(boxed, "boxed")
    plain = text.rstrip()
    folded = plain.casefold()
    for rule, pattern, needle in _MARKS:
        matches = pattern.findall(plain) if needle in folded else []
        if rule == "hashes":
            # Markdown writes headings so, but no heading is the end of a text, and few are a number.
            matches = [
                match
                for match in matches
                if plain.endswith(match) or _WHOLE_OR_FRACTION.fullmatch(normal_answer(match))
            ]
        answer = _trim(matches[-1], rule) if matches else ""
        if answer:
            return ExtractedAnswer(answer, rule)
    numbers = numbers_in(text) if last_number else []
    return ExtractedAnswer(numbers[-1], "last_number") if numbers else ExtractedAnswer(None, None)


def numbers_in(text: str) -> list[str]:
    """Return the numbers that a text writes, in order, such as "-1,200.5", "3/4" or "50%"."""
    return [number for number in _NUMBER.findall(text) if number]


def _last_boxed(text: str) -> str | None:
    r"""Return the content of the last ``\boxed{…}`` that is closed, in one pass for any depth of braces."""
    if "box" not in text:
        return None
    # Where the content of a box begins, None for another brace.
    open_braces: list[int | None] = []
    last: tuple[int, int] | None = None
    for brace in _BRACES.finditer(text):
        token = brace.group()
        if token == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None and (last is None or start > last[0]) and text[start : brace.start()].strip():
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
    """Cut an answer at the end of its sentence, and take off emphasis and the final stop."""
    if rule == "sentence":
        end = _SENTENCE_END.search(answer)
        answer = answer[: end.start()] if end else answer
    answer = answer.strip(_UNWRAPPED)
    if answer.endswith(".") and not answer.endswith(".."):
        answer = answer[:-1].strip(_UNWRAPPED)
    return answer
