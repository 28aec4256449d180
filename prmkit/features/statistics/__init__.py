"""Numbers that describe the text of a step, and the reader of equations behind some of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
