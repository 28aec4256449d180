from ._big_bench_mistake import load_big_bench_mistake
from ._flat import load_flat
from ._math_shepherd import load_math_shepherd
from ._mr_ben import load_mr_ben
from ._mr_gsm8k import load_mr_gsm8k
from ._openrlhf import load_openrlhf
from ._prmbench import load_prmbench
from ._processbench import load_processbench
from ._rated import load_rated
from ._reasoneval import load_reasoneval
from ._rlhflow import load_rlhflow
from ._sdiehl import load_sdiehl
from ._stepwise import load_stepwise
from .candidates import CandidateSet, load_candidates
from .registry import FORMATS, load
from .writing import WriteReport, write

__all__ = [
    "FORMATS",
    "CandidateSet",
    "WriteReport",
    "load",
    "load_big_bench_mistake",
    "load_candidates",
    "load_flat",
    "load_math_shepherd",
    "load_mr_ben",
    "load_mr_gsm8k",
    "load_openrlhf",
    "load_prmbench",
    "load_processbench",
    "load_rated",
    "load_reasoneval",
    "load_rlhflow",
    "load_sdiehl",
    "load_stepwise",
    "write",
]
