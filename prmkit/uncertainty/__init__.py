"""Uncertainty of reasoning paths: calibrated probabilities, guarantees, and what to do with them.

From a fitted classifier onwards, on problems that it has not seen: :class:`CalibratedStepClassifier` mends its
probabilities, :class:`StepEnsemble` and :class:`MCDropout` say where models disagree, :func:`path_uncertainty` sums up
a path, :class:`PrefixCertifier` and its kin give guarantees, :class:`PathTriage` decides.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
