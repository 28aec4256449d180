"""Arithmetic expressions in running text: cut into tokens in linear time and evaluated without ``eval``.

A known symbol has its value. Any other symbol gets a fixed odd value, so that two sides in the same symbols can be
compared as an identity. A side that cannot be read has the value ``nan``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from zlib import crc32

_MAX_SIDE_TOKENS = 120
_MAX_DEPTH = 40

_TOKEN = re.compile(
    r"(?P<skip>\\(?:text|mathrm|textbf|mbox|operatorname)\s?\{[^{}]{0,200}\}|\^\{?\\circ\}?|°|\\?\$|&|\\[,;:! ()\[\]])"
    r"|(?P<number>\d[\d,]*(?:\.\d+)?|\.\d+)"
    r"|(?P<command>\\[A-Za-z]+(?:\[)?)"
    r"|(?P<relation><=|>=|!=|==|[=<>≤≥≠≈→⇒])"
    r"|(?P<word>[^\W\d_]+(?:_\{?\w{1,8}\}?)?)"
    r"|(?P<operator>\*\*|\\%|[-+*/^(){}\[\]!%×·÷−–])"
    r"|(?P<stop>\\\\|[.,;:?\n])"
    r"|(?P<other>\S)"
)
_SHORT_FRACTION = re.compile(r"(frac)\s?(\d)(\d)")
_OPERATORS = {
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
    "–": "-",
    "**": "^",
    "\\%": "%",
    "{": "(",
    "}": ")",
    "[": "(",
    "]": ")",
}
_RELATIONS = {"=": "=", "==": "=", "≈": "≈"}
STOP, BAD = ";", "?"
_COMMANDS = (
    dict.fromkeys(("times", "cdot", "ast"), "*")
    | dict.fromkeys(("frac", "dfrac", "tfrac"), "frac")
    | {"div": "/", "sqrt": "sqrt", "approx": "≈", "pi": "π", "alpha": "α", "beta": "β", "gamma": "γ"}
    | {"theta": "θ", "lambda": "λ", "mu": "μ", "phi": "φ"}
    | dict.fromkeys(("ne", "neq", "equiv", "implies", "Rightarrow", "Longrightarrow", "rightarrow", "to"), STOP)
    | dict.fromkeys(("iff", "le", "leq", "ge", "geq", "lt", "gt", "quad", "qquad"), STOP)
    | dict.fromkeys(("left", "right", "displaystyle", "big", "Big", "bigl", "bigr", "Bigl", "Bigr"), "")
    | dict.fromkeys(("mathbf", "boxed"), "")
)
_CONNECTING = "and or so is are was were the a an we then to if when that which gives gets get equals not by from as"
_NOT_UNITS = frozenset([*_CONNECTING.split(), "but", "since", "because"])
# ("#", 3.0) is a number. Every other kind of token carries nan.
Token = tuple[str, float]


def tokenize(text: str) -> list[Token]:
    """Cut a text into numbers, symbols, operators and relations.

    The token ``;`` ends an expression, and ``?`` makes it unreadable.
    """
    if "frac" in text:
        text = _SHORT_FRACTION.sub(r"\1{\2}{\3}", text)
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, piece, start, end = match.lastgroup, match.group(), match.start(), match.end()
        if kind == "number":
            tokens += _number_tokens(piece, before=text[start - 1 : start])
        elif kind == "operator":
            tokens.append(_operator_token(piece, tokens, after=text[end : end + 1]))
        elif kind == "word":
            _append_word(tokens, piece, before=text[start - 1 : start], after=text[end : end + 3])
        elif kind == "command":
            symbol = _COMMANDS.get(piece[1:], BAD)
            if symbol:
                tokens.append((symbol, math.nan))
        elif kind == "relation":
            tokens.append((_RELATIONS.get(piece, STOP), math.nan))
        elif kind != "skip":
            tokens.append((STOP if kind == "stop" else BAD, math.nan))
    return tokens


def _number_tokens(piece: str, before: str) -> list[Token]:
    """Read a number, or a list of them: a comma groups digits only if three digits follow it."""
    # A digit after a letter is an index, as in CH3.
    if before.isalpha():
        return [(BAD, math.nan)]
    parts = piece.split(",")
    if all(len(part.partition(".")[0]) == 3 for part in parts[1:]):
        return [("#", float("".join(parts)))]
    tokens = [token for part in parts if part for token in (("#", float(part)), (STOP, math.nan))]
    return tokens if piece[-1] == "," else tokens[:-1]


def _operator_token(piece: str, tokens: list[Token], after: str) -> Token:
    """Read an operator. One that opens an expression and stands free is unreadable, as in "total - 5"."""
    symbol = _OPERATORS.get(piece, piece)
    opens = not tokens or tokens[-1][0] == STOP
    return (BAD if opens and after == " " and symbol in "+-*/^" else symbol, math.nan)


def _append_word(tokens: list[Token], piece: str, before: str, after: str) -> None:
    """Append a word: a letter is a symbol, a word after a number is a unit, any other word ends the expression."""
    last = tokens[-1][0] if tokens else ""
    kinds = [STOP]
    if piece == "x" and last in ("#", ")") and before == " " and _begins_factor(after):
        kinds = ["*"]
    elif piece in ("a", "A", "I"):
        # Before another word these are English words, and else they are symbols.
        kinds = [STOP if after[:1] == " " and after[1:2].isalpha() else piece]
    elif is_symbol(piece):
        kinds = [piece]
    elif after[:1] == "(":
        # A word before a bracket is a function.
        kinds = ["sqrt" if piece == "sqrt" else BAD]
    elif piece == "of" and last == "%":
        kinds = ["*"]
    elif "mod" in piece:
        kinds = [BAD]
    elif last == "#" and len(piece) < 4 and before.isdigit():
        # In 2ab, and in a unit such as 5cm, every letter is a symbol.
        kinds = list(piece)
    elif last == "#" and piece not in _NOT_UNITS:
        kinds = ["unit"]
    elif last == "/" and len(tokens) > 1 and tokens[-2][0] in ("#", "unit"):
        # In $5/bag the sign belongs to the unit.
        tokens.pop()
        kinds = ["unit"]
    elif last == "unit" and piece not in _NOT_UNITS:
        return
    tokens += [(kind, math.nan) for kind in kinds]


def _begins_factor(after: str) -> bool:
    """Whether a space and a factor follow, so that the ``x`` before them is a times sign."""
    return after[:1] == " " and (after[1:2].isdigit() or after[1:2] in ("(", "$"))


def is_symbol(kind: str) -> bool:
    """Whether a token is the name of a quantity, a letter with or without an index."""
    return (len(kind) == 1 and kind.isalpha()) or (len(kind) > 1 and kind[1] == "_")


@dataclass(slots=True, frozen=True)
class Reading:
    """The value of a side (``nan`` if unreadable), whether it uses a known symbol, and its unknown symbols."""

    value: float = math.nan
    bound: bool = False
    unknown: frozenset[str] = frozenset()

    @property
    def readable(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)


NOTHING = Reading()


class Reader:
    """Evaluates one side of an equation by recursive descent of bounded depth."""

    __slots__ = ("at", "bindings", "bound", "tokens", "unknown")

    def __init__(self, tokens: list[Token], bindings: dict[str, float]) -> None:
        self.tokens, self.bindings = tokens, bindings
        self.at, self.bound = 0, False
        self.unknown: set[str] = set()

    def read(self) -> Reading:
        """Return the value, or ``NOTHING`` if a token is left over or the side is too long."""
        value = math.nan
        if 0 < len(self.tokens) <= _MAX_SIDE_TOKENS:
            try:
                value = self._sum(0)
            except (ArithmeticError, ValueError):
                value = math.nan
        readable = self.at == len(self.tokens) and isinstance(value, float) and abs(value) < 1e15
        return Reading(value, self.bound, frozenset(self.unknown)) if readable else NOTHING

    def _peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _take(self, kind: str) -> bool:
        is_next = self._peek() == kind
        self.at += is_next
        return is_next

    def _sum(self, depth: int) -> float:
        total = self._product(depth)
        while (sign := self._peek()) in ("+", "-"):
            self.at += 1
            term = self._product(depth)
            total = total + term if sign == "+" else total - term
        return total

    def _product(self, depth: int) -> float:
        result = self._signed(depth)
        while sign := self._peek():
            if sign in ("*", "/"):
                self.at += 1
                factor = self._signed(depth)
                result = result * factor if sign == "*" else result / factor
            elif self._multiplies(sign):
                result *= self._power(depth)
            else:
                break
        return result

    def _multiplies(self, sign: str) -> bool:
        r"""Whether two factors stand side by side, as in 2(3) and 2x. 2\frac13 may be a mixed number."""
        if sign == "frac":
            return self.tokens[self.at - 1][0] != "#"
        return sign in ("(", "sqrt") or is_symbol(sign)

    def _signed(self, depth: int) -> float:
        negative = False
        while (sign := self._peek()) in ("-", "+"):
            self.at += 1
            negative ^= sign == "-"
        result = self._power(depth)
        return -result if negative else result

    def _power(self, depth: int) -> float:
        base = self._atom(depth)
        if self._take("^"):
            exponent = -self._atom(depth) if self._take("-") else self._atom(depth)
            if abs(exponent) > 64 or abs(base) > 1e9 or (base < 0 and exponent != int(exponent)):
                return math.nan
            return float(base**exponent)
        return base

    def _atom(self, depth: int) -> float:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        kind, number = self.tokens[self.at] if self.at < len(self.tokens) else ("", math.nan)
        self.at += 1
        if kind == "#":
            return self._suffixed(number)
        if kind == "(":
            value = self._sum(depth + 1)
            return self._suffixed(value) if self._take(")") else math.nan
        if kind == "sqrt":
            return self._suffixed(math.sqrt(self._atom(depth + 1)))
        if kind == "frac":
            return self._suffixed(self._atom(depth + 1) / self._atom(depth + 1))
        return self._suffixed(self._symbol(kind)) if is_symbol(kind) else math.nan

    def _suffixed(self, value: float) -> float:
        """Apply a factorial or a per cent sign that follows the value, and skip a unit."""
        while (sign := self._peek()) in ("!", "%", "unit"):
            self.at += 1
            if sign == "%":
                value /= 100.0
            elif sign == "!":
                value = _factorial(value)
        return value

    def _symbol(self, name: str) -> float:
        if name == "π":
            return math.pi
        if name in self.bindings:
            self.bound = True
            return self.bindings[name]
        self.unknown.add(name)
        # The value must be the same in every process, so it comes from a checksum and not from hash().
        return 1.3 + (crc32(name.encode()) % 997) / 613.0


def _factorial(value: float) -> float:
    whole = 0 <= value <= 20 and value == int(value)
    return float(math.factorial(int(value))) if whole else math.nan
