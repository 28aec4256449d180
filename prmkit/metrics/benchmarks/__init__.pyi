from .first_error import (
    choose_first_error_threshold as choose_first_error_threshold,
    first_error_f1_score as first_error_f1_score,
    first_error_from_risks as first_error_from_risks,
)
from .step_benchmarks import prm_score as prm_score, reasoneval_scores as reasoneval_scores

__all__ = [
    "choose_first_error_threshold",
    "first_error_f1_score",
    "first_error_from_risks",
    "prm_score",
    "reasoneval_scores",
]
