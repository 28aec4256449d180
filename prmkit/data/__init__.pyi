from .answers import answer_keys as answer_keys, extract_answer as extract_answer, same_answer as same_answer
from .arithmetic import make_arithmetic_solutions as make_arithmetic_solutions
from .dataset import StepDataset as StepDataset
from .formats import (
    load as load,
    load_big_bench_mistake as load_big_bench_mistake,
    load_candidates as load_candidates,
    load_flat as load_flat,
    load_math_shepherd as load_math_shepherd,
    load_mr_ben as load_mr_ben,
    load_mr_gsm8k as load_mr_gsm8k,
    load_openrlhf as load_openrlhf,
    load_prmbench as load_prmbench,
    load_processbench as load_processbench,
    load_reasoneval as load_reasoneval,
    load_rlhflow as load_rlhflow,
    load_samples as load_samples,
    load_sdiehl as load_sdiehl,
    load_stepwise as load_stepwise,
    write as write,
)
from .labels import first_error_to_ratings as first_error_to_ratings, ratings_to_first_error as ratings_to_first_error
from .prm800k import iter_prm800k as iter_prm800k, load_prm800k as load_prm800k
from .problem_keys import problem_groups as problem_groups
from .sampled import Candidates as Candidates, CandidateSet as CandidateSet
from .solution import Solution as Solution, Step as Step, flatten as flatten
from .splitters import (
    ProblemShuffleSplit as ProblemShuffleSplit,
    StratifiedProblemKFold as StratifiedProblemKFold,
    split_by_problem as split_by_problem,
)
from .step_splitting import split_steps as split_steps, step_offsets as step_offsets

__all__ = [
    "CandidateSet",
    "Candidates",
    "ProblemShuffleSplit",
    "Solution",
    "Step",
    "StepDataset",
    "StratifiedProblemKFold",
    "answer_keys",
    "extract_answer",
    "first_error_to_ratings",
    "flatten",
    "iter_prm800k",
    "load",
    "load_big_bench_mistake",
    "load_candidates",
    "load_flat",
    "load_math_shepherd",
    "load_mr_ben",
    "load_mr_gsm8k",
    "load_openrlhf",
    "load_prm800k",
    "load_prmbench",
    "load_processbench",
    "load_reasoneval",
    "load_rlhflow",
    "load_samples",
    "load_sdiehl",
    "load_stepwise",
    "make_arithmetic_solutions",
    "problem_groups",
    "ratings_to_first_error",
    "same_answer",
    "split_by_problem",
    "split_steps",
    "step_offsets",
    "write",
]
