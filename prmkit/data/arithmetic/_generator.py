"""Word problems with worked steps, whose ratings are true by construction. They need no download."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from prmkit.data.arithmetic._word_problems import WORD_PROBLEMS, WORDS, Number, WordProblem
from prmkit.data.dataset import StepDataset
from prmkit.data.labels import NAMES, RATINGS
from prmkit.data.solution import Solution, flatten


class Line(NamedTuple):
    """A calculation as a solution states it. Its value may be wrong."""

    left: Number
    sign: str
    right: Number
    value: Number


@dataclass(frozen=True)
class DrawnProblem:
    """A word problem with its words and numbers, and the right work for it."""

    text: str
    kind: WordProblem
    givens: Mapping[str, Number]
    lines: Mapping[str, Line]

    @property
    def answer(self) -> Number:
        """The right answer."""
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
    kind: WordProblem, givens: Mapping[str, Number], wrong_lines: Mapping[str, Line] | None = None
) -> dict[str, Line] | None:
    """Return the lines of the work by key, or None if a value is not tidy. Lines after a wrong one follow from it."""
    values = dict(givens)
    lines = dict(wrong_lines or {})
    for key, operation in kind.work.items():
        left, sign, right = operation.formula.split()
        if key not in lines:
            lines[key] = calculated(values[left], sign, int(right) if right.isdigit() else values[right])
        values[key] = lines[key].value
        if not is_tidy(values[key]):
            return None
    return {key: lines[key] for key in kind.work}


def calculated(left: Number, sign: str, right: Number) -> Line:
    """Return the right line of a calculation, with its exact value."""
    if sign == "/":
        return Line(left, sign, right, Fraction(left) / right)
    return Line(left, sign, right, {"+": left + right, "-": left - right, "*": left * right}[sign])


def is_tidy(value: Number) -> bool:
    """Return whether a solution may hold this number: at least 2, not huge, at most two decimals."""
    return 2 <= value < 100_000 and (100 * value).denominator == 1


def last_value(lines: Mapping[str, Line]) -> Number:
    """Return the value of the last line, which is the answer of the work."""
    return list(lines.values())[-1].value


def write_number(value: Number) -> str:
    """Write a whole number, or a decimal of at most two digits."""
    return str(value) if value == int(value) else f"{float(value):.2f}".rstrip("0")


# Right and wrong steps use the same phrases, so that words alone do not tell them apart. Plans and calculations
# share "{Result} is …" with restatements for the same reason.
_PLANS = (
    "To get {result}, {verb}.",
    "{result} is {left} {joined} {right}.",
    "We {verb} to find {result}.",
    "For {result}, we have to {verb}.",
)
_CALCULATIONS = (
    "{result} is {equation}{unit}.",
    "{result}: {equation}{unit}.",
    "{equation}, so {result} is {value}{unit}.",
    "{verb}: {equation}{unit}.",
    "We {verb} and get {equation}{unit} for {result}.",
    "{left_fact} and {right_fact}, so {result} is {equation}{unit}.",
)
_ANSWERS = (
    "The answer is {value}{unit}.",
    "{fact}, which is the answer.",
    "Therefore {fact}.",
    "{fact}.",
    "{fact}.\n\n# Answer\n\n{value}",
)
_QUESTIONS = ("We want to know {result}.", "The question asks for {result}.", "We are looking for {result}.")
_FACTS = ("We know that {fact}.", "The problem says that {fact}.", "{fact}.", "Remember that {fact}.")
_RESULTS = ("So far, {fact}.", "As found above, {fact}.", "{fact}.", "This means that {fact}.")
_LEADS = ("", "", "", "Next, ", "Then ", "Now ", "So ")

_VERBS = {
    "+": ("add {left} and {right}", "add {right} to {left}"),
    "-": ("subtract {right} from {left}", "take {right} away from {left}"),
    "*": ("multiply {left} by {right}", "take {left} times {right}"),
    "/": ("divide {left} by {right}", "split {left} by {right}"),
}
_JOINED = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


class Voice:
    """The words of one solution. Each solution has its own signs and its own choice of phrases."""

    def __init__(self, problem: WordProblem, rng: random.Random) -> None:
        self._problem = problem
        self._rng = rng
        self._signs = {"+": "+", "-": "-", "*": rng.choice("*×"), "/": rng.choice("/÷")}
        self._answer_key = list(problem.work)[-1]
        self._restated: set[tuple[str, str]] = set()
        self._has_begun = False

    def plan(self, key: str, sign: str) -> str:
        """Say which operation gives the quantity ``key``."""
        return self._sentence(_PLANS, **self._words(key, sign))

    def calculation(self, key: str, line: Line) -> str:
        """State a calculation of the quantity ``key``."""
        left, _, right = self._problem.work[key].formula.split()
        # The last phrase states both sides, and "100 is 100" says nothing.
        phrases = _CALCULATIONS[:-1] if right.isdigit() else _CALCULATIONS
        value = write_number(line.value)
        return self._sentence(
            phrases,
            **self._words(key, line.sign),
            equation=f"{write_number(line.left)} {self._signs[line.sign]} {write_number(line.right)} = {value}",
            value=value,
            unit=self._unit(key),
            left_fact=self._fact(left, line.left),
            right_fact="" if right.isdigit() else self._fact(right, line.right),
        )

    def answer(self, value: Number) -> str:
        """State the answer."""
        key = self._answer_key
        words = {"fact": self._fact(key, value), "value": write_number(value), "unit": self._unit(key)}
        return self._sentence(_ANSWERS, **words)

    def restatement(self, facts: Mapping[str, Number], done: Mapping[str, Line]) -> str:
        """Repeat a fact of the problem, or a result of a calculation in ``done``."""
        choices = [("question", self._answer_key), *(("fact", key) for key in facts)]
        choices += [("result", key) for key in done if key != self._answer_key]
        choices += [("calculation", key) for key in done]
        about, key = self._rng.choice([c for c in choices if c not in self._restated] or choices)
        self._restated.add((about, key))
        if about == "question":
            return self._sentence(_QUESTIONS, result=self._name(key))
        if about == "fact":
            return self._sentence(_FACTS, fact=self._fact(key, facts[key]))
        if about == "result":
            return self._sentence(_RESULTS, fact=self._fact(key, done[key].value))
        return self.calculation(key, done[key])

    def _sentence(self, phrases: Sequence[str], **words: str) -> str:
        phrase = self._rng.choice(phrases)
        lead = self._rng.choice(_LEADS) if self._has_begun and phrase.startswith("{") else ""
        self._has_begun = True
        text = lead + phrase.format(**words)
        return text[0].upper() + text[1:]

    def _words(self, key: str, sign: str) -> dict[str, str]:
        left, _, right = self._problem.work[key].formula.split()
        sides = {"left": self._name(left), "right": self._name(right)}
        verb = self._rng.choice(_VERBS[sign]).format(**sides)
        return {**sides, "result": self._name(key), "verb": verb, "joined": _JOINED[sign]}

    def _fact(self, key: str, value: Number) -> str:
        return f"{self._name(key)} is {write_number(value)}{self._unit(key)}"

    def _name(self, key: str) -> str:
        return key if key.isdigit() else (self._problem.givens.get(key) or self._problem.work[key]).name

    def _unit(self, key: str) -> str:
        unit = (self._problem.givens.get(key) or self._problem.work[key]).unit
        return f" {unit}" if unit else ""


_MAX_STEPS = 7  # without restatements
_CONFUSED = {"+": "-*", "-": "+/", "*": "+/", "/": "*-"}


def make_arithmetic_solutions(
    n_problems: int = 100,
    solutions_per_problem: int = 3,
    error_rate: float = 0.3,
    neutral_rate: float = 0.15,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> StepDataset:
    """Make word problems with solutions in several phrasings, and a rating of every step.

    A solution plans, calculates and answers in 3 to 7 steps, besides restatements. At most one of these steps is
    wrong, and each with about the same chance:

    - A calculation has a wrong result (``3 * 4 = 14``). The equation is false.
    - A plan or a calculation uses the wrong operation. The equation is true, but beside the point.
    - A wrong number is copied into a calculation or into the answer. The equation is true as well.

    The solution then goes on to its end with the wrong value, and misses the right answer.

    **Each step is rated on its own, given its prefix.** A later step that reasons rightly from the wrong value is +1.
    So a solution has at most one -1, its first error. PRM800K differs: its labellers mostly stopped at the first
    error. Restatements of the problem, or of an earlier right step, are true and rated 0.

    Parameters
    ----------
    n_problems : int, default=100
        Number of problems. Their texts are distinct.
    solutions_per_problem : int, default=3
        Number of solutions of each problem. No two of them have the same steps.
    error_rate : float, default=0.3
        Chance that a solution has an error.
    neutral_rate : float, default=0.15
        Chance that a restatement is put before a step.
    random_state : int, RandomState, Generator or None, default=None
        Seed. An int gives the same data on each call. Global generators are left alone.

    Returns
    -------
    StepDataset
        Labelled steps, where ``y`` holds -1, 0 or +1 for every step. ``meta`` of a solution holds ``"answer"`` (the
        right one), ``"candidate_answer"`` (its own) and ``"error"`` (None, "result", "operation" or "number").

    Raises
    ------
    ValueError
        If a count is below 1, or a rate is outside 0 to 1.

    Examples
    --------
    >>> X, y = make_arithmetic_solutions(1, 1, error_rate=1.0, random_state=32)
    >>> X[0].problem
    'David buys 6 stickers at 4 dollars each and pays with 100 dollars. How much change does David get?'
    >>> for step, rating in zip(X, y):
    ...     print(f"{rating:+d}  {step.text}")
    +1  The cost of the stickers is the number of stickers times the price of one sticker.
    +1  The cost of the stickers is 6 * 4 = 24 dollars.
    -1  Next, the money left over: 100 - 24 = 67 dollars.
    +1  The money left over is 67 dollars.
    """
    for name, count in (("n_problems", n_problems), ("solutions_per_problem", solutions_per_problem)):
        if count < 1:
            raise ValueError(f"{name}={count}, expected at least 1")
    for name, rate in (("error_rate", error_rate), ("neutral_rate", neutral_rate)):
        if not 0 <= rate <= 1:
            raise ValueError(f"{name}={rate}, expected a share from 0 to 1")
    rng = _generator(random_state)
    solutions: list[Solution] = []
    ratings: list[int] = []
    first_errors: list[int | None] = []
    for problem in _distinct_problems(n_problems, rng):
        written: set[tuple[str, ...]] = set()
        while len(written) < solutions_per_problem:
            moves = _draw_moves(problem, rng)
            error = _draw_error(problem, moves, rng) if rng.random() < error_rate else None
            steps, rated = _write_steps(problem, moves, error, neutral_rate, rng)
            if steps in written:
                continue
            written.add(steps)
            meta = {
                "answer": write_number(problem.answer),
                "candidate_answer": write_number(error.answer if error else problem.answer),
                "error": error.kind if error else None,
            }
            solutions.append(Solution(problem.text, steps, id=f"arithmetic-{len(solutions)}", meta=meta))
            ratings += rated
            first_errors.append(rated.index(-1) if -1 in rated else -1)
    y = np.array(ratings, dtype=np.int64)
    description = _describe(y, n_problems, first_errors)
    return StepDataset(
        flatten(solutions),
        y,
        solutions=solutions,
        first_errors=first_errors,
        description=description,
        vocabulary="rating",
    )


class _Move(NamedTuple):
    """A step to take. It plans or calculates the quantity ``key``, or states it as the answer."""

    stage: str
    key: str


class _Error(NamedTuple):
    """An error at a move, with the lines of work that follow from it."""

    move: _Move
    kind: str
    lines: Mapping[str, Line]
    answer: Number


def _generator(random_state: int | np.random.RandomState | np.random.Generator | None) -> random.Random:
    # Python's generator draws single values several times faster than numpy's.
    if isinstance(random_state, np.random.RandomState):
        return random.Random(int(random_state.randint(2**31 - 1)))
    if isinstance(random_state, np.random.Generator):
        return random.Random(int(random_state.integers(2**63 - 1)))
    return random.Random(None if random_state is None else int(random_state))


def _distinct_problems(n_problems: int, rng: random.Random) -> Iterator[DrawnProblem]:
    seen: set[str] = set()
    while len(seen) < n_problems:
        problem = draw_problem(rng)
        if problem.text not in seen:
            seen.add(problem.text)
            yield problem


def _draw_moves(problem: DrawnProblem, rng: random.Random) -> list[_Move]:
    keys = list(problem.lines)
    plans_left = _MAX_STEPS - len(keys) - 1
    moves = []
    for key in keys:
        if plans_left and rng.random() < (0.7 if key == keys[0] else 0.25):
            moves.append(_Move("plan", key))
            plans_left -= 1
        moves.append(_Move("calculation", key))
    return [*moves, _Move("answer", keys[-1])]


def _draw_error(problem: DrawnProblem, moves: list[_Move], rng: random.Random) -> _Error:
    """Return an error at a random move from which the work goes on tidily and ends wrong."""
    for move in rng.sample(moves, len(moves)):
        if move.stage == "answer":
            break
        for kind in _draw_kinds(move, rng):
            wrong_lines = _wrong_lines(kind, move.key, problem)
            for wrong_line in rng.sample(wrong_lines, len(wrong_lines)):
                lines = work_out(problem.kind, problem.givens, {move.key: wrong_line})
                if lines is not None and last_value(lines) != problem.answer:
                    return _Error(move, kind, lines, last_value(lines))
    numbers = [*problem.givens.values(), *(line.value for line in problem.lines.values())]
    wrong = [value for value in _misread(problem.answer, numbers) if is_tidy(value)]
    return _Error(moves[-1], "number", problem.lines, rng.choice(wrong))


def _draw_kinds(move: _Move, rng: random.Random) -> list[str]:
    """Return the kinds of error to try in turn. A plan allows one kind, a calculation all three."""
    if move.stage == "plan":
        return ["operation"]
    others = rng.sample(["operation", "number"], 2)
    return ["result", *others] if rng.random() < 0.75 else [*others, "result"]


def _wrong_lines(kind: str, key: str, problem: DrawnProblem) -> list[Line]:
    """Return the lines that a line may become by an error of this kind."""
    line = problem.lines[key]
    if kind == "result":
        return [line._replace(value=value) for value in _miscalculated(line)]
    if kind == "operation":
        return [calculated(line.left, sign, line.right) for sign in _CONFUSED[line.sign]]
    numbers = problem.givens.values()
    lines = [calculated(left, line.sign, line.right) for left in _misread(line.left, numbers)]
    # A whole number in the formula is not copied from the problem.
    if not problem.kind.work[key].formula.split()[2].isdigit():
        lines += [calculated(line.left, line.sign, right) for right in _misread(line.right, numbers)]
    return lines


def _miscalculated(line: Line) -> list[Number]:
    value = line.value
    wrong = [value + slip for slip in (-10, -2, -1, 1, 2, 10)] + _transposed(value)
    if line.sign == "*":
        # Results of the neighbouring rows of the multiplication table.
        wrong += [value - line.left, value + line.left, value - line.right, value + line.right]
    return [other for other in wrong if other != value]


def _misread(value: Number, others: Iterable[Number]) -> list[Number]:
    wrong = [value - 1, value + 1, value + 10, *_transposed(value), *others]
    return [other for other in wrong if other != value and other >= 2]


def _transposed(value: Number) -> list[Number]:
    digits = str(value)
    if not digits.isdigit():
        return []
    swapped = (digits[:i] + digits[i + 1] + digits[i] + digits[i + 2 :] for i in range(len(digits) - 1))
    return [int(other) for other in swapped if other[0] != "0"]


def _write_steps(
    problem: DrawnProblem, moves: list[_Move], error: _Error | None, neutral_rate: float, rng: random.Random
) -> tuple[tuple[str, ...], list[int]]:
    """Return the steps of a solution and their ratings."""
    lines, answer = (error.lines, error.answer) if error else (problem.lines, problem.answer)
    voice = Voice(problem.kind, rng)
    steps: list[str] = []
    ratings: list[int] = []
    # Lines that are right: a restatement never repeats a wrong one.
    done: dict[str, Line] = {}
    for move in moves:
        if rng.random() < neutral_rate:
            steps.append(voice.restatement(problem.givens, done))
            ratings.append(0)
        is_wrong = error is not None and move == error.move
        if move.stage == "plan":
            steps.append(voice.plan(move.key, (lines if is_wrong else problem.lines)[move.key].sign))
        elif move.stage == "calculation":
            steps.append(voice.calculation(move.key, lines[move.key]))
            if lines[move.key] == problem.lines[move.key]:
                done[move.key] = lines[move.key]
        else:
            steps.append(voice.answer(answer))
        ratings.append(-1 if is_wrong else 1)
    return tuple(steps), ratings


def _describe(y: np.ndarray, n_problems: int, first_errors: Sequence[int | None]) -> str:
    n_wrong = sum(first_error != -1 for first_error in first_errors)
    counts = ", ".join(f"{np.sum(y == rating)} {name}" for rating, name in zip(RATINGS, NAMES, strict=True))
    return (
        f"Made arithmetic word problems: {n_problems} problems, {len(first_errors)} solutions, "
        f"{n_wrong} of them with an error, {len(y)} steps ({counts}). "
        "A step is rated on its own, given its prefix."
    )
