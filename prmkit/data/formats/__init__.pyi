from ._big_bench_mistake import load_big_bench_mistake as load_big_bench_mistake
from ._flat import load_flat as load_flat
from ._math_shepherd import load_math_shepherd as load_math_shepherd
from ._mr import load_mr_ben as load_mr_ben, load_mr_gsm8k as load_mr_gsm8k
from ._prmbench import load_prmbench as load_prmbench
from ._processbench import load_processbench as load_processbench
from ._reasoneval import load_reasoneval as load_reasoneval
from ._rlhf import load_openrlhf as load_openrlhf, load_rlhflow as load_rlhflow
from ._sdiehl import load_sdiehl as load_sdiehl
from ._stepwise import load_stepwise as load_stepwise
from .candidates import load_candidates as load_candidates
from .registry import load as load
from .samples import load_samples as load_samples
from .writing import write as write

__all__ = [
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
    "load_reasoneval",
    "load_rlhflow",
    "load_samples",
    "load_sdiehl",
    "load_stepwise",
    "write",
]
