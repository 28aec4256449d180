"""Check the equations that a text states, without ``eval`` and without a computer algebra system.

One regular expression cuts the text into tokens, in linear time. Each chain ``a = b = c`` is read around its equal
signs, every side is evaluated by a small precedence parser, and neighbouring sides are compared. A symbol whose
value was stated before (``x = 5``) has that value; any other symbol gets a fixed odd value, so that two sides in
the same symbols can be compared as an identity. What cannot be read has no value (``nan``) and is counted as such.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass, field
from zlib import crc32

_MAX_SIDE_TOKENS = 120
_MAX_DEPTH = 40
_MAX_EQUATIONS = 8
_EXACT, _ROUNDED = 1e-9, 5e-3

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
_STOP, _BAD = ";", "?"
_COMMANDS = {
    "times": "*", "cdot": "*", "ast": "*", "div": "/", "frac": "frac", "dfrac": "frac", "tfrac": "frac", "sqrt": "sqrt",
    "approx": "≈", "pi": "π", "alpha": "α", "beta": "β", "gamma": "γ", "theta": "θ", "lambda": "λ", "mu": "μ", "phi": "φ",
    **dict.fromkeys("ne neq equiv implies Rightarrow Longrightarrow rightarrow to iff le leq ge geq lt gt quad qquad".split(), _STOP),
    **dict.fromkeys("left right displaystyle big Big bigl bigr Bigl Bigr mathbf boxed".split(), ""),
}  # fmt: skip
_NOT_UNITS = frozenset(
    "and or so is are was were the a an we then to if when that which gives gets get equals not by from as but since because".split()
)
Token = tuple[str, float]  # ("#", 3.0) is a number; every other kind carries nan


@dataclass(slots=True)
class EquationReport:
    """What the equations of one text amount to; every count is a number of neighbouring pairs of sides.

    ``right``/``wrong``: both sides are numbers. ``bound_right``/``bound_wrong``: numbers once known symbols are
    filled in. ``identities``/``differing``: both sides in the same unknown symbols, equal or not (``chained``: the
    differing ones beyond the first sign of a chain). ``unread``: a side without value. ``rebound``: symbols given
    another value than before. ``solved_right``/``solved_wrong``: a value of a symbol, stated or implied by a linear
    equation, that satisfies or violates an equation stated earlier. ``worst``: the largest relative error of a wrong pair.
    """

    equalities: int = 0
    right: int = 0
    wrong: int = 0
    bound_right: int = 0
    bound_wrong: int = 0
    identities: int = 0
    differing: int = 0
    chained: int = 0
    unread: int = 0
    rebound: int = 0
    solved_right: int = 0
    solved_wrong: int = 0
    worst: float = 0.0
    results: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Ledger:
    """What was stated so far: the values of symbols, and equations in one unknown symbol."""

    values: dict[str, float] = field(default_factory=dict)
    equations: deque[tuple[str, list[Token], list[Token]]] = field(
        default_factory=lambda: deque(maxlen=_MAX_EQUATIONS)
    )


def check_equations(text: str, known: Ledger) -> EquationReport:
    """Evaluate every equation in ``text`` given what is ``known``, which takes up what the text states."""
    report = EquationReport()
    if "=" in text or "≈" in text or "\\approx" in text:
        for chain in _chains(tokenize(text)):
            _check_chain(chain, known, report)
    return report


def tokenize(text: str) -> list[Token]:
    """Numbers, symbols, operators and relations of a text; ``;`` ends an expression, ``?`` makes it unreadable."""
    if "frac" in text:
        text = _SHORT_FRACTION.sub(r"\1{\2}{\3}", text)
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, piece = match.lastgroup, match.group()
        if kind == "number":
            attached = match.start() > 0 and text[match.start() - 1].isalpha()
            if attached:  # as in CH3
                tokens.append((_BAD, math.nan))
            else:
                _append_number(tokens, piece)
        elif kind == "operator":
            symbol = _OPERATORS.get(piece, piece)
            cut = (
                symbol in "+-*/^"
                and text[match.end() : match.end() + 1] == " "
                and (not tokens or tokens[-1][0] == _STOP)
            )
            tokens.append(
                (_BAD if cut else symbol, math.nan)
            )  # "total - 5": the word before belongs to the side
        elif kind == "word":
            _append_word(
                tokens, piece, text[match.start() - 1 : match.start()], text[match.end() : match.end() + 3]
            )
        elif kind == "command":
            symbol = _COMMANDS.get(piece[1:], _BAD)
            if symbol:
                tokens.append((symbol, math.nan))
        elif kind == "relation":
            tokens.append((_RELATIONS.get(piece, _STOP), math.nan))
        elif kind != "skip":
            tokens.append((_STOP if kind == "stop" else _BAD, math.nan))
    return tokens


def _append_number(tokens: list[Token], piece: str) -> None:
    """A comma groups digits only when three digits follow it; otherwise it separates numbers of a list."""
    parts = piece.split(",")
    if all(len(part.partition(".")[0]) == 3 for part in parts[1:]):
        tokens.append(("#", float("".join(parts))))
        return
    for part in parts:
        if part:
            tokens += [("#", float(part)), (_STOP, math.nan)]
    if piece[-1] != ",":
        tokens.pop()


def _append_word(tokens: list[Token], piece: str, before: str, after: str) -> None:
    """A letter is a symbol, a word after a number its unit; any other word ends the expression."""
    last = tokens[-1][0] if tokens else ""
    kinds = [_STOP]
    if (
        piece == "x"
        and last in ("#", ")")
        and before == " "
        and after[:1] == " "
        and (after[1:2].isdigit() or after[1:2] in ("(", "$"))
    ):
        kinds = ["*"]
    elif piece in ("a", "A", "I"):
        kinds = [_STOP if after[:1] == " " and after[1:2].isalpha() else piece]
    elif is_symbol(piece):
        kinds = [piece]
    elif after[:1] == "(":
        kinds = ["sqrt" if piece == "sqrt" else _BAD]  # a function
    elif piece == "of" and last == "%":
        kinds = ["*"]
    elif "mod" in piece:
        kinds = [_BAD]
    elif last == "#" and len(piece) < 4 and before.isdigit():
        kinds = list(piece)  # 2ab, or a unit such as 5cm: symbols in both cases
    elif last == "#" and piece not in _NOT_UNITS:
        kinds = ["unit"]
    elif last == "/" and len(tokens) > 1 and tokens[-2][0] in ("#", "unit"):
        tokens.pop()  # $5/bag
        kinds = ["unit"]
    elif last == "unit" and piece not in _NOT_UNITS:
        return
    tokens += [(kind, math.nan) for kind in kinds]


def is_symbol(kind: str) -> bool:
    """Whether a token is the name of a quantity: one letter, or a letter with an index."""
    return (len(kind) == 1 and kind.isalpha()) or (len(kind) > 1 and kind[1] == "_")


def _chains(tokens: list[Token]) -> list[list[list[Token]]]:
    """The runs of sides joined by equal signs."""
    chains: list[list[list[Token]]] = []
    chain: list[list[Token]] = []
    side: list[Token] = []
    for token in [*tokens, (_STOP, math.nan)]:
        if token[0] in ("=", "≈"):
            chain.append(side)
            side = []
        elif token[0] == _STOP:
            if chain:
                chains.append(_balanced([*chain, side]))
            chain, side = [], []
        else:
            side.append(token)
    return chains


def _balanced(chain: list[list[Token]]) -> list[list[Token]]:
    """Drop a bracket around the whole chain; a side that a bracket still cuts becomes unreadable."""
    first, last = chain[0], chain[-1]
    if _balance(first) == 1 and _balance(last) == -1 and first[0][0] == "(" and last[-1][0] == ")":
        chain = [first[1:], *chain[1:-1], last[:-1]]
    return [[(_BAD, math.nan)] if _balance(side) else side for side in chain]


def _balance(side: list[Token]) -> int:
    return sum((kind == "(") - (kind == ")") for kind, _ in side)


def _check_chain(chain: list[list[Token]], known: Ledger, report: EquationReport) -> None:
    previous = _NOTHING
    for at, side in enumerate(chain):
        name = side[0][0] if at == 0 and len(side) == 1 and is_symbol(side[0][0]) else ""
        current = _Reader(side, known.values).read()
        if name:
            _bind(name, chain[-1], known, report)
            current = _NOTHING
        if at:
            report.equalities += 1
            _compare(previous, current, at, report)
            symbols = previous.unknown | current.unknown
            if previous.value == previous.value and current.value == current.value and len(symbols) == 1:
                _solve(min(symbols), chain[at - 1], side, known, report)
        previous = current
    if previous.value == previous.value and not previous.unknown:
        report.results.append(previous.value)


def _bind(symbol: str, side: list[Token], known: Ledger, report: EquationReport) -> None:
    """Record ``symbol = ... = value`` and try it in the equations stated before."""
    reading = _Reader(side, known.values).read()
    if reading.value != reading.value or reading.unknown:
        return
    old = known.values.get(symbol)
    report.rebound += old is not None and relative_error(old, reading.value) > _ROUNDED
    known.values.pop(symbol, None)
    _try(symbol, reading.value, known, report)
    known.values[symbol] = reading.value


def _solve(symbol: str, left: list[Token], right: list[Token], known: Ledger, report: EquationReport) -> None:
    """Keep an equation in one unknown symbol; where it is linear, try its root in those stated before."""
    at_zero, at_one, at_two = (_residual(left, right, symbol, value, known)[0] for value in (0.0, 1.0, 2.0))
    slope = at_one - at_zero
    if slope and abs(at_two - at_one - slope) <= _EXACT * (abs(slope) + abs(at_zero)):
        _try(symbol, -at_zero / slope, known, report)
    if at_one == at_one:
        known.equations.append((symbol, left, right))


def _try(symbol: str, value: float, known: Ledger, report: EquationReport) -> None:
    for name, left, right in known.equations:
        if name == symbol:
            difference, scale = _residual(left, right, symbol, value, known)
            if difference == difference:
                satisfied = abs(difference) <= _ROUNDED * max(scale, 1e-9)
                report.solved_right += satisfied
                report.solved_wrong += not satisfied


def _residual(
    left: list[Token], right: list[Token], symbol: str, value: float, known: Ledger
) -> tuple[float, float]:
    """Left minus right at ``symbol = value``, and the larger of the two sizes."""
    values = {**known.values, symbol: value}
    a, b = _Reader(left, values).read(), _Reader(right, values).read()
    return (math.nan, 0.0) if a.unknown or b.unknown else (a.value - b.value, max(abs(a.value), abs(b.value)))


def _compare(left: _Reading, right: _Reading, at: int, report: EquationReport) -> None:
    a, b = left.value, right.value
    if a != a or b != b or left.unknown != right.unknown:
        report.unread += 1
        return
    error = relative_error(a, b)
    equal = error <= (_EXACT if a == int(a) and b == int(b) else _ROUNDED)
    if left.unknown:
        report.identities += equal
        report.differing += not equal
        report.chained += not equal and at > 1
    elif left.bound or right.bound:
        report.bound_right += equal
        report.bound_wrong += not equal
    else:
        report.right += equal
        report.wrong += not equal
        report.worst = report.worst if equal else max(report.worst, error)


def relative_error(left: float, right: float) -> float:
    """Distance of two values relative to the larger one."""
    scale = max(abs(left), abs(right))
    return abs(left - right) / scale if scale else 0.0


@dataclass(slots=True, frozen=True)
class _Reading:
    """A side's value (``nan`` when unreadable), whether a known symbol was used, and the unknown symbols."""

    value: float = math.nan
    bound: bool = False
    unknown: frozenset[str] = frozenset()


_NOTHING = _Reading()


class _Reader:
    """Evaluates one side of an equation by recursive descent of bounded depth."""

    __slots__ = ("at", "bindings", "bound", "tokens", "unknown")

    def __init__(self, tokens: list[Token], bindings: dict[str, float]) -> None:
        self.tokens, self.bindings = tokens, bindings
        self.at, self.bound, self.unknown = 0, False, set[str]()

    def read(self) -> _Reading:
        value = math.nan
        if 0 < len(self.tokens) <= _MAX_SIDE_TOKENS:
            try:
                value = self._sum(0)
            except (ArithmeticError, ValueError):
                value = math.nan
        readable = self.at == len(self.tokens) and isinstance(value, float) and abs(value) < 1e15
        return _Reading(value, self.bound, frozenset(self.unknown)) if readable else _NOTHING

    def _peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _take(self, kind: str) -> bool:
        taken = self._peek() == kind
        self.at += taken
        return taken

    def _sum(self, depth: int) -> float:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
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
            elif (
                sign in ("(", "sqrt")
                or is_symbol(sign)
                or (sign == "frac" and self.tokens[self.at - 1][0] != "#")
            ):
                result *= self._power(depth)  # 2(3), 2x; but 2\frac13 may be a mixed number and stays unread
            else:
                break
        return result

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
            return base**exponent
        return base

    def _atom(self, depth: int) -> float:
        kind, number = self.tokens[self.at] if self.at < len(self.tokens) else ("", math.nan)
        self.at += 1
        if kind == "#":
            result = number
        elif kind == "(":
            result = self._sum(depth + 1)
            if not self._take(")"):
                return math.nan
        elif kind in ("frac", "sqrt"):
            if depth > _MAX_DEPTH:
                raise ValueError("nested too deeply")
            result = self._atom(depth + 1)
            result = math.sqrt(result) if kind == "sqrt" else result / self._atom(depth + 1)
        elif is_symbol(kind):
            result = self._symbol(kind)
        else:
            return math.nan
        while (sign := self._peek()) in ("!", "%", "unit"):
            self.at += 1
            if sign == "%":
                result /= 100.0
            elif sign == "!":
                result = (
                    float(math.factorial(int(result)))
                    if result == int(result) and 0 <= result <= 20
                    else math.nan
                )
        return result

    def _symbol(self, name: str) -> float:
        if name == "π":
            return math.pi
        if name in self.bindings:
            self.bound = True
            return self.bindings[name]
        self.unknown.add(name)
        return 1.3 + (crc32(name.encode()) % 997) / 613.0
