"""The only room that sees text become numbers: embeddings, statistics, words, tokens, and the cache."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
