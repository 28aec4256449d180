from ._featurizer import PRMFeaturizer as PRMFeaturizer
from ._words import StepWords as StepWords
from .statistics import StepStatistics as StepStatistics

__all__ = ["PRMFeaturizer", "StepStatistics", "StepWords"]
