"""Numbers and pictures that say how good step probabilities are: pure functions, no model in sight."""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.metrics._calibration": ("expected_calibration_error",),
        "prmkit.metrics._paths": ("aggregate", "entropy", "first_error_distribution", "margin", "p_no_error"),
        "prmkit.metrics._scored_solution": ("ScoredSolution",),
        "prmkit.metrics._score_solutions": ("score_solutions",),
        "prmkit.metrics._path_display": ("PathDisplay",),
        "prmkit.metrics._bootstrap": ("BootstrapResult", "Interval", "bootstrap_by_problem"),
        "prmkit.metrics._threshold": ("choose_threshold",),
        "prmkit.metrics._report": ("StepReport", "step_report"),
        "prmkit.metrics._report_display": ("StepReportDisplay",),
    },
)
