from .token_prm import TokenPRM

__all__ = ["TokenPRM"]
