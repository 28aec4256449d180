"""Verifiers: what tells whether a solution is right, and the words for it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
