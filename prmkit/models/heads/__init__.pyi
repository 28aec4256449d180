from .blend import StepBlend
from .torch_heads import StepMLP, StepTransformer

__all__ = ["StepBlend", "StepMLP", "StepTransformer"]
