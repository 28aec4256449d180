from ._featurizer import PRMFeaturizer as PRMFeaturizer
from ._words import StepWords as StepWords
from .encoding import EmbeddingCache as EmbeddingCache
from .sequences import StepSequences as StepSequences
from .statistics import STATISTICS as STATISTICS, StepStatistics as StepStatistics

__all__ = ["STATISTICS", "EmbeddingCache", "PRMFeaturizer", "StepSequences", "StepStatistics", "StepWords"]
