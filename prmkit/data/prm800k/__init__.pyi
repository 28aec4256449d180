from ._loader import iter_prm800k as iter_prm800k, load_prm800k as load_prm800k

__all__ = ["iter_prm800k", "load_prm800k"]
