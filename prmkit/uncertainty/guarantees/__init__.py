"""Guarantees with the problem as unit: what may be kept, flagged or accepted at a stated risk."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
