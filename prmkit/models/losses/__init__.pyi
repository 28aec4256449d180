from ._binary import bce_loss, mse_loss, orm_loss
from ._classification import cross_entropy_loss, reward_token_loss, soft_cross_entropy_loss
from ._ranking import ablate_rank_loss, rank_loss, theory_rank_loss
from ._registry import LOSSES, StepLoss, get_loss
from ._targets import binary_labels

__all__ = [
    "LOSSES",
    "StepLoss",
    "ablate_rank_loss",
    "bce_loss",
    "binary_labels",
    "cross_entropy_loss",
    "get_loss",
    "mse_loss",
    "orm_loss",
    "rank_loss",
    "reward_token_loss",
    "soft_cross_entropy_loss",
    "theory_rank_loss",
]
