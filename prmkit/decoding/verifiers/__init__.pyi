from ._answers import AnswerVerifier as AnswerVerifier

__all__ = ["AnswerVerifier"]
