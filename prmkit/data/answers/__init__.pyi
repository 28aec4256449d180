from .equivalence import (
    AnswerComparison as AnswerComparison,
    answer_keys as answer_keys,
    same_answer as same_answer,
)
from .extraction import (
    ExtractedAnswer as ExtractedAnswer,
    extract_answer as extract_answer,
    normal_answer as normal_answer,
)

__all__ = [
    "AnswerComparison",
    "ExtractedAnswer",
    "answer_keys",
    "extract_answer",
    "normal_answer",
    "same_answer",
]
