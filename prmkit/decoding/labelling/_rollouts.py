"""Rollouts: solutions that are continued to their end, verified and counted, within a budget of tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prmkit.data.solution import Solution
from prmkit.decoding.generation import (
    Generation,
    ProtocolError,
    TextGenerator,
    derived_seed,
    extended,
    generate_checked,
    step_separator_of,
)
from prmkit.decoding.verifiers.references import Verifier


@dataclass(frozen=True, eq=False)
class Rollout:
    """A solution at its end, and whether it is right. None if that is not known, or if it was cut."""

    solution: Solution
    finish: str
    is_right: bool | None = None

    @property
    def counts(self) -> bool:
        """Whether it tells something: a solution that was cut reached no answer, and one that failed says nothing."""
        return self.is_right is not None or self.finish in ("length", "max_steps")


@dataclass(eq=False)
class Rollouts:
    """What asks a generator for rollouts, and counts what they cost and what went wrong."""

    generator: TextGenerator
    verifier: Verifier
    max_tokens: int
    max_steps: int
    temperature: float
    budget: int | None
    root: int

    def __post_init__(self) -> None:
        self.separator = step_separator_of(self.generator)
        self.counts: Counter[str] = Counter()
        self.errors: dict[str, str] = {}
        """What went wrong first, by problem."""
        self.first_of: dict[str, str] = {}
        """What went wrong first, by kind."""
        self.n_tokens = 0
        self.is_spent = False

    def complete(self, starts: Sequence[Solution], n: int, name: object) -> list[list[Rollout]]:
        """Return n rollouts from each start. ``name`` says what for, so that no other rollouts have their seeds."""
        rows = [[Rollout(start, "stop")] * n for start in starts]
        asked = self._ask(starts, n, [self._seed(start, name) for start in starts])
        for i, generations in enumerate(asked):
            rows[i] = [self._grown(starts[i], one) for one in generations]
        for depth in range(1, self.max_steps):
            places = [(i, k) for i, row in enumerate(rows) for k, one in enumerate(row) if one.finish == "stop"]
            if not places:
                break
            begun = [rows[i][k].solution for i, k in places]
            seeds = [self._seed(starts[i], name, k, depth) for i, k in places]
            for (i, k), [one] in zip(places, self._ask(begun, 1, seeds), strict=True):
                rows[i][k] = self._grown(rows[i][k].solution, one)
        return [[self._verified(one) for one in row] for row in rows]

    def _seed(self, start: Solution, *names: object) -> int:
        return derived_seed(self.root, start.problem, start.steps, *names)

    def _ask(self, solutions: Sequence[Solution], n: int, seeds: Sequence[int]) -> list[list[Generation]]:
        """Ask for n continuations of each. The error of what the budget has no room for says so."""
        rows: list[list[Generation]] = []
        while len(rows) < len(solutions):
            fit, longest = len(solutions) - len(rows), self.max_tokens
            if self.budget is not None:
                left = self.budget - self.n_tokens
                fit = min(fit, left // (n * longest))
                if not fit:
                    fit, longest = 1, left // n
                if self.is_spent or longest < 1:
                    self.is_spent = True
                    self.counts["requests beyond the budget"] += len(solutions) - len(rows)
                    return rows + [[Generation.failed(_BUDGET)] * n for _ in solutions[len(rows) :]]
            part = slice(len(rows), len(rows) + fit)
            found = self._answered(solutions[part], n, longest, seeds[part])
            self.n_tokens += sum(one.n_tokens for row in found for one in row)
            if longest < self.max_tokens:
                # What the budget has cut says nothing of the step: to count it as a failure would be a wrong label.
                self.is_spent = any(one.finish == "length" for row in found for one in row)
                found = [
                    [Generation.failed(_BUDGET) if one.finish == "length" else one for one in row] for row in found
                ]
            rows += found
        return rows

    def _answered(
        self, solutions: Sequence[Solution], n: int, max_tokens: int, seeds: Sequence[int]
    ) -> list[list[Generation]]:
        """Return what the generator answers. An answer that breaks the protocol costs the request that it is for."""
        try:
            return generate_checked(
                self.generator,
                solutions,
                n=n,
                stop=(),
                max_tokens=max_tokens,
                temperature=self.temperature,
                seeds=seeds,
            )
        except ProtocolError as error:
            if len(solutions) == 1:
                return [[Generation.failed(error)] * n]
        each = (self._answered([one], n, max_tokens, [seed]) for one, seed in zip(solutions, seeds, strict=True))
        return [row for [row] in each]

    def _grown(self, solution: Solution, generation: Generation) -> Rollout:
        if generation.finish != "error":
            return Rollout(extended(solution, generation, self.separator), generation.finish)
        if generation.error == _BUDGET:
            return Rollout(solution, "budget")
        self._note("failed requests", solution, generation.error or "the request failed")
        return Rollout(solution, "error")

    def _note(self, kind: str, solution: Solution, what: str) -> None:
        self.counts[kind] += 1
        self.first_of.setdefault(kind, what)
        self.errors.setdefault(solution.problem, what)

    def _verified(self, rollout: Rollout) -> Rollout:
        """Return a rollout with its verdict. A verifier that raises costs this one alone."""
        solution = rollout.solution
        if rollout.finish == "stop":
            return Rollout(solution, "max_steps")
        if rollout.finish != "eos":
            return rollout
        try:
            verdict = self.verifier(solution.problem, solution)
        except Exception as error:  # the verifier is the user's, and what it raises is about this solution
            self._note("failed verifications", solution, f"the verifier raised {type(error).__name__}: {error}")
            return rollout
        if not isinstance(verdict, (bool, np.bool_)):
            raise TypeError(f"the verifier returned {verdict!r:.60}, expected True or False")
        return Rollout(solution, "eos", bool(verdict))


_BUDGET = "beyond the budget"
