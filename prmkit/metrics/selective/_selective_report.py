"""The table for selective prediction: an uncertainty beside the trivial ones that it has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prmkit.metrics._report_table import html_table, interval_note, metrics_frame, text_table
from prmkit.metrics.bootstrap import Interval, bootstrap_counts, problem_numbers
from prmkit.metrics.selective._selective import (
    HarmonicNumbers,
    RankedDecisions,
    all_alike,
    areas,
    check_decisions,
    check_share,
    kept_at,
)

_SHARES = (1.0, 0.5)  # of decisions that may be rejected, for the PRR
_AREAS = ("aurc", "eaurc", "augrc", *(f"prr@{share:g}" for share in _SHARES))
_SHOWN_NAMES = {
    "aurc": "AURC",
    "eaurc": "E-AURC",
    "augrc": "AUGRC",
    "prr@1": "PRR",
    "prr@0.5": "PRR, up to 50% rejected",
    "auroc": "AUROC of the target",
}


@dataclass(frozen=True, repr=False)
class SelectiveReport:
    """Selective prediction by several uncertainties; made by :func:`selective_report`.

    Parameters
    ----------
    n_decisions : int
    n_problems : int or None
        None: no groups were given, so there are no intervals.
    target : str
        What a loss of 1 means.
    mean_loss : Interval
        What is left without any rejection.
    metrics : dict of str to dict of str to Interval
        ``metrics["model"]["aurc"]``, and ``eaurc``, ``augrc``, ``prr@1``, ``prr@0.5``, ``auroc``, ``risk@0.8``, …
    differences : dict of str to dict of str to Interval
        ``differences["constant"]["prr@1"]`` is the first uncertainty minus this one, resampled in pairs.
    n_resamples : int
    confidence_level : float
    """

    n_decisions: int
    n_problems: int | None
    target: str
    mean_loss: Interval
    metrics: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Interval]]
    n_resamples: int
    confidence_level: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON."""
        return asdict(self)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame: one row per metric, columns (uncertainty, value), (uncertainty, low), …"""
        return metrics_frame(self.metrics)

    def __str__(self) -> str:
        first, names = next(iter(self.metrics)), self._shown_names()
        differences = {f"{first} - {name}": metrics for name, metrics in self.differences.items()}
        parts = [
            self._head(),
            text_table(self.metrics, names),
            text_table(differences, names),
            self._notes(),
        ]
        return "\n\n".join("\n".join(lines) for lines in parts)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {metrics['aurc']}" for name, metrics in self.metrics.items())
        return f"<SelectiveReport: {self.n_decisions} decisions, AURC: {shown}>"

    def _repr_html_(self) -> str:
        return html_table(self.metrics, self._shown_names(), self._head(), self._notes())

    def _shown_names(self) -> dict[str, str]:
        return {metric: _shown_name(metric) for metric in next(iter(self.metrics.values()))}

    def _head(self) -> list[str]:
        of_problems = f" of {self.n_problems:,} problems" if self.n_problems is not None else ""
        return [
            f"{self.n_decisions:,} decisions{of_problems}; target: {self.target}, mean loss {self.mean_loss}",
            "uncertainty: higher is rejected first",
        ]

    def _notes(self) -> list[str]:
        return [
            "lower is better: AURC, E-AURC, AUGRC, risk; higher is better: PRR (1 perfect, 0 random), AUROC",
            *interval_note(self.n_problems, self.n_resamples, self.confidence_level, "groups"),
        ]


def selective_report(
    loss: Any,
    uncertainties: Mapping[str, Any],
    groups: Any = None,
    *,
    coverages: Sequence[float] = (0.5, 0.8, 0.9),
    target: str = "decision is wrong",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.Generator | None = 0,
) -> SelectiveReport:
    """Report how well uncertainties say which decisions to reject, with problem-level intervals.

    Parameters
    ----------
    loss : array-like of shape (n_decisions,)
        How wrong each decision is, in [0, 1]; ``verdict != truth`` for right and wrong.
    uncertainties : dict of str to array-like of shape (n_decisions,)
        **Higher is rejected first.** The model's own comes first, then trivial ones to compare with (length, position);
        ``"constant"``, which rejects at random, is always added.
    groups : array-like of shape (n_decisions,), optional
        The problem of each decision. None: no intervals.
    coverages : sequence of float, default=(0.5, 0.8, 0.9)
        Shares kept, at which the mean loss is reported.
    target : str, default="decision is wrong"
        What a loss of 1 means, for the reader.
    n_resamples : int, default=1000
    confidence_level : float, default=0.95
    random_state : int, Generator or None, default=0

    Returns
    -------
    SelectiveReport
        ``auroc`` (of uncertainty for a loss of 1) is None unless every loss is 0 or 1; where all losses are equal, only
        the risks at coverages are defined.

    Raises
    ------
    TypeError, ValueError
        As in :func:`aurc` (with the name of the uncertainty), for no uncertainty, other lengths, or numbers out of
        their range.

    Examples
    --------
    >>> loss, entropy, n_steps = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.6, 0.3, 0.5, 0.7], [2, 5, 4, 3, 3, 6]
    >>> print(selective_report(loss, {"entropy": entropy, "length": n_steps}, coverages=[0.5]))
    6 decisions; target: decision is wrong, mean loss 0.500
    uncertainty: higher is rejected first
    <BLANKLINE>
                             entropy  length  constant
    AURC                     0.192    0.331   0.500
    E-AURC                   0.000    0.139   0.308
    AUGRC                    0.125    0.194   0.250
    PRR                      1.000    0.550   0.000
    PRR, up to 50% rejected  1.000    0.286   0.000
    AUROC of the target      1.000    0.722   0.500
    risk at 50% coverage     0.000    0.333   0.500
    <BLANKLINE>
                             entropy - length  entropy - constant
    AURC                     -0.139            -0.308
    E-AURC                   -0.139            -0.308
    AUGRC                    -0.069            -0.125
    PRR                      0.450             1.000
    PRR, up to 50% rejected  0.714             1.000
    AUROC of the target      0.278             0.500
    risk at 50% coverage     -0.333            -0.500
    <BLANKLINE>
    lower is better: AURC, E-AURC, AUGRC, risk; higher is better: PRR (1 perfect, 0 random), AUROC
    no intervals: pass groups, so that problems can be resampled
    """
    if not isinstance(uncertainties, Mapping):
        raise TypeError(
            f'uncertainties is {type(uncertainties).__name__}, expected names and arrays: {{"model": entropy}}'
        )
    if not uncertainties or "constant" in uncertainties:
        raise ValueError('uncertainties is empty or holds "constant", which is added by itself')
    for coverage in coverages:
        check_share(coverage, "a coverage")
    checked, losses = {}, np.empty(0)
    for name, uncertainty in {**uncertainties, "constant": np.zeros(np.shape(loss))}.items():
        try:
            losses, values, _ = check_decisions(loss, uncertainty)
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from None
        checked[name] = values
    problems, n_problems = problem_numbers(np.arange(len(losses)) if groups is None else groups)
    if len(problems) != len(losses):
        raise ValueError(f"groups has {len(problems)} rows and loss {len(losses)}, expected the same")
    table = _Table(losses, checked, problems, coverages)
    bootstrap = bootstrap_counts(
        table.metrics,
        n_problems,
        0 if groups is None else n_resamples,
        random_state,
        confidence_level,
    )
    first, *others = checked
    shown = [key.removeprefix(f"{first}/") for key in bootstrap.estimates if key.startswith(f"{first}/")]
    return SelectiveReport(
        n_decisions=len(losses),
        n_problems=None if groups is None else n_problems,
        target=target,
        mean_loss=bootstrap.interval("mean_loss"),
        metrics={
            name: {metric: bootstrap.interval(f"{name}/{metric}") for metric in shown} for name in checked
        },
        differences={
            name: {metric: bootstrap.difference(f"{first}/{metric}", f"{name}/{metric}") for metric in shown}
            for name in others
        },
        n_resamples=n_resamples,
        confidence_level=confidence_level,
    )


class _Table:
    """All numbers as a function of how often each problem counts; rows are sorted once for all resamples."""

    def __init__(
        self,
        loss: np.ndarray,
        uncertainties: Mapping[str, np.ndarray],
        problems: np.ndarray,
        coverages: Sequence[float],
    ) -> None:
        self.right_or_wrong = bool(((loss == 0) | (loss == 1)).all())
        self.ranked = {name: RankedDecisions(loss, u, problems) for name, u in uncertainties.items()}
        self.oracle = RankedDecisions(loss, loss, problems)
        self.loss, self.problems, self.coverages = loss, problems, coverages
        self.harmonic = HarmonicNumbers()

    def metrics(self, counts: np.ndarray) -> dict[str, float | None]:
        """Return ``name/metric`` of all uncertainties."""
        counts = counts.astype(np.int64)
        oracle = self.oracle.weigh(counts, self.harmonic)
        values: dict[str, float | None] = {"mean_loss": oracle.total / oracle.n}
        alike = self._all_alike(counts, oracle.total, oracle.n)
        for name, decisions in self.ranked.items():
            ranked = decisions.weigh(counts, self.harmonic)
            metrics: dict[str, float | None] = dict.fromkeys(_AREAS)
            if not alike:
                metrics = areas(ranked, oracle, _SHARES)
            metrics["auroc"] = ranked.auroc() if self.right_or_wrong else None
            for coverage in self.coverages:
                metrics[f"risk@{coverage:g}"] = ranked.risk(kept_at(coverage, ranked.n))
            values |= {f"{name}/{metric}": value for metric, value in metrics.items()}
        return values

    def _all_alike(self, counts: np.ndarray, total: float, n: int) -> bool:
        if self.right_or_wrong:
            return total in (0, n)
        drawn = self.loss[counts[self.problems] > 0]
        return all_alike(drawn.min(), drawn.max())


def _shown_name(metric: str) -> str:
    if metric.startswith("risk@"):
        return f"risk at {100 * float(metric[5:]):g}% coverage"
    return _SHOWN_NAMES[metric]
