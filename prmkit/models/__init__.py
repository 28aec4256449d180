"""Steps to probabilities: the default model, torch heads on features, and fine-tuned language models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
