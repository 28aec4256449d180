from . import losses as losses
from .heads import StepBlend as StepBlend, StepMLP as StepMLP, StepTransformer as StepTransformer
from .tokens import TokenPRM as TokenPRM
from .trainer import PRMTrainer as PRMTrainer, PRMTrainingConfig as PRMTrainingConfig

__all__ = ["PRMTrainer", "PRMTrainingConfig", "StepBlend", "StepMLP", "StepTransformer", "TokenPRM", "losses"]
