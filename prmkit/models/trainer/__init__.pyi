from ._config import PRMTrainingConfig
from ._trainer import PRMTrainer

__all__ = ["PRMTrainer", "PRMTrainingConfig"]
