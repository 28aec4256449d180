from ._calibration_report import CalibrationReport, calibration_report
from ._reliability_display import ReliabilityDisplay
from .calibration import expected_calibration_error, maximum_calibration_error, reliability_curve

__all__ = [
    "CalibrationReport",
    "ReliabilityDisplay",
    "calibration_report",
    "expected_calibration_error",
    "maximum_calibration_error",
    "reliability_curve",
]
