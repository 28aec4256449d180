from ._callable import CallableGenerator as CallableGenerator
from ._logged import LoggedGenerator as LoggedGenerator

__all__ = ["CallableGenerator", "LoggedGenerator"]
