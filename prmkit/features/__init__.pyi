from ._featurizer import PRMFeaturizer as PRMFeaturizer
from ._words import StepWords as StepWords
from .encoding.backends.backend import available_backends as available_backends
from .statistics import StepStatistics as StepStatistics

__all__ = ["PRMFeaturizer", "StepStatistics", "StepWords", "available_backends"]
