from .first_error import (
    FirstErrorThreshold as FirstErrorThreshold,
    choose_first_error_threshold as choose_first_error_threshold,
    first_error_f1_score as first_error_f1_score,
    first_error_from_risks as first_error_from_risks,
    first_error_position_accuracy as first_error_position_accuracy,
)
from .step_benchmarks import (
    prm_score as prm_score,
    reasoneval_scores as reasoneval_scores,
)

__all__ = [
    "FirstErrorThreshold",
    "choose_first_error_threshold",
    "first_error_f1_score",
    "first_error_from_risks",
    "first_error_position_accuracy",
    "prm_score",
    "reasoneval_scores",
]
