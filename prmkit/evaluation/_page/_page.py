"""The report as one HTML file that needs a browser, and neither this package nor a network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from prmkit.evaluation._page._data import embed_solutions
from prmkit.utils.files import replacing

__all__ = ["write_page"]


def write_page(
    path: str | Path,
    result: Mapping[str, Any],
    solutions: Iterable[Mapping[str, Any]],
    *,
    run: Mapping[str, Any] = MappingProxyType({}),
    title: str = "Evaluation of process reward models",
) -> None:
    """Write the report page: tables, plots and an error browser in one HTML file.

    The file loads nothing from elsewhere, and its own content security policy forbids it. Every text is escaped.
    Equal input gives equal bytes. Tables and plots need no script. The error browser unpacks a solution when somebody
    looks at it. An older file is replaced only when the new one is complete.

    ``result`` is the dictionary of ``Evaluation.to_dict``. ``solutions`` are read once and in order, as
    ``browsed_solutions`` yields them. ValueError says that a number is NaN or infinite, a risk lies outside [0, 1], a
    solution has not one risk per step, an index lies beyond the last step, or a model is not in ``result``.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    # Every text is escaped, except for the parts that are marked as HTML here.
    environment = Environment(
        loader=FunctionLoader(_part), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = shown_number
    style, script = _part("page.css"), _part("page.js")
    index, packs, has_candidates = embed_solutions(solutions, result)
    page = environment.get_template("page.html").render(
        title=title,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        result=result,
        run=run,
        has_candidates=has_candidates,
        figures=[figure(curve) for curve in result["curves"]],
        index=Markup(index),
        packs=map(Markup, packs),
    )
    with replacing(Path(path)) as unfinished:
        # A lone surrogate is no character. It is written as a reference, which a browser shows as a replacement sign.
        unfinished.write_bytes(page.encode("utf-8", errors="xmlcharrefreplace"))


def shown_number(value: float | str | bool | None) -> str:
    """Return a value as the page shows it, a dash for None.

    Examples
    --------
    >>> [shown_number(value) for value in (0.61234, 82.38, 3400, None, "F1")]
    ['0.612', '82.4', '3,400', '–', 'F1']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise ValueError(f"found {value} where the page shows a number: undefined numbers are None")
    if float(value).is_integer() and not isinstance(value, float):
        return f"{value:,}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _part(name: str) -> str:
    return (files("prmkit.evaluation._page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# The geometry of the plots: axes, ticks and points in units of the drawing. ``curves.html`` draws them.
WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 56, WIDTH - 12, 12, HEIGHT - 46
# A plot whose lines have their names beside them is wider by the room for the names.
_NAMES, _LETTERS, _LINE = 240, 38, 13
_N_COLORS, _N_MARKS = 6, 4
_MAX_DRAWN, _MAX_MARKED, _MAX_LISTED = 300, 40, 60


class Point(NamedTuple):
    """A point of a curve, with its interval if it has one."""

    x: float
    y: float
    low: float | None
    high: float | None


class Axis(NamedTuple):
    """The position of a value along an axis, in units of the drawing, and the values of its ticks."""

    at: Callable[[float], float]
    ticks: list[float]

    def labels(self) -> list[tuple[float, str]]:
        """Return the position and the text of each tick, with as many decimals as tell the ticks apart."""
        decimals = max(len(f"{tick:.10f}".rstrip("0").split(".")[1]) for tick in self.ticks)
        return [(self.at(tick), f"{tick:.{decimals}f}".replace("-", "−")) for tick in self.ticks]


@dataclass(frozen=True)
class Line:
    """A series as it is drawn.

    ``look`` is the CSS class of its colour, ``dash`` the number of its dash pattern, ``swatch`` the mark in the
    legend. ``band`` holds the corners between the lower and the upper ends of the intervals, ``bars`` the positions
    (x, low, high) of the intervals. ``marks`` are the marks of the points, if they are few. ``listed`` are the points
    in the list of numbers. ``end`` is the last point, ``label`` the place of the name beside it, ``short`` this name.
    """

    name: str
    baseline: bool
    look: str
    dash: int
    swatch: str
    polyline: str
    band: str
    bars: list[tuple[str, str, str]]
    marks: list[tuple[str, Point]]
    listed: list[Point]
    end: tuple[float, float]
    label: tuple[float, float] | None
    short: str


def figure(curve: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of ``Evaluation.to_dict()["curves"]`` as ``curves.html`` draws it: texts, ticks and lines.

    ``lines`` is empty if no point is defined. NaN, infinity, or unequal numbers of x, y, low and high raise
    ValueError.
    """
    series = [(one, _points(one, curve["title"])) for one in curve["series"]]
    title, benchmark, kind = curve["title"], curve["benchmark"], curve["kind"]
    plot = {
        "title": title if not benchmark or benchmark in title else f"{title} ({benchmark})",
        "label": title,
        "x_label": curve["x_label"],
        "y_label": curve["y_label"],
        "lines": [],
        "box": {
            "left": LEFT,
            "right": RIGHT,
            "top": TOP,
            "bottom": BOTTOM,
            "width": WIDTH + (_NAMES if kind == "best_of_n" else 0),
            "height": HEIGHT,
        },
        "is_wide": kind == "best_of_n",
    }
    drawn = [point for _, points in series for point in points]
    if not drawn:
        return plot
    x_axis, y_axis = _axes(drawn, kind)
    reliability = kind == "reliability"
    return plot | {
        "ends": [(one["name"], points[0], points[-1]) for one, points in series if points],
        "x_ticks": x_axis.labels(),
        "y_ticks": y_axis.labels(),
        "diagonal": (x_axis.at(0), y_axis.at(0), x_axis.at(1), y_axis.at(1)) if reliability else None,
        "with_bars": reliability,
        "has_bands": plot["is_wide"] and any(point.low is not None for point in drawn),
        "max_listed": _MAX_LISTED if any(len(points) > _MAX_LISTED for _, points in series) else None,
        "lines": list(_lines(series, x_axis, y_axis, plot["is_wide"])),
    }


def _lines(
    series: Sequence[tuple[Mapping[str, Any], list[Point]]], x_axis: Axis, y_axis: Axis, are_named: bool
) -> Iterable[Line]:
    """Yield the series as lines, a colour for each system and grey for the baselines."""
    n_systems = 0
    ends = [(x_axis.at(points[-1].x), y_axis.at(points[-1].y)) if points else (0.0, 0.0) for _, points in series]
    heights = _apart([y for _, y in ends])
    for number, (one, points) in enumerate(series):
        shown = _thinned(points, _MAX_DRAWN)
        spread = [
            (f"{x_axis.at(p.x):g}", f"{y_axis.at(p.low):g}", f"{y_axis.at(p.high):g}")
            for p in shown
            if p.low is not None and p.high is not None
        ]
        corners = [f"{x},{high}" for x, _, high in spread] + [f"{x},{low}" for x, low, _ in reversed(spread)]
        marked = shown if len(shown) <= _MAX_MARKED else []
        yield Line(
            name=one["name"],
            baseline=one["baseline"],
            look="b" if one["baseline"] else f"s{n_systems % _N_COLORS}",
            dash=number % _N_MARKS,
            swatch=_mark(17, 6, number),
            polyline=" ".join(f"{x_axis.at(p.x):g},{y_axis.at(p.y):g}" for p in shown),
            band=" ".join(corners),
            bars=spread,
            marks=[(_mark(x_axis.at(p.x), y_axis.at(p.y), number), p) for p in marked],
            listed=_thinned(points, _MAX_LISTED),
            end=ends[number],
            label=(RIGHT + 14, heights[number]) if are_named and points else None,
            short=one["name"] if len(one["name"]) <= _LETTERS else f"{one['name'][: _LETTERS - 1]}…",
        )
        n_systems += not one["baseline"]


def _apart(heights: Sequence[float]) -> list[float]:
    """Return the heights of names that stand beside these heights, as near as they can be without touching."""
    gap = min(_LINE, (BOTTOM - TOP) / max(len(heights) - 1, 1))
    order = sorted(range(len(heights)), key=heights.__getitem__)
    places = list(heights)
    lowest = -math.inf
    for i in order:
        places[i] = lowest = max(heights[i], lowest + gap)
    highest = float(BOTTOM)
    for i in reversed(order):
        places[i] = highest = min(places[i], highest)
        highest -= gap
    return [round(place, 2) for place in places]


def _points(one: Mapping[str, Any], title: str) -> list[Point]:
    """Return the points of a series. A point whose x or y is undefined (None) is left out."""
    n = len(one["x"])
    columns = [one["x"], one["y"], *(one.get(end) or [None] * n for end in ("low", "high"))]
    if any(len(column) != n for column in columns):
        raise ValueError(
            f"series {one['name']!r} of {title!r}: x, y, low and high have {[len(c) for c in columns]} values; "
            "give as many of each (low and high may be None)"
        )
    rows = [[None if v is None else float(v) for v in row] for row in zip(*columns, strict=True)]
    if any(v is not None and not math.isfinite(v) for row in rows for v in row):
        raise ValueError(f"series {one['name']!r} of {title!r} has NaN or infinity: undefined numbers are None")
    return [Point(x, y, low, high) for x, y, low, high in rows if x is not None and y is not None]


def _axes(points: Sequence[Point], kind: str) -> tuple[Axis, Axis]:
    """Return both axes. Shares span 0 to 1, and the numbers of candidates stand on a scale of doublings."""
    xs = [point.x for point in points]
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    unit = (0.0, 1.0)
    if kind == "best_of_n" and min(xs) > 0:
        return _doubling(sorted(set(xs)), LEFT, RIGHT), _linear(min(ys), max(ys), BOTTOM, TOP)
    in_unit = kind in ("reliability", "risk_coverage") and min(xs) >= 0 and max(xs) <= 1
    x_axis = _linear(*(unit if in_unit else (min(xs), max(xs))), LEFT, RIGHT)
    if kind == "reliability" and min(ys) >= 0 and max(ys) <= 1:
        return x_axis, _linear(*unit, BOTTOM, TOP)
    return x_axis, _linear(0.0 if kind == "risk_coverage" else min(ys), max(ys), BOTTOM, TOP)


def _linear(first: float, last: float, start: float, end: float) -> Axis:
    """Return an axis from a round number below the first value to one above the last, with 4 to 8 ticks."""
    width = (last - first) or abs(first) or 1.0
    power = 10.0 ** math.floor(math.log10(width / 4))
    step = power * max(factor for factor in (1, 2, 5) if factor * power <= width / 4 * (1 + 1e-9))
    # The small numbers keep a round end where rounding errors would add a tick.
    lowest, highest = math.floor(first / step + 1e-9), math.ceil(last / step - 1e-9)
    highest = max(highest, lowest + 1)
    ticks = [round(number * step, 10) for number in range(lowest, highest + 1)]
    scale = (end - start) / (ticks[-1] - ticks[0])
    return Axis(lambda value: round(start + (value - ticks[0]) * scale, 2), ticks)


def _doubling(values: list[float], start: float, end: float) -> Axis:
    """Return an axis on which every doubling has the same length: best of 1, 2, 4, 8."""
    # The last value has a tick too, unless that of a doubling stands close by.
    parts = {value: math.log2(value) % 1 for value in values}
    ticks = [value for value, part in parts.items() if part == 0 or (value == values[-1] and part > 0.3)]
    first, width = math.log2(values[0]), math.log2(values[-1] / values[0]) or 1.0
    return Axis(lambda v: round(start + (math.log2(v) - first) / width * (end - start), 2), ticks or values[:1])


def _mark(x: float, y: float, number: int) -> str:
    """Return the SVG path of a mark. A reader tells the four shapes apart without colour."""
    return (
        f"M{x - 3.4:g} {y:g}a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0Z",
        f"M{x - 3:g} {y - 3:g}h6v6h-6Z",
        f"M{x:g} {y - 4.4:g}l4.4 4.4l-4.4 4.4l-4.4 -4.4Z",
        f"M{x:g} {y - 4.2:g}l4 7.2h-8Z",
    )[number % _N_MARKS]


def _thinned(points: list[Point], n: int) -> list[Point]:
    """Return at most n points, evenly spread, with both ends."""
    if len(points) <= n:
        return points
    return [points[round(number * (len(points) - 1) / (n - 1))] for number in range(n)]
