"""Searches: candidates that a generator gives are scored step by step, and the best ones go on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
