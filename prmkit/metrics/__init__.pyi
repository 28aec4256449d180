from ._agreement import rating_agreement as rating_agreement
from ._scorers import step_scorers as step_scorers
from .benchmarks import (
    choose_first_error_threshold as choose_first_error_threshold,
    first_error_f1_score as first_error_f1_score,
    first_error_from_risks as first_error_from_risks,
    prm_score as prm_score,
    reasoneval_scores as reasoneval_scores,
)
from .bootstrap import Interval as Interval, bootstrap_by_problem as bootstrap_by_problem
from .calibration import (
    ReliabilityDisplay as ReliabilityDisplay,
    calibration_report as calibration_report,
    expected_calibration_error as expected_calibration_error,
    reliability_curve as reliability_curve,
)
from .selection import (
    best_of_n_accuracy as best_of_n_accuracy,
    pass_at_k as pass_at_k,
    select as select,
    vote as vote,
    vote_accuracy as vote_accuracy,
    vote_is_decided as vote_is_decided,
)
from .selective import (
    RiskCoverageDisplay as RiskCoverageDisplay,
    augrc as augrc,
    aurc as aurc,
    prr as prr,
    risk_at_coverage as risk_at_coverage,
    risk_coverage_curve as risk_coverage_curve,
    selective_report as selective_report,
)
from .solutions import (
    aggregate as aggregate,
    choose_aggregation as choose_aggregation,
    credible_set as credible_set,
    decompose_uncertainty as decompose_uncertainty,
    first_error_distribution as first_error_distribution,
    first_error_log_loss as first_error_log_loss,
    p_no_error as p_no_error,
    ranked_probability_score as ranked_probability_score,
    survival as survival,
)
from .steps import (
    StepReport as StepReport,
    StepReportDisplay as StepReportDisplay,
    choose_threshold as choose_threshold,
    step_report as step_report,
)

__all__ = [
    "Interval",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "StepReport",
    "StepReportDisplay",
    "aggregate",
    "augrc",
    "aurc",
    "best_of_n_accuracy",
    "bootstrap_by_problem",
    "calibration_report",
    "choose_aggregation",
    "choose_first_error_threshold",
    "choose_threshold",
    "credible_set",
    "decompose_uncertainty",
    "expected_calibration_error",
    "first_error_distribution",
    "first_error_f1_score",
    "first_error_from_risks",
    "first_error_log_loss",
    "p_no_error",
    "pass_at_k",
    "prm_score",
    "prr",
    "ranked_probability_score",
    "rating_agreement",
    "reasoneval_scores",
    "reliability_curve",
    "risk_at_coverage",
    "risk_coverage_curve",
    "select",
    "selective_report",
    "step_report",
    "step_scorers",
    "survival",
    "vote",
    "vote_accuracy",
    "vote_is_decided",
]
