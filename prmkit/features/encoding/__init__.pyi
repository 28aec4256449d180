from .cache import EmbeddingCache

__all__ = ["EmbeddingCache"]
