r"""One spelling for answers that are written differently: numbers, fractions, units, LaTeX; without a maths library."""

from __future__ import annotations

import re
from fractions import Fraction

_LONGEST = 300  # characters; anything longer is only compared as it stands
_DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:>]|\\displaystyle|\^\{?\\circ\}?|\\(?:degree|circ)(?![a-z])"
    r"|\\?%|\\?\$|[€£¥°]|\*\*|\\\(|\\\)|\\\[|\\\]"
)
_WORDS = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)\s*(\d)|(\d)\s*\{([^{}]*)\}|\{([^{}]*)\}\s*(\d))")
_THOUSANDS = re.compile(r"(?<![\d.,(\[{])(\d{1,3})((?:,\d{3}|\{,\}\d{3})+)(?![\d,)\]}])")
_DEFINED = re.compile(r"^(?:\\?[A-Za-z]+(?:\([A-Za-z]\))?)\s*=\s*([^=]+)$")
_UNIT = re.compile(r"^([-+]?[\d.,/]*\d|.*\})\s*([A-Za-z][A-Za-z .]*[A-Za-z])(?:\s*\^\s*\{?\d\}?|²|³)?$")
_NO_UNIT = re.compile(  # words after a number that change it
    r"\b(?:and|or|to|pi|sqrt|sin|cos|tan|log|ln|exp|mod|times|over|plus|minus|by|of|base|hundred|thousand|million"
    r"|billion|trillion|dozen|half|halves|thirds?|quarters?|percent|remainder|choose|am|pm|[ap]\.m)\b",
    re.IGNORECASE,
)
_DECIMAL = r"(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})"
_NUMBER = re.compile(rf"^([-+]?)({_DECIMAL})(?:/({_DECIMAL}))?$")
_FRACTION = re.compile(rf"^([-+]?)(\d{{1,60}})?\\frac\{{([-+]?)({_DECIMAL})\}}\{{({_DECIMAL})\}}$")
_MIXED = re.compile(r"^([-+]?)(\d{1,60})\s+(\d{1,60})\s*/\s*(\d{1,60})$")
_POWER = re.compile(
    rf"^([-+]?)({_DECIMAL})(?:[eE]|\\times10\^|\\cdot10\^|\*10\^|×10\^)\{{?([-+]?\d{{1,2}})\}}?$"
)


def normal_answer(text: str) -> str:
    r"""Return a text that is the same for answers that plainly are: numbers as reduced fractions.

    Dollars, percent signs, degrees, units after a number (``18 insects``), ``x =``, thousands' commas and
    LaTeX without meaning are dropped; what is no number keeps its letters, without white space.

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
    text = " ".join(text.split()).rstrip(".,;:! ").strip()
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
    if re.fullmatch(r"\(?([A-Za-z])\)?", text):  # a choice
        return text.strip("()")
    if re.fullmatch(r"[A-Za-z .,'-]{2,}", text):
        return text.casefold()
    return re.sub(r"\s+", "", text)


def _full_fraction(match: re.Match[str]) -> str:
    above, below = (match[i] or match[i + 2] or match[i + 4] for i in (1, 2))
    return rf"\frac{{{above}}}{{{below}}}"


def _as_fraction(text: str) -> Fraction | None:
    """Return the number a text is, exactly, None if it is none; no power beyond 10**99 is computed."""
    mixed = _MIXED.match(text)
    text = text if mixed else re.sub(r"\s+", "", text)
    if mixed:
        sign, whole, above, below = mixed.groups()
        minus = ""
    elif match := _FRACTION.match(text):
        sign, whole, minus, above, below = match.groups()
        if whole and minus:
            return None
    elif match := _NUMBER.match(text):
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
