from .first_error import (
    first_error_f1_score,
    first_error_from_scores,
    first_error_position_accuracy,
    mr_score_parts,
)
from .first_error_threshold import FirstErrorThreshold, choose_first_error_threshold
from .prmbench import prm_score, prm_score_by_class
from .reasoneval import block_minimum, reasoneval_judge_scores, reasoneval_scores

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
