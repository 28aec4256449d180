"""Plots of the report page as inline SVG: no script, colours of the page's light and dark scheme, numbers below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple


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


_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 46
_N_COLORS, _N_MARKS = 6, 4
_MAX_DRAWN, _MAX_MARKED, _MAX_LISTED = 300, 40, 60


class Point(NamedTuple):
    """A point of a curve, with its interval where there is one."""

    x: float
    y: float
    low: float | None
    high: float | None


class Axis(NamedTuple):
    """Place of a value along an axis, in the units of the drawing, and the ticks on it."""

    at: Callable[[float], float]
    ticks: list[float]


def curve_figures(curves: Iterable[Mapping[str, Any]]) -> str:
    """Return all curves as HTML figures."""
    return "".join(_figure(curve, number) for number, curve in enumerate(curves)) or (
        '<p class="note">No plots.</p>'
    )


def _figure(curve: Mapping[str, Any], number: int) -> str:
    series = [(one, _points(one, curve["title"])) for one in curve["series"]]
    kind = curve["kind"]
    drawn = [point for _, points in series for point in points]
    looks = list(_looks(curve["series"]))
    named = not curve["benchmark"] or curve["benchmark"] in curve["title"]
    title = escape(curve["title"] if named else f"{curve['title']} ({curve['benchmark']})")
    if not drawn:
        return f'<figure><h3>{title}</h3><p class="note">Undefined: no points.</p></figure>'
    x_axis, y_axis = _axes(drawn, kind)
    said = "; ".join(
        f"{one['name']} from {shown_number(points[0].y)} at {points[0].x:.4g} "
        f"to {shown_number(points[-1].y)} at {points[-1].x:.4g}"
        for one, points in series
        if points
    )
    desc = escape(f"{curve['y_label']} against {curve['x_label']}: {said}. All numbers are listed below.")
    layers = [_frame(x_axis, y_axis, curve)]
    if kind == "reliability":
        ends = f'x1="{x_axis.at(0)}" y1="{y_axis.at(0)}" x2="{x_axis.at(1)}" y2="{y_axis.at(1)}"'
        layers.append(f'<line class="diagonal" {ends}/>')
    spread = _bars if kind == "reliability" else _band
    shown = [
        (one, _thinned(points, _MAX_DRAWN), look) for (one, points), look in zip(series, looks, strict=True)
    ]
    layers += [f'<g class="{look}">{spread(points, x_axis, y_axis)}</g>' for _, points, look in shown]
    layers += [
        f'<g class="{look}">{_line(one["name"], points, x_axis, y_axis, place)}</g>'
        for place, (one, points, look) in enumerate(shown)
    ]
    legend = "".join(
        f'<li class="{look}">{_swatch(place)}{escape(one["name"])}'
        + (' <span class="tag">baseline</span>' if one["baseline"] else "")
        + "</li>"
        for place, (one, look) in enumerate(zip(curve["series"], looks, strict=True))
    )
    if kind == "reliability":
        legend += (
            '<li class="b"><svg class="swatch" viewBox="0 0 34 12" aria-hidden="true"><line class="diagonal"'
        )
        legend += ' x1="1" y1="6" x2="33" y2="6"/></svg>perfectly calibrated</li>'
    return (
        f"<figure><h3>{title}</h3>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="curve-{number}-t curve-{number}-d">'
        f'<title id="curve-{number}-t">{title}</title><desc id="curve-{number}-d">{desc}</desc>'
        f'{"".join(layers)}</svg><figcaption><ul class="legend">{legend}</ul></figcaption>'
        f"{_numbers(curve, series)}</figure>"
    )


def _points(one: Mapping[str, Any], title: str) -> list[Point]:
    """Points of a series; where x or y is undefined (None) there is no point."""
    n = len(one["x"])
    columns = [one["x"], one["y"], *(one.get(end) or [None] * n for end in ("low", "high"))]
    if any(len(column) != n for column in columns):
        raise ValueError(
            f"series {one['name']!r} of {title!r}: x, y, low and high have {[len(c) for c in columns]} values; "
            "give as many of each (low and high may be None)"
        )
    rows = [[None if v is None else float(v) for v in row] for row in zip(*columns, strict=True)]
    if any(v is not None and not math.isfinite(v) for row in rows for v in row):
        raise ValueError(
            f"series {one['name']!r} of {title!r} has NaN or infinity: undefined numbers are None"
        )
    return [Point(x, y, low, high) for x, y, low, high in rows if x is not None and y is not None]


def _looks(series: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """CSS classes of the series: a colour each for systems, grey for baselines."""
    place = 0
    for one in series:
        yield "b" if one["baseline"] else f"s{place % _N_COLORS}"
        place += not one["baseline"]


def _axes(points: Sequence[Point], kind: str) -> tuple[Axis, Axis]:
    xs = [point.x for point in points]
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    left, right, low, high = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, _TOP
    unit = (0.0, 1.0)
    if kind == "best_of_n" and min(xs) > 0:
        return _doubling(sorted(set(xs)), left, right), _linear(min(ys), max(ys), low, high)
    in_unit = kind in ("reliability", "risk_coverage") and min(xs) >= 0 and max(xs) <= 1
    x_axis = _linear(*(unit if in_unit else (min(xs), max(xs))), left, right)
    if kind == "reliability" and min(ys) >= 0 and max(ys) <= 1:
        return x_axis, _linear(*unit, low, high)
    return x_axis, _linear(0.0 if kind == "risk_coverage" else min(ys), max(ys), low, high)


def _linear(first: float, last: float, start: float, end: float) -> Axis:
    """Axis from a round number at or below the first value to one at or above the last, with four to eight ticks."""
    width = (last - first) or abs(first) or 1.0
    power = 10.0 ** math.floor(math.log10(width / 4))
    step = power * max(factor for factor in (1, 2, 5) if factor * power <= width / 4 * (1 + 1e-9))
    from_, to = math.floor(first / step + 1e-9), math.ceil(last / step - 1e-9)
    to = max(to, from_ + 1)
    ticks = [round(place * step, 10) for place in range(from_, to + 1)]
    scale = (end - start) / (ticks[-1] - ticks[0])
    return Axis(lambda value: round(start + (value - ticks[0]) * scale, 2), ticks)


def _doubling(values: list[float], start: float, end: float) -> Axis:
    """Axis on which each doubling is equally far: best of 1, 2, 4, 8."""
    ticks = [value for value in values if math.log2(value).is_integer()]
    first, width = math.log2(values[0]), math.log2(values[-1] / values[0]) or 1.0
    return Axis(
        lambda v: round(start + (math.log2(v) - first) / width * (end - start), 2), ticks or values[:1]
    )


def _frame(x_axis: Axis, y_axis: Axis, curve: Mapping[str, Any]) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    x_ticks, y_ticks = _tick_texts(x_axis.ticks), _tick_texts(y_axis.ticks)
    for tick, text in zip(y_axis.ticks, y_ticks, strict=True):
        at = y_axis.at(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{at}" x2="{right}" y2="{at}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 3.5:g}" text-anchor="end">{text}</text>')
    for tick, text in zip(x_axis.ticks, x_ticks, strict=True):
        at = x_axis.at(tick)
        parts.append(f'<line class="axis" x1="{at}" y1="{bottom}" x2="{at}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    middle = (_LEFT + right) / 2, (_TOP + bottom) / 2
    labels = escape(curve["x_label"]), escape(curve["y_label"])
    parts.append(
        f'<text class="label" x="{middle[0]:g}" y="{_HEIGHT - 8}" text-anchor="middle">{labels[0]}</text>'
    )
    parts.append(
        '<text class="label" text-anchor="middle" '
        f'transform="translate(14 {middle[1]:g}) rotate(-90)">{labels[1]}</text>'
    )
    return "".join(parts)


def _tick_texts(ticks: Sequence[float]) -> list[str]:
    """Ticks with one number of decimals: the fewest that tell them apart exactly."""
    decimals = max(len(f"{tick:.10f}".rstrip("0").split(".")[1]) for tick in ticks)
    return [f"{tick:.{decimals}f}".replace("-", "−") for tick in ticks]


def _line(name: str, points: Sequence[Point], x_axis: Axis, y_axis: Axis, place: int) -> str:
    ends = " ".join(f"{x_axis.at(p.x):g},{y_axis.at(p.y):g}" for p in points)
    line = f'<polyline class="line d{place % _N_MARKS}" points="{ends}"/>'
    if len(points) > _MAX_MARKED:
        return line
    return line + "".join(
        f'<path class="mark" d="{_mark(x_axis.at(p.x), y_axis.at(p.y), place)}">'
        f"<title>{escape(name)}: {shown_number(p.y)}{_interval(p)} at {p.x:.4g}</title></path>"
        for p in points
    )


def _mark(x: float, y: float, place: int) -> str:
    """Circle, square, diamond, triangle: told apart without colour."""
    return (
        f"M{x - 3.4:g} {y:g}a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0Z",
        f"M{x - 3:g} {y - 3:g}h6v6h-6Z",
        f"M{x:g} {y - 4.4:g}l4.4 4.4l-4.4 4.4l-4.4 -4.4Z",
        f"M{x:g} {y - 4.2:g}l4 7.2h-8Z",
    )[place % _N_MARKS]


def _swatch(place: int) -> str:
    return (
        '<svg class="swatch" viewBox="0 0 34 12" aria-hidden="true">'
        f'<line class="line d{place % _N_MARKS}" x1="1" y1="6" x2="33" y2="6"/>'
        f'<path class="mark" d="{_mark(17, 6, place)}"/></svg>'
    )


def _bars(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> str:
    return "".join(
        f'<line class="bar" x1="{x_axis.at(p.x):g}" x2="{x_axis.at(p.x):g}" '
        f'y1="{y_axis.at(p.low):g}" y2="{y_axis.at(p.high):g}"/>'
        for p in points
        if p.low is not None and p.high is not None
    )


def _band(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> str:
    known = [(x_axis.at(p.x), p.low, p.high) for p in points if p.low is not None and p.high is not None]
    upper = [f"{x:g},{y_axis.at(high):g}" for x, _, high in known]
    lower = [f"{x:g},{y_axis.at(low):g}" for x, low, _ in reversed(known)]
    return f'<polygon class="band" points="{" ".join(upper + lower)}"/>' if known else ""


def _numbers(curve: Mapping[str, Any], series: Sequence[tuple[Mapping[str, Any], list[Point]]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(one["name"])}</th><td class="number">{p.x:.4g}</td>'
        f'<td class="number">{shown_number(p.y)}{_interval(p)}</td></tr>'
        for one, points in series
        for p in _thinned(points, _MAX_LISTED)
    )
    thinned = any(len(points) > _MAX_LISTED for _, points in series)
    note = f'<p class="note">{_MAX_LISTED} points of each longer series.</p>' if thinned else ""
    head = "".join(
        f'<th scope="col">{escape(t)}</th>' for t in ("series", curve["x_label"], curve["y_label"])
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<details><summary>Numbers</summary>{note}{framed(table, curve['title'])}</details>"


def _interval(p: Point) -> str:
    return "" if p.low is None or p.high is None else f" [{shown_number(p.low)}, {shown_number(p.high)}]"


def _thinned(points: list[Point], n: int) -> list[Point]:
    """At most n points, evenly spread, ends kept."""
    if len(points) <= n:
        return points
    return [points[round(place * (len(points) - 1) / (n - 1))] for place in range(n)]
