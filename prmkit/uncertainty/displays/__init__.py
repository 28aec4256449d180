"""Pictures of guarantees and of single paths, in the manner of scikit-learn's displays."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
