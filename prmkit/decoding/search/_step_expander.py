"""Single steps for searches of other libraries, as treequest's AB-MCTS takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prmkit.data.solution import Solution
from prmkit.decoding.generation import RandomState, Request, TextGenerator
from prmkit.decoding.search.results import Candidate, SearchCost
from prmkit.decoding.search.running import SearchRun, StopCondition
from prmkit.decoding.search.scoring import Scorer


class StepExpander:
    """A function from a state to a longer one and its score, made by :func:`step_expander`."""

    def __init__(self, run: SearchRun, failed_score: float | None) -> None:
        self._run = run
        self._failed_score = failed_score

    @property
    def cost(self) -> SearchCost:
        """What was used so far."""
        return self._run.cost

    def __call__(self, state: Solution | None = None) -> tuple[Solution, float]:
        """Return the solution with one more step, and its score. None stands for the problem."""
        solution = self._run.start if state is None else state
        if not isinstance(solution, Solution) or solution.problem != self._run.start.problem:
            found = "a Solution of another problem" if isinstance(solution, Solution) else type(solution).__name__
            raise TypeError(f"state is {found}, expected None, or a Solution that this function has returned")
        if solution.meta and "stopped" in solution.meta:
            return self._scored(Candidate(solution, stopped=str(solution.meta["stopped"])))
        grown = self._run.grow([Candidate(solution)], 1, score=False)
        if grown is None:
            raise RuntimeError(f"the budget of {self._run.budget} tokens is spent")
        child = grown[0][0]
        if child.stopped in ("error", "empty"):
            return self._failed(solution, child.error or "the generator gave no text")
        if child.stopped is not None:
            meta = {**(child.solution.meta or {}), "stopped": child.stopped}
            child = replace(child, solution=Solution(solution.problem, child.solution.steps, id=solution.id, meta=meta))
        return self._scored(child)

    def _scored(self, candidate: Candidate) -> tuple[Solution, float]:
        [one] = self._run.scored([candidate], go_on=True)
        return (
            self._failed(one.solution, "the scorer gave no score") if np.isnan(one.score) else (one.solution, one.score)
        )

    def _failed(self, solution: Solution, why: str) -> tuple[Solution, float]:
        if self._failed_score is None:
            raise RuntimeError(f"{why}, so there is no step to return: failed_score=0.0 gives such a step the score 0")
        return solution, self._failed_score


def step_expander(
    generator: TextGenerator,
    scorer: Scorer,
    problem: Request,
    *,
    rule: str = "min",
    failed_score: float | None = None,
    max_tokens: int = 512,
    temperature: float = 1.0,
    stop: Sequence[str] | None = None,
    stop_condition: StopCondition | None = None,
    budget: int | None = None,
    random_state: RandomState = None,
    log: str | Path | None = None,
) -> StepExpander:
    """Return a function from a solution to a longer one and its score, for the tree searches of other libraries.

    Parameters
    ----------
    generator : TextGenerator
        Generator of the steps.
    scorer : fitted classifier, object with ``score_solutions`` or callable
        What scores the steps. A callable takes a list of Solution, and returns the step rewards of each.
    problem : str or Solution
        Problem to solve, or a solution to continue.
    rule : str, default="min"
        How the rewards of its steps become the score of a solution, see :func:`prmkit.metrics.aggregate`.
    failed_score : float, optional
        Score of a state whose request failed or that has no score. If None, that is an error.
    max_tokens : int, default=512
        Largest number of tokens of a step.
    temperature : float, default=1.0
        Temperature of the draws.
    stop : sequence of str, optional
        Texts that end a step. If None, the generator's separator.
    stop_condition : callable, optional
        ``stop_condition(solution)`` is True if a solution is complete.
    budget : int, optional
        Largest number of tokens to generate in all. A call beyond it is an error.
    random_state : int, Generator or None, default=None
        Seed. With an int, the same calls in the same order give the same states.
    log : str or Path, optional
        File for all that is generated, see :class:`LoggedGenerator`. It needs an int as ``random_state``.

    Returns
    -------
    callable
        ``generate(state)`` returns ``(state, score)``. A state is a Solution, and None stands for the problem. A
        complete solution, which has ``meta["stopped"]``, is returned as it is. ``generate.cost`` is what was used.

    Raises
    ------
    TypeError, ValueError
        If a setting is out of range, or generator or scorer give something else than their protocols say.
    RuntimeError
        From ``generate``: if the budget is spent, or a step failed and there is no ``failed_score``.

    Notes
    -----
    This is the function that treequest takes: ``treequest.ABMCTSA().step(tree, {"step": step_expander(…)})``. Its
    searches need scores in [0, 1]. What a scorer has read of a state is kept as long as the function, so that any state
    can be continued: a call reads one step.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> def digits(problem, steps, n, seed):
    ...     return [(f"digit {seed % 5}", "eos" if len(steps) == 1 else "stop")] * n
    >>> def small_is_good(solutions):
    ...     return [[1 - int(step[-1]) / 5 for step in one.steps] for one in solutions]
    >>> generate = step_expander(CallableGenerator(digits), small_is_good, "Count.", random_state=0)
    >>> first, score = generate(None)
    >>> second, score = generate(first)
    >>> second.steps[:1] == first.steps, second.n_steps, second.meta["stopped"]
    (True, 2, 'eos')
    """
    run = SearchRun(
        generator,
        scorer,
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
    if run.scoring is None:
        raise TypeError("scorer is None, expected one: the function returns a score with each state")
    return StepExpander(run, failed_score)
