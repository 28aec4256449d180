from ._calibration_report import (
    CalibrationReport as CalibrationReport,
    calibration_report as calibration_report,
)
from ._reliability_display import ReliabilityDisplay as ReliabilityDisplay
from .calibration import (
    expected_calibration_error as expected_calibration_error,
    maximum_calibration_error as maximum_calibration_error,
    reliability_curve as reliability_curve,
)

__all__ = [
    "CalibrationReport",
    "ReliabilityDisplay",
    "calibration_report",
    "expected_calibration_error",
    "maximum_calibration_error",
    "reliability_curve",
]
