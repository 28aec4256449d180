"""Statistics of the equations and the numbers of a step, given the text before it.

Each equality ``a = b = c`` is cut at its signs, every side is evaluated, and neighbouring sides are compared.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from prmkit.features.statistics._expressions import BAD, NOTHING, STOP, Reader, Reading, Token, is_symbol, tokenize

# Only the latest equations are remembered, so that the cost of a new value stays bounded.
_MAX_EQUATIONS = 8
# The largest relative errors of equal integers and of equal decimals.
_EXACT, _ROUNDED = 1e-9, 5e-3

# The unknown symbol, the left side and the right side.
Equation = tuple[str, list[Token], list[Token]]


@dataclass(slots=True)
class EquationReport:
    """Counts over the equations of one text. A comparison is a pair of neighbouring sides.

    ``bound_*`` count sides that are numbers once known symbols have their values. ``identities`` and ``differing``
    count sides in the same unknown symbols, ``differing_later`` those after the first sign of ``a = b = c``. A side
    of an ``unread`` comparison has no value. ``rebound`` counts symbols that get another value than before.
    ``solved_*`` count values of a symbol, stated or the root of a linear equation, that satisfy or violate an earlier
    equation. ``worst`` is the largest relative error of a wrong comparison. ``results`` holds the last values of the
    equalities.
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
    """The values of symbols, and the equations in one unknown symbol, that were stated so far."""

    values: dict[str, float] = field(default_factory=dict)
    equations: deque[Equation] = field(default_factory=lambda: deque(maxlen=_MAX_EQUATIONS))


def check_equations(text: str, ledger: Ledger) -> EquationReport:
    """Evaluate every equation in ``text`` by the ``ledger``, and add the text's statements to the ledger."""
    report = EquationReport()
    if "=" in text or "≈" in text or "\\approx" in text:
        for sides in _equalities(tokenize(text)):
            _check_equality(sides, ledger, report)
    return report


def _equalities(tokens: list[Token]) -> Iterator[list[list[Token]]]:
    """Yield the sides of each equality."""
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
    """Drop a bracket around the whole equality. A side that a bracket still cuts becomes unreadable."""
    first, last = sides[0], sides[-1]
    if _balance(first) == 1 and _balance(last) == -1 and first[0][0] == "(" and last[-1][0] == ")":
        sides = [first[1:], *sides[1:-1], last[:-1]]
    return [[(BAD, math.nan)] if _balance(side) else side for side in sides]


def _balance(side: list[Token]) -> int:
    return sum((kind == "(") - (kind == ")") for kind, _ in side)


def _check_equality(sides: list[list[Token]], ledger: Ledger, report: EquationReport) -> None:
    """Compare neighbouring sides. A symbol that stands alone on the left gets the value of the right."""
    previous = NOTHING
    for index, side in enumerate(sides):
        current = Reader(side, ledger.values).read()
        if index == 0 and len(side) == 1 and is_symbol(side[0][0]):
            _bind(side[0][0], sides[-1], ledger, report)
            # This is a statement and not a claim that could be wrong.
            current = NOTHING
        if index:
            report.equalities += 1
            _compare(previous, current, index, report)
            unknown = previous.unknown | current.unknown
            if previous.readable and current.readable and len(unknown) == 1:
                _solve((min(unknown), sides[index - 1], side), ledger, report)
        previous = current
    if previous.readable and not previous.unknown:
        report.results.append(previous.value)


def _bind(symbol: str, side: list[Token], ledger: Ledger, report: EquationReport) -> None:
    """Record ``symbol = ... = value`` and try the value in the earlier equations."""
    reading = Reader(side, ledger.values).read()
    if not reading.readable or reading.unknown:
        return
    old = ledger.values.pop(symbol, None)
    report.rebound += old is not None and relative_error(old, reading.value) > _ROUNDED
    _try(symbol, reading.value, ledger, report)
    ledger.values[symbol] = reading.value


def _solve(equation: Equation, ledger: Ledger, report: EquationReport) -> None:
    """Remember an equation in one unknown symbol. If it is linear, try its root in the earlier equations."""
    at_zero, at_one, at_two = (_residual(equation, value, ledger)[0] for value in (0.0, 1.0, 2.0))
    slope = at_one - at_zero
    if slope and abs(at_two - at_one - slope) <= _EXACT * (abs(slope) + abs(at_zero)):
        _try(equation[0], -at_zero / slope, ledger, report)
    if not math.isnan(at_one):
        ledger.equations.append(equation)


def _try(symbol: str, value: float, ledger: Ledger, report: EquationReport) -> None:
    """Count the equations in ``symbol`` that ``value`` satisfies, and those that it violates."""
    for equation in ledger.equations:
        if equation[0] == symbol:
            difference, scale = _residual(equation, value, ledger)
            if not math.isnan(difference):
                satisfied = abs(difference) <= _ROUNDED * max(scale, 1e-9)
                report.solved_right += satisfied
                report.solved_wrong += not satisfied


def _residual(equation: Equation, value: float, ledger: Ledger) -> tuple[float, float]:
    """Return left minus right, and their size, if the unknown symbol has this value."""
    symbol, left, right = equation
    # The ledger never holds the unknown symbol of an equation, so it can be lent the value.
    ledger.values[symbol] = value
    a, b = Reader(left, ledger.values).read(), Reader(right, ledger.values).read()
    del ledger.values[symbol]
    return (math.nan, 0.0) if a.unknown or b.unknown else (a.value - b.value, max(abs(a.value), abs(b.value)))


def _compare(left: Reading, right: Reading, index: int, report: EquationReport) -> None:
    """Count the comparison at the ``index``-th sign of an equality by the kinds of its two sides."""
    if not left.readable or not right.readable or left.unknown != right.unknown:
        report.unread += 1
        return
    error = relative_error(left.value, right.value)
    equal = error <= (_EXACT if left.value.is_integer() and right.value.is_integer() else _ROUNDED)
    if left.unknown:
        report.identities += equal
        report.differing += not equal
        report.differing_later += not equal and index > 1
    elif left.bound or right.bound:
        report.bound_right += equal
        report.bound_wrong += not equal
    else:
        report.right += equal
        report.wrong += not equal
        report.worst = report.worst if equal else max(report.worst, error)


def relative_error(left: float, right: float) -> float:
    """Return the distance of two values, relative to the larger one."""
    scale = max(abs(left), abs(right))
    return abs(left - right) / scale if scale else 0.0


_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
# Above it a float no longer tells neighbouring integers apart.
_LARGEST = 1e15
# Numbers that agree to so many decimals are the same.
_DIGITS = 6
# Only so many operands, the latest ones, are tried for a new number: the cost of a step stays bounded.
_MAX_OPERANDS = 48


def share(part: float, whole: float) -> float:
    """Return ``part / whole``, or 0 if ``whole`` is 0."""
    return part / whole if whole else 0.0


def log_ratio(a: float, b: float) -> float:
    """Return the logarithm of ``a / b``, for counts that may be 0."""
    return math.log((1.0 + a) / (1.0 + b))


def read_numbers(text: str) -> list[float]:
    """Return the numbers of a text, without signs. ``1,250`` is one number and ``1,2`` are two."""
    numbers: list[float] = []
    for piece in _NUMBER.findall(text):
        groups = piece.split(",")
        if all(len(group.partition(".")[0]) == 3 for group in groups[1:]):
            groups = ["".join(groups)]
        numbers += [float(group) for group in groups if group]
    return [number for number in numbers if number < _LARGEST]


class NumberStatistics:
    """The numbers of a step, and whether the problem or the earlier steps hold or imply them."""

    def __init__(self, problem: str) -> None:
        numbers = read_numbers(problem)
        self._problem = set(numbers)
        self._known = {round(number, _DIGITS) for number in numbers}
        self._operands = list(dict.fromkeys(numbers))[:_MAX_OPERANDS]
        self._used: set[float] = set()
        self._largest = max(numbers, default=0.0)
        self._last = math.nan

    def read(self, step: str, results: set[float]) -> dict[str, float]:
        """Return the statistics of the next step, whose equations end in ``results``."""
        numbers = read_numbers(step)
        distinct = {round(number, _DIGITS): None for number in numbers}
        new = [number for number in distinct if number not in self._known]
        in_problem = distinct.keys() & self._problem
        self._used |= in_problem
        largest = max(numbers, default=0.0)
        last = round(numbers[-1], _DIGITS) if numbers else math.nan
        row = {
            "problem_numbers": len(self._problem),
            "numbers": len(numbers),
            "numbers_new": len(new),
            "numbers_new_share": share(len(new), len(distinct)),
            "numbers_problem_share": share(len(in_problem), len(distinct)),
            "numbers_underived": sum(number not in results and not self._derivable(number) for number in new),
            "numbers_used": share(len(self._used), len(self._problem)),
            "last_number_seen": float(last in self._known) if numbers else -1.0,
            "last_number_problem": float(last in self._problem) if numbers else -1.0,
            "largest_number": math.log1p(largest),
            "largest_to_known": log_ratio(largest, self._largest) if numbers else 0.0,
            "decimals": sum(number != int(number) for number in numbers),
            "first_number_recent": float(bool(numbers) and numbers[0] == self._last),
            "results_seen": len(results & self._known),
        }
        self._known.update(new)
        self._operands = (new[:_MAX_OPERANDS] + self._operands)[:_MAX_OPERANDS]
        self._largest = max(self._largest, largest)
        self._last = numbers[-1] if numbers else math.nan
        return row

    def _derivable(self, number: float) -> bool:
        """Whether one operation, + - * or /, on two known numbers gives ``number``."""
        known = self._known
        for a in self._operands:
            if (
                round(number - a, _DIGITS) in known
                or round(a - number, _DIGITS) in known
                or round(number + a, _DIGITS) in known
                or round(number * a, _DIGITS) in known
                or (a and round(number / a, _DIGITS) in known)
                or (number and round(a / number, _DIGITS) in known)
            ):
                return True
        return False


class EquationStatistics:
    """Whether the equations of a step hold, given the statements of the text before it."""

    def __init__(self, problem: str) -> None:
        self._ledger = Ledger()
        self._wrong = self._right = 0
        check_equations(problem, self._ledger)

    def read(self, step: str) -> tuple[dict[str, float], set[float]]:
        """Return the statistics of the next step, and the last values of its equations."""
        report = check_equations(step, self._ledger)
        row = {
            "equalities": report.equalities,
            "equations_right": report.right,
            "equations_wrong": report.wrong,
            "equations_error": math.log1p(100.0 * report.worst),
            "equations_bound_right": report.bound_right,
            "equations_bound_wrong": report.bound_wrong,
            "equations_identities": report.identities,
            "equations_differing": report.differing,
            "equations_differing_later": report.differing_later,
            "equations_unread": report.unread,
            "symbols_rebound": report.rebound,
            "solutions_right": report.solved_right,
            "solutions_wrong": report.solved_wrong,
            "wrong_before": self._wrong,
            "right_before": self._right,
        }
        self._wrong += report.wrong
        self._right += report.right
        return row, {round(result, _DIGITS) for result in report.results}
