from ._step_statistics import StepStatistics as StepStatistics

__all__ = ["StepStatistics"]
