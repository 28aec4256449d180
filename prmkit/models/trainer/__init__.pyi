from ._config import PRMTrainingConfig as PRMTrainingConfig
from ._trainer import PRMTrainer as PRMTrainer

__all__ = ["PRMTrainer", "PRMTrainingConfig"]
