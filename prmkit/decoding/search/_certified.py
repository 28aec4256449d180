"""Certified stopping: a solution grows until a calibrated certifier refuses a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from sklearn.utils.validation import check_is_fitted

from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution
from prmkit.decoding.generation import (
    TOKEN_FACTS,
    Generation,
    RandomState,
    Request,
    TextGenerator,
    as_solution,
    check_counts,
    check_generator,
    fingerprint_of,
    n_tokens_of,
    step_separator_of,
)
from prmkit.decoding.search.results import Candidate, SearchProgress
from prmkit.decoding.search.running import SearchRun, StopCondition, searches
from prmkit.decoding.search.scoring import solution_score
from prmkit.fitted import FittedClassifier, refuse_shared_problems, training_problems
from prmkit.scoring.incremental import IncrementalScorer
from prmkit.uncertainty.guarantees import ErrorDetector, PrefixCertifier

Certifier: TypeAlias = PrefixCertifier | ErrorDetector
OnDoubt: TypeAlias = Literal["stop", "backtrack", "escalate"]


@searches
def certified_search(
    generator: TextGenerator,
    certifier: Certifier,
    problem: Request,
    *,
    on_doubt: OnDoubt = "stop",
    stronger: TextGenerator | None = None,
    max_attempts: int = 3,
    rule: str = "min",
    max_steps: int = 64,
    max_tokens: int = 512,
    temperature: float = 1.0,
    stop: Sequence[str] | None = None,
    stop_condition: StopCondition | None = None,
    budget: int | None = None,
    random_state: RandomState = None,
    log: str | Path | None = None,
) -> Iterator[SearchProgress]:
    """Let one solution grow while a calibrated certifier accepts its steps.

    ``certified_search.iterate(…)`` takes the same arguments, and yields the progress after each step.

    Parameters
    ----------
    generator : TextGenerator
        Generator of the steps.
    certifier : fitted PrefixCertifier or ErrorDetector
        What accepts or refuses each new step. Its classifier gives the scores, and reads each step once.
    problem : str or Solution
        Problem to solve, or a solution to continue. Given steps are judged as well.
    on_doubt : {"stop", "backtrack", "escalate"}, default="stop"
        What happens when a step is refused. ``"stop"``: the solution ends before it. ``"backtrack"``: the generator
        writes this step again. ``"escalate"``: ``stronger`` writes this step, and the generator goes on after it. See
        Notes for what is still promised.
    stronger : TextGenerator, optional
        Generator for ``"escalate"``. It may have another tokenizer: it is given texts.
    max_attempts : int, default=3
        Largest number of times that one step is written, for ``"backtrack"`` and ``"escalate"``. If all are refused,
        the solution ends before the step.
    rule : str, default="min"
        How the rewards of its steps become the score of a solution, see :func:`prmkit.metrics.aggregate`.
    max_steps : int, default=64
        Largest number of requests whose steps are accepted.
    max_tokens : int, default=512
        Largest number of tokens of one step.
    temperature : float, default=1.0
        Temperature of the draws.
    stop : sequence of str, optional
        Texts that end a step. If None, the generator's separator.
    stop_condition : callable, optional
        ``stop_condition(solution)`` is True if a solution is complete.
    budget : int, optional
        Largest number of tokens to generate in all, by both generators.
    random_state : int, Generator or None, default=None
        Seed. With an int, and generators that keep their seeds, the result can be had again.
    log : str or Path, optional
        File for all that is generated, see :class:`LoggedGenerator`. A search that was killed goes on where it was if
        it is called again with the same file and seed. It needs an int as ``random_state``.

    Returns
    -------
    SearchResult
        The chosen candidate, the last one, holds the accepted steps alone. It has ``stopped="doubt"`` if the next step
        was refused, and may have no steps then. The other candidates, with ``stopped="refused"``, end with a refused
        step.

    Raises
    ------
    TypeError, ValueError
        If the certifier is of another kind, was given numbers in place of a classifier, could not attain its level, or
        knows the problem from its calibration; or if a setting is out of range.
    NotFittedError
        If the certifier is not calibrated.
    RuntimeError
        If the generator gives no step at all.

    Notes
    -----
    **"stop" keeps the level of the calibration.** Scores do not look ahead, so the accepted steps are exactly those
    that ``certifier.predict`` keeps of the whole solution that the generator would have written. With a
    :class:`~prmkit.uncertainty.PrefixCertifier` they hold an error with probability at most ``alpha``. With an
    :class:`~prmkit.uncertainty.ErrorDetector`, of the solutions that would have held an error, at least the share
    ``recall`` is stopped. This holds if the solutions of the calibration come from the same generator, with the same
    settings, each drawn once and kept whatever its scores are, on problems like the new ones. A limit of steps or
    tokens that ends a run early keeps fewer steps, which does no harm.

    **"backtrack" and "escalate" do not keep it.** They draw again until the threshold is passed. So they find the very
    errors that the classifier does not see, and the accepted steps can be wrong far more often than ``alpha``. The
    same is true of the best of several runs with "stop". For a level, calibrate once more on what the policy writes:

    1. fix the first certifier, and run ``certified_search`` with it on further problems;
    2. label the first error of each result. Results without steps cannot fail, and are left out;
    3. fit a second certifier on these results;
    4. for a new problem run the same search, and keep the steps that ``second.predict([found.solution])`` keeps.

    The first threshold does not depend on the problems of the second calibration, so the results on these and on new
    problems are exchangeable.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions, split_by_problem
    >>> from prmkit.decoding import CallableGenerator
    >>> from prmkit.uncertainty import PrefixCertifier
    >>> data = make_arithmetic_solutions(120, 1, error_rate=0.5, random_state=0)
    >>> train, held_out = split_by_problem(data, 0.6, 0.4, random_state=0)
    >>> clf = PRMClassifier(views=("statistics",), random_state=0).fit(train.X, train.y)
    >>> certifier = PrefixCertifier(clf, alpha=0.2).fit(held_out.solutions, held_out.first_errors)
    >>> def careless(problem, steps, n, seed):
    ...     return [(["5 * 3 = 15.", "15 + 2 = 19."][len(steps)], "stop")] * n
    >>> found = certified_search(CallableGenerator(careless), certifier, "5 bags of 3 nuts, and 2 nuts. How many?")
    >>> found.solution.steps, found.stopped
    (('5 * 3 = 15.',), 'doubt')
    """
    classifier = _checked(certifier, problem)
    if on_doubt not in get_args(OnDoubt):
        raise ValueError(f"on_doubt is {on_doubt!r}, expected one of {', '.join(get_args(OnDoubt))}")
    if (stronger is None) == (on_doubt == "escalate"):
        raise ValueError('stronger goes with on_doubt="escalate": pass both of them, or neither')
    check_counts(max_attempts=max_attempts, max_steps=max_steps)
    check_generator(generator)
    if stronger is not None:
        check_generator(stronger, "stronger")
    pair = None if stronger is None else _Pair(generator, stronger)
    run = SearchRun(
        pair or generator,
        classifier,
        problem,
        rule=rule,
        max_tokens=max_tokens,
        temperature=temperature,
        stop=stop,
        stop_condition=stop_condition,
        budget=budget,
        random_state=random_state,
        log=log,
    )
    kept, drawn = _cut(run, run.first, 0), run.first
    n_requests = n_refused = 0
    with run:
        while kept.stopped is None:
            n_accepted = _n_accepted(run, certifier, kept, drawn)
            if n_accepted == drawn.solution.n_steps:
                kept, n_refused = _cut(run, drawn, n_accepted), 0
                kept = kept.ended("max_steps") if n_requests >= max_steps else kept
            else:
                run.ended.append(replace(_cut(run, drawn, n_accepted + 1), stopped="refused"))
                if n_accepted > kept.solution.n_steps:
                    kept, n_refused = replace(_cut(run, drawn, n_accepted), stopped=None), 0
                n_refused += 1
                kept = kept.ended("doubt") if on_doubt == "stop" or n_refused >= max_attempts else kept
            if kept.stopped is None:
                if n_requests:
                    yield run.progress([kept])
                if pair is not None:
                    pair.asks_stronger = n_refused > 0
                grown = run.grow([kept], 1, score=False)
                n_requests += not n_refused
                kept, drawn = (kept.ended("budget"), drawn) if grown is None else (kept, grown[0][0])
        yield run.finish([kept], choose=lambda candidates: len(candidates) - 1)


def _checked(certifier: Certifier, problem: Request) -> FittedClassifier:
    """Return the classifier of a certifier, or raise if the certifier cannot judge this problem step by step."""
    if not isinstance(certifier, (PrefixCertifier, ErrorDetector)):
        raise TypeError(f"certifier is {type(certifier).__name__}, expected a fitted PrefixCertifier or ErrorDetector")
    check_is_fitted(certifier)
    name, classifier = type(certifier).__name__, certifier.classifier
    if classifier is None or certifier.of_scores_:
        found = "numbers" if classifier is None else "a classifier of whole solutions"
        raise ValueError(
            f"the {name} was calibrated on {found}, and a solution that grows needs the scores of its steps: fit it "
            f"with a classifier of steps, {name}(classifier).fit(solutions, first_errors)"
        )
    if not certifier.attainable_:
        raise ValueError(
            f"the {name} could not attain its level with {certifier.n_calibration_} calibration {certifier.unit_}s, so "
            "it refuses every step: calibrate it on more problems, or take a looser level"
        )
    keys = problem_keys([as_solution(problem)])
    refuse_shared_problems(keys, training_problems(classifier), "the classifier was trained on")
    refuse_shared_problems(keys, certifier.calibration_problems_, f"{name} was calibrated on")
    return classifier


def _n_accepted(run: SearchRun, certifier: Certifier, kept: Candidate, drawn: Candidate) -> int:
    """Return how many steps stand before the first refused one. Steps after it are not scored."""
    for n in range(kept.solution.n_steps + 1, drawn.solution.n_steps + 1):
        decision = certifier.predict([_scorer(run, drawn, n)])[0]
        if decision if isinstance(certifier, ErrorDetector) else decision < n:
            return n - 1
    return drawn.solution.n_steps


def _scorer(run: SearchRun, candidate: Candidate, n_steps: int) -> IncrementalScorer:
    assert run.scoring is not None
    return run.scoring.growing(Solution(candidate.solution.problem, candidate.solution.steps[:n_steps]))


def _cut(run: SearchRun, candidate: Candidate, n_steps: int) -> Candidate:
    """Return the first steps of a candidate with their rewards."""
    solution = candidate.solution
    if n_steps < solution.n_steps:
        meta = dict(solution.meta or {})
        meta |= {name: meta[name][:n_steps] for name in TOKEN_FACTS if name in meta}
        solution = Solution(solution.problem, solution.steps[:n_steps], id=solution.id, meta=meta or None)
    rewards = _scorer(run, candidate, n_steps).rewards if n_steps else np.empty(0)
    return replace(candidate, solution=solution, rewards=rewards, score=solution_score(rewards, run.rule))


class _Pair:
    """Two generators as one, of which the stronger one is asked where it is needed.

    Each continues the texts of the other: their tokens may be different.
    """

    def __init__(self, generator: TextGenerator, stronger: TextGenerator) -> None:
        self.generator, self.stronger = generator, stronger
        self.asks_stronger = False
        self.step_separator = step_separator_of(generator)

    @property
    def fingerprint(self) -> str:
        """The name of the one that is asked, by which a log knows whose answer it holds."""
        name = fingerprint_of(self.generator)
        return f"{fingerprint_of(self.stronger)} after {name}" if self.asks_stronger else name

    def count_tokens(self, text: str) -> int:
        return n_tokens_of(self.generator, text)

    def generate(
        self,
        requests: Sequence[Request],
        *,
        n: int = 1,
        stop: Sequence[str] = (),
        max_tokens: int = 512,
        temperature: float = 1.0,
        seed: int | Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        asked = self.stronger if self.asks_stronger else self.generator
        if self.asks_stronger:
            requests = [_without_tokens(as_solution(request)) for request in requests]
            stop = (step_separator_of(self.stronger),) if tuple(stop) == (self.step_separator,) else stop
        rows = asked.generate(requests, n=n, stop=stop, max_tokens=max_tokens, temperature=temperature, seed=seed)
        if self.asks_stronger:
            rows = [[replace(one, token_ids=None, logprobs=None) for one in row] for row in rows]
        return rows


def _without_tokens(solution: Solution) -> Solution:
    meta = {name: value for name, value in (solution.meta or {}).items() if name not in TOKEN_FACTS}
    return Solution(solution.problem, solution.steps, id=solution.id, meta=meta or None)
