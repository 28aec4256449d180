"""Word problems with numbers in them, worked out: what a solution calculates, line by line."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from prmkit.data._word_problems import WORD_PROBLEMS, WORDS, Number, WordProblem


class Line(NamedTuple):
    """A calculation as a solution states it; ``value`` may be wrong."""

    left: Number
    sign: str
    right: Number
    value: Number


@dataclass(frozen=True)
class DrawnProblem:
    """A word problem with its words and numbers, and the right work."""

    text: str
    kind: WordProblem
    givens: Mapping[str, Number]
    lines: Mapping[str, Line]

    @property
    def answer(self) -> Number:
        """The right answer: the value of the last line."""
        return last_value(self.lines)


def draw_problem(rng: random.Random) -> DrawnProblem:
    """Draw a kind of problem, then numbers until they work out tidily."""
    kind = rng.choice(WORD_PROBLEMS)
    lines = None
    while lines is None:
        givens = {key: rng.choice(given.values) for key, given in kind.givens.items()}
        lines = work_out(kind, givens)
    words = {slot: rng.choice(choices) for slot, choices in WORDS.items()}
    numbers = {key: write_number(value) for key, value in givens.items()}
    named = replace(
        kind,
        givens={key: given._replace(name=given.name.format(**words)) for key, given in kind.givens.items()},
        work={key: step._replace(name=step.name.format(**words)) for key, step in kind.work.items()},
    )
    return DrawnProblem(rng.choice(kind.texts).format(**words, **numbers), named, givens, lines)


def work_out(
    kind: WordProblem,
    givens: Mapping[str, Number],
    wrong_key: str | None = None,
    *,
    left: Number | None = None,
    sign: str | None = None,
    right: Number | None = None,
    value: Number | None = None,
) -> dict[str, Line] | None:
    """Return the lines of the work by key, or None where a value is not tidy.

    ``left``, ``sign``, ``right`` and ``value`` replace what the line of ``wrong_key`` would hold, and
    the later lines follow from it.
    """
    known = dict(givens)
    lines = {}
    for key, operation in kind.work.items():
        a, op, b = operation.formula.split()
        x, y = known[a], int(b) if b.isdigit() else known[b]
        if key == wrong_key:
            x, op, y = left or x, sign or op, right or y
        result = value if key == wrong_key and value is not None else calculate(x, op, y)
        if not is_tidy(result):
            return None
        lines[key] = Line(x, op, y, result)
        known[key] = result
    return lines


def calculate(left: Number, sign: str, right: Number) -> Number:
    """Return the exact result."""
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    if sign == "*":
        return left * right
    return Fraction(left) / right


def is_tidy(value: Number) -> bool:
    """Whether a solution may hold this number: at least 2, not huge, at most two decimals."""
    return 2 <= value < 100_000 and (100 * value).denominator == 1


def last_value(lines: Mapping[str, Line]) -> Number:
    """Return the value of the last line: the answer of the work."""
    return list(lines.values())[-1].value


def write_number(value: Number) -> str:
    """Write a whole number, or a decimal of at most two digits."""
    return str(value) if value == int(value) else f"{float(value):.2f}".rstrip("0")
