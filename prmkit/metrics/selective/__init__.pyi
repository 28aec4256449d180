from ._risk_coverage_display import RiskCoverageDisplay as RiskCoverageDisplay
from ._selective import (
    abstention_floor as abstention_floor,
    augrc as augrc,
    aurc as aurc,
    prr as prr,
    risk_at_coverage as risk_at_coverage,
    risk_coverage_curve as risk_coverage_curve,
)
from ._selective_report import selective_report as selective_report

__all__ = [
    "RiskCoverageDisplay",
    "abstention_floor",
    "augrc",
    "aurc",
    "prr",
    "risk_at_coverage",
    "risk_coverage_curve",
    "selective_report",
]
