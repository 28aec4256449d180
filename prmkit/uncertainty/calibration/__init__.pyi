from ._calibrated import CalibratedStepClassifier
from ._path_calibrator import PathCalibrator

__all__ = ["CalibratedStepClassifier", "PathCalibrator"]
