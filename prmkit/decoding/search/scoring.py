"""How candidates are scored: in one batch per round, or new steps alone where the scorer keeps what it has read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from prmkit.data.solution import Solution
from prmkit.fitted import FittedClassifier, with_setting
from prmkit.metrics.solutions.aggregation import AGGREGATION_RULES, aggregate
from prmkit.scoring.incremental import IncrementalScorer
from prmkit.scoring.scoring import score_solutions


@runtime_checkable
class SolutionScorer(Protocol):
    """A scorer of solutions: each result has ``rewards``, one per step."""

    def score_solutions(self, solutions: Iterable[Solution], /) -> Sequence[Any]:
        """Score solutions."""


RewardFunction: TypeAlias = Callable[[list[Solution]], Sequence[npt.ArrayLike]]
Scorer: TypeAlias = SolutionScorer | FittedClassifier | RewardFunction


class StepScoring:
    """Step rewards of the solutions of one search, and what they cost.

    While solutions grow, a classifier that can keep what it has read is asked for new steps alone. Any other scorer
    gets the solutions of a round in one call, and so does every scorer where solutions are finished at once.
    ``n_forward`` and ``scored_tokens`` count both.
    """

    def __init__(self, scorer: Scorer, count_tokens: Callable[[str], int]) -> None:
        check_scorer(scorer)
        self._scorer = scorer
        # A solution beyond the length of a model loses its score. It must not end the search.
        self._patient: Scorer = with_setting(scorer, "too_long", "nan")
        self._count = count_tokens
        self._growing: dict[tuple[str, tuple[str, ...]], IncrementalScorer] = {}
        # Scorers that have read no step, by problem. Their forks read the problem once.
        self._unread: dict[str, IncrementalScorer] = {}
        self.n_forward = self.scored_tokens = 0

    @property
    def grows(self) -> bool:
        """Whether new steps are scored alone."""
        return hasattr(self._scorer, "incremental")

    def rewards(self, solutions: Sequence[Solution], *, go_on: bool) -> list[npt.NDArray[np.float64]]:
        """Return the step rewards of each solution, which may go on growing. One without steps has none."""
        if go_on and self.grows:
            self._read(solutions)
            return [self.growing(solution).rewards if solution.steps else np.empty(0) for solution in solutions]
        asked = list(dict.fromkeys(solution for solution in solutions if solution.steps))
        found = dict(zip(asked, self._batch(asked) if asked else [], strict=True))
        return [found.get(solution, np.empty(0)) for solution in solutions]

    def growing(self, solution: Solution) -> IncrementalScorer:
        """Return the scorer of a growing solution that has read these steps. It is not to be extended, but forked."""
        if not solution.steps:
            return self._begun(solution)[0]
        self._read([solution])
        return self._growing[solution.problem, solution.steps]

    def _read(self, solutions: Iterable[Solution]) -> None:
        """Let scorers read the new steps of solutions, in one batch per number of steps: one may begin another."""
        asked = {(one.problem, one.steps): one for one in solutions if one.steps}
        unread = [one for key, one in asked.items() if key not in self._growing]
        for n_steps in sorted({one.n_steps for one in unread}):
            some = [one for one in unread if one.n_steps == n_steps]
            scorers, new = zip(*map(self._begun, some), strict=True)
            if all(isinstance(one, IncrementalScorer) for one in scorers):
                IncrementalScorer.extend_together(scorers, new)
            else:  # a user's own class of scorers that grow
                for one, steps in zip(scorers, new, strict=True):
                    one.extend(steps)
            self.n_forward += len(some)
            self.scored_tokens += sum(self._count(step) for steps in new for step in steps)
            self._growing |= {(one.problem, one.steps): scorer for one, scorer in zip(some, scorers, strict=True)}

    def _begun(self, solution: Solution) -> tuple[IncrementalScorer, tuple[str, ...]]:
        """Return a scorer that has read the longest known beginning of a solution, and the steps that it lacks."""
        for n_read in range(solution.n_steps - 1, 0, -1):
            if known := self._growing.get((solution.problem, solution.steps[:n_read])):
                return known.fork(), solution.steps[n_read:]
        if solution.problem not in self._unread:
            classifier: Any = self._scorer
            make = partial(IncrementalScorer, classifier, too_long="nan")
            if self.grows and self._patient is self._scorer:
                make = classifier.incremental
            self._unread[solution.problem] = make(solution.problem)
            self.scored_tokens += self._count(solution.problem)
        return self._unread[solution.problem].fork(), solution.steps

    def keep(self, solutions: Iterable[Solution]) -> None:
        """Forget what was read of all other solutions, which frees their memory."""
        kept = {(solution.problem, solution.steps) for solution in solutions}
        self._growing = {key: scorer for key, scorer in self._growing.items() if key in kept}

    def _batch(self, solutions: list[Solution]) -> list[npt.NDArray[np.float64]]:
        self.n_forward += 1
        for solution in solutions:
            self.scored_tokens += sum(self._count(text) for text in (solution.problem, *solution.steps))
        return batch_rewards(self._patient, solutions)


def check_scorer(scorer: object) -> None:
    """Raise for what cannot score steps."""
    if hasattr(scorer, "predict_proba") and isinstance(scorer, (type, BaseEstimator)):
        # Found out later, it would cost all that was generated until then.
        check_is_fitted(scorer)
    if isinstance(scorer, type) or not (
        isinstance(scorer, SolutionScorer)
        or callable(scorer)
        or (hasattr(scorer, "predict_proba") and hasattr(scorer, "classes_"))
    ):
        raise TypeError(
            f"scorer is {_named(scorer)}, expected a fitted classifier, an object with score_solutions, or a "
            "function that takes a list of Solution and returns the step rewards of each"
        )


def _named(scorer: object) -> str:
    return f"the class {scorer.__name__}" if isinstance(scorer, type) else type(scorer).__name__


def batch_rewards(scorer: Scorer, solutions: list[Solution]) -> list[npt.NDArray[np.float64]]:
    """Return the step rewards of solutions, checked: one per step."""
    if isinstance(scorer, SolutionScorer):
        found: Any = [getattr(one, "rewards", one) for one in scorer.score_solutions(solutions)]
    elif hasattr(scorer, "predict_proba"):
        found = [one.rewards for one in score_solutions(cast("FittedClassifier", scorer), solutions)]
    else:
        found = scorer(solutions)
    name = getattr(scorer, "__name__", type(scorer).__name__)
    found = _plain(found)
    if not isinstance(found, (list, tuple, np.ndarray)) or len(found) != len(solutions):
        told = f"{len(found)} results" if isinstance(found, (list, tuple, np.ndarray)) else type(found).__name__
        raise ValueError(f"the scorer {name} gave {told} for {len(solutions)} solutions, expected one array for each")
    arrays = []
    for i, (values, solution) in enumerate(zip(found, solutions, strict=True)):
        try:
            array = np.asarray(_plain(values), dtype=np.float64)
        except (TypeError, ValueError):
            raise TypeError(
                f"the scorer {name} gave {values!r:.80} for solution {i}, expected a list or an array of numbers"
            ) from None
        if array.shape != (solution.n_steps,):
            raise ValueError(
                f"the scorer {name} gave an array of shape {array.shape} for solution {i} of {solution.n_steps} steps, "
                "expected one reward per step"
            )
        if len(wrong := np.flatnonzero(np.isinf(array))):
            raise ValueError(
                f"the scorer {name} gave {array[wrong[0]]} for step {wrong[0]} of solution {i}, "
                f"{solution.steps[wrong[0]]!r:.80}, expected finite rewards, or NaN for a step without one"
            )
        arrays.append(array)
    return arrays


def _plain(values: Any) -> Any:
    """Return a tensor, of any device and type, as an array, and anything else as it is."""
    return values.detach().cpu().double().numpy() if hasattr(values, "detach") else values


def check_aggregation(rule: str, name: str = "rule") -> None:
    """Raise for a rule that does not make one score of the rewards of steps."""
    if rule not in AGGREGATION_RULES:
        raise ValueError(f"{name} is {rule!r}, expected one of {', '.join(AGGREGATION_RULES)}")


def solution_score(rewards: npt.NDArray[np.float64], rule: str) -> float:
    """Return the score of a solution from the rewards of its steps. NaN without steps, or if a step has no score."""
    if not len(rewards):
        return float("nan")
    is_probability = bool(((rewards >= 0) & (rewards <= 1) | np.isnan(rewards)).all())
    return float(aggregate([rewards], rule, probabilities=is_probability, unscored=np.nan)[0])
