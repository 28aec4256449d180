"""Lazy public names (PEP 562), so that ``import prmkit`` loads neither torch nor scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, tuple[str, ...]]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` for a package.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    modules : mapping of str to tuple of str
        Submodule (absolute, or relative with a leading dot) -> the public names it holds. One whose only name
        is its own is public itself.
    """
    home = {name: module for module, names in modules.items() for name in names}
    public = sorted(home)

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(home[name], package)
        return module if home[name].rpartition(".")[2] == name else getattr(module, name)

    def __dir__() -> list[str]:
        return public

    return public, __getattr__, __dir__
