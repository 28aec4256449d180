"""Problems, solutions and steps; how they are read, written, split and made."""

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
        "prmkit.data._answers": ("ExtractedAnswer", "extract_answer"),
        "prmkit.data._normal_answer": ("normal_answer",),
        "prmkit.data._answer_equivalence": ("AnswerComparison", "answer_keys", "same_answer"),
        **{
            f"prmkit.data.formats._{name}": (f"load_{name}",)
            for name in (
                "big_bench_mistake",
                "flat",
                "math_shepherd",
                "mr_ben",
                "mr_gsm8k",
                "openrlhf",
                "prmbench",
                "processbench",
                "rated",
                "reasoneval",
                "rlhflow",
                "sdiehl",
                "stepwise",
            )
        },
        "prmkit.data.formats._candidates": ("CandidateSet", "load_candidates"),
        "prmkit.data.formats._registry": ("FORMATS", "load"),
        "prmkit.data.formats._write": ("WriteReport", "write"),
    },
)
