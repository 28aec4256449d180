"""``Evaluation``: tables and curves of models on benchmarks, and the files that they become."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from prmkit.evaluation._inputs._benchmark import Benchmark
from prmkit.evaluation._inputs._models import JudgedModel
from prmkit.evaluation._inputs._scoring import rounded
from prmkit.metrics import Interval
from prmkit.metrics.report_table import markdown_table
from prmkit.utils.environment import as_printed
from prmkit.utils.files import replacing

Value: TypeAlias = Interval | str | int | None
FILES = ("results.json", "results.md", "report.html", "run.json")
"""What a report consists of."""


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


@dataclass(frozen=True)
class LeftOut:
    """A table that is not there, and why, in words that follow its title and a colon."""

    title: str
    benchmark: str
    why: str


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
    parts += [f'- no table "{one["title"]}": {one["why"]}' for one in result["left_out"]]
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
        Command, input files with their SHA-256, settings, versions and seconds. Two runs with equal results may differ
        here.
    left_out : sequence of LeftOut
        Tables that somebody may look for and that are not there, each with the reason.
    identity : callable
        Returns a digest of the models, of the data and of the settings. A folder holds the report of one identity.
    """

    models: Sequence[JudgedModel]
    benchmarks: Sequence[Benchmark]
    tables: Sequence[Table]
    curves: Sequence[Curve]
    solutions: Callable[[], Iterable[dict[str, Any]]] = tuple
    run: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[LeftOut] = ()
    identity: Callable[[], dict[str, str]] = dict

    def to_dict(self) -> dict[str, Any]:
        """Return models, benchmarks, tables and curves as plain Python values.

        Returns
        -------
        dict
            The entries ``models``, ``benchmarks``, ``left_out``, ``tables`` and ``curves``, with six significant
            digits.
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
            "left_out": [asdict(one) for one in self.left_out],
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
            If no table has this title. The message lists the titles, or says why this table is not there.
        """
        for table in self.tables:
            if table.title == title:
                return table
        for one in self.left_out:
            if one.title == title:
                raise KeyError(f"no table is called {title!r}: {one.why}")
        raise KeyError(f"no table is called {title!r}; there are {', '.join(repr(one.title) for one in self.tables)}")

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``report.html``, ``results.json``, ``results.md`` and ``run.json`` to a folder.

        The same models on the same data give the same bytes, except in ``run.json``. The files appear together, when
        all of them are whole.

        Parameters
        ----------
        folder : str or Path
            The folder, which is made if it does not exist. A report of the same models, data and settings in it is
            replaced.
        overwrite : bool, default=False
            Whether to replace the report of another run too.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileExistsError
            If the folder holds the report of another run.
        """
        from prmkit.evaluation._page._page import write_page

        folder = Path(folder).expanduser()
        identity = self.identity()
        check_folder(folder, identity, overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        result = self.to_dict()
        texts = {
            "results.json": json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
            "results.md": self.to_markdown(),
            "run.json": json.dumps({**self.run, "identity": identity}, indent=1) + "\n",
        }
        with ExitStack() as stack:
            # The last one is put in its place first: a process that is killed then can go on with its own folder.
            unfinished = {name: stack.enter_context(replacing(folder / name)) for name in FILES}
            for name, text in texts.items():
                unfinished[name].write_text(text, encoding="utf-8")
            write_page(unfinished["report.html"], result, self.solutions(), run=self.run)
        return folder

    def __str__(self) -> str:
        return as_printed(self.to_markdown())

    def __repr__(self) -> str:
        names = ", ".join(model.name for model in self.models)
        return as_printed(f"<Evaluation of {names} on {len(self.benchmarks)} benchmarks: {len(self.tables)} tables>")


def check_folder(folder: Path, identity: Mapping[str, str], overwrite: bool) -> None:
    """Raise FileExistsError if a folder holds the report of another run."""
    there = [name for name in FILES if (folder / name).exists()]
    if overwrite or not there:
        return
    try:
        other = json.loads((folder / "run.json").read_text(encoding="utf-8"))["identity"]
        differing = [name for name, digest in identity.items() if other[name] != digest]
    except (OSError, ValueError, KeyError, TypeError):
        differing = ["origin"]
    if differing or not identity:
        differing = differing or ["origin"]
        raise FileExistsError(
            f"{folder} holds the report of another run ({', '.join(there)}): other {' and '.join(differing)}. Choose "
            "another folder, or pass overwrite=True to replace it"
        )
