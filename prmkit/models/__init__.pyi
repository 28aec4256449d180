from . import losses
from .heads import StepBlend, StepMLP, StepTransformer
from .losses import (
    LOSSES,
    StepLoss,
    ablate_rank_loss,
    bce_loss,
    binary_labels,
    cross_entropy_loss,
    get_loss,
    mse_loss,
    orm_loss,
    rank_loss,
    reward_token_loss,
    soft_cross_entropy_loss,
    theory_rank_loss,
)
from .tokens import TokenPRM
from .trainer import PRMTrainer, PRMTrainingConfig

__all__ = [
    "LOSSES",
    "PRMTrainer",
    "PRMTrainingConfig",
    "StepBlend",
    "StepLoss",
    "StepMLP",
    "StepTransformer",
    "TokenPRM",
    "ablate_rank_loss",
    "bce_loss",
    "binary_labels",
    "cross_entropy_loss",
    "get_loss",
    "losses",
    "mse_loss",
    "orm_loss",
    "rank_loss",
    "reward_token_loss",
    "soft_cross_entropy_loss",
    "theory_rank_loss",
]
