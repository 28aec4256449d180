"""Token-level models: one pass per solution without look-ahead, fine-tuned here or published elsewhere."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
