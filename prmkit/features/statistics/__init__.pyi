from ._step_statistics import STATISTICS, StepStatistics

__all__ = ["STATISTICS", "StepStatistics"]
