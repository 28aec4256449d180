"""A stochastic policy that solves word problems step by step, with errors at known rates, for tests and benchmarks."""

import random
import re
from fractions import Fraction

import numpy as np

from prmkit.data.answers import extract_answer
from prmkit.data.arithmetic._generator import (
    Line,
    Voice,
    _distinct_problems,
    _draw_kinds,
    _draw_moves,
    _Move,
    _wrong_lines,
    last_value,
    work_out,
    write_number,
)
from prmkit.decoding import CallableGenerator

_EQUATION = re.compile(r"(\d[\d.]*) ([-+*×/÷]) (\d[\d.]*) = (\d+(?:\.\d+)?)")


class ToyPolicy:
    """Word problems, and what an imperfect solver writes about them.

    A calculation goes wrong with chance ``error_rate``, each time in another way. The share ``hard`` of the problems
    has a favourite error besides, as language models have: it is made with chance ``favourite_rate``, always the same
    one, so its answer often has the most votes. A solution has one error at most, and goes on with its consequences.

    The state of a solution is read from its text. So the policy continues any solution that it could have written.
    """

    def __init__(self, n_problems, error_rate=0.15, hard=0.4, favourite_rate=0.6, random_state=0):
        self.error_rate, self.favourite_rate = error_rate, favourite_rate
        rng = random.Random(random_state)
        self._drawn = {one.text: one for one in _distinct_problems(n_problems, rng)}
        self._moves = {text: _draw_moves(one, rng) for text, one in self._drawn.items()}
        self._favourites = {
            text: self._draw_error(one, rng.choice([m for m in self._moves[text] if m.stage == "calculation"]), rng)
            for text, one in self._drawn.items()
            if rng.random() < hard
        }
        self.problems = list(self._drawn)
        self.generator = CallableGenerator(self._continued)

    def accuracy(self, problem):
        """Return the chance that one solution of a problem is right."""
        drawn, favourite = self._drawn[problem], self._favourites.get(problem)
        chance = 1.0
        for move in self._moves[problem]:
            if move.stage == "calculation":
                can_err = self._draw_error(drawn, move, random.Random(0)) is not None
                chance *= 1 - self.error_rate * can_err
                chance *= 1 - self.favourite_rate * (favourite is not None and favourite[0] == move)
        return chance

    def first_error(self, solution):
        """Return the index of the first wrong step, -1 if there is none."""
        right = self._drawn[solution.problem].lines
        lines = self._lines(solution.problem, solution.steps)
        wrong = [i for i, (key, line) in lines.items() if line != right[key]]
        return wrong[0] if wrong else -1

    def is_right(self, problem, solution):
        """Verify the final answer."""
        right = write_number(self._drawn[problem].answer)
        return bool(solution.steps) and extract_answer(solution.steps[-1]).answer == right

    def perfect(self, solutions):
        """Score as a perfect process reward model does: 1 until the first error, 0 from there on."""
        errors = [self.first_error(one) for one in solutions]
        return [
            np.where((np.arange(one.n_steps) < error) | (error < 0), 1.0, 0.0)
            for one, error in zip(solutions, errors, strict=True)
        ]

    def _continued(self, problem, steps, n, seed):
        return [self._next_step(problem, steps, random.Random(f"{seed} {k}")) for k in range(n)]

    def _next_step(self, problem, steps, rng):
        drawn, moves = self._drawn[problem], self._moves[problem]
        lines = dict(self._lines(problem, steps).values())
        move = moves[len(steps)]
        voice = Voice(drawn.kind, rng)
        if move.stage == "answer":
            return f"The answer is {write_number(last_value(lines))}.", "eos"
        if move.stage == "plan":
            return voice.plan(move.key, drawn.lines[move.key].sign), "stop"
        is_right = all(line == drawn.lines[key] for key, line in lines.items())
        line = work_out(drawn.kind, drawn.givens, lines)[move.key]
        favourite = self._favourites.get(problem)
        if is_right and favourite is not None and favourite[0] == move and rng.random() < self.favourite_rate:
            line = favourite[1]
        elif is_right and rng.random() < self.error_rate and (error := self._draw_error(drawn, move, rng)):
            line = error[1]
        return voice.calculation(move.key, line), "stop"

    def _lines(self, problem, steps):
        """Return the key and the line of each step that calculates, by the number of the step."""
        found = {}
        for i, (move, step) in enumerate(zip(self._moves[problem], steps, strict=False)):
            if move.stage == "calculation":
                left, sign, right, value = _EQUATION.search(step).groups()
                sign = {"×": "*", "÷": "/"}.get(sign, sign)
                found[i] = move.key, Line(Fraction(left), sign, Fraction(right), Fraction(value))
        return found

    def _draw_error(self, drawn, move: _Move, rng):
        """Return the move and a wrong line, from which the work goes on to another answer. None if there is none."""
        for kind in _draw_kinds(move, rng):
            wrong = _wrong_lines(kind, move.key, drawn)
            for line in rng.sample(wrong, len(wrong)):
                lines = work_out(drawn.kind, drawn.givens, {move.key: line})
                if lines is not None and last_value(lines) != drawn.answer:
                    return move, line
        return None
