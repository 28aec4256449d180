"""What the benchmarks share: real solutions, a stamp of machine and versions, tables and result files."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from prmkit import Solution
from prmkit.utils.machine import machine, versions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def data_folder() -> Path:
    """``PRMKIT_DATA``, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("PRMKIT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"no step-labelled data at {folder}: set PRMKIT_DATA to the folder that holds it")
    return folder


def load_steps_table(datasets: Iterable[str] | None = None) -> tuple[list[Solution], list[list[int | None]]]:
    """Read ``steps_train.jsonl.gz``.

    Parameters
    ----------
    datasets : iterable of str, optional
        Beginnings of data set names to keep, such as ``"processbench"``; by default all.

    Returns
    -------
    solutions : list of Solution
        ``meta`` holds the rest of the record, ``dataset`` and ``problem_key`` among it.
    ratings : list of list
        -1, 0, +1 or None (not labelled) per step.
    """
    wanted = None if datasets is None else tuple(datasets)
    solutions, ratings = [], []
    with gzip.open(data_folder() / "steps_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if wanted is not None and not record["dataset"].startswith(wanted):
                continue
            ratings.append(record.pop("labels"))
            solutions.append(Solution(record.pop("problem"), record.pop("steps"), id=record.pop("id"), meta=record))
    if not solutions:
        sys.exit(f"no solution of {wanted} in {data_folder()}")
    return solutions, ratings


def write_result(name: str, result: Mapping[str, Any]) -> Path:
    """Write ``benchmarks/results/<name>.json``, stamped with date, machine and versions."""
    stamp = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**stamp, **result}, indent=2) + "\n", encoding="utf-8")
    return path


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of equal keys as an aligned table; floats with three significant digits."""
    if not rows:
        return
    cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    rule = ["-" * width for width in widths]
    for line in [cells[0], rule, *cells[1:]]:
        columns = zip(line, widths, strict=True)
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(columns)))


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table in Markdown; floats with three significant digits. A key may be missing in a row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names)] + [[_cell(row.get(name)) for name in names] for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)
