"""How a worked solution sounds: sentences for plans, calculations, answers and restatements."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from prmkit.data._drawn_problems import Line, write_number
from prmkit.data._word_problems import Number, Operation, Quantity, WordProblem

# No phrase is kept for wrong or for right steps: words alone shall not tell them apart. Plans and
# calculations share "{Result} is …" with restatements for the same reason.
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
    """Words one solution: each has its own signs and its own choice of phrases.

    Parameters
    ----------
    problem : WordProblem
        With its slots filled.
    rng : random.Random
    """

    def __init__(self, problem: WordProblem, rng: random.Random) -> None:
        self._problem = problem
        self._rng = rng
        self._signs = {"+": "+", "-": "-", "*": rng.choice("*×"), "/": rng.choice("/÷")}
        self._answer_key = list(problem.work)[-1]
        self._said: set[tuple[str, str]] = set()
        self._has_begun = False

    def plan(self, key: str, sign: str) -> str:
        """Say which operation gives the quantity ``key``."""
        return self._sentence(_PLANS, **self._words(key, sign))

    def calculation(self, key: str, line: Line) -> str:
        """State a calculation of the quantity ``key``."""
        left, _, right = self._problem.work[key].formula.split()
        phrases = _CALCULATIONS[:-1] if right.isdigit() else _CALCULATIONS  # "100 is 100" says nothing
        return self._sentence(
            phrases,
            **self._words(key, line.sign),
            equation=f"{write_number(line.left)} {self._signs[line.sign]} {write_number(line.right)}"
            f" = {write_number(line.value)}",
            value=write_number(line.value),
            unit=self._unit(key),
            left_fact=self._fact(left, line.left),
            right_fact="" if right.isdigit() else self._fact(right, line.right),
        )

    def answer(self, value: Number) -> str:
        """State the answer."""
        key = self._answer_key
        return self._sentence(
            _ANSWERS, fact=self._fact(key, value), value=write_number(value), unit=self._unit(key)
        )

    def restatement(self, facts: Mapping[str, Number], done: Mapping[str, Line]) -> str:
        """Say again, truly, what the problem states or what a calculation in ``done`` has shown."""
        choices = [("question", self._answer_key)]
        choices += [("fact", key) for key in facts]
        choices += [("result", key) for key in done if key != self._answer_key]
        choices += [("calculation", key) for key in done]
        about, key = self._rng.choice([c for c in choices if c not in self._said] or choices)
        self._said.add((about, key))
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
        return key if key.isdigit() else self._quantity(key).name

    def _unit(self, key: str) -> str:
        unit = self._quantity(key).unit
        return f" {unit}" if unit else ""

    def _quantity(self, key: str) -> Quantity | Operation:
        return self._problem.givens.get(key) or self._problem.work[key]
