"""Best-of-N: whole solutions are sampled, scored, and one of them is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from prmkit.data.answers.equivalence import answer_keys
from prmkit.data.answers.extraction import extract_answer
from prmkit.decoding.generation import RandomState, Request, TextGenerator, check_request_settings
from prmkit.decoding.search.results import Candidate, SearchProgress
from prmkit.decoding.search.running import SearchRun, StopCondition, searches
from prmkit.decoding.search.scoring import Scorer
from prmkit.metrics.selection.best_of_n import check_option
from prmkit.metrics.selection.votes import SCORED_RULES, Rule, select, vote_is_decided


@searches
def best_of_n(
    generator: TextGenerator,
    scorer: Scorer | None,
    problem: Request,
    *,
    n: int,
    rule: str = "min",
    choose: Rule = "best",
    adaptive: bool = False,
    final_scorer: Scorer | None = None,
    max_steps: int = 64,
    max_tokens: int = 2048,
    temperature: float = 1.0,
    stop: Sequence[str] | None = None,
    stop_condition: StopCondition | None = None,
    budget: int | None = None,
    random_state: RandomState = None,
    log: str | Path | None = None,
) -> Iterator[SearchProgress]:
    """Sample n whole solutions, score them, and choose one.

    ``best_of_n.iterate(…)`` takes the same arguments, and yields the progress after each round.

    Parameters
    ----------
    generator : TextGenerator
        Generator of the solutions.
    scorer : fitted classifier, object with ``score_solutions``, callable or None
        What scores the steps. A callable takes a list of Solution, and returns the step rewards of each. None if
        ``choose`` reads no scores.
    problem : str or Solution
        Problem to solve, or a solution to continue.
    n : int
        Number of solutions.
    rule : str, default="min"
        How the rewards of its steps become the score of a solution, see :func:`prmkit.metrics.aggregate`.
    choose : str, default="best"
        How one of the solutions is chosen by answers and scores, see :func:`prmkit.metrics.select`. Candidates without
        an answer do not vote.
    adaptive : bool, default=False
        Whether to stop asking as soon as the vote of n is decided (:func:`prmkit.metrics.vote_is_decided`). It needs
        ``choose="majority"``.
    final_scorer : scorer or None, default=None
        Scorer of whole solutions in place of ``scorer``.
    max_steps : int, default=64
        Largest number of requests for one solution, if the generator gives it step by step.
    max_tokens : int, default=2048
        Largest number of tokens of one request: of a whole solution, or of a step if the generator gives steps.
    temperature : float, default=1.0
        Temperature of the draws.
    stop : sequence of str, optional
        Texts that end a step. If None, the generator's separator. They matter with ``stop_condition`` alone.
    stop_condition : callable, optional
        ``stop_condition(solution)`` is True if a solution is complete. Solutions then grow step by step.
    budget : int, optional
        Largest number of tokens to generate in all.
    random_state : int, Generator or None, default=None
        Seed. With an int, and a generator that keeps its seeds, the result can be had again.
    log : str or Path, optional
        File for all that is generated, see :class:`LoggedGenerator`. A search that was killed goes on where it was if
        it is called again with the same file and seed. It needs an int as ``random_state``.

    Returns
    -------
    SearchResult
        All candidates, the chosen one, and the cost.

    Raises
    ------
    TypeError, ValueError
        If a setting is out of range, or generator or scorer give something else than their protocols say.
    RuntimeError
        If no candidate has a step.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> def guess(problem, steps, n, seed):
    ...     return [(f"The answer is {(seed + i) % 5}.", "eos") for i in range(n)]
    >>> def is_four(solutions):
    ...     return [[1.0 if "4" in step else 0.0 for step in one.steps] for one in solutions]
    >>> found = best_of_n(CallableGenerator(guess), is_four, "2 + 2?", n=5, random_state=0)
    >>> found.solution.steps, found.stopped, found.cost.generated_tokens
    (('The answer is 4.',), 'eos', 20)
    """
    check_request_settings(n, max_tokens, temperature)
    check_option(choose, Rule, "choose")
    if adaptive and choose != "majority":
        raise ValueError(f'adaptive=True needs choose="majority", found {choose!r}: no other rule is decided early')
    if scorer is None and final_scorer is None and choose in SCORED_RULES:
        raise ValueError(f"scorer is None, and choose={choose!r} needs scores: pass a scorer, or choose='majority'")
    run = SearchRun(
        generator,
        scorer,
        problem,
        rule=rule,
        max_tokens=max_tokens,
        temperature=temperature,
        stop=stop,
        stop_condition=stop_condition,
        final_scorer=final_scorer,
        budget=budget,
        random_state=random_state,
        log=log,
    )
    wanted = math.ceil(n / 2) if adaptive else n
    with run:
        while wanted:
            [row] = run.complete([run.first], wanted, max_steps=max_steps)
            run.ended += row
            keys = keys_of_answers(run.ended)
            wanted = _more_samples(keys, n) if adaptive and not run.is_spent else 0
            if wanted:
                yield run.progress(())
        yield run.finish(choose=lambda candidates: _chosen(candidates, choose, run.seed("choose")))


def keys_of_answers(candidates: Sequence[Candidate]) -> list[str | None]:
    """Return a key of the final answer of each candidate, equal for equal answers. None without a complete solution."""
    return answer_keys(
        extract_answer("\n\n".join(one.solution.steps)).answer if one.is_complete else None for one in candidates
    )


def _more_samples(keys: list[str | None], n: int) -> int:
    """Return how many more samples could decide the vote of n at the earliest, 0 if it is decided."""
    if vote_is_decided(keys, n, missing="drop"):
        return 0
    leader = keys[select(keys, rule="majority", missing="drop")]
    return next(k for k in range(1, n - len(keys) + 1) if vote_is_decided([*keys, *[leader] * k], n, missing="drop"))


def _chosen(candidates: list[Candidate], choose: Rule, seed: int) -> int:
    """Return the number of the candidate that a rule chooses. Those that have no step do not take part."""
    complete = [i for i, one in enumerate(candidates) if one.is_complete and one.solution.steps]
    which = complete or [i for i, one in enumerate(candidates) if one.solution.steps]
    some = [candidates[i] for i in which]
    scores = [one.score for one in some]
    return which[select(keys_of_answers(some), scores, rule=choose, random_state=seed, missing="drop")]
