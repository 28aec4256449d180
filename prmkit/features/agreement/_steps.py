"""``AgreementFeatures``: whether the other solutions of a problem hold the numbers that a step introduces."""

from __future__ import annotations

import copy
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from prmkit.data.answers.extraction import normal_answer, numbers_in
from prmkit.data.dataset import StepDataset
from prmkit.data.growing import Growing
from prmkit.data.problem_keys import problem_keys
from prmkit.data.sampled import Candidates
from prmkit.data.solution import Solution, Step, as_solutions, as_steps, iter_solutions, only_solutions
from prmkit.features.statistics._step_statistics import without_enumeration
from prmkit.utils.sklearn import ReadsSteps

AGREEMENT_COLUMNS: dict[str, str] = {
    "agreement_mean": "mean share of the other solutions that contain a number which the step introduces",
    "agreement_min": "smallest of these shares",
    "agreement_last": "share of the other solutions that contain the last number which the step introduces",
    "agreement_min_so_far": "smallest share over the numbers that this step and the steps before introduce",
    "agreement_mean_so_far": "mean share over the numbers that this step and the steps before introduce",
    "numbers_introduced": "distinct numbers that the step introduces",
}
_NO_OTHERS, _NO_NUMBERS = 0.5, 1.0
"""The share where there is no other solution, and what the columns hold where there is no share."""
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)\s*(\d))")
_normal = lru_cache(maxsize=100_000)(normal_answer)


def step_numbers(text: str) -> list[str]:
    r"""Return the numbers of a step in plain spelling, in order.

    >>> step_numbers(r"Step 3: $\frac{1}{2}$ of 1,200 is 50%, so 600.0 for 1, 2 and -3.")
    ['1/2', '1200', '50', '600', '1', '2', '-3']
    """
    text = without_enumeration(text).replace("\\!", "").replace("{,}", ",")
    if "frac" in text:
        text = _FRACTION.sub(lambda match: f"{match[1] or match[3]}/{match[2] or match[4]}", text)
    # "1,2" is a list of two numbers.
    return [number for written in numbers_in(text) for number in _normal(written).split(",") if number]


class _ProblemSet:
    """The solutions of one problem: how many contain each number, and how they begin."""

    def __init__(self, solutions: Sequence[Solution] = ()) -> None:
        self.n = len(solutions)
        self.counts: Counter[str] = Counter()
        # Steps that a solution begins with are a place in a tree: the place before, and the text of the step.
        self.places: dict[tuple[int, str], int] = {}
        self.numbers: list[list[str]] = [[]]  # of the step at each place
        for solution, n in Counter(solutions).items():
            contained: set[str] = set()
            place = 0
            for step in solution.steps:
                place = self.places.setdefault((place, step), len(self.numbers))
                if place == len(self.numbers):
                    self.numbers.append(step_numbers(step))
                contained.update(self.numbers[place])
            self.counts.update(dict.fromkeys(contained, n))


class _Reading:
    """A solution that is read step by step, beside the solutions of its problem."""

    def __init__(self, problem: str, of_problem: _ProblemSet) -> None:
        self._set = of_problem
        self._known = set(step_numbers(problem))
        self._place: int | None = 0
        self._lowest, self._total, self._count = _NO_NUMBERS, 0.0, 0

    def extend(self, steps: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a row per new step."""
        rows = np.empty((len(steps), len(AGREEMENT_COLUMNS)), dtype=np.float32)
        for row, step in zip(rows, steps, strict=True):
            row[:] = self._read(step)
        return rows

    @property
    def alone(self) -> bool:
        """Whether the last step has no other solution beside it."""
        return self._set.n - (self._place is not None) < 1

    def fork(self) -> _Reading:
        """Return a copy that grows by itself."""
        other = copy.copy(self)
        other._known = set(self._known)
        return other

    def _read(self, step: str) -> list[float]:
        if self._place is not None:
            self._place = self._set.places.get((self._place, step))
        # One of the solutions that begin with the same steps is this one.
        own = self._place is not None
        others = self._set.n - own
        written = step_numbers(step) if self._place is None else self._set.numbers[self._place]
        new = [number for number in dict.fromkeys(reversed(written)) if number not in self._known]
        self._known.update(new)
        shares = [(self._set.counts[number] - own) / others if others else _NO_OTHERS for number in new]
        self._lowest = min([self._lowest, *shares])
        self._total += sum(shares)
        self._count += len(shares)
        own_columns = [sum(shares) / len(shares), min(shares), shares[0]] if shares else [_NO_NUMBERS] * 3
        return [*own_columns, self._lowest, self._total / self._count if self._count else _NO_NUMBERS, len(new)]


class _Sets:
    """The sets of many problems, each read when it is first asked for."""

    def __init__(self, solutions: Sequence[Solution]) -> None:
        self.solutions = tuple(solutions)
        # Without the text of a problem nothing tells which solutions belong together.
        known = [solution for solution in solutions if solution.problem.strip()]
        self._unread: dict[int, list[Solution]] = {}
        for key, solution in zip(problem_keys(known).tolist(), known, strict=True):
            self._unread.setdefault(key, []).append(solution)
        self._read: dict[int, _ProblemSet] = {}

    def of(self, problem: str) -> _ProblemSet:
        """Return the set of a problem."""
        if not problem.strip():
            return _ProblemSet()
        key = int(problem_keys([problem])[0])
        if key not in self._read:
            self._read[key] = _ProblemSet(self._unread.get(key, ()))
        return self._read[key]


class AgreementFeatures(ReadsSteps, TransformerMixin, BaseEstimator):
    """Whether the other solutions of the problem contain the numbers that a step introduces.

    A step introduces a number that neither the problem nor an earlier step of its solution holds. The agreement on the
    number is the share of the problem's other solutions that contain it anywhere. Numbers are whole numbers, decimals
    and fractions: ``1,200`` is ``1200``, ``0.50`` is ``1/2``, ``50%`` is ``50``. The number of a leading ``Step 3:`` is
    none.

    Parameters
    ----------
    candidates : list of Solution, Candidates or StepDataset, default=None
        The set of solutions that a solution is compared with. It needs no labels, and may hold the solution itself and
        solutions of any problems. If None, the set is the solutions of the steps in X, so it is another one in each
        call.

    Attributes
    ----------
    descriptions : dict of str to str
        The meaning of each column, under its name. It belongs to the class.

    Raises
    ------
    TypeError
        If ``candidates`` is no list of solutions.

    Warns
    -----
    UserWarning
        If no problem in X has another solution: the columns of agreement say nothing then.

    See Also
    --------
    prmkit.features.StepStatistics : Counts and checks of the text of a step, which these columns stand beside.

    Notes
    -----
    **What is fixed.** Row t depends on the problem, on the steps up to t, and on the set: on the whole text of the
    other solutions in it. For given ``candidates`` nothing looks ahead, and neither the other rows of X nor their order
    changes a row. If ``candidates`` is None, a part of X may be a smaller set. So give ``candidates`` where X does not
    hold all samples of each problem: in scores of a file, which is read in blocks, and for solutions that grow. A
    fitted classifier gets those of new problems by ``clf.featurizer_.set_params(candidates=solutions)``. A saved
    classifier holds the candidates that it had.

    **Which solutions are the others.** If a solution of the set begins with the same steps as this one up to step t,
    one such solution counts as this one at step t, and all the others count. Of two samples with the same text each is
    an other of the other. Without ``candidates``, a solution counts as often as distinct objects in X hold the same
    step of it.

    **Where there is no share.** If the problem has no other solution, each share is 0.5. If a step introduces no
    number, the columns of its shares are 1: it says nothing that others lack. The same holds in the columns "so far",
    if no step up to it introduces a number. A plain string has no problem, and no others.

    The other solutions must be samples of their own. Where they are edits of one original, as in PRMBench, the
    agreement tells the edit from its copies, and nothing of mistakes in real solutions.

    Examples
    --------
    >>> from prmkit import Solution, flatten
    >>> texts = [["3 * 4 = 12.", "2 + 12 = 14."], ["3 * 4 = 12.", "So it is 14."], ["2 + 3 = 5.", "5 * 4 = 20."]]
    >>> solutions = [Solution("What is 2 + 3 * 4?", steps) for steps in texts]
    >>> AgreementFeatures().set_output(transform="pandas").fit_transform(flatten(solutions))["agreement_mean"].tolist()
    [0.5, 0.5, 0.5, 0.5, 0.0, 0.0]
    >>> AgreementFeatures(candidates=solutions).fit_transform(flatten([Solution("What is 2 + 3 * 4?", ["So 14."])]))
    array([[0.6666667, 0.6666667, 0.6666667, 0.6666667, 0.6666667, 1.       ]],
          dtype=float32)
    """

    descriptions = AGREEMENT_COLUMNS

    def __init__(self, candidates: Sequence[Solution] | Candidates | StepDataset | None = None) -> None:
        self.candidates = candidates

    def fit(self, X: Sequence[Step | str] | npt.NDArray[np.object_], y: object = None) -> AgreementFeatures:
        """Check X and the candidates. Nothing is learnt.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string is a step without problem and prefix.
        y : object, default=None
            Ignored. It is there for scikit-learn's pipelines.

        Returns
        -------
        AgreementFeatures
            The transformer itself.
        """
        as_steps(X)
        self._sets_of_candidates()
        return self

    def transform(self, X: Sequence[Step | str] | npt.NDArray[np.object_]) -> npt.NDArray[np.float32]:
        """Compute the agreement of each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. Without ``candidates``, their solutions are the set.

        Returns
        -------
        ndarray of shape (n_steps, n_columns), float32
            One row per step.
        """
        steps = as_steps(X)
        sets = _Sets(_samples(steps)) if self.candidates is None else self._sets_of_candidates()
        out = np.empty((len(steps), len(AGREEMENT_COLUMNS)), dtype=np.float32)
        alone = []
        for solution, rows, indices in iter_solutions(steps):
            reading = _Reading(solution.problem, sets.of(solution.problem))
            out[rows] = reading.extend(solution.steps[: max(indices) + 1])[indices]
            if solution.problem.strip():
                alone.append(reading.alone)
        if alone and all(alone):
            where = "X" if self.candidates is None else "candidates"
            warnings.warn(
                f"{where} holds no other solution of the problem of any of the {len(alone):,} solutions in X, so their "
                "steps agree with nothing (0.5): pass all samples of a problem together, or give the samples of these "
                "problems, AgreementFeatures(candidates=solutions)",
                UserWarning,
                stacklevel=3,  # the caller of what set_output wraps
            )
        return out

    def grow(self, problem: str) -> Growing:
        """Return a solution of a problem that grows: the way of :class:`~prmkit.scoring.IncrementalScorer`.

        Parameters
        ----------
        problem : str
            Text of the problem.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the rows of the new steps.

        Raises
        ------
        ValueError
            If there are no ``candidates``: a growing solution knows no others.
        """
        if self.candidates is None:
            raise ValueError(
                "a solution that grows does not know the other solutions of its problem: AgreementFeatures(candidates="
                "solutions), or clf.featurizer_.set_params(candidates=solutions) in a fitted classifier"
            )
        return _Reading(problem, self._sets_of_candidates().of(problem))

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : object, default=None
            Ignored. It is there for scikit-learn.

        Returns
        -------
        ndarray of str
            One name per column.
        """
        return np.array(list(AGREEMENT_COLUMNS), dtype=object)

    def _sets_of_candidates(self) -> _Sets:
        """Return the sets of the candidates, which are kept until there are other candidates."""
        given: Any = getattr(self.candidates, "solutions", self.candidates)
        if given is None:
            return _Sets(())
        if not isinstance(given, (Sequence, np.ndarray)):
            # An iterator would be empty in the second call.
            raise TypeError(f"candidates is one {type(given).__name__}, expected a list of Solution, or Candidates")
        solutions = tuple(as_solutions(given))
        kept: _Sets | None = getattr(self, "_sets", None)
        if kept is None or kept.solutions != solutions:
            self._sets = kept = _Sets(only_solutions(solutions))
        return kept

    def __getstate__(self) -> dict[str, Any]:
        # What was read of the candidates is read again.
        return {name: value for name, value in super().__getstate__().items() if name != "_sets"}


def _samples(steps: Sequence[Step]) -> list[Solution]:
    """Return the solutions of some steps, each as often as distinct objects hold the same step of it."""
    held = {(id(step.solution), step.index): step.solution for step in steps}
    by_object: dict[int, tuple[Solution, list[int]]] = {}
    for (key, index), solution in held.items():
        by_object.setdefault(key, (solution, []))[1].append(index)
    holders: dict[Solution, Counter[int]] = {}
    for solution, indices in by_object.values():
        holders.setdefault(solution, Counter()).update(indices)
    return [solution for solution, counts in holders.items() for _ in range(max(counts.values()))]
