"""The only room that sees text become numbers: embeddings, statistics, words, tokens, and the cache."""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.features._featurizer": ("PRMFeaturizer",),
        "prmkit.features._statistics": ("StepStatistics",),
        "prmkit.features._statistic_names": ("STATISTICS",),
        "prmkit.features._words": ("StepWords",),
        "prmkit.features._sequences": ("StepSequences",),
        "prmkit.features.marking._records": ("TokenRecord",),
        "prmkit.features.marking._scheme": ("MarkingScheme",),
        "prmkit.features._cache": ("EmbeddingCache",),
    },
)
