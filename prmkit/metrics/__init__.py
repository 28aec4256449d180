"""Numbers and pictures that say how good step probabilities are: pure functions, no model in sight."""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.metrics._calibration": (
            "expected_calibration_error",
            "maximum_calibration_error",
            "reliability_curve",
        ),
        "prmkit.metrics._calibration_report": ("CalibrationReport", "calibration_report"),
        "prmkit.metrics._reliability_display": ("ReliabilityDisplay",),
        "prmkit.metrics._risk_coverage_display": ("RiskCoverageDisplay",),
        "prmkit.metrics._selective": (
            "augrc",
            "aurc",
            "eaurc",
            "prr",
            "risk_at_coverage",
            "risk_coverage_curve",
        ),
        "prmkit.metrics._selective_report": ("SelectiveReport", "selective_report"),
        "prmkit.metrics._survival": (
            "Survival",
            "credible_set",
            "first_error_log_loss",
            "ranked_probability_score",
            "survival",
        ),
        "prmkit.metrics._choose_aggregation": ("AggregationChoice", "choose_aggregation"),
        "prmkit.metrics._members": ("MemberUncertainty", "decompose_uncertainty"),
        "prmkit.metrics._paths": ("aggregate", "entropy", "first_error_distribution", "margin", "p_no_error"),
        "prmkit.metrics._scored_solution": ("ScoredSolution",),
        "prmkit.metrics._score_solutions": ("score_solutions",),
        "prmkit.metrics._path_display": ("PathDisplay",),
        "prmkit.metrics._bootstrap": ("BootstrapResult", "Interval", "bootstrap_by_problem"),
        "prmkit.metrics._first_error": (
            "first_error_f1_score",
            "first_error_from_scores",
            "first_error_position_accuracy",
        ),
        "prmkit.metrics._first_error_threshold": ("FirstErrorThreshold", "choose_first_error_threshold"),
        "prmkit.metrics._prm_score": ("prm_score", "prm_score_by_class"),
        "prmkit.metrics._reasoneval_scores": (
            "block_minimum",
            "reasoneval_judge_scores",
            "reasoneval_scores",
        ),
        "prmkit.metrics._mr_score": ("mr_score_parts",),
        "prmkit.metrics._best_of_n": ("best_of_n_accuracy", "pass_at_k"),
        "prmkit.metrics._votes": ("combine_vote", "vote"),
        "prmkit.metrics._vote_accuracy": ("VoteAccuracy", "vote_accuracy"),
        "prmkit.metrics._agreement": ("cohen_kappa", "fleiss_kappa", "rating_agreement"),
        "prmkit.metrics._threshold": ("choose_threshold",),
        "prmkit.metrics._report": ("StepReport", "step_report"),
        "prmkit.metrics._report_display": ("StepReportDisplay",),
    },
)
