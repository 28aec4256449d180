from ._report import StepReport as StepReport, step_report as step_report
from ._report_display import StepReportDisplay as StepReportDisplay
from .threshold import choose_threshold as choose_threshold

__all__ = ["StepReport", "StepReportDisplay", "choose_threshold", "step_report"]
