from ._binary import bce_loss as bce_loss, mse_loss as mse_loss, orm_loss as orm_loss
from ._classification import (
    cross_entropy_loss as cross_entropy_loss,
    reward_token_loss as reward_token_loss,
    soft_cross_entropy_loss as soft_cross_entropy_loss,
)
from ._ranking import (
    ablate_rank_loss as ablate_rank_loss,
    rank_loss as rank_loss,
    theory_rank_loss as theory_rank_loss,
)
from ._registry import LOSSES as LOSSES, StepLoss as StepLoss, get_loss as get_loss
from ._targets import binary_labels as binary_labels

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
