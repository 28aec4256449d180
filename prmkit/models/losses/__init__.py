"""Every published step loss as a pure function, and the registry that heads and trainers read."""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.models.losses._targets": ("binary_labels",),
        "prmkit.models.losses._classification": (
            "cross_entropy_loss",
            "reward_token_loss",
            "soft_cross_entropy_loss",
        ),
        "prmkit.models.losses._binary": ("bce_loss", "mse_loss", "orm_loss"),
        "prmkit.models.losses._ranking": ("ablate_rank_loss", "rank_loss", "theory_rank_loss"),
        "prmkit.models.losses._registry": ("LOSSES", "StepLoss", "get_loss"),
    },
)
