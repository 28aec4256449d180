from ._featurizer import PRMFeaturizer as PRMFeaturizer
from ._words import StepWords as StepWords
from .agreement import AgreementFeatures as AgreementFeatures
from .encoding.backends.backend import available_backends as available_backends
from .states import LogProbFeatures as LogProbFeatures, TokenStates as TokenStates
from .statistics import StepStatistics as StepStatistics

__all__ = [
    "AgreementFeatures",
    "LogProbFeatures",
    "PRMFeaturizer",
    "StepStatistics",
    "StepWords",
    "TokenStates",
    "available_backends",
]
