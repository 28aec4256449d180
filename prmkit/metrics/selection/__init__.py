"""Which of several sampled solutions to choose: by a verifier, by the vote of their answers, or by both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
