from ._evaluate import evaluate
from ._evaluation import Evaluation
from ._inputs import Benchmark, read_benchmark, write_step_scores

__all__ = ["Benchmark", "Evaluation", "evaluate", "read_benchmark", "write_step_scores"]
