from .first_error import (
    first_error_f1_score as first_error_f1_score,
    first_error_from_scores as first_error_from_scores,
    first_error_position_accuracy as first_error_position_accuracy,
    mr_score_parts as mr_score_parts,
)
from .first_error_threshold import (
    FirstErrorThreshold as FirstErrorThreshold,
    choose_first_error_threshold as choose_first_error_threshold,
)
from .prmbench import prm_score as prm_score, prm_score_by_class as prm_score_by_class
from .reasoneval import (
    block_minimum as block_minimum,
    reasoneval_judge_scores as reasoneval_judge_scores,
    reasoneval_scores as reasoneval_scores,
)

__all__ = [
    "FirstErrorThreshold",
    "block_minimum",
    "choose_first_error_threshold",
    "first_error_f1_score",
    "first_error_from_scores",
    "first_error_position_accuracy",
    "mr_score_parts",
    "prm_score",
    "prm_score_by_class",
    "reasoneval_judge_scores",
    "reasoneval_scores",
]
