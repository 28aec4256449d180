from .log_probs import LogProbFeatures as LogProbFeatures

__all__ = ["LogProbFeatures"]
