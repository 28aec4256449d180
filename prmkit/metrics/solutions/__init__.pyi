from ._choose_aggregation import AggregationChoice, choose_aggregation
from .aggregation import aggregate, entropy, first_error_distribution, margin, p_no_error
from .first_errors import Survival, credible_set, first_error_log_loss, ranked_probability_score, survival
from .members import MemberUncertainty, decompose_uncertainty

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
