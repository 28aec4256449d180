"""``Evaluation``: tables and curves of models on benchmarks, and the files that they become."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from prmkit.evaluation._inputs._benchmark import Benchmark
from prmkit.evaluation._inputs._models import JudgedModel
from prmkit.evaluation._inputs._scoring import rounded
from prmkit.metrics import Interval
from prmkit.metrics.report_table import markdown_table
from prmkit.utils.files import replacing

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


def _plain_points(values: np.ndarray | None) -> list[float | None] | None:
    return None if values is None else [rounded(float(value)) for value in values]


_MISSING = "–"


def markdown_of(result: Mapping[str, Any]) -> str:
    """Return the tables of ``Evaluation.to_dict()`` as Markdown. Baselines are in italics."""
    parts = ["# Evaluation"]
    parts += [
        f"- {one['name']}: {one['n_solutions']:,} solutions of {one['n_problems']:,} problems"
        for one in result["benchmarks"]
    ]
    for table in result["tables"]:
        parts += ["", f"## {table['title']}", "", *markdown_table(_rows(table))]
        if table["note"]:
            parts += ["", table["note"]]
    return "\n".join(parts) + "\n"


def _rows(table: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of a table, the header first."""
    rows = [["system", *table["columns"]]]
    for row in table["rows"]:
        name = row["system"]
        if row["quoted"]:
            name += f" (quoted: {row['source']})"
        elif row["baseline"]:
            name = f"*{name}*"
        rows.append([name, *(_cell(row["values"][column]) for column in table["columns"])])
    return rows


def _cell(value: Mapping[str, float | None] | str | int | None) -> str:
    if isinstance(value, Mapping):
        return Interval(value["value"], value["low"], value["high"]).to_text(_MISSING)
    return "" if value is None else str(value)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Tables and curves of models on benchmarks, and the solutions behind them.

    :func:`evaluate` makes it. ``print`` shows it as Markdown.

    Parameters
    ----------
    models : sequence of JudgedModel
        The models, by name.
    benchmarks : sequence of Benchmark
        The benchmarks, without the problems that were left out.
    tables : sequence of Table
        The tables. A number has a 95% interval by problem if one can be computed. An undefined number is None.
    curves : sequence of Curve
        The curves of the plots.
    solutions : callable
        Returns the records of the error browser, one per solution.
    run : mapping
        Settings, versions and seconds. Two runs with equal results may differ here.
    """

    models: Sequence[JudgedModel]
    benchmarks: Sequence[Benchmark]
    tables: Sequence[Table]
    curves: Sequence[Curve]
    solutions: Callable[[], Iterable[dict[str, Any]]] = tuple
    run: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return models, benchmarks, tables and curves as plain Python values.

        Returns
        -------
        dict
            The entries ``models``, ``benchmarks``, ``tables`` and ``curves``, with six significant digits.
        """
        return {
            "models": [model.to_dict() for model in self.models],
            "benchmarks": [
                {
                    "name": one.name,
                    "kind": one.kind,
                    "n_solutions": len(one.solutions),
                    "n_problems": one.n_problems,
                    "description": one.description,
                }
                for one in self.benchmarks
            ],
            "tables": [table.to_dict() for table in self.tables],
            "curves": [curve.to_dict() for curve in self.curves],
        }

    def to_markdown(self) -> str:
        """Return all tables as Markdown.

        Returns
        -------
        str
            One section per table.
        """
        return markdown_of(self.to_dict())

    def table(self, title: str) -> Table:
        """Return a table by its title.

        Parameters
        ----------
        title : str
            The title, such as ``"Steps of gsm8k"``.

        Returns
        -------
        Table
            The table of this title.

        Raises
        ------
        KeyError
            If no table has this title. The message lists the titles.
        """
        for table in self.tables:
            if table.title == title:
                return table
        raise KeyError(f"no table is called {title!r}; there are {', '.join(repr(one.title) for one in self.tables)}")

    def save(self, folder: str | Path) -> Path:
        """Write ``report.html``, ``results.json``, ``results.md`` and ``run.json`` to a folder.

        The same models on the same data give the same bytes, except in ``run.json``.

        Parameters
        ----------
        folder : str or Path
            The folder, which is made if it does not exist. Files of these names in it are replaced.

        Returns
        -------
        Path
            The folder.
        """
        from prmkit.evaluation._page._page import write_page

        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        result = self.to_dict()
        _write(folder / "results.json", json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        _write(folder / "results.md", self.to_markdown())
        _write(folder / "run.json", json.dumps(dict(self.run), indent=1) + "\n")
        write_page(folder / "report.html", result, self.solutions())
        return folder

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        names = ", ".join(model.name for model in self.models)
        return f"<Evaluation of {names} on {len(self.benchmarks)} benchmarks: {len(self.tables)} tables>"


def _write(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
