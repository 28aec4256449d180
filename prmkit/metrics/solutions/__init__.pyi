from .aggregation import (
    aggregate as aggregate,
    choose_aggregation as choose_aggregation,
    first_error_distribution as first_error_distribution,
    p_no_error as p_no_error,
)
from .first_errors import (
    credible_set as credible_set,
    first_error_log_loss as first_error_log_loss,
    ranked_probability_score as ranked_probability_score,
    survival as survival,
)
from .members import decompose_uncertainty as decompose_uncertainty

__all__ = [
    "aggregate",
    "choose_aggregation",
    "credible_set",
    "decompose_uncertainty",
    "first_error_distribution",
    "first_error_log_loss",
    "p_no_error",
    "ranked_probability_score",
    "survival",
]
