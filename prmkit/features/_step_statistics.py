"""Cheap numbers about each step of a solution: position, length, novelty, repetition, arithmetic, wording.

Row ``t`` of :func:`step_statistics` depends on the problem and the steps up to ``t`` alone. Everything is kept
incrementally, so a solution costs time in proportion to its text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from prmkit.features._equations import EquationReport, Ledger, check_equations
from prmkit.features._statistic_names import MARKERS, OPENINGS, STATISTICS

_WORD = re.compile(r"\\?[^\W\d_]+")
_CAPITAL = re.compile(r"[A-Z]")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
_ASSIGNMENT = re.compile(r"\b([^\W\d_]{1,20}): ([^\W\d_]{1,20}(?: [^\W\d_]{1,20}){0,2})")
_OPTION = re.compile(r"\bchoice[_ ][a-j]\b|\([a-j]\)(?!\w)|\boption [a-j]\b")
_ENUMERATION = re.compile(r"\s*(?:step\s+\d{1,3}\s*[:.)]|\d{1,3}[.):]\s)\s*", re.IGNORECASE)
_TRANSPARENT = str.maketrans("", "", "$\\{}() ,.\n")
_MAX_OPERANDS = 48


def step_statistics(problem: str, steps: Sequence[str]) -> np.ndarray:
    """Count and check every step of a solution.

    Parameters
    ----------
    problem : str
        The problem text; may be empty.
    steps : sequence of str
        The steps in order.

    Returns
    -------
    ndarray of shape (n_steps, len(STATISTICS)), float64
        Column ``j`` is the ``j``-th name of :data:`STATISTICS`.
    """
    context = _Context(problem)
    rows = [context.read(step) for step in steps]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(STATISTICS))


def _numbers(text: str) -> list[float]:
    """The numbers of a text; ``1,250`` is one number and ``1,2`` are two."""
    numbers: list[float] = []
    for piece in _NUMBER.findall(text):
        groups = piece.split(",")
        if all(len(group.partition(".")[0]) == 3 for group in groups[1:]):
            groups = ["".join(groups)]
        numbers += [float(group) for group in groups if group]
    return [number for number in numbers if number < 1e15]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _log_ratio(a: float, b: float) -> float:
    return math.log((1.0 + a) / (1.0 + b))


def _long(words: Iterable[str]) -> set[str]:
    return {word for word in words if len(word) > 3}


def _derivable(number: float, operands: list[float], known: set[float]) -> bool:
    """Whether one of + - * / on two known numbers gives ``number``."""
    for a in operands:
        if round(number - a, 6) in known or round(a - number, 6) in known or round(number + a, 6) in known:
            return True
        if (
            round(number * a, 6) in known
            or (a and round(number / a, 6) in known)
            or (number and round(a / number, 6) in known)
        ):
            return True
    return False


class _Context:
    """What the problem and the steps so far hold; ``read`` gives a step's row and takes the step in."""

    def __init__(self, problem: str) -> None:
        words = _WORD.findall(problem.lower())
        numbers = _numbers(problem)
        self.problem_words = len(words)
        self.problem_vocabulary, self.problem_numbers = set(words), set(numbers)
        self.problem_long, self.problem_triples = (
            _long(words),
            set(zip(words, words[1:], words[2:], strict=False)),
        )
        self.problem_options = float(len(_OPTION.findall(problem.lower())) > 1 or "\nB: " in problem)
        self.vocabulary: set[str] = set()
        self.triples: set[tuple[str, str, str]] = set()
        self.texts: set[str] = set()
        self.openings: dict[tuple[str, ...], int] = {}
        self.numbers: set[float] = {round(number, 6) for number in numbers}
        self.operands: list[float] = list(dict.fromkeys(numbers))[:_MAX_OPERANDS]
        self.used_numbers: set[float] = set()
        self.largest = max(numbers, default=0.0)
        self.known = Ledger()
        self.state: dict[str, str] = {}
        check_equations(problem, self.known)
        self.previous: set[str] = set()
        self.previous_words, self.previous_number = 0, math.nan
        self.index = self.words = self.latex = self.wrong = self.right = self.hedges = self.answers = (
            self.results_seen
        ) = 0
        self.novelty = self.digits = self.symbols = 0.0

    def read(self, step: str) -> list[float]:
        """The statistics of the next step; a leading number such as ``Step 3:`` is not part of it."""
        if enumeration := _ENUMERATION.match(step):
            step = step[enumeration.end() :]
        words = _WORD.findall(step.lower())
        report = check_equations(step, self.known)
        row = [
            *self._position(),
            *self._make_up(step, words),
            *self._quantities(step, report),
            *self._vocabulary(words),
            *self._repetition(step, words),
            *self._equations(report),
            *self._state(step),
            *self._wording(words),
        ]
        self.index += 1
        self.words += len(words)
        self.previous_words = len(words)
        return row

    def _position(self) -> list[float]:
        return [
            self.index,
            math.log1p(self.words),
            math.log1p(self.problem_words),
            len(self.problem_numbers),
            self.problem_options,
        ]

    def _make_up(self, step: str, words: list[str]) -> list[float]:
        count, size = len(words), len(step)
        digits = sum(map(step.count, "0123456789"))
        letters = sum(map(len, words))
        spaces = step.count(" ") + step.count("\n")
        commands = sum(word[0] == "\\" for word in words)
        digit_share = _share(digits, size)
        symbol_share = _share(max(0, size - letters + commands - digits - spaces), size)
        mean_words, mean_latex = _share(self.words, self.index), _share(self.latex, self.index)
        mean_digits, mean_symbols = _share(self.digits, self.index), _share(self.symbols, self.index)
        self.latex += commands
        self.digits += digit_share
        self.symbols += symbol_share
        return [
            math.log1p(count),
            math.log1p(size),
            _log_ratio(count, mean_words) if self.index else 0.0,
            _log_ratio(count, self.previous_words) if self.index else 0.0,
            _log_ratio(count, self.problem_words),
            _share(letters, count),
            step.count("\n"),
            digit_share,
            symbol_share,
            _share(len(_CAPITAL.findall(step)), size),
            commands,
            commands - mean_latex if self.index else 0.0,
            digit_share - mean_digits if self.index else 0.0,
            symbol_share - mean_symbols if self.index else 0.0,
            step.count("?"),
        ]

    def _quantities(self, step: str, report: EquationReport) -> list[float]:
        numbers = _numbers(step)
        distinct = {round(number, 6): None for number in numbers}  # a dict keeps the order
        new = [number for number in distinct if number not in self.numbers]
        results = {round(result, 6) for result in report.results}
        underived = sum(
            number not in results and not _derivable(number, self.operands, self.numbers) for number in new
        )
        in_problem = distinct.keys() & self.problem_numbers
        self.used_numbers |= in_problem
        largest = max(numbers, default=0.0)
        last = round(numbers[-1], 6) if numbers else math.nan
        row = [
            len(numbers),
            len(new),
            _share(len(new), len(distinct)),
            _share(len(in_problem), len(distinct)),
            underived,
            _share(len(self.used_numbers), len(self.problem_numbers)),
            float(last in self.numbers) if numbers else -1.0,
            float(last in self.problem_numbers) if numbers else -1.0,
            math.log1p(largest),
            _log_ratio(largest, self.largest) if numbers else 0.0,
            sum(number != int(number) for number in numbers),
            float(bool(numbers) and numbers[0] == self.previous_number),
        ]
        self.results_seen = len(results & self.numbers)
        self.numbers.update(new)
        self.operands = (new[:_MAX_OPERANDS] + self.operands)[:_MAX_OPERANDS]
        self.largest = max(self.largest, largest)
        self.previous_number = numbers[-1] if numbers else math.nan
        return row

    def _vocabulary(self, words: list[str]) -> list[float]:
        distinct = set(words)
        long = _long(distinct)
        in_problem = long & self.problem_long
        in_prefix = long & self.vocabulary
        new = _share(len(long - self.problem_long - self.vocabulary), len(long))
        symbols = sum(
            len(word) == 1 and word not in self.vocabulary and word not in self.problem_vocabulary
            for word in distinct
        )
        mean = _share(self.novelty, self.index)
        self.novelty += new
        return [
            _share(len(in_problem), len(long)),
            _share(len(in_prefix), len(long)),
            new,
            new - mean if self.index else 0.0,
            _share(len(in_problem), len(self.problem_long)),
            symbols,
        ]

    def _repetition(self, step: str, words: list[str]) -> list[float]:
        distinct, triples = set(words), set(zip(words, words[1:], words[2:], strict=False))
        text, opening = step.lower().translate(_TRANSPARENT), tuple(words[:2])
        row = [
            _share(len(triples & self.problem_triples), len(triples)),
            _share(len(triples & self.triples), len(triples)),
            _share(len(distinct & self.previous), len(distinct | self.previous)),
            float(text in self.texts),
            self.openings.get(opening, 0),
        ]
        self.vocabulary |= distinct
        self.triples |= triples
        self.texts.add(text)
        self.openings[opening] = self.openings.get(opening, 0) + 1
        self.previous = distinct
        return row

    def _equations(self, report: EquationReport) -> list[float]:
        row = [
            report.equalities,
            report.right,
            report.wrong,
            math.log1p(100.0 * report.worst),
            report.bound_right,
            report.bound_wrong,
            report.identities,
            report.differing,
            report.differing_later,
            report.unread,
            report.rebound,
            report.solved_right,
            report.solved_wrong,
            self.results_seen,
            self.wrong,
            self.right,
        ]
        self.wrong += report.wrong
        self.right += report.right
        return row

    def _state(self, step: str) -> list[float]:
        pairs = dict(_ASSIGNMENT.findall(step)) if ": " in step else {}
        changed = sum(name in self.state and self.state[name] != value for name, value in pairs.items())
        self.state.update(pairs)
        return [
            len(pairs),
            changed,
            len(pairs) - len(set(pairs.values())),
            len(set(_OPTION.findall(step.lower()))),
        ]

    def _wording(self, words: list[str]) -> list[float]:
        counts = {name: sum(map(vocabulary.__contains__, words)) for name, vocabulary in MARKERS.items()}
        opening = set(words[:2])
        row = [
            *counts.values(),
            *(float(not opening.isdisjoint(MARKERS[name])) for name in OPENINGS),
            self.hedges,
            self.answers,
        ]
        self.hedges += counts["hedge"]
        self.answers += counts["answer"] > 0
        return row
