from ._answers import AnswerVerifier as AnswerVerifier
from ._limited import LimitedVerifier as LimitedVerifier
from ._unit_tests import UnitTestVerifier as UnitTestVerifier

__all__ = ["AnswerVerifier", "LimitedVerifier", "UnitTestVerifier"]
