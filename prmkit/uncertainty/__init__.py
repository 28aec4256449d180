"""Uncertainty of reasoning paths: scoring with any classifier over steps, and rules that sum a path up."""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.metrics": (
            "ScoredSolution",
            "aggregate",
            "first_error_distribution",
            "p_no_error",
            "score_solutions",
        ),
    },
)
