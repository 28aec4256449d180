"""Labels of steps by rollouts: how often a step still leads to the right answer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
