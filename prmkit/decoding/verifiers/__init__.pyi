from ._answers import AnswerVerifier as AnswerVerifier
from ._limited import LimitedVerifier as LimitedVerifier
from ._processes import (
    is_complete_process as is_complete_process,
    is_correct_process as is_correct_process,
    is_valid_process as is_valid_process,
    non_sequiturs as non_sequiturs,
)
from ._unit_tests import UnitTestVerifier as UnitTestVerifier

__all__ = [
    "AnswerVerifier",
    "LimitedVerifier",
    "UnitTestVerifier",
    "is_complete_process",
    "is_correct_process",
    "is_valid_process",
    "non_sequiturs",
]
