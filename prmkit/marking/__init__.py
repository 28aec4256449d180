"""Solutions as marked tokens: how their text is written, how it is tokenised, and where each step is scored."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
