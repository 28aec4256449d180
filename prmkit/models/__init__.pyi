from . import losses as losses
from .heads import (
    StepBlend as StepBlend,
    StepMLP as StepMLP,
    StepProbe as StepProbe,
    StepTransformer as StepTransformer,
)
from .paths import PathClassifier as PathClassifier
from .tokens import TokenPRM as TokenPRM
from .trainer import (
    PRMConfig as PRMConfig,
    PRMTrainer as PRMTrainer,
    PRMTrainingConfig as PRMTrainingConfig,
    RewardDataCollator as RewardDataCollator,
    check_saved_equals_trained as check_saved_equals_trained,
)

__all__ = [
    "PRMConfig",
    "PRMTrainer",
    "PRMTrainingConfig",
    "PathClassifier",
    "RewardDataCollator",
    "StepBlend",
    "StepMLP",
    "StepProbe",
    "StepTransformer",
    "TokenPRM",
    "check_saved_equals_trained",
    "losses",
]
