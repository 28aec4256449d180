"""The harness: several models, several benchmarks, one report; every number beside its trivial baselines."""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.evaluation._evaluate": ("evaluate",),
        "prmkit.evaluation._evaluation": ("Evaluation",),
        "prmkit.evaluation._benchmark": ("Benchmark",),
        "prmkit.evaluation._benchmarks": ("read_benchmark",),
        "prmkit.evaluation._score_file": ("write_step_scores",),
    },
)
