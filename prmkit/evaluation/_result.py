"""Tables of numbers with intervals, and curves: the parts of an evaluation, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from prmkit.metrics import Interval

Value: TypeAlias = Interval | str | int | None


@dataclass(frozen=True)
class Row:
    """The values of one system by column. A column that is left out has no value.

    A ``baseline`` needs no model. The numbers of a ``quoted`` row were published in its ``source``.
    """

    system: str
    values: Mapping[str, Value]
    baseline: bool = False
    quoted: bool = False
    source: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of systems. Its ``note`` explains the numbers and names the data that chose the thresholds."""

    title: str
    benchmark: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values."""
        return {
            "title": self.title,
            "benchmark": self.benchmark,
            "note": self.note,
            "columns": list(self.columns),
            "rows": [
                {
                    "system": row.system,
                    "baseline": row.baseline,
                    "quoted": row.quoted,
                    "source": row.source,
                    "values": {name: plain_value(row.values.get(name)) for name in self.columns},
                }
                for row in self.rows
            ],
        }


@dataclass(frozen=True, eq=False)
class Series:
    """A line of a curve. ``low`` and ``high`` are its pointwise interval."""

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    baseline: bool = False


@dataclass(frozen=True)
class Curve:
    """Lines of one plot. ``kind`` is "reliability", "best_of_n" or "risk_coverage"."""

    title: str
    benchmark: str
    kind: str
    x_label: str
    y_label: str
    series: Sequence[Series] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values."""
        return {
            "title": self.title,
            "benchmark": self.benchmark,
            "kind": self.kind,
            "x_label": self.x_label,
            "y_label": self.y_label,
            "series": [
                {
                    "name": one.name,
                    **{name: _plain_points(getattr(one, name)) for name in ("x", "y", "low", "high")},
                    "baseline": one.baseline,
                }
                for one in self.series
            ],
        }


def plain_value(value: Value) -> dict[str, float | None] | str | int | None:
    """Return a cell as plain Python values. Numbers keep six significant digits."""
    if isinstance(value, Interval):
        return {name: rounded(getattr(value, name)) for name in ("value", "low", "high")}
    return value


def rounded(value: float | None) -> float | None:
    """Return a number with six significant digits. More digits would differ between machines."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def _plain_points(values: np.ndarray | None) -> list[float | None] | None:
    return None if values is None else [rounded(float(value)) for value in values]
