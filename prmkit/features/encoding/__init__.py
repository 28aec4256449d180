"""Texts to embeddings: the encoder, the models it loads, and the cache on disk."""
