from ._pointwise import (
    bce_loss as bce_loss,
    cross_entropy_loss as cross_entropy_loss,
    mse_loss as mse_loss,
    orm_loss as orm_loss,
    reward_token_loss as reward_token_loss,
    soft_cross_entropy_loss as soft_cross_entropy_loss,
)
from ._ranking import ablate_rank_loss as ablate_rank_loss, rank_loss as rank_loss, theory_rank_loss as theory_rank_loss
from ._registry import get_loss as get_loss, register_loss as register_loss

__all__ = [
    "ablate_rank_loss",
    "bce_loss",
    "cross_entropy_loss",
    "get_loss",
    "mse_loss",
    "orm_loss",
    "rank_loss",
    "register_loss",
    "reward_token_loss",
    "soft_cross_entropy_loss",
    "theory_rank_loss",
]
