from ._evaluate import evaluate as evaluate
from ._evaluation import Evaluation as Evaluation
from ._inputs import Benchmark as Benchmark, read_benchmark as read_benchmark, write_step_scores as write_step_scores
from ._measure_machine import MachineReport as MachineReport, measure_machine as measure_machine

__all__ = [
    "Benchmark",
    "Evaluation",
    "MachineReport",
    "evaluate",
    "measure_machine",
    "read_benchmark",
    "write_step_scores",
]
