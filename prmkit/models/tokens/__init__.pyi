from .token_prm import TokenPRM as TokenPRM

__all__ = ["TokenPRM"]
