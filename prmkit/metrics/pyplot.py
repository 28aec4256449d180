"""Import of matplotlib at the moment of plotting, so that nothing else needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.text import Text


def import_pyplot() -> Any:
    """Return ``matplotlib.pyplot``, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "prmkit[plot]"') from error
    return plt


def plain_text(text: Text) -> None:
    """Show the dollar signs of a label: steps are full of LaTeX that matplotlib cannot read."""
    text.set_parse_math(False)
