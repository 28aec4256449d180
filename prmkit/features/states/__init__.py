"""What a causal language model holds while it reads or writes a step: states and log-probabilities of tokens."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
