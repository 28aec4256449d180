from .cache import EmbeddingCache as EmbeddingCache

__all__ = ["EmbeddingCache"]
