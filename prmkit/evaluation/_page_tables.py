"""Tables of the report page: numbers with intervals, baselines greyed, quoted rows with their source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any


def subject_lists(result: Mapping[str, Any]) -> str:
    """Return what was evaluated, on what, as two HTML tables."""
    models = [(m["name"], m["kind"], m["path"]) for m in result["models"]]
    benchmarks = [
        (b["name"], b["kind"], b["n_solutions"], b["n_problems"], b["description"])
        for b in result["benchmarks"]
    ]
    return _plain_table("Models", ("model", "kind", "path"), models) + _plain_table(
        "Data sets", ("data set", "kind", "solutions", "problems", "description"), benchmarks
    )


def result_tables(tables: Iterable[Mapping[str, Any]]) -> str:
    """Return all result tables as HTML."""
    return "".join(map(_result_table, tables)) or '<p class="note">No tables.</p>'


def shown_number(value: Any) -> str:
    """Return a value as it is shown: three decimals, one from 10 on; a dash where it is undefined.

    Examples
    --------
    >>> [shown_number(value) for value in (0.61234, 82.38, 3400, None, "F1")]
    ['0.612', '82.4', '3,400', '–', 'F1']
    """
    if value is None:
        return "–"
    if isinstance(value, (str, bool)):
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
    if not math.isfinite(value):
        raise ValueError(f"found {value} where a number is shown: undefined numbers are None")
    if float(value).is_integer() and not isinstance(value, float):
        return f"{value:,}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def framed(table: str, label: str) -> str:
    """Return a table in a frame that scrolls by itself, also with the keyboard, where the window is narrow."""
    return f'<div class="frame" role="region" aria-label="{escape(label)}" tabindex="0">{table}</div>'


def _result_table(table: Mapping[str, Any]) -> str:
    columns = table["columns"]
    with_source = any(row["source"] for row in table["rows"])
    shown = ["system", *columns, *(["source"] if with_source else [])]
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in shown)
    body = "".join(_row(row, columns, with_source) for row in table["rows"])
    title, benchmark, note = table["title"], table["benchmark"], table["note"]
    of = f' <span class="of">{escape(benchmark)}</span>' if benchmark and benchmark not in title else ""
    return framed(
        f"<table><caption>{escape(title)}{of}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        title,
    ) + (f'<p class="note">{escape(note)}</p>' if note else "")


def _row(row: Mapping[str, Any], columns: Iterable[str], with_source: bool) -> str:
    kind = "quoted" if row["quoted"] else "baseline" if row["baseline"] else ""
    tag = f' <span class="tag">{kind}</span>' if kind else ""
    source = f'<td class="source">{escape(row["source"] or "")}</td>' if with_source else ""
    cells = "".join(_cell(row["values"].get(name)) for name in columns)
    return f'<tr class="{kind}"><th scope="row">{escape(row["system"])}{tag}</th>{cells}{source}</tr>'


def _cell(value: Any) -> str:
    """A cell; nothing where a system has no such number, a dash where its number is undefined."""
    if isinstance(value, Mapping):
        low, high = value.get("low"), value.get("high")
        if value["value"] is None:
            return '<td class="number"><span title="undefined" aria-label="undefined">–</span></td>'
        interval = ""
        if low is not None and high is not None:
            interval = f' <span class="interval">[{shown_number(low)}, {shown_number(high)}]</span>'
        return f'<td class="number"><b>{shown_number(value["value"])}</b>{interval}</td>'
    if value is None:
        return "<td></td>"
    css = "" if isinstance(value, str) else ' class="number"'
    return f"<td{css}>{escape(shown_number(value))}</td>"


def _plain_table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>' + "".join(map(_cell, rest)) + "</tr>"
        for first, *rest in rows
    )
    return framed(
        f'<table class="plain"><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>",
        title,
    )
