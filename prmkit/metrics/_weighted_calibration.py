"""Every calibration metric as a function of how often each problem counts, so that a bootstrap never bins again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prmkit.metrics._calibration import bin_numbers
from prmkit.metrics._step_metrics import WeightedStepMetrics


class WeightedCalibration:
    """The calibration metrics of one system: rows are binned, and summed per problem, once.

    Classes are numbered from worst to best, so that number 0 is the negative one. The bins are those of all rows, in
    resamples too.

    Parameters
    ----------
    y_true : ndarray of int, shape (n_steps,)
    proba : ndarray of shape (n_steps, n_classes)
    problems : ndarray of int, shape (n_steps,)
        0 to n_problems - 1.
    classes : sequence, length n_classes
    n_bins : int
    strategy : {"uniform", "quantile"}
    """

    def __init__(
        self,
        y_true: np.ndarray,
        proba: np.ndarray,
        problems: np.ndarray,
        classes: Sequence[Any],
        n_bins: int,
        strategy: str,
    ) -> None:
        self._n_bins = n_bins
        self._rest = WeightedStepMetrics(y_true, proba, np.zeros_like(y_true), problems, classes)
        n_problems = int(problems.max()) + 1

        def by_problem(kind: np.ndarray, n_kinds: int, values: np.ndarray | None = None) -> np.ndarray:
            flat = np.bincount(problems * n_kinds + kind, weights=values, minlength=n_problems * n_kinds)
            return flat.reshape(n_problems, n_kinds)

        risk, event = proba[:, 0], (y_true == 0).astype(np.float64)
        bins = bin_numbers(risk, n_bins, strategy)
        sums = [by_problem(bins, n_bins, values) for values in (None, risk, event)]
        for k in range(1, len(classes)):
            gap = proba[:, k] - (y_true == k)
            sums.append(by_problem(bin_numbers(proba[:, k], n_bins, strategy), n_bins, gap))
        sums.append(by_problem(np.zeros_like(y_true), 1, np.square(risk - event)))
        self._sums = np.ascontiguousarray(np.hstack(sums).T)  # a row per sum

    def __call__(self, counts: np.ndarray) -> dict[str, float]:
        """Return every metric, NaN where undefined, when problem i counts ``counts[i]`` times."""
        rest = self._rest(counts)
        sums = (self._sums * counts).sum(axis=1)
        n_in_bin, risk, events, *other_gaps = sums[:-1].reshape(-1, self._n_bins)
        total = n_in_bin.sum()
        full = n_in_bin > 0
        n_in_bin, risk, events = n_in_bin[full], risk[full], events[full]
        ece = [np.abs(gaps).sum() / total for gaps in (risk - events, *other_gaps)]
        mean_risk, share, overall = risk / n_in_bin, events / n_in_bin, events.sum() / total
        return {
            "ece": ece[0],
            "ece_classwise": float(np.mean(ece)),
            "mce": np.abs(mean_risk - share).max(),
            "log_loss": rest["log_loss"],
            "brier": rest["brier"],
            "brier_negative": sums[-1] / total,
            "brier_reliability": (n_in_bin * np.square(mean_risk - share)).sum() / total,
            "brier_resolution": (n_in_bin * np.square(share - overall)).sum() / total,
            "brier_uncertainty": overall * (1 - overall),
            "auroc": rest["auroc"],
        }
