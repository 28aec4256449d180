"""Every step metric as a function of how often each problem counts, so that a bootstrap never sorts again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prmkit.metrics.calibration.calibration import bin_numbers

HEADLINES = (
    "accuracy", "macro_f1", "balanced_accuracy", "auroc", "average_precision", "brier", "log_loss", "ece",
)  # fmt: skip
N_BINS = 15
_EPS = 1e-15  # the floor under a probability before its logarithm


class WeightedStepMetrics:
    """The metrics of one model: sums per problem, and the order of risks, are computed once.

    Classes are numbered from worst to best, so that number 0 is the negative one. Means over classes
    (macro-F1, balanced accuracy) are over those that occur in ``y_true``; a resample that lacks one of them
    has no such mean.

    Parameters
    ----------
    y_true : ndarray of int, shape (n_steps,)
    proba : ndarray of shape (n_steps, n_classes)
    decisions : ndarray of int, shape (n_steps,)
    problems : ndarray of int, shape (n_steps,)
        0 to n_problems - 1.
    labels : sequence, length n_classes
        What the classes are called in the names of the metrics.
    """

    def __init__(
        self,
        y_true: np.ndarray,
        proba: np.ndarray,
        decisions: np.ndarray,
        problems: np.ndarray,
        labels: Sequence[Any],
    ) -> None:
        n_problems, n_classes = int(problems.max()) + 1, len(labels)
        event, risk = y_true == 0, proba[:, 0]
        self._labels = labels
        self._occurs = np.bincount(y_true, minlength=n_classes) > 0

        def by_problem(kind: np.ndarray, n_kinds: int, values: np.ndarray | None = None) -> np.ndarray:
            sums = np.bincount(problems * n_kinds + kind, weights=values, minlength=n_problems * n_kinds)
            return sums.reshape(n_problems, n_kinds).astype(np.float64)

        one_kind = np.zeros(len(y_true), dtype=np.int64)
        squared = np.square(proba - np.eye(n_classes)[y_true]).sum(axis=1)
        surprise = -np.log(np.maximum(proba[np.arange(len(y_true)), y_true], _EPS))
        sums = np.hstack(
            [
                by_problem(y_true * n_classes + decisions, n_classes**2),
                by_problem(bin_numbers(risk, N_BINS), N_BINS, risk - event),
                by_problem(one_kind, 1, squared),
                by_problem(one_kind, 1, surprise),
            ]
        )
        self._sums = np.ascontiguousarray(sums.T)  # a row per sum
        self._prepare_ranking(event, risk, problems)

    def _prepare_ranking(self, event: np.ndarray, risk: np.ndarray, problems: np.ndarray) -> None:
        """Sort rows by falling risk; for each event remember where its block of ties starts and ends."""
        order = np.argsort(-risk, kind="stable")
        risk = risk[order]
        starts = np.flatnonzero(np.concatenate([[True], risk[1:] != risk[:-1]]))
        ends = np.append(starts[1:], len(risk))
        self._problem_of_row = problems[order]
        self._event_rows = np.flatnonzero(event[order])
        block = np.searchsorted(starts, self._event_rows, side="right") - 1
        self._row_span = starts[block], ends[block]
        self._event_span = tuple(np.searchsorted(self._event_rows, edge) for edge in self._row_span)

    def __call__(self, counts: np.ndarray) -> dict[str, float]:
        """Return every metric, NaN where undefined, when problem i counts ``counts[i]`` times."""
        n_classes = len(self._labels)
        # No matrix products here: on a busy machine the threads that BLAS starts cost ten times the work.
        sums = (self._sums * counts).sum(axis=1)
        confusion = sums[: n_classes**2].reshape(n_classes, n_classes)
        gaps, (squared, surprise) = sums[n_classes**2 : -2], sums[-2:]
        right, support, decided = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
        total = support.sum()
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is the NaN we want
            precision, recall, f1 = right / decided, right / support, 2 * right / (decided + support)
        whole = bool(support[self._occurs].all())
        auroc, average_precision = self._ranking(counts)
        metrics = {
            "accuracy": right.sum() / total,
            "macro_f1": f1[self._occurs].mean() if whole else np.nan,
            "balanced_accuracy": recall[self._occurs].mean() if whole else np.nan,
            "auroc": auroc,
            "average_precision": average_precision,
            "brier": squared / total,
            "log_loss": surprise / total,
            "ece": np.abs(gaps).sum() / total,
        }
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            metrics |= {f"{name}[{label}]": value for label, value in zip(self._labels, values, strict=True)}
        return metrics

    def _ranking(self, counts: np.ndarray) -> tuple[float, float]:
        """AUROC (ties count 1/2) and average precision of the negative class."""
        weight = counts[self._problem_of_row]
        event_weight = weight[self._event_rows]
        seen = np.concatenate([[0.0], np.cumsum(weight)])
        hits = np.concatenate([[0.0], np.cumsum(event_weight)])
        n_events, n_others = hits[-1], seen[-1] - hits[-1]
        if not n_events:
            return np.nan, np.nan
        (row_start, row_end), (hit_start, hit_end) = self._row_span, self._event_span
        hits_to_end, seen_to_end = hits[hit_end], seen[row_end]
        # An event that is not drawn has weight 0; its block may then be empty, hence the maximum.
        average_precision = (event_weight * hits_to_end / np.maximum(seen_to_end, 1.0)).sum() / n_events
        if not n_others:
            return np.nan, average_precision
        others_above = (seen[row_start] - hits[hit_start] + seen_to_end - hits_to_end) / 2
        return 1.0 - (event_weight * others_above).sum() / (n_events * n_others), average_precision
