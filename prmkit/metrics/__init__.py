"""Numbers and pictures that say how good step probabilities are: pure functions, no model in sight."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
