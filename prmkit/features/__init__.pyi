from ._featurizer import PRMFeaturizer
from ._words import StepWords
from .encoding import EmbeddingCache
from .sequences import StepSequences
from .statistics import STATISTICS, StepStatistics

__all__ = ["STATISTICS", "EmbeddingCache", "PRMFeaturizer", "StepSequences", "StepStatistics", "StepWords"]
