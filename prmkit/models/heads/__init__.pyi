from ._probe import StepProbe as StepProbe
from ._step_transformer import StepTransformer as StepTransformer
from .blend import StepBlend as StepBlend
from .torch_heads import StepMLP as StepMLP

__all__ = ["StepBlend", "StepMLP", "StepProbe", "StepTransformer"]
