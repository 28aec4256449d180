"""Numbers and pictures that say how good step probabilities are: functions of arrays, no model is applied here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
