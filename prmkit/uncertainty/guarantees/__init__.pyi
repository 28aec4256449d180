from ._certified_selection import CertifiedSelection as CertifiedSelection
from ._error_detector import ErrorDetector as ErrorDetector
from ._first_error_set import FirstErrorSet as FirstErrorSet
from ._prefix_certifier import PrefixCertifier as PrefixCertifier
from ._selective_risk import SelectiveRisk as SelectiveRisk
from ._step_sets import StepPredictionSets as StepPredictionSets
from ._triage import PathTriage as PathTriage

__all__ = [
    "CertifiedSelection",
    "ErrorDetector",
    "FirstErrorSet",
    "PathTriage",
    "PrefixCertifier",
    "SelectiveRisk",
    "StepPredictionSets",
]
