from . import (
    data as data,
    decoding as decoding,
    evaluation as evaluation,
    features as features,
    marking as marking,
    metrics as metrics,
    models as models,
    saving as saving,
    scoring as scoring,
    uncertainty as uncertainty,
    utils as utils,
)
from .classifier import PRMClassifier as PRMClassifier
from .data import (
    Solution as Solution,
    Step as Step,
    StepDataset as StepDataset,
    StratifiedProblemKFold as StratifiedProblemKFold,
    flatten as flatten,
    load_prm800k as load_prm800k,
    problem_groups as problem_groups,
)
from .features import PRMFeaturizer as PRMFeaturizer
from .models import TokenPRM as TokenPRM
from .saving import load_model as load_model
from .scoring import score_solutions as score_solutions

__version__: str

__all__ = [
    "PRMClassifier",
    "PRMFeaturizer",
    "Solution",
    "Step",
    "StepDataset",
    "StratifiedProblemKFold",
    "TokenPRM",
    "data",
    "decoding",
    "evaluation",
    "features",
    "flatten",
    "load_model",
    "load_prm800k",
    "marking",
    "metrics",
    "models",
    "problem_groups",
    "saving",
    "score_solutions",
    "scoring",
    "uncertainty",
    "utils",
]
