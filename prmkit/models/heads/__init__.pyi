from .blend import StepBlend as StepBlend
from .torch_heads import StepMLP as StepMLP, StepTransformer as StepTransformer

__all__ = ["StepBlend", "StepMLP", "StepTransformer"]
