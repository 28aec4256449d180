from ._batches import RewardDataCollator as RewardDataCollator
from ._config import PRMConfig as PRMConfig, PRMTrainingConfig as PRMTrainingConfig
from ._saved import check_saved_equals_trained as check_saved_equals_trained
from ._trainer import PRMTrainer as PRMTrainer

__all__ = ["PRMConfig", "PRMTrainer", "PRMTrainingConfig", "RewardDataCollator", "check_saved_equals_trained"]
