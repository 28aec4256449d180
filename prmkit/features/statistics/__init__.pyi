from ._step_statistics import STATISTICS as STATISTICS, StepStatistics as StepStatistics

__all__ = ["STATISTICS", "StepStatistics"]
