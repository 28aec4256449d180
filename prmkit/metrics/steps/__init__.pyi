from ._report import StepReport as StepReport, StepReportDisplay as StepReportDisplay, step_report as step_report
from .step_metrics import choose_threshold as choose_threshold

__all__ = ["StepReport", "StepReportDisplay", "choose_threshold", "step_report"]
