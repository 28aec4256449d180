"""What an evaluation found, and the three files it becomes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prmkit.evaluation._inputs._benchmark import Benchmark
from prmkit.evaluation._inputs._models import JudgedModel
from prmkit.evaluation._result import Curve, Table

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


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Models on benchmarks: tables, curves, and the solutions behind them; made by :func:`evaluate`.

    ``print`` shows it as Markdown.

    Parameters
    ----------
    models : sequence of JudgedModel
    benchmarks : sequence of Benchmark
    tables : sequence of Table
        Every number with a 95% interval by problem where it has one; undefined numbers are None.
    curves : sequence of Curve
    solutions : callable
        Gives the records of the error browser, one per solution.
    run : mapping
        Settings, versions and seconds: what may differ between two runs that find the same.
    """

    models: Sequence[JudgedModel]
    benchmarks: Sequence[Benchmark]
    tables: Sequence[Table]
    curves: Sequence[Curve]
    solutions: Callable[[], Iterable[dict[str, Any]]] = field(default=lambda: ())
    run: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but solutions and run as plain Python values, numbers with six significant digits."""
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
        """Return all tables as Markdown."""
        return markdown_of(self.to_dict())

    def table(self, title: str) -> Table:
        """Return a table by its title.

        Raises
        ------
        KeyError
            If there is none, naming those that are there.
        """
        for table in self.tables:
            if table.title == title:
                return table
        raise KeyError(
            f"no table is called {title!r}; there are {', '.join(repr(one.title) for one in self.tables)}"
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``report.html``, ``results.json``, ``results.md`` and ``run.json`` to a folder.

        The same models on the same data give the same bytes in all but ``run.json``.

        Parameters
        ----------
        folder : str or Path
            Made if it is not there; files of these names in it are replaced.

        Returns
        -------
        Path
            The folder.
        """
        from prmkit.evaluation._page._page import write_page

        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        result = self.to_dict()
        _write(
            folder / "results.json", json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )
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
    """Write a file that appears when it is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
