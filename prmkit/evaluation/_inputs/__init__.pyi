from ._benchmark import Benchmark as Benchmark
from ._benchmarks import read_benchmark as read_benchmark
from ._score_file import write_step_scores as write_step_scores

__all__ = ["Benchmark", "read_benchmark", "write_step_scores"]
