from ._risk_coverage_display import RiskCoverageDisplay
from ._selective import augrc, aurc, eaurc, prr, risk_at_coverage, risk_coverage_curve
from ._selective_report import SelectiveReport, selective_report

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
