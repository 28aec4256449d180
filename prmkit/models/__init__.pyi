from . import losses as losses
from .heads import StepBlend as StepBlend, StepMLP as StepMLP, StepTransformer as StepTransformer
from .losses import (
    StepLoss as StepLoss,
    ablate_rank_loss as ablate_rank_loss,
    bce_loss as bce_loss,
    cross_entropy_loss as cross_entropy_loss,
    get_loss as get_loss,
    mse_loss as mse_loss,
    orm_loss as orm_loss,
    rank_loss as rank_loss,
    register_loss as register_loss,
    reward_token_loss as reward_token_loss,
    soft_cross_entropy_loss as soft_cross_entropy_loss,
    theory_rank_loss as theory_rank_loss,
)
from .tokens import TokenPRM as TokenPRM
from .trainer import PRMTrainer as PRMTrainer, PRMTrainingConfig as PRMTrainingConfig

__all__ = [
    "PRMTrainer",
    "PRMTrainingConfig",
    "StepBlend",
    "StepLoss",
    "StepMLP",
    "StepTransformer",
    "TokenPRM",
    "ablate_rank_loss",
    "bce_loss",
    "cross_entropy_loss",
    "get_loss",
    "losses",
    "mse_loss",
    "orm_loss",
    "rank_loss",
    "register_loss",
    "reward_token_loss",
    "soft_cross_entropy_loss",
    "theory_rank_loss",
]
