from ._calibrated import CalibratedStepClassifier as CalibratedStepClassifier
from ._path_calibrator import PathCalibrator as PathCalibrator

__all__ = ["CalibratedStepClassifier", "PathCalibrator"]
