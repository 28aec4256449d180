"""Solutions as marked tokens: what is written around steps, how it is tokenised, where a score is read."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
