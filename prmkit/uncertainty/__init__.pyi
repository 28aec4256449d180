from ._bmuq import PRMUncertainty, UncertaintyScore
from ._path_uncertainty import PathUncertainty, path_uncertainty
from .calibration import CalibratedStepClassifier, PathCalibrator
from .displays import CertifiedPrefixDisplay, CoverageDisplay, FirstErrorDisplay
from .ensembles import MCDropout, StepEnsemble
from .guarantees import ErrorDetector, FirstErrorSet, PathTriage, PrefixCertifier, StepPredictionSets
from .shift import LengthShift, MahalanobisShift, NeighborShift

__all__ = [
    "CalibratedStepClassifier",
    "CertifiedPrefixDisplay",
    "CoverageDisplay",
    "ErrorDetector",
    "FirstErrorDisplay",
    "FirstErrorSet",
    "LengthShift",
    "MCDropout",
    "MahalanobisShift",
    "NeighborShift",
    "PRMUncertainty",
    "PathCalibrator",
    "PathTriage",
    "PathUncertainty",
    "PrefixCertifier",
    "StepEnsemble",
    "StepPredictionSets",
    "UncertaintyScore",
    "path_uncertainty",
]
