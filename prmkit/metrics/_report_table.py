"""A report's numbers as an aligned table, as HTML and as a DataFrame: one row per metric, one column per system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from prmkit.metrics.bootstrap import Interval

Metrics = Mapping[str, Mapping[str, Interval]]


def text_table(metrics: Metrics, shown_names: Mapping[str, str]) -> list[str]:
    """Return the lines of a table, columns aligned; metrics without a shown name are left out."""
    rows = [["", *metrics], *_cells(metrics, shown_names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def html_table(
    metrics: Metrics, shown_names: Mapping[str, str], before: Sequence[str], after: Sequence[str]
) -> str:
    """Return the same table as HTML, between lines of text."""
    left = "style='text-align:left;white-space:nowrap'"
    rows = "".join(
        f"<tr><th {left}>{escape(name)}</th>"
        + "".join(f"<td {left}>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in _cells(metrics, shown_names)
    )
    head = "".join(f"<th {left}>{escape(system)}</th>" for system in ("", *metrics))
    lines = ["<br>".join(map(escape, text)) for text in (before, after)]
    return f"<div><p>{lines[0]}</p><table><tr>{head}</tr>{rows}</table><p>{lines[1]}</p></div>"


def metrics_frame(metrics: Metrics) -> Any:
    """Return a pandas DataFrame: one row per metric, columns (system, value), (system, low), …"""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_frame() needs pandas: pip install pandas; to_dict() does without") from error

    columns = {
        (system, part): [getattr(interval, part) for interval in of_system.values()]
        for system, of_system in metrics.items()
        for part in ("value", "low", "high", "n_undefined")
    }
    return pd.DataFrame(columns, index=pd.Index(next(iter(metrics.values())), name="metric"))


def interval_note(
    n_problems: int | None, n_resamples: int, confidence_level: float, pass_what: str
) -> list[str]:
    """Return the line that says what stands in brackets, or how to get intervals."""
    if n_problems is None:
        return [f"no intervals: pass {pass_what}, so that problems can be resampled"]
    if not n_resamples:
        return []
    return [f"[ ]: {confidence_level:.0%} interval from {n_resamples:,} resamples of problems"]


def _cells(metrics: Metrics, shown_names: Mapping[str, str]) -> list[list[str]]:
    return [[shown, *(str(one[name]) for one in metrics.values())] for name, shown in shown_names.items()]
