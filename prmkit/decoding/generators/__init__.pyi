from ._callable import CallableGenerator as CallableGenerator

__all__ = ["CallableGenerator"]
