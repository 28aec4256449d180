from .equivalence import AnswerComparison, answer_keys, same_answer
from .extraction import ExtractedAnswer, extract_answer, normal_answer

__all__ = [
    "AnswerComparison",
    "ExtractedAnswer",
    "answer_keys",
    "extract_answer",
    "normal_answer",
    "same_answer",
]
