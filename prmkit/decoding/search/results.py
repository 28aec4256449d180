"""What a search holds and returns: candidates, what they cost, its progress and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution
from prmkit.scoring.scored_solution import ScoredSolution, solution_html

if TYPE_CHECKING:
    import pandas as pd

DROPPED = ("pruned", "expanded", "empty", "error")
"""Reasons of candidates that are chosen only if there is no other."""


@dataclass(frozen=True)
class SearchCost:
    """What a search has used.

    Parameters
    ----------
    generated_tokens : int, default=0
        Tokens that the generator has made, those of candidates that were dropped included. Words, if the generator
        does not count tokens.
    scored_tokens : int, default=0
        Tokens that the scorer has read: new steps alone where it keeps what it has read, whole solutions elsewhere.
    n_forward : int, default=0
        Number of times that the scorer was asked: once per batch of whole solutions, once per solution that grows.
    n_requests : int, default=0
        Number of continuations that the generator was asked for.
    n_errors : int, default=0
        Number of continuations that failed.
    seconds : float, default=0.0
        Seconds so far. They do not count in comparisons.

    Examples
    --------
    >>> SearchCost(generated_tokens=12) + SearchCost(generated_tokens=3, n_requests=1)
    SearchCost(generated_tokens=15, scored_tokens=0, n_forward=0, n_requests=1, n_errors=0, seconds=0.0)
    """

    generated_tokens: int = 0
    scored_tokens: int = 0
    n_forward: int = 0
    n_requests: int = 0
    n_errors: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: SearchCost) -> SearchCost:
        names = self.__dataclass_fields__
        return SearchCost(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, eq=False)
class Candidate:
    """One solution of a search, finished or not.

    Parameters
    ----------
    solution : Solution
        Problem and steps.
    rewards : ndarray of shape (n_steps,), default=()
        Reward of each step, higher is better. NaN for a step that the scorer cannot read.
    score : float, default=nan
        Score of the solution, higher is better. NaN if it was not scored.
    stopped : str or None, default=None
        Why it goes no further. ``"eos"``: it is complete. ``"condition"``: the stop condition was met. ``"length"``:
        the tokens of a step ran out. ``"max_steps"`` and ``"budget"``: the search ended. ``"pruned"``: others were
        better. ``"expanded"``: other candidates grew from it. ``"empty"``: the generator gave no text. ``"error"``: a
        request failed. ``"doubt"``: a certifier refused the next step. ``"refused"``: it refused the last step. None
        while it grows.
    error : str or None, default=None
        What went wrong, if a request failed.
    n_tokens : int, default=0
        Tokens that were generated for its steps.
    parent : int or None, default=None
        Number, among the candidates of the result, of the one that it grew from. None if it grew from the problem, or
        if the search does not say.
    n_copies : int, default=1
        Number of times that the generator gave it. Searches that grow step by step join equal candidates.
    weight : float or None, default=None
        Its share of the weight of all particles at the end, if it comes from a particle filter.

    Examples
    --------
    >>> Candidate(Solution("2 + 3?", ["So 5."]), stopped="eos").is_complete
    True
    """

    solution: Solution
    rewards: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    score: float = float("nan")
    stopped: str | None = None
    error: str | None = None
    n_tokens: int = 0
    parent: int | None = None
    n_copies: int = 1
    weight: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the solution came to its own end."""
        return self.stopped in ("eos", "condition")

    def ended(self, why: str) -> Candidate:
        """Return the candidate as one that goes no further.

        Parameters
        ----------
        why : str
            The reason, see ``stopped``.

        Returns
        -------
        Candidate
            The candidate. One that has already stopped keeps its reason.
        """
        return self if self.stopped else replace(self, stopped=why)


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search has found.

    Parameters
    ----------
    candidates : tuple of Candidate
        Every candidate that was looked at, also those that others beat. Where candidates grow step by step, each
        prefix is one, and stands before those that grew from it.
    chosen : int
        Number of the chosen candidate.
    cost : SearchCost
        What the search has used.

    Examples
    --------
    >>> found = SearchResult((Candidate(Solution("2 + 3?", ["So 5."]), np.array([0.9]), 0.9, "eos"),), 0, SearchCost())
    >>> found.solution.steps, found.stopped, found.scores
    (('So 5.',), 'eos', array([0.9]))
    """

    candidates: tuple[Candidate, ...]
    chosen: int
    cost: SearchCost

    @property
    def solution(self) -> Solution:
        """The chosen solution."""
        return self.candidates[self.chosen].solution

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Score of each candidate, of shape (n_candidates,). NaN for one without a score."""
        return np.array([candidate.score for candidate in self.candidates], dtype=np.float64)

    @property
    def stopped(self) -> str | None:
        """Why the chosen solution goes no further, see :class:`Candidate`."""
        return self.candidates[self.chosen].stopped

    def _repr_html_(self) -> str:
        best = self.candidates[self.chosen]
        told = f"{best.stopped}, score {best.score:.3f}, chosen from {len(self.candidates):,} candidates. {self.cost}"
        return f'<div>{steps_html(best)}<div style="opacity:.8;font-size:.9em">{escape(told)}</div></div>'

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame with one row per candidate.

        Returns
        -------
        DataFrame
            Columns ``chosen``, ``score``, ``stopped``, ``n_steps``, ``n_tokens``, ``steps`` (tuple of str), ``rewards``
            (array), ``error``, ``parent``, ``n_copies`` and ``weight``.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {
                "chosen": i == self.chosen,
                "score": one.score,
                "stopped": one.stopped,
                "n_steps": one.solution.n_steps,
                "n_tokens": one.n_tokens,
                "steps": one.solution.steps,
                "rewards": one.rewards,
                "error": one.error,
                "parent": one.parent,
                "n_copies": one.n_copies,
                "weight": one.weight,
            }
            for i, one in enumerate(self.candidates)
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True, eq=False)
class SearchProgress:
    """Where a search stands after one of its rounds.

    Parameters
    ----------
    round : int
        Number of the round, from 1.
    live : tuple of Candidate
        Candidates that grow on.
    ended : tuple of Candidate
        Candidates that go no further.
    cost : SearchCost
        What the search has used so far.
    result : SearchResult or None, default=None
        The result, with the last progress.
    effective_sample_size : float or None, default=None
        For how many equal particles the weights of this round stand, if they are a particle filter's.

    Examples
    --------
    >>> SearchProgress(1, (), (), SearchCost()).result is None
    True
    """

    round: int
    live: tuple[Candidate, ...]
    ended: tuple[Candidate, ...]
    cost: SearchCost
    result: SearchResult | None = None
    effective_sample_size: float | None = None


def refuse_no_steps(candidates: list[Candidate]) -> None:
    """Raise if no candidate has a step, and say why."""
    if not any(candidate.solution.steps for candidate in candidates):
        told = next((candidate.error for candidate in candidates if candidate.error), None)
        why = f"the generator failed: {told}" if told else "the generator gave no text"
        if any(candidate.stopped == "budget" for candidate in candidates):
            why = "the budget does not allow one token for each continuation of the first step"
        raise RuntimeError(f"none of the {len(candidates)} candidates has a step: {why}")


def best_candidate(candidates: Sequence[Candidate], order: Sequence[int] | None = None) -> int:
    """Return the number of the best candidate: complete ones go before others, then the highest score, then the first.

    ``order`` says which is the first. One that failed, was pruned or grew on is chosen if there is no other.
    """

    def rank(i: int) -> tuple[bool, bool, bool, float]:
        one = candidates[i]
        score = -np.inf if np.isnan(one.score) else one.score
        return bool(one.solution.steps), one.stopped not in DROPPED, one.is_complete, score

    return max(range(len(candidates)) if order is None else order, key=rank)


def steps_html(candidate: Candidate) -> str:
    """Return the steps of a candidate as HTML, coloured by their rewards if these are probabilities."""
    solution, rewards = candidate.solution, candidate.rewards
    scored = len(rewards) == solution.n_steps > 0 and bool((np.isnan(rewards) | (rewards >= 0) & (rewards <= 1)).all())
    if scored:
        return solution_html(
            ScoredSolution(solution, np.stack([1 - rewards, rewards], axis=1), ("negative", "positive"))
        )
    told = rewards if len(rewards) == solution.n_steps else ["" for _ in solution.steps]
    steps = (
        f"<li>{escape(step)} <i>{escape(str(reward))}</i></li>"
        for step, reward in zip(solution.steps, told, strict=True)
    )
    return f"<div><b>Problem</b> {escape(solution.problem)}<ol>{''.join(steps)}</ol></div>"
