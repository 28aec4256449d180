"""What to label next: the steps or problems whose labels should teach a classifier most."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.cluster import kmeans_plusplus
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from prmkit.classifier import PRMClassifier
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution, Step, flatten, only_solutions
from prmkit.features import StepStatistics
from prmkit.features.sequences import StepSequences
from prmkit.fitted import FittedClassifier, fitted_parts, training_problems
from prmkit.metrics import decompose_uncertainty
from prmkit.models.heads.head import StepViews
from prmkit.scoring.scoring import quiet_step_proba
from prmkit.uncertainty.ensembles._step_ensemble import StepEnsemble, reads_alike
from prmkit.utils.environment import UnscoredWarning, each_warning_once, import_optional, safe_after_fork
from prmkit.utils.ragged import FloatArray, IntArray, row_starts
from prmkit.utils.sklearn import random_generator

if TYPE_CHECKING:
    import pandas as pd

By = Literal["step", "problem"]
Strategy = Literal["balanced", "uncertainty", "disagreement", "diversity", "random"]
_MOST_COLUMNS = 32
_SMALLEST_WEIGHT = 1e-9
_FARTHEST = 5.0
"""Standard deviations at which a feature is cut: otherwise the strangest steps are chosen first."""


@dataclass(frozen=True, eq=False, repr=False)
class LabellingSelection:
    """What to label next, made by :func:`select_for_labelling`.

    ``len``, iteration and ``np.asarray`` give the indices.

    Parameters
    ----------
    indices : ndarray of int, shape (n_chosen,)
        By step, the places of the chosen steps in ``flatten(solutions)``. By problem, the places in ``solutions`` of
        all solutions of the chosen problems. The first choice comes first.
    scores : ndarray of shape (n_chosen,)
        Uncertainty in nats of each step, or the mean over the steps of its problem: the disagreement of the members if
        the strategy looks at it, otherwise the entropy. Higher is more uncertain. NaN if no classifier was asked.
    reasons : tuple of str
        Why each of them was chosen.
    by : {"step", "problem"}
        What was chosen.
    strategy : str
        The rule of the choice.
    solutions : tuple of Solution
        All solutions that were given.
    n_pool : int
        Number of steps or problems among which the choice was made.
    n_trained : int or None
        Number of problems that were left out because the classifier was trained on them. None if it does not know.
    n_repeated : int
        Number of steps that were left out because an equal step, after an equal beginning, was in the pool already.
    n_unscored : int
        Number of steps that were left out because the classifier cannot read them.
    """

    indices: IntArray
    scores: FloatArray
    reasons: tuple[str, ...]
    by: By
    strategy: Strategy
    solutions: tuple[Solution, ...]
    n_pool: int
    n_trained: int | None
    n_repeated: int
    n_unscored: int

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.indices, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        trained = "unknown" if self.n_trained is None else f"{self.n_trained:,}"
        what = "steps" if self.by == "step" else "solutions"
        return (
            f"<LabellingSelection: {len(self):,} {what}, {self.strategy!r} among {self.n_pool:,} {self.by}s; left out: "
            f"{trained} problems of the training, {self.n_repeated:,} repeated and {self.n_unscored:,} unscored steps>"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each choice, ready to be handed to labellers.

        Returns
        -------
        DataFrame
            The index of the solution, its ``id``, the index of the step and its text (by step only), the text of the
            problem, the score and the reason.
        """
        pandas = import_optional("pandas", "to_frame")
        rows: list[dict[str, Any]]
        if self.by == "step":
            lengths = np.array([solution.n_steps for solution in self.solutions])
            owners = np.repeat(np.arange(len(lengths)), lengths)[self.indices]
            places = (self.indices - row_starts(lengths)[owners]).tolist()
            rows = [{"solution": i, "step": t} for i, t in zip(owners.tolist(), places, strict=True)]
        else:
            rows = [{"solution": i} for i in self.indices.tolist()]
        for row, score, reason in zip(rows, self.scores.tolist(), self.reasons, strict=True):
            solution = self.solutions[row["solution"]]
            row |= {"id": solution.id, "problem": solution.problem}
            if "step" in row:
                row["text"] = solution.steps[row["step"]]
            row |= {"score": score, "reason": reason}
        return pandas.DataFrame(rows)


def select_for_labelling(
    classifier: FittedClassifier | None,
    solutions: Iterable[Solution],
    budget: int,
    *,
    by: By = "step",
    strategy: Strategy = "balanced",
    random_state: int | np.random.RandomState | None = None,
) -> LabellingSelection:
    """Choose the steps or the problems to label next.

    Problems that the classifier was trained on are left out and counted. So is a step that repeats an equal step after
    an equal beginning, since both have the same label.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None
        Classifier that shall learn from the labels. ``None`` if there is none yet: then ``strategy`` is "diversity" or
        "random".
    solutions : list of Solution
        The pool, without labels.
    budget : int
        Number of steps or problems to choose. If the pool has fewer, all of it is taken, with a warning.
    by : {"step", "problem"}, default="step"
        What to choose. By problem, all solutions of a problem are chosen together, and its score is the mean over their
        steps.
    strategy : {"balanced", "uncertainty", "disagreement", "diversity", "random"}, default="balanced"
        Rule of the choice.

        - "uncertainty" takes those with the largest entropy of the predicted class probabilities.
        - "disagreement" takes those on which the members of a :class:`StepEnsemble` or :class:`MCDropout` disagree
          most, by the mutual information of prediction and member.
        - "diversity" takes those that are unlike each other, by k-means++ on the features that the classifier reads, or
          on :class:`~prmkit.features.StepStatistics` where it reads text.
        - "balanced" does the same with the uncertainty as weight, so that a batch is uncertain, and is not the same
          step many times. The weight is the disagreement if the classifier has members, otherwise the entropy.
        - "random" draws, and asks the classifier nothing.
    random_state : int, RandomState or None, default=None
        Seed of "balanced", "diversity" and "random". The order of the solutions makes no difference to what is chosen.

    Returns
    -------
    LabellingSelection
        Indices in the order of the choice, with scores, reasons, and what was left out.

    Raises
    ------
    TypeError, ValueError
        If the budget is no whole number of at least 1, nothing is left to choose from, the classifier gives NaN for
        steps that it could read, or the strategy needs what the classifier does not have.

    Warns
    -----
    UserWarning
        If the pool is smaller than the budget.

    See Also
    --------
    prmkit.metrics.problems_needed : number of labelled problems after which an interval is narrow enough.

    Notes
    -----
    Chosen steps are no sample of the pool. **Draw what you evaluate, calibrate or give guarantees on by "random", by
    problem.** Intervals and guarantees do not hold on the others.

    On three public data sets no strategy found wrong steps better than "random" by more than its interval, and
    "uncertainty" was worse (``benchmarks/bench_labelling.py``). "balanced" with a :class:`StepEnsemble` did best.

    Beside the pass of the classifier, the cost is O(n log n) for n steps, and O(n · budget) for "balanced" and
    "diversity": each choice measures its distance to all others in at most 32 dimensions.

    Weighted k-means++ (Arthur and Vassilvitskii, SODA 2007) draws each choice with a probability in proportion to its
    weight times its squared distance to the nearest earlier choice. Mutual information as a rule for labelling is
    Houlsby et al.'s (BALD, arXiv:1112.5745); drawing in batches instead of taking the largest, so that a batch holds
    no repetitions, that of BADGE (Ash et al., ICLR 2020, arXiv:1906.03671).

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import flatten, make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data, pool = (make_arithmetic_solutions(30, 2, random_state=seed) for seed in (0, 1))
    >>> clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    >>> chosen = select_for_labelling(clf, pool.solutions, 5, random_state=0)
    >>> len(chosen), len([flatten(pool.solutions)[i] for i in chosen])
    (5, 5)
    >>> select_for_labelling(clf, pool.solutions, 3, by="problem", strategy="uncertainty").by
    'problem'
    """
    given = tuple(only_solutions(solutions))
    _check_options(classifier, budget, by, strategy)
    pool, origin, n_trained = _new_problems(classifier, given)
    steps, kept = flatten(pool), _distinct(pool)
    n_repeated, n_unscored = len(steps) - len(kept), 0
    if not len(kept):
        raise ValueError(
            f"nothing is left to choose from: {len(given):,} solutions were given, and {n_trained or 0:,} of their "
            "problems are among those that the classifier was trained on. Give new problems, whose solutions have steps"
        )
    scores, features = np.full(len(kept), np.nan), None
    rows: Any = None
    if classifier is not None and strategy != "random":
        proba, rows = _asked(classifier, steps)
        scored = ~np.isnan(quiet_step_proba(classifier, pool, proba.mean(axis=0))[kept, 0])
        n_unscored, kept = int((~scored).sum()), kept[scored]
        if not len(kept):
            raise ValueError(f"the classifier can read none of the {n_unscored:,} steps: raise its max_length")
        members = decompose_uncertainty(proba[:, kept])
        if strategy == "disagreement" and len(proba) == 1:
            raise ValueError(f"{type(classifier).__name__} has one member, which cannot disagree: fit it with several")
        by_members = len(proba) > 1 and strategy in ("balanced", "disagreement")
        scores = members.epistemic if by_members else members.total
    if strategy in ("balanced", "diversity"):
        features = _embedded(_features(classifier, steps, rows), kept)
    lengths = [solution.n_steps for solution in pool]
    owners = np.repeat(origin, lengths)[kept]
    # The things to choose from: their places in what was given, and the scores of each.
    places = row_starts([solution.n_steps for solution in given])[owners] + [steps[row].index for row in kept]
    parts = places[:, None]
    if by == "problem":
        of_unit = np.unique(np.repeat(problem_keys(pool), lengths)[kept], return_inverse=True)[1]
        ends = np.cumsum(np.bincount(of_unit))[:-1]
        parts = [np.unique(part) for part in np.split(owners[np.argsort(of_unit, kind="stable")], ends)]
        scores = _means(scores, of_unit)
        features = None if features is None else _means(features, of_unit)
    if budget > len(parts):
        warnings.warn(
            f"budget is {budget:,}, and there are {len(parts):,} {by}s to choose from: all are taken",
            UserWarning,
            stacklevel=2,
        )
    chosen, n_unlike = _chosen(scores, features, min(budget, len(parts)), strategy, random_generator(random_state))
    reasons = [_reason(strategy, rank < n_unlike) for rank in range(len(chosen))]
    counts = [len(parts[unit]) for unit in chosen]
    return LabellingSelection(
        indices=np.concatenate([parts[unit] for unit in chosen]),
        scores=np.repeat(scores[chosen], counts),
        reasons=tuple(np.repeat(reasons, counts).tolist()),
        by=by,
        strategy=strategy,
        solutions=given,
        n_pool=len(parts),
        n_trained=n_trained,
        n_repeated=n_repeated,
        n_unscored=n_unscored,
    )


def _check_options(classifier: Any, budget: Any, by: Any, strategy: Any) -> None:
    """Raise if an argument is not what it should be."""
    if not isinstance(budget, Integral) or isinstance(budget, bool):
        raise TypeError(f"budget is {budget!r}, expected a whole number: how many {by}s you can label")
    if budget < 1:
        raise ValueError(f"budget is {budget}, expected at least 1")
    for name, value, known in (("by", by, get_args(By)), ("strategy", strategy, get_args(Strategy))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, known))}")
    if classifier is None:
        if strategy not in ("diversity", "random"):
            raise ValueError(
                f"classifier is None, and strategy {strategy!r} asks one: pass a fitted classifier, or "
                'strategy="diversity" or "random", which need none'
            )
        return
    if isinstance(classifier, (type, BaseEstimator)):
        check_is_fitted(classifier)
    if not hasattr(classifier, "predict_proba"):
        raise TypeError(f"classifier is {type(classifier).__name__}, expected a fitted classifier with predict_proba")
    if strategy == "disagreement" and not hasattr(classifier, "member_proba"):
        raise ValueError(
            f"{type(classifier).__name__} has no members that could disagree: pass StepEnsemble(classifier) or "
            'MCDropout(classifier), or strategy="uncertainty"'
        )


def _new_problems(classifier: Any, given: Sequence[Solution]) -> tuple[list[Solution], IntArray, int | None]:
    """Return the solutions of problems that the classifier has not seen, where they come from, and how many it has.

    They are in the order of their texts, so that the order of the call makes no difference.
    """
    keys = problem_keys(given)
    seen = None if classifier is None else training_problems(classifier)
    new = np.ones(len(given), dtype=bool) if seen is None else ~np.isin(keys, seen)
    order = sorted(np.flatnonzero(new).tolist(), key=lambda i: (given[i].problem, given[i].steps))
    # Without a classifier there is nothing that could have been seen.
    n_trained = len(np.unique(keys[~new])) if seen is not None else 0 if classifier is None else None
    return [given[i] for i in order], np.array(order, dtype=np.int64), n_trained


def _distinct(solutions: Sequence[Solution]) -> IntArray:
    """Return the rows of ``flatten(solutions)`` without those whose problem, beginning and text were there before."""
    known: dict[tuple[Any, str], int] = {}
    rows, row = [], 0
    for key, solution in zip(problem_keys(solutions).tolist(), solutions, strict=True):
        beginning: Any = ("problem", key)
        for text in solution.steps:
            step = (beginning, text)
            if step not in known:
                known[step] = len(known)
                rows.append(row)
            beginning = known[step]
            row += 1
    return np.array(rows, dtype=np.int64)


@each_warning_once()
@safe_after_fork()
def _asked(classifier: Any, steps: list[Step]) -> tuple[np.ndarray, Any]:
    """Return the class probabilities by each member, and what the heads have read if the steps are read here."""
    members = classifier.members_ if isinstance(classifier, StepEnsemble) else [classifier]
    with warnings.catch_warnings():
        # What has no score is counted in the result.
        warnings.simplefilter("ignore", UnscoredWarning)
        if all(reads_alike(member, members[0]) for member in members):
            rows = members[0].read(steps)
            return np.stack([member.head_.predict_proba(rows) for member in members]), rows
        if hasattr(classifier, "member_proba"):
            return classifier.member_proba(steps), None
        return np.asarray(classifier.predict_proba(steps))[None], None


def _features(classifier: Any, steps: list[Step], rows: Any) -> Any:
    """Return the numbers that a classifier reads of each step: a matrix, dense or sparse."""
    if rows is None:
        for part in () if classifier is None else fitted_parts(classifier):
            if isinstance(part, PRMClassifier):
                rows = part.read(steps)
                break
            if isinstance(part, Pipeline) and len(part) > 1:
                rows = part[:-1].transform(steps)
                break
    if isinstance(rows, StepSequences):
        rows = rows.values[rows.answers]
    if isinstance(rows, StepViews):
        # The costliest view says most of the content.
        rows = next(rows.rows[name] for name in ("embeddings", "states", *rows.rows) if name in rows.rows)
    if not issparse(rows) and np.ndim(rows) != 2:
        rows = StepStatistics().transform(steps)
    return rows


def _embedded(features: Any, kept: IntArray) -> FloatArray:
    """Return the kept rows in few dimensions, all columns on one scale."""
    matrix: Any = features[kept] if issparse(features) else np.asarray(features, dtype=np.float64)[kept]
    n_columns = min(_MOST_COLUMNS, min(matrix.shape) - 1)
    if issparse(matrix):
        return np.asarray(TruncatedSVD(max(n_columns, 1), random_state=0).fit_transform(matrix), dtype=np.float64)
    scaled: FloatArray = np.clip(StandardScaler().fit_transform(np.nan_to_num(matrix)), -_FARTHEST, _FARTHEST)
    if matrix.shape[1] <= _MOST_COLUMNS or n_columns < 1 or not scaled.any():
        return scaled
    return np.asarray(PCA(n_columns, random_state=0).fit_transform(scaled))


def _means(values: FloatArray, of_unit: IntArray) -> FloatArray:
    """Return the mean of the rows of each unit."""
    sums = np.zeros((of_unit.max() + 1, *values.shape[1:]))
    np.add.at(sums, of_unit, values)
    counts = np.bincount(of_unit).astype(np.float64)
    return sums / counts.reshape(-1, *[1] * (values.ndim - 1))


def _chosen(
    scores: FloatArray, features: FloatArray | None, n: int, strategy: Strategy, rng: np.random.RandomState
) -> tuple[IntArray, int]:
    """Return which ``n`` units are chosen, the first choice first, and how many of them are unlike those before."""
    if strategy == "random":
        return rng.permutation(len(scores))[:n], 0
    # NaN, without a classifier, leaves the order as it is.
    by_score = np.argsort(-scores, kind="stable")
    if features is None or n == len(scores):
        return by_score[:n], 0
    # Of rows that are alike, the most uncertain one can be drawn. The others wait until nothing else is left.
    alike = np.unique(features[by_score].round(6), axis=0, return_index=True)[1]
    unlike = by_score[np.sort(alike)]
    if n < len(unlike):
        # A weight of 0 in all rows cannot be drawn by.
        weights = np.ones(len(unlike)) if strategy == "diversity" else np.maximum(scores[unlike], _SMALLEST_WEIGHT)
        drawn = kmeans_plusplus(features[unlike], n, sample_weight=weights, random_state=rng, n_local_trials=1)[1]
        # Rounding may draw one twice.
        unlike = unlike[drawn[np.sort(np.unique(drawn, return_index=True)[1])]]
    rest = by_score[~np.isin(by_score, unlike)]
    return np.concatenate([unlike, rest])[:n], len(unlike)


def _reason(strategy: Strategy, unlike: bool) -> str:
    """Return in words why something was chosen."""
    if strategy in ("balanced", "diversity") and not unlike:
        return "nothing unlike the others is left"
    return {
        "balanced": "uncertain, and unlike those before",
        "uncertainty": "among the most uncertain",
        "disagreement": "among those on which the members disagree most",
        "diversity": "unlike those before",
        "random": "drawn at random",
    }[strategy]
