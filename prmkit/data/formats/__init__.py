"""Every format in which step labels are published: one file per format, one way of reading them all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
