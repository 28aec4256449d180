from . import data, evaluation, features, marking, metrics, models, scoring, uncertainty, utils
from .classifier import PRMClassifier
from .data import Solution, Step, StepDataset, StratifiedProblemKFold, flatten, load_prm800k, problem_groups
from .features import PRMFeaturizer
from .models import TokenPRM
from .scoring import score_solutions

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
    "evaluation",
    "features",
    "flatten",
    "load_prm800k",
    "marking",
    "metrics",
    "models",
    "problem_groups",
    "score_solutions",
    "scoring",
    "uncertainty",
    "utils",
]
