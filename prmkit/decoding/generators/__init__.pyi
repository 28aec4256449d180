from ._callable import CallableGenerator as CallableGenerator
from ._logged import LoggedGenerator as LoggedGenerator
from ._openai import OpenAIGenerator as OpenAIGenerator
from ._vllm import VLLMGenerator as VLLMGenerator

__all__ = ["CallableGenerator", "LoggedGenerator", "OpenAIGenerator", "VLLMGenerator"]
