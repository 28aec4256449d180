from ._mc_dropout import MCDropout
from ._step_ensemble import StepEnsemble

__all__ = ["MCDropout", "StepEnsemble"]
