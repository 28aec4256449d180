from .equivalence import answer_keys as answer_keys, same_answer as same_answer
from .extraction import extract_answer as extract_answer

__all__ = ["answer_keys", "extract_answer", "same_answer"]
