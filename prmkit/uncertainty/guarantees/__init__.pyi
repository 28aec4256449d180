from ._error_detector import ErrorDetector
from ._first_error_set import FirstErrorSet
from ._prefix_certifier import PrefixCertifier
from ._step_sets import StepPredictionSets
from ._triage import PathTriage

__all__ = ["ErrorDetector", "FirstErrorSet", "PathTriage", "PrefixCertifier", "StepPredictionSets"]
