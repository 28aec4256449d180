from ._benchmark import Benchmark
from ._benchmarks import read_benchmark
from ._score_file import write_step_scores

__all__ = ["Benchmark", "read_benchmark", "write_step_scores"]
