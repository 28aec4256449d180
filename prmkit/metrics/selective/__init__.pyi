from ._risk_coverage_display import RiskCoverageDisplay as RiskCoverageDisplay
from ._selective import (
    augrc as augrc,
    aurc as aurc,
    eaurc as eaurc,
    prr as prr,
    risk_at_coverage as risk_at_coverage,
    risk_coverage_curve as risk_coverage_curve,
)
from ._selective_report import SelectiveReport as SelectiveReport, selective_report as selective_report

__all__ = [
    "RiskCoverageDisplay",
    "SelectiveReport",
    "augrc",
    "aurc",
    "eaurc",
    "prr",
    "risk_at_coverage",
    "risk_coverage_curve",
    "selective_report",
]
