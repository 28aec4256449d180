"""PRM800K: where its records are found, what its rules keep, and how labels of one step are merged."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
