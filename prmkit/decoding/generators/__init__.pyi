from ._callable import CallableGenerator as CallableGenerator
from ._logged import LoggedGenerator as LoggedGenerator
from ._openai import OpenAIGenerator as OpenAIGenerator
from ._transformers import TransformersGenerator as TransformersGenerator
from ._vllm import VLLMGenerator as VLLMGenerator

__all__ = ["CallableGenerator", "LoggedGenerator", "OpenAIGenerator", "TransformersGenerator", "VLLMGenerator"]
