"""Searches that rank a candidate by what may follow it: some steps, or solutions to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prmkit.decoding.generation import RandomState, Request, TextGenerator, check_counts
from prmkit.decoding.search._tree import SearchTree, beam_rounds
from prmkit.decoding.search.results import Candidate, SearchProgress
from prmkit.decoding.search.running import SearchRun, StopCondition, searches
from prmkit.decoding.search.scoring import Scorer

_AFTER = 1 << 30  # in a path: behind the children that have a place in the tree


@searches
def lookahead_search(
    generator: TextGenerator,
    scorer: Scorer,
    problem: Request,
    *,
    beam_width: int,
    beam_factor: int,
    lookahead: int = 1,
    max_steps: int = 64,
    n_complete: int | None = None,
    filter_duplicates: bool = False,
    rule: str = "min",
    final_scorer: Scorer | None = None,
    final_rule: str | None = None,
    max_tokens: int = 512,
    temperature: float = 1.0,
    stop: Sequence[str] | None = None,
    stop_condition: StopCondition | None = None,
    budget: int | None = None,
    random_state: RandomState = None,
    log: str | Path | None = None,
) -> Iterator[SearchProgress]:
    """Search with a beam, and rank each candidate by the score that it has some steps later.

    ``lookahead_search.iterate(…)`` takes the same arguments, and yields the progress after each round.

    Parameters
    ----------
    generator : TextGenerator
        Generator of the steps.
    scorer : fitted classifier, object with ``score_solutions`` or callable
        What scores the steps. A callable takes a list of Solution, and returns the step rewards of each.
    problem : str or Solution
        Problem to solve, or a solution to continue.
    beam_width : int
        Number of candidates that are kept after each step.
    beam_factor : int
        Number of continuations of each of them. ``beam_width * beam_factor`` are drawn for the first step.
    lookahead : int, default=1
        Number of steps that a candidate is continued at temperature 0, before it is scored.
    max_steps : int, default=64
        Largest number of rounds. Each adds a step.
    n_complete : int, optional
        Number of complete solutions in the beam at which the search ends. If None, it goes on while the beam holds a
        solution that is not complete.
    filter_duplicates : bool, default=False
        Whether equal candidates have one place in the beam. If not, a candidate that was drawn twice has two places,
        and twice as many continuations.
    rule : str, default="min"
        How the rewards of its steps become the score of a candidate, see :func:`prmkit.metrics.aggregate`. ``"last"``
        ranks by the new step alone.
    final_scorer : scorer or None, default=None
        Scorer that chooses among the candidates at the end, in place of ``scorer``.
    final_rule : str, optional
        Rule of the scores by which one is chosen at the end. If None, ``rule``.
    max_tokens : int, default=512
        Largest number of tokens of a step. A candidate with a step that reaches it goes no further.
    temperature : float, default=1.0
        Temperature of the draws.
    stop : sequence of str, optional
        Texts that end a step. If None, the generator's separator.
    stop_condition : callable, optional
        ``stop_condition(solution)`` is True if a solution is complete.
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
        All candidates with the numbers of their parents, the chosen one, and the cost.

    Raises
    ------
    TypeError, ValueError
        If a setting is out of range, or generator or scorer give something else than their protocols say.
    RuntimeError
        If no candidate has a step.

    Notes
    -----
    The lookahead of Snell et al. ("Scaling LLM test-time compute optimally", 2024): the score at the end of the look
    ranks a candidate, and the candidate goes on from its own steps. ``score`` of a candidate that was dropped or was
    cut off is that of its look, ``rewards`` are those of its own steps. A look that comes to the end of the solution
    is a candidate of the result too. It has no place in the beam, but may be chosen at the end. All else is as in
    :func:`beam_search`.

    *Cost.* With the first step, ``1 + lookahead`` times the requests of a beam search. A scorer that keeps what it has
    read reads as many times its tokens.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> def digits(problem, steps, n, seed):
    ...     return [(f"digit {(seed + k) % 5}", "eos" if len(steps) == 2 else "stop") for k in range(n)]
    >>> def small_is_good(solutions):
    ...     return [[1 - int(step[-1]) / 5 for step in one.steps] for one in solutions]
    >>> found = lookahead_search(
    ...     CallableGenerator(digits), small_is_good, "Count.", beam_width=2, beam_factor=5, random_state=0
    ... )
    >>> found.solution.steps[-1], found.stopped, found.cost.n_requests
    ('digit 0', 'eos', 40)
    """
    check_counts(lookahead=lookahead)
    run = SearchRun(
        generator,
        scorer,
        problem,
        rule=rule,
        final_scorer=final_scorer,
        final_rule=final_rule,
        max_tokens=max_tokens,
        temperature=temperature,
        stop=stop,
        stop_condition=stop_condition,
        budget=budget,
        random_state=random_state,
        log=log,
    )
    yield from beam_rounds(
        run,
        beam_width=beam_width,
        beam_factor=beam_factor,
        max_steps=max_steps,
        n_complete=n_complete,
        filter_duplicates=filter_duplicates,
        value=partial(_look_ahead, n_steps=lookahead),
    )


@searches
def rollout_search(
    generator: TextGenerator,
    scorer: Scorer,
    problem: Request,
    *,
    beam_width: int,
    beam_factor: int,
    n_rollouts: int = 1,
    value: Literal["mean", "max"] = "mean",
    rollout_max_tokens: int = 2048,
    max_steps: int = 64,
    n_complete: int | None = None,
    filter_duplicates: bool = False,
    rule: str = "min",
    final_scorer: Scorer | None = None,
    final_rule: str | None = None,
    max_tokens: int = 512,
    temperature: float = 1.0,
    stop: Sequence[str] | None = None,
    stop_condition: StopCondition | None = None,
    budget: int | None = None,
    random_state: RandomState = None,
    log: str | Path | None = None,
) -> Iterator[SearchProgress]:
    """Search with a beam, and rank each candidate by the scores of solutions that are written from it to the end.

    ``rollout_search.iterate(…)`` takes the same arguments, and yields the progress after each round.

    Parameters
    ----------
    generator : TextGenerator
        Generator of the steps.
    scorer : fitted classifier, object with ``score_solutions`` or callable
        What scores the rollouts, and with them the steps. A callable takes a list of Solution, and returns the step
        rewards of each.
    problem : str or Solution
        Problem to solve, or a solution to continue.
    beam_width : int
        Number of candidates that are kept after each step.
    beam_factor : int
        Number of continuations of each of them. ``beam_width * beam_factor`` are drawn for the first step.
    n_rollouts : int, default=1
        Number of times that each candidate is written to the end.
    value : {"mean", "max"}, default="mean"
        Whether a candidate is worth the mean or the highest score of its rollouts. A complete one is worth its score.
    rollout_max_tokens : int, default=2048
        Largest number of tokens of one request of a rollout: of the whole rest, or of a step if the generator gives
        steps.
    max_steps : int, default=64
        Largest number of rounds. Each adds a step.
    n_complete : int, optional
        Number of complete solutions in the beam at which the search ends. If None, it goes on while the beam holds a
        solution that is not complete.
    filter_duplicates : bool, default=False
        Whether equal candidates have one place in the beam. If not, a candidate that was drawn twice has two places,
        and twice as many continuations.
    rule : str, default="min"
        How the rewards of its steps become the score of a candidate, see :func:`prmkit.metrics.aggregate`. ``"last"``
        ranks by the new step alone.
    final_scorer : scorer or None, default=None
        Scorer that chooses among the candidates at the end, in place of ``scorer``.
    final_rule : str, optional
        Rule of the scores by which one is chosen at the end. If None, ``rule``.
    max_tokens : int, default=512
        Largest number of tokens of a step. A candidate with a step that reaches it goes no further.
    temperature : float, default=1.0
        Temperature of the draws.
    stop : sequence of str, optional
        Texts that end a step. If None, the generator's separator.
    stop_condition : callable, optional
        ``stop_condition(solution)`` is True if a solution is complete.
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
        All candidates with the numbers of their parents, the chosen one, and the cost.

    Raises
    ------
    TypeError, ValueError
        If a setting is out of range, or generator or scorer give something else than their protocols say.
    RuntimeError
        If no candidate has a step.

    Notes
    -----
    A rollout that does not come to its end has no score, and does not count in the mean. A candidate none of whose
    rollouts does ranks behind all others. Complete rollouts are candidates of the result. They have no place in the
    beam, but may be chosen at the end, also if the budget is spent early. The rewards of a candidate are those that
    its steps have in its first complete rollout. All else is as in :func:`beam_search`.

    *Cost.* A round asks for ``beam_width * beam_factor`` steps, and for ``n_rollouts`` times as many rollouts, which
    are scored in one batch. So the requests are ``1 + n_rollouts`` times those of a beam search, and for solutions of T
    steps about ``1 + n_rollouts * T / 2`` times its tokens are generated.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> def digits(problem, steps, n, seed):
    ...     return [(f"digit {(seed + k) % 5}", "eos" if len(steps) == 2 else "stop") for k in range(n)]
    >>> def small_is_good(solutions):
    ...     return [[1 - int(step[-1]) / 5 for step in one.steps] for one in solutions]
    >>> found = rollout_search(
    ...     CallableGenerator(digits), small_is_good, "Count.", beam_width=2, beam_factor=5, random_state=0
    ... )
    >>> found.solution.steps[-1], found.stopped, found.cost.n_requests
    ('digit 0', 'eos', 50)
    """
    check_counts(n_rollouts=n_rollouts, rollout_max_tokens=rollout_max_tokens)
    if value not in ("mean", "max"):
        raise ValueError(f"value is {value!r}, expected 'mean' or 'max'")
    run = SearchRun(
        generator,
        scorer,
        problem,
        rule=rule,
        final_scorer=final_scorer,
        final_rule=final_rule,
        max_tokens=max_tokens,
        temperature=temperature,
        stop=stop,
        stop_condition=stop_condition,
        budget=budget,
        random_state=random_state,
        log=log,
    )
    yield from beam_rounds(
        run,
        beam_width=beam_width,
        beam_factor=beam_factor,
        max_steps=max_steps,
        n_complete=n_complete,
        filter_duplicates=filter_duplicates,
        value=partial(
            _roll_out, n=n_rollouts, combine=np.mean if value == "mean" else np.max, max_tokens=rollout_max_tokens
        ),
    )


def _look_ahead(tree: SearchTree, new: list[int], n_left: int, *, n_steps: int) -> None:
    """Score new candidates at the end of a greedy continuation."""
    run, which = tree.run, [i for i in new if tree.candidates[i].stopped not in ("error", "empty")]
    if run.scoring is not None and run.scoring.grows:
        tree.score(which)  # their scorers are what the next round and the looks begin from
    looks = [tree.candidates[i] for i in which]
    for _ in range(min(n_steps, n_left)):
        growing = [j for j, look in enumerate(looks) if look.stopped is None]
        grown = run.grow([looks[j] for j in growing], 1, score=False, temperature=0.0)
        if grown is None:
            break
        for j, [look] in zip(growing, grown, strict=True):
            looks[j] = look
    looks = run.scored(looks, go_on=True)
    for i, look in zip(which, looks, strict=True):
        one = tree.candidates[i]
        tree.candidates[i] = replace(one, rewards=look.rewards[: one.solution.n_steps], score=look.score)
    seen = [(i, look) for i, look in zip(which, looks, strict=True) if tree.candidates[i].stopped is None]
    tree.add([(i, (*tree.paths[i], _AFTER), look) for i, look in seen if look.is_complete])


def _roll_out(
    tree: SearchTree, new: list[int], n_left: int, *, n: int, combine: Callable[..., Any], max_tokens: int
) -> None:
    """Score new candidates by solutions that are written from them to the end."""
    live = [i for i in new if tree.candidates[i].stopped is None]
    ended = [i for i in new if tree.candidates[i].stopped not in (None, "error", "empty")]
    rows = (
        tree.run.complete([tree.candidates[i] for i in live], n, max_steps=n_left, max_tokens=max_tokens, score=False)
        if n_left
        else [[] for _ in live]
    )
    made = [
        (i, (*tree.paths[i], _AFTER + k), one)
        for i, row in zip(live, rows, strict=True)
        for k, one in enumerate(row)
        if one.is_complete
    ]
    scored = tree.run.scored([*(tree.candidates[i] for i in ended), *(one for _, _, one in made)])
    for i, one in zip(ended, scored[: len(ended)], strict=True):
        tree.candidates[i] = one
    of_parent: dict[int, list[Candidate]] = {i: [] for i in live}
    for (i, _, _), one in zip(made, scored[len(ended) :], strict=True):
        of_parent[i].append(one)
    for i, rollouts in of_parent.items():
        one = tree.candidates[i]
        scores = [rollout.score for rollout in rollouts if not np.isnan(rollout.score)]
        rewards = rollouts[0].rewards[: one.solution.n_steps] if rollouts else np.full(one.solution.n_steps, np.nan)
        tree.candidates[i] = replace(one, rewards=rewards, score=float(combine(scores)) if scores else np.nan)
    tree.add([(i, path, one) for (i, path, _), one in zip(made, scored[len(ended) :], strict=True)])
