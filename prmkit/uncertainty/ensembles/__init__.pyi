from ._mc_dropout import MCDropout as MCDropout
from ._step_ensemble import StepEnsemble as StepEnsemble

__all__ = ["MCDropout", "StepEnsemble"]
