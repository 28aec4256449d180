"""matplotlib, asked for where a plot is made, so that nothing else needs it."""

from __future__ import annotations

from typing import Any


def import_pyplot() -> Any:
    """Return ``matplotlib.pyplot``, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "prmkit[plot]"') from error
    return plt


def plain_text(text: Any) -> None:
    """Keep a label's dollar signs: steps are full of LaTeX that matplotlib cannot read."""
    text.set_parse_math(False)
