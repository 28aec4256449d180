"""A result as Markdown tables, for a README or a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MISSING = "–"


def markdown_of(result: Mapping[str, Any]) -> str:
    """Return the tables of ``Evaluation.to_dict()`` as Markdown: baselines in italics, quoted rows with a source."""
    parts = ["# Evaluation"]
    parts += [
        f"- {one['name']}: {one['n_solutions']:,} solutions of {one['n_problems']:,} problems"
        for one in result["benchmarks"]
    ]
    for table in result["tables"]:
        parts += ["", f"## {table['title']}", "", *_rows(table)]
        if table["note"]:
            parts += ["", table["note"]]
    return "\n".join(parts) + "\n"


def _rows(table: Mapping[str, Any]) -> list[str]:
    columns = table["columns"]
    lines = [f"| system | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for row in table["rows"]:
        name = _escaped(row["system"])
        if row["quoted"]:
            name += f" (quoted: {_escaped(row['source'])})"
        elif row["baseline"]:
            name = f"*{name}*"
        lines.append(f"| {name} | {' | '.join(_cell(row['values'][column]) for column in columns)} |")
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        if value["value"] is None:
            return _MISSING
        interval = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
        return f"{value['value']:.3f}{interval}"
    return "" if value is None else _escaped(str(value))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
