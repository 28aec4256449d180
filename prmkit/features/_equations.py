"""Check the equations that a text states, given what the text before it stated.

Each equality ``a = b = c`` is read around its signs, every side is evaluated, and neighbouring sides are compared.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from prmkit.features._expressions import BAD, NOTHING, STOP, Reader, Reading, Token, is_symbol, tokenize

_MAX_EQUATIONS = 8  # the latest; the cost of a value stays bounded
_EXACT, _ROUNDED = 1e-9, 5e-3  # largest relative errors of equal integers and of equal decimals

Equation = tuple[str, list[Token], list[Token]]  # its unknown symbol, its left and its right side


@dataclass(slots=True)
class EquationReport:
    """What the equations of one text amount to; every count is a number of neighbouring pairs of sides.

    Parameters
    ----------
    equalities : int
        Signs read.
    right, wrong : int
        Both sides are numbers.
    bound_right, bound_wrong : int
        Both sides are numbers once known symbols are filled in.
    identities, differing : int
        Both sides are in the same unknown symbols, equal or not.
    differing_later : int
        The differing ones beyond the first sign of ``a = b = c``.
    unread : int
        A side has no value.
    rebound : int
        Symbols given another value than before.
    solved_right, solved_wrong : int
        Values of a symbol, stated or implied by a linear equation, that satisfy or violate an equation stated earlier.
    worst : float
        The largest relative error of a wrong pair.
    results : list of float
        What the equalities end in.
    """

    equalities: int = 0
    right: int = 0
    wrong: int = 0
    bound_right: int = 0
    bound_wrong: int = 0
    identities: int = 0
    differing: int = 0
    differing_later: int = 0
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
    equations: deque[Equation] = field(default_factory=lambda: deque(maxlen=_MAX_EQUATIONS))


def check_equations(text: str, known: Ledger) -> EquationReport:
    """Evaluate every equation in ``text`` given what is ``known``, which takes up what the text states."""
    report = EquationReport()
    if "=" in text or "≈" in text or "\\approx" in text:
        for sides in _equalities(tokenize(text)):
            _check_equality(sides, known, report)
    return report


def _equalities(tokens: list[Token]) -> Iterator[list[list[Token]]]:
    """The runs of sides joined by equal signs."""
    sides: list[list[Token]] = []
    side: list[Token] = []
    for token in [*tokens, (STOP, math.nan)]:
        if token[0] in ("=", "≈"):
            sides.append(side)
            side = []
        elif token[0] == STOP:
            if sides:
                yield _balanced([*sides, side])
            sides, side = [], []
        else:
            side.append(token)


def _balanced(sides: list[list[Token]]) -> list[list[Token]]:
    """Drop a bracket around the whole equality; a side that a bracket still cuts becomes unreadable."""
    first, last = sides[0], sides[-1]
    if _balance(first) == 1 and _balance(last) == -1 and first[0][0] == "(" and last[-1][0] == ")":
        sides = [first[1:], *sides[1:-1], last[:-1]]
    return [[(BAD, math.nan)] if _balance(side) else side for side in sides]


def _balance(side: list[Token]) -> int:
    return sum((kind == "(") - (kind == ")") for kind, _ in side)


def _check_equality(sides: list[list[Token]], known: Ledger, report: EquationReport) -> None:
    """Compare the sides one after the other, binding a symbol that stands alone on the left."""
    previous = NOTHING
    for at, side in enumerate(sides):
        current = Reader(side, known.values).read()
        if at == 0 and len(side) == 1 and is_symbol(side[0][0]):
            _bind(side[0][0], sides[-1], known, report)
            current = NOTHING  # a statement, not a claim to be checked
        if at:
            report.equalities += 1
            _compare(previous, current, at, report)
            unknown = previous.unknown | current.unknown
            if previous.readable and current.readable and len(unknown) == 1:
                _solve((min(unknown), sides[at - 1], side), known, report)
        previous = current
    if previous.readable and not previous.unknown:
        report.results.append(previous.value)


def _bind(symbol: str, side: list[Token], known: Ledger, report: EquationReport) -> None:
    """Record ``symbol = ... = value`` and try it in the equations stated before."""
    reading = Reader(side, known.values).read()
    if not reading.readable or reading.unknown:
        return
    old = known.values.pop(symbol, None)
    report.rebound += old is not None and relative_error(old, reading.value) > _ROUNDED
    _try(symbol, reading.value, known, report)
    known.values[symbol] = reading.value


def _solve(equation: Equation, known: Ledger, report: EquationReport) -> None:
    """Keep an equation in one unknown symbol; where it is linear, try its root in those stated before."""
    at_zero, at_one, at_two = (_residual(equation, value, known)[0] for value in (0.0, 1.0, 2.0))
    slope = at_one - at_zero
    if slope and abs(at_two - at_one - slope) <= _EXACT * (abs(slope) + abs(at_zero)):
        _try(equation[0], -at_zero / slope, known, report)
    if not math.isnan(at_one):
        known.equations.append(equation)


def _try(symbol: str, value: float, known: Ledger, report: EquationReport) -> None:
    """Count the equations in ``symbol`` that ``value`` satisfies and violates."""
    for equation in known.equations:
        if equation[0] == symbol:
            difference, scale = _residual(equation, value, known)
            if not math.isnan(difference):
                satisfied = abs(difference) <= _ROUNDED * max(scale, 1e-9)
                report.solved_right += satisfied
                report.solved_wrong += not satisfied


def _residual(equation: Equation, value: float, known: Ledger) -> tuple[float, float]:
    """Left minus right where the unknown symbol, which the ledger does not hold, has a value; and their size."""
    symbol, left, right = equation
    known.values[symbol] = value
    a, b = Reader(left, known.values).read(), Reader(right, known.values).read()
    del known.values[symbol]
    return (math.nan, 0.0) if a.unknown or b.unknown else (a.value - b.value, max(abs(a.value), abs(b.value)))


def _compare(left: Reading, right: Reading, at: int, report: EquationReport) -> None:
    """Count one sign, the ``at``-th of its equality, by what its two sides are."""
    if not left.readable or not right.readable or left.unknown != right.unknown:
        report.unread += 1
        return
    error = relative_error(left.value, right.value)
    equal = error <= (_EXACT if left.value.is_integer() and right.value.is_integer() else _ROUNDED)
    if left.unknown:
        report.identities += equal
        report.differing += not equal
        report.differing_later += not equal and at > 1
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
