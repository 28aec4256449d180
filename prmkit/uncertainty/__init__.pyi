from ._bmuq import PRMUncertainty as PRMUncertainty
from ._labelling import LabellingSelection as LabellingSelection, select_for_labelling as select_for_labelling
from ._path_uncertainty import PathUncertainty as PathUncertainty, path_uncertainty as path_uncertainty
from ._sample_uncertainty import SampleUncertainty as SampleUncertainty, sample_uncertainty as sample_uncertainty
from .calibration import CalibratedStepClassifier as CalibratedStepClassifier, PathCalibrator as PathCalibrator
from .displays import (
    CertifiedPrefixDisplay as CertifiedPrefixDisplay,
    CoverageDisplay as CoverageDisplay,
    FirstErrorDisplay as FirstErrorDisplay,
)
from .ensembles import MCDropout as MCDropout, StepEnsemble as StepEnsemble
from .guarantees import (
    CertifiedSelection as CertifiedSelection,
    ErrorDetector as ErrorDetector,
    FirstErrorSet as FirstErrorSet,
    PathTriage as PathTriage,
    PrefixCertifier as PrefixCertifier,
    SelectiveRisk as SelectiveRisk,
    StepPredictionSets as StepPredictionSets,
)
from .shift import LengthShift as LengthShift, MahalanobisShift as MahalanobisShift

__all__ = [
    "CalibratedStepClassifier",
    "CertifiedPrefixDisplay",
    "CertifiedSelection",
    "CoverageDisplay",
    "ErrorDetector",
    "FirstErrorDisplay",
    "FirstErrorSet",
    "LabellingSelection",
    "LengthShift",
    "MCDropout",
    "MahalanobisShift",
    "PRMUncertainty",
    "PathCalibrator",
    "PathTriage",
    "PathUncertainty",
    "PrefixCertifier",
    "SampleUncertainty",
    "SelectiveRisk",
    "StepEnsemble",
    "StepPredictionSets",
    "path_uncertainty",
    "sample_uncertainty",
    "select_for_labelling",
]
