from ._evaluate import evaluate as evaluate
from ._evaluation import Evaluation as Evaluation
from ._inputs import Benchmark as Benchmark, read_benchmark as read_benchmark, write_step_scores as write_step_scores

__all__ = ["Benchmark", "Evaluation", "evaluate", "read_benchmark", "write_step_scores"]
