from ._report import StepReport, step_report
from ._report_display import StepReportDisplay
from .threshold import choose_threshold

__all__ = ["StepReport", "StepReportDisplay", "choose_threshold", "step_report"]
