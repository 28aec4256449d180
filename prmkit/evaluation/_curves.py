"""Pictures of step probabilities: are they honest, and do mistakes hide where the model is unsure?"""

from __future__ import annotations

import numpy as np

from prmkit.evaluation._context import Context
from prmkit.evaluation._result import Curve, Series
from prmkit.evaluation._thresholds import HALF
from prmkit.metrics import reliability_curve, risk_coverage_curve

_MOST_POINTS = 100
_FEWEST_STEPS = 10  # a bin of fewer says nothing


def step_curves(context: Context) -> list[Curve]:
    """Return the reliability and the risk-coverage curves of a benchmark's labelled steps."""
    benchmark = context.benchmark
    kept = ~np.isnan(benchmark.step_labels)
    if not kept.any():
        return []
    wrong = benchmark.step_labels[kept] < 0
    reliability, coverage = [], []
    for system in context.systems:
        risks = system.scores.risks[kept]
        if not system.baseline:
            mean_risk, share, counts = reliability_curve(wrong, risks)
            enough = counts >= min(_FEWEST_STEPS, counts.max())
            reliability.append(Series(system.name, mean_risk[enough], share[enough]))
        loss = (risks > HALF) != wrong
        curve = risk_coverage_curve(loss, -np.abs(risks - HALF))
        points = np.unique(np.linspace(0, len(loss) - 1, _MOST_POINTS).round().astype(int))
        coverage.append(
            Series(system.name, curve.coverages[points], curve.risks[points], baseline=system.baseline)
        )
    name = benchmark.name
    return [
        Curve(
            f"Reliability, {name}", name, "reliability", "mean P(wrong)", "share of wrong steps", reliability
        ),
        Curve(
            f"Risk and coverage, {name}",
            name,
            "risk_coverage",
            "share of steps decided, surest first",
            "share of wrong verdicts at 0.5",
            coverage,
        ),
    ]
