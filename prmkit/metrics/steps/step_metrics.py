"""Every step metric as a function of how often each problem counts, and the threshold that is best by one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from prmkit.metrics.calibration.calibration import bin_numbers, check_event
from prmkit.metrics.selective._selective import RankedDecisions
from prmkit.utils.ragged import FloatArray, IntArray

HEADLINES = (
    "accuracy", "macro_f1", "balanced_accuracy", "auroc", "average_precision", "brier", "log_loss", "ece",
)  # fmt: skip
N_BINS = 15
# The floor under a probability before its logarithm.
_EPS = 1e-15


class ProblemSums:
    """Sums per problem (numbered from 0) of several named blocks of numbers, so that a resample is one weighted sum."""

    def __init__(self, problems: IntArray) -> None:
        self._problems = problems
        self._n_problems = int(problems.max()) + 1
        self._blocks: dict[str, FloatArray] = {}

    def add(self, name: str, values: FloatArray | None = None, kinds: IntArray | None = None, n_kinds: int = 1) -> None:
        """Add a block with one sum per problem and kind."""
        cells = self._problems * n_kinds + (0 if kinds is None else kinds)
        sums = np.bincount(cells, weights=values, minlength=self._n_problems * n_kinds)
        # One row per kind: numpy sums along contiguous rows.
        self._blocks[name] = np.ascontiguousarray(sums.reshape(-1, n_kinds).T, dtype=np.float64)

    def __call__(self, counts: FloatArray) -> dict[str, FloatArray]:
        """Return the sums of each block by kind when problem i counts ``counts[i]`` times."""
        # No matrix products here: on a busy machine the threads that BLAS starts cost ten times the work.
        return {name: (block * counts).sum(axis=1) for name, block in self._blocks.items()}


def f1_scores(confusion: npt.NDArray[Any]) -> FloatArray:
    """Return the F1 of each class, NaN for a class that neither occurs nor is predicted."""
    n_classes = confusion.shape[-2]
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    # 0 / 0 is the NaN that is asked for.
    with np.errstate(divide="ignore", invalid="ignore"):
        f1: FloatArray = 2 * hits / (confusion.sum(axis=-1) + confusion.sum(axis=-2)[..., :n_classes])
    return f1


def macro_f1(confusion: npt.NDArray[Any]) -> float | None:
    """Return the mean F1 over classes, None if a class does not occur."""
    return float(f1_scores(confusion).mean()) if confusion.sum(axis=-1).all() else None


class WeightedStepMetrics:
    """The metrics of one model, from sums per problem and an order of risks that are computed once.

    Classes are numbered from worst to best, so number 0 is the negative one. Problems are numbered from 0. Means over
    classes (macro-F1, balanced accuracy) are over the classes that occur in ``y_true``. A resample that lacks one has
    no such mean. ``ranking`` orders the steps for AUROC and average precision, the worst last, if the probability of
    the negative class does not.
    """

    def __init__(
        self,
        y_true: IntArray,
        proba: FloatArray,
        decisions: IntArray,
        problems: IntArray,
        labels: Sequence[Any],
        ranking: FloatArray | None = None,
    ) -> None:
        n_classes = len(labels)
        is_negative, risk = y_true == 0, proba[:, 0]
        p_true = proba[np.arange(len(y_true)), y_true]
        self._labels = labels
        self._occurs = np.bincount(y_true, minlength=n_classes) > 0
        self._sums = ProblemSums(problems)
        self._sums.add("confusion", kinds=y_true * n_classes + decisions, n_kinds=n_classes**2)
        self._sums.add("bin_gaps", risk - is_negative, bin_numbers(risk, N_BINS), N_BINS)
        self._sums.add("brier", np.square(proba - np.eye(n_classes)[y_true]).sum(axis=1))
        self._sums.add("log_loss", -np.log(np.maximum(p_true, _EPS)))
        self._ranked = RankedDecisions(is_negative, risk if ranking is None else ranking, problems)

    def __call__(self, counts: FloatArray) -> dict[str, float | None]:
        """Return every metric, NaN or None where undefined, when problem i counts ``counts[i]`` times."""
        n_classes = len(self._labels)
        sums = self._sums(counts)
        confusion = sums["confusion"].reshape(n_classes, n_classes)
        hits, support, decided = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
        total = support.sum()
        # 0 / 0 is the NaN that is asked for.
        with np.errstate(divide="ignore", invalid="ignore"):
            precision, recall, f1 = hits / decided, hits / support, f1_scores(confusion)
        has_all_classes = bool(support[self._occurs].all())
        ranked = self._ranked.weigh(counts)
        metrics: dict[str, float | None] = {
            "accuracy": hits.sum() / total,
            "macro_f1": f1[self._occurs].mean() if has_all_classes else None,
            "balanced_accuracy": recall[self._occurs].mean() if has_all_classes else None,
            "auroc": ranked.auroc(),
            "average_precision": ranked.average_precision(),
            "brier": sums["brier"][0] / total,
            "log_loss": sums["log_loss"][0] / total,
            "ece": np.abs(sums["bin_gaps"]).sum() / total,
        }
        by_name = {"precision": precision, "recall": recall, "f1": f1}
        # As in scikit-learn, the precision of a class that occurs and is never predicted counts as 0.
        shares = support / total
        metrics |= {f"weighted_{name}": float((np.nan_to_num(v) * shares).sum()) for name, v in by_name.items()}
        for name, values in by_name.items():
            metrics |= {f"{name}[{label}]": value for label, value in zip(self._labels, values, strict=True)}
        return metrics


Criterion: TypeAlias = Literal["macro_f1", "f1", "balanced_accuracy", "accuracy"]


def choose_threshold(y_true: npt.ArrayLike, risk: npt.ArrayLike, *, criterion: Criterion = "macro_f1") -> float:
    """Return the best threshold by a criterion. A step is called wrong if ``risk > threshold``.

    Candidates are all distinct risks and a lower end at which every step is wrong. Among equally good ones the lowest
    is taken. Choose it on other data than you test on, and name that data with every number.

    Parameters
    ----------
    y_true : array-like of shape (n_steps,)
        True (or 1) if the step is wrong: ``y == -1``, not the labels themselves.
    risk : array-like of shape (n_steps,)
        P(step is wrong), or a score on any scale that is higher for worse steps, such as ``-raw_reward``.
    criterion : {"macro_f1", "f1", "balanced_accuracy", "accuracy"}
        What to maximise. ``"macro_f1"`` is the mean F1 of wrong and other steps, ``"f1"`` the F1 of wrong steps.

    Returns
    -------
    float
        One of the risks. If calling everything wrong is best, it is 0.0 (-inf unless all risks are above 0).

    Raises
    ------
    ValueError
        If the criterion is unknown, labels are not 0/1, lengths differ, a risk is NaN, or all or no steps are wrong.

    Examples
    --------
    >>> choose_threshold([False, False, True, True], [0.1, 0.4, 0.35, 0.8])
    0.1
    """
    if criterion not in get_args(Criterion):
        raise ValueError(f"criterion is {criterion!r}, expected one of {', '.join(get_args(Criterion))}")
    is_wrong, risks = check_event(y_true, risk, any_scale=True)
    n_wrong, n_steps = is_wrong.sum(), len(is_wrong)
    if n_wrong in (0, n_steps):
        raise ValueError(f"{int(n_wrong)} of {n_steps} steps are wrong: a threshold needs wrong and other steps")
    distinct, block = np.unique(risks, return_inverse=True)
    candidates = np.append(0.0 if distinct[0] > 0 else -np.inf, distinct)
    # At the lower end all steps are above. Each later candidate moves the steps of its own risk below.
    n_above = n_steps - np.append(0, np.cumsum(np.bincount(block)))
    n_hits = n_wrong - np.append(0, np.cumsum(np.bincount(block, weights=is_wrong)))
    false_alarms = n_above - n_hits
    confusions = np.stack([n_hits, n_wrong - n_hits, false_alarms, n_steps - n_wrong - false_alarms], axis=-1).reshape(
        -1, 2, 2
    )
    scores = _scores(confusions, criterion)
    # Rounding must not decide between equals: the first candidate that is as good as the best.
    return float(candidates[int(np.argmax(scores >= scores.max() - 1e-12))])


def _scores(confusions: FloatArray, criterion: Criterion) -> FloatArray:
    """Return the criterion of each confusion matrix of wrong and other steps, shape (n_candidates, 2, 2)."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    scores: FloatArray
    if criterion == "accuracy":
        scores = hits.sum(axis=-1) / confusions.sum(axis=(-2, -1))
    elif criterion == "balanced_accuracy":
        scores = (hits / confusions.sum(axis=-1)).mean(axis=-1)
    else:
        f1 = f1_scores(confusions)
        scores = f1[:, 0] if criterion == "f1" else f1.mean(axis=-1)
    return scores
