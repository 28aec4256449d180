from ._choose_aggregation import (
    AggregationChoice as AggregationChoice,
    choose_aggregation as choose_aggregation,
)
from .aggregation import (
    aggregate as aggregate,
    entropy as entropy,
    first_error_distribution as first_error_distribution,
    margin as margin,
    p_no_error as p_no_error,
)
from .first_errors import (
    Survival as Survival,
    credible_set as credible_set,
    first_error_log_loss as first_error_log_loss,
    ranked_probability_score as ranked_probability_score,
    survival as survival,
)
from .members import MemberUncertainty as MemberUncertainty, decompose_uncertainty as decompose_uncertainty

__all__ = [
    "AggregationChoice",
    "MemberUncertainty",
    "Survival",
    "aggregate",
    "choose_aggregation",
    "credible_set",
    "decompose_uncertainty",
    "entropy",
    "first_error_distribution",
    "first_error_log_loss",
    "margin",
    "p_no_error",
    "ranked_probability_score",
    "survival",
]
