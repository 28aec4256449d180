"""The numbers of a step and what its equations amount to, given the problem and the steps before."""

from __future__ import annotations

import math
import re

from prmkit.features._equations import Ledger, check_equations

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
_LARGEST = 1e15  # above it a float no longer tells neighbouring integers apart
_DIGITS = 6  # numbers that agree to so many decimals are the same
_MAX_OPERANDS = 48  # tried for each new number, the latest first: the cost of a step stays bounded


def share(part: float, whole: float) -> float:
    """``part / whole``, 0 of nothing."""
    return part / whole if whole else 0.0


def log_ratio(a: float, b: float) -> float:
    """Logarithm of ``a / b`` for counts that may be 0."""
    return math.log((1.0 + a) / (1.0 + b))


def read_numbers(text: str) -> list[float]:
    """The numbers of a text, without signs; ``1,250`` is one number and ``1,2`` are two."""
    numbers: list[float] = []
    for piece in _NUMBER.findall(text):
        groups = piece.split(",")
        if all(len(group.partition(".")[0]) == 3 for group in groups[1:]):
            groups = ["".join(groups)]
        numbers += [float(group) for group in groups if group]
    return [number for number in numbers if number < _LARGEST]


class NumberStatistics:
    """Which numbers a step holds, and where they may come from."""

    def __init__(self, problem: str) -> None:
        numbers = read_numbers(problem)
        self._problem = set(numbers)
        self._known = {round(number, _DIGITS) for number in numbers}
        self._operands = list(dict.fromkeys(numbers))[:_MAX_OPERANDS]
        self._used: set[float] = set()
        self._largest = max(numbers, default=0.0)
        self._last = math.nan

    def read(self, step: str, results: set[float]) -> dict[str, float]:
        """Return the statistics of the next step, whose equations end in ``results``, and take its numbers in."""
        numbers = read_numbers(step)
        distinct = {round(number, _DIGITS): None for number in numbers}  # a dict keeps the order
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
        """Whether one of + - * / on two known numbers gives ``number``."""
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
    """Which equations of a step hold, by what the text before it stated."""

    def __init__(self, problem: str) -> None:
        self._ledger = Ledger()
        self._wrong = self._right = 0
        check_equations(problem, self._ledger)

    def read(self, step: str) -> tuple[dict[str, float], set[float]]:
        """Return the statistics of the next step and what its equations end in; take up what it states."""
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
