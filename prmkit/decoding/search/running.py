"""What all searches share: they ask a generator, score what comes, keep a budget and count."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import ParamSpec, Protocol, TypeAlias, cast

import numpy as np

from prmkit.data.solution import Solution
from prmkit.decoding.generation import (
    Generation,
    RandomState,
    Request,
    TextGenerator,
    as_solution,
    check_counts,
    check_generator,
    check_request_settings,
    derived_seed,
    extended,
    generate_checked,
    n_tokens_of,
    root_seed,
    step_separator_of,
)
from prmkit.decoding.generators._logged import LoggedGenerator, check_seed_for_log
from prmkit.decoding.search.results import (
    DROPPED,
    Candidate,
    SearchCost,
    SearchProgress,
    SearchResult,
    best_candidate,
    refuse_no_steps,
)
from prmkit.decoding.search.scoring import Scorer, StepScoring, check_aggregation, solution_score

StopCondition: TypeAlias = Callable[[Solution], bool]
P = ParamSpec("P")


class Search(Protocol[P]):
    """A search: called, it returns its result. ``iterate`` yields its progress instead, round by round."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> SearchResult:
        """Search, and return the result."""

    def iterate(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[SearchProgress]:
        """Search, and yield the progress after each round. The last one holds the result."""


def searches(rounds: Callable[P, Iterator[SearchProgress]]) -> Search[P]:
    """Make a search of a function that yields progress."""

    @wraps(rounds)
    def search(*args: P.args, **kwargs: P.kwargs) -> SearchResult:
        result = None
        for progress in rounds(*args, **kwargs):
            result = progress.result
        assert result is not None, "the last progress of a search holds its result"
        return result

    search.__signature__ = inspect.signature(rounds).replace(return_annotation=SearchResult)  # type: ignore[attr-defined]
    del search.__wrapped__  # it yields, and the search returns
    search.iterate = rounds  # type: ignore[attr-defined]
    return cast("Search[P]", search)


@dataclass(eq=False)
class SearchRun:
    """One search that is under way: its parts, its settings, and what it has used.

    ``grow`` and ``complete`` do all the asking and scoring. A search decides which candidates go on.
    """

    generator: TextGenerator
    scorer: Scorer | None
    problem: Request
    rule: str = "min"
    max_tokens: int = 512
    temperature: float = 1.0
    stop: Sequence[str] | None = None
    stop_condition: StopCondition | None = None
    final_scorer: Scorer | None = None
    final_rule: str | None = None
    budget: int | None = None
    random_state: RandomState = None
    log: str | Path | None = None
    ended: list[Candidate] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_generator(self.generator)
        check_request_settings(1, self.max_tokens, self.temperature, () if self.stop is None else self.stop)
        for rule in (self.rule, self.final_rule or self.rule):
            check_aggregation(rule)
        if self.stop_condition is not None and not callable(self.stop_condition):
            raise TypeError(f"stop_condition is {self.stop_condition!r}, expected a function of a Solution, or None")
        if self.budget is not None:
            check_counts(budget=self.budget)
        if self.log is not None:
            check_seed_for_log(self.random_state)
            self.generator = LoggedGenerator(self.generator, self.log)
        self.separator = step_separator_of(self.generator)
        self.stops = (self.separator,) if self.stop is None else tuple(self.stop)
        self.start = as_solution(self.problem)
        # With one seed for many problems, each problem has draws of its own.
        self.root = derived_seed(root_seed(self.random_state), self.start.problem)
        self.scoring = self._scoring(self.scorer)
        self.final = self._scoring(self.final_scorer)
        self._used = SearchCost()
        self._round = self._n_asked = 0
        self._begun = time.perf_counter()

    def __enter__(self) -> SearchRun:
        return self

    def __exit__(self, *raised: object) -> None:
        """Close the log, also if the search was broken off: the same call can go on from it at once."""
        if isinstance(self.generator, LoggedGenerator) and self.log is not None:
            self.generator.close()

    def _scoring(self, scorer: Scorer | None) -> StepScoring | None:
        return None if scorer is None else StepScoring(scorer, lambda text: n_tokens_of(self.generator, text))

    @property
    def cost(self) -> SearchCost:
        """What was used so far."""
        parts = [part for part in (self.scoring, self.final) if part is not None]
        return replace(
            self._used,
            scored_tokens=sum(part.scored_tokens for part in parts),
            n_forward=sum(part.n_forward for part in parts),
            seconds=time.perf_counter() - self._begun,
        )

    @property
    def first(self) -> Candidate:
        """The candidate that has not begun."""
        return Candidate(self.start)

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up."""
        return self.budget is not None and self._used.generated_tokens >= self.budget

    def seed(self, *names: object) -> int:
        """Return a seed for one part of the search."""
        return derived_seed(self.root, *names)

    def grow(
        self, parents: Sequence[Candidate], n: int, *, score: bool = True, temperature: float | None = None
    ) -> list[list[Candidate]] | None:
        """Return n children of each parent, each one step longer and scored. None if the budget does not allow them."""
        return self._ask(parents, n, self.stops, score, temperature=temperature)

    def complete(
        self, parents: Sequence[Candidate], n: int, *, max_steps: int, max_tokens: int | None = None, score: bool = True
    ) -> list[list[Candidate]]:
        """Return n solutions per parent that were continued to their end, without choosing on the way.

        If a condition stops solutions, they are continued step by step, and else in one request, unless the generator
        stops before.
        """
        stops = self.stops if self.stop_condition is not None else ()
        grown = self._ask(parents, n, stops, False, max_tokens=max_tokens)
        if grown is None:
            return [[parent.ended("budget")] * n for parent in parents]
        rows = grown
        for _ in range(max_steps - 1):
            places = [(i, k) for i, row in enumerate(rows) for k, one in enumerate(row) if one.stopped is None]
            if not places:
                break
            more = self._ask([rows[i][k] for i, k in places], 1, stops, False, max_tokens=max_tokens)
            for j, (i, k) in enumerate(places):
                rows[i][k] = rows[i][k].ended("budget") if more is None else more[j][0]
        rows = [[one.ended("max_steps") for one in row] for row in rows]
        if score:
            flat = iter(self.scored([one for row in rows for one in row]))
            rows = [[next(flat) for _ in row] for row in rows]
        return rows

    def scored(self, candidates: Sequence[Candidate], *, go_on: bool = False) -> list[Candidate]:
        """Return the candidates with their rewards and scores, which are asked for together.

        ``go_on`` says that they may grow, so that what was read of them is kept.
        """
        if self.scoring is None:
            return list(candidates)
        rewards = self.scoring.rewards([one.solution for one in candidates], go_on=go_on)
        return [
            replace(one, rewards=found, score=solution_score(found, self.rule))
            for one, found in zip(candidates, rewards, strict=True)
        ]

    def progress(
        self, live: Sequence[Candidate], result: SearchResult | None = None, size: float | None = None
    ) -> SearchProgress:
        """Return where the search stands after a round."""
        self._round += 1
        return SearchProgress(self._round, tuple(live), tuple(self.ended), self.cost, result, size)

    def finish(
        self,
        live: Sequence[Candidate] = (),
        why: str = "max_steps",
        choose: Callable[[list[Candidate]], int] = best_candidate,
        size: float | None = None,
    ) -> SearchProgress:
        """Return the last progress: candidates that still grow end here, and one of all is chosen."""
        candidates = [*self.ended, *(one.ended(why) for one in live)]
        if self.final is not None or self.final_rule is not None:
            candidates = self._finally_scored(candidates)
        self.ended = candidates
        refuse_no_steps(candidates)
        return self.progress((), SearchResult(tuple(candidates), choose(candidates), self.cost), size)

    def _finally_scored(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return candidates where those that were not dropped have the score of the final scorer, or by its rule."""
        which = [i for i, one in enumerate(candidates) if one.stopped not in DROPPED and one.solution.steps]
        if self.final is None:
            rewards = [candidates[i].rewards for i in which]
        else:
            rewards = self.final.rewards([candidates[i].solution for i in which], go_on=False)
        found = dict(zip(which, rewards, strict=True))
        return [
            replace(one, score=solution_score(found[i], self.final_rule or self.rule) if i in found else np.nan)
            for i, one in enumerate(candidates)
        ]

    def _ask(
        self,
        parents: Sequence[Candidate],
        n: int,
        stops: Sequence[str],
        score: bool,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> list[list[Candidate]] | None:
        """Ask for n continuations of each parent. No request may make more tokens than the budget has left for it."""
        if not parents:
            return []
        longest = max_tokens or self.max_tokens
        if self.budget is not None:
            longest = min(longest, (self.budget - self._used.generated_tokens) // (n * len(parents)))
            if longest < 1:
                return None
        seeds = [self.seed(self._n_asked, i) for i in range(len(parents))]
        self._n_asked += 1
        rows = generate_checked(
            self.generator,
            [parent.solution for parent in parents],
            n=n,
            stop=stops,
            max_tokens=longest,
            temperature=self.temperature if temperature is None else temperature,
            seeds=seeds,
        )
        flat = [one for row in rows for one in row]
        self._used = self._used + SearchCost(
            generated_tokens=sum(one.n_tokens for one in flat),
            n_requests=len(flat),
            n_errors=sum(one.finish == "error" for one in flat),
        )
        children = [self._child(parent, one) for parent, row in zip(parents, rows, strict=True) for one in row]
        if score:
            children = self.scored(children, go_on=True)
        return [children[i : i + n] for i in range(0, len(children), n)]

    def _child(self, parent: Candidate, generation: Generation) -> Candidate:
        """Return a candidate that is longer by what was generated."""
        if generation.finish == "error":
            return replace(parent, stopped="error", error=generation.error or "the request failed")
        solution = extended(parent.solution, generation, self.separator)
        stopped: str | None = None if generation.finish == "stop" else generation.finish
        if stopped != "eos" and self.stop_condition is not None and self.stop_condition(solution):
            stopped = "condition"
        if stopped is None and solution.n_steps == parent.solution.n_steps:
            stopped = "empty"  # asked again, it could go on like this without end
        return replace(parent, solution=solution, stopped=stopped, n_tokens=parent.n_tokens + generation.n_tokens)
