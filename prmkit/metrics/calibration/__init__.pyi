from ._calibration_report import calibration_report as calibration_report
from ._reliability_display import ReliabilityDisplay as ReliabilityDisplay
from .calibration import (
    expected_calibration_error as expected_calibration_error,
    reliability_curve as reliability_curve,
)

__all__ = ["ReliabilityDisplay", "calibration_report", "expected_calibration_error", "reliability_curve"]
