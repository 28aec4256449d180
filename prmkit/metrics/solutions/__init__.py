"""From the steps of a solution to one number, or to a distribution over its first error."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
