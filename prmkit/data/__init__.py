"""Problems, solutions and steps; how they are read, split and made. numpy is all it imports."""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.data._solution": ("Solution", "Step", "flatten", "problem_groups"),
        "prmkit.data._dataset": ("StepDataset",),
        "prmkit.data._split_by_problem": ("split_by_problem",),
        "prmkit.data._splitters": ("ProblemShuffleSplit", "StratifiedProblemKFold"),
        "prmkit.data._labels": (
            "first_error_to_ratings",
            "names_to_ratings",
            "ratings_to_first_error",
            "ratings_to_names",
        ),
        "prmkit.data._prm800k": ("iter_prm800k", "load_prm800k"),
        "prmkit.data._arithmetic": ("make_arithmetic_solutions",),
    },
)
