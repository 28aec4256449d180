"""Beam search, over one tree of steps or over several that do not compete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from prmkit.decoding.generation import RandomState, Request, TextGenerator, check_counts
from prmkit.decoding.search._tree import beam_rounds
from prmkit.decoding.search.results import SearchProgress
from prmkit.decoding.search.running import SearchRun, StopCondition, searches
from prmkit.decoding.search.scoring import Scorer


@searches
def beam_search(
    generator: TextGenerator,
    scorer: Scorer,
    problem: Request,
    *,
    beam_width: int,
    beam_factor: int,
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
    """Let solutions grow step by step, and keep the best ones after each step.

    ``beam_search.iterate(…)`` takes the same arguments, and yields the progress after each round.

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
    *Places.* Complete solutions and growing ones compete for the ``beam_width`` places. A complete one that has a place
    is not continued, so the rounds become cheaper, and the search ends when complete ones have all places. Under the
    rules ``"min"`` and ``"product"``, whose scores never rise, no growing candidate could then have become the best. A
    complete solution that loses its place may still be chosen at the end.

    *Equal candidates* are joined: one text of one parent is scored once, and counts its draws as ``n_copies``. Each of
    these may have a place, so that a good step which was drawn often is continued often. With
    ``filter_duplicates=True`` they have one place, and other texts get the rest. *Equal scores* go by the order of the
    draws: the first continuation of the first candidate goes first. So with a scorer that says the same of everything,
    the chosen solution is one draw of the generator.

    *What goes wrong.* A failed request, or one that gives no text, loses one candidate. A step without a score ranks
    behind all that have one.

    *Cost.* A round asks for at most ``beam_width * beam_factor`` steps. So a solution of T steps takes up to
    ``beam_width * beam_factor * T`` requests. A scorer that keeps what it has read
    (:class:`~prmkit.scoring.IncrementalScorer`) reads each step once, of which there are as many. Any other reads whole
    candidates, in one batch per round, and so about ``T / 2`` times as many tokens.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> def digits(problem, steps, n, seed):
    ...     return [(f"digit {(seed + k) % 5}", "eos" if len(steps) == 2 else "stop") for k in range(n)]
    >>> def small_is_good(solutions):
    ...     return [[1 - int(step[-1]) / 5 for step in one.steps] for one in solutions]
    >>> found = beam_search(
    ...     CallableGenerator(digits), small_is_good, "Count.", beam_width=2, beam_factor=5, random_state=0
    ... )
    >>> found.solution.steps, found.stopped, found.cost.n_requests
    (('digit 0', 'digit 0', 'digit 0'), 'eos', 30)
    """
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
    )


@searches
def diverse_beam_search(
    generator: TextGenerator,
    scorer: Scorer,
    problem: Request,
    *,
    beam_width: int,
    beam_factor: int,
    n_trees: int | None = None,
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
    """Let solutions grow in subtrees that do not compete, which keeps them different (DVTS).

    ``diverse_beam_search.iterate(…)`` takes the same arguments, and yields the progress after each round.

    Parameters
    ----------
    generator : TextGenerator
        Generator of the steps.
    scorer : fitted classifier, object with ``score_solutions`` or callable
        What scores the steps. A callable takes a list of Solution, and returns the step rewards of each.
    problem : str or Solution
        Problem to solve, or a solution to continue.
    beam_width : int
        Number of candidates that are kept after each step, in all subtrees together.
    beam_factor : int
        Number of continuations of each of them. ``beam_width * beam_factor`` are drawn for the first step.
    n_trees : int, optional
        Number of subtrees, a divisor of ``beam_width``. Each keeps ``beam_width / n_trees`` candidates. If None, there
        are ``beam_width``, and each keeps its best candidate.
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
    This is the diverse verifier tree search of Beeching, Tunstall and Rush ("Scaling test-time compute with open
    models", 2024). The first steps are dealt out to the subtrees. From then on each is a :func:`beam_search` of its
    own, so a prefix that the scorer prefers cannot crowd out all others. Equal candidates are joined within a subtree
    alone.
    Requests and scores of all subtrees go together in one batch per round, so the cost is that of a beam search of the
    same width. A complete solution keeps its place in its subtree, and the others go on.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> def digits(problem, steps, n, seed):
    ...     return [(f"digit {(seed + k) % 5}", "eos" if len(steps) == 2 else "stop") for k in range(n)]
    >>> def small_is_good(solutions):
    ...     return [[1 - int(step[-1]) / 5 for step in one.steps] for one in solutions]
    >>> found = diverse_beam_search(
    ...     CallableGenerator(digits), small_is_good, "Count.", beam_width=2, beam_factor=2, random_state=0
    ... )
    >>> sum(candidate.is_complete for candidate in found.candidates), found.cost.n_requests
    (4, 12)
    """
    n_trees = beam_width if n_trees is None else n_trees
    check_counts(beam_width=beam_width, n_trees=n_trees)
    if beam_width % n_trees:
        raise ValueError(f"n_trees is {n_trees}, expected a divisor of beam_width = {beam_width}")
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
        n_trees=n_trees,
    )
