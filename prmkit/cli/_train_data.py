"""What ``prmkit train`` reads: the content of a file tells its layout; parts are cut by problem."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from prmkit.data import StepDataset, load_prm800k
from prmkit.data.jsonlines import iter_json_lines, open_file
from prmkit.data.labels import RATINGS

_STEPWISE = ("prompt", "completions", "labels")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+$")
_FILE_ENDINGS = (".jsonl", ".json", ".gz", ".parquet", ".txt", ".csv")
_EXPECTED = (
    "expected rows with prompt, completions and labels (one solution each), or PRM800K's records with question "
    "and label"
)


@dataclass(frozen=True)
class ReadData:
    """A data set as ``PRMTrainer`` takes it, what it was recognised as, and what is known of it besides."""

    rows: Any
    description: str
    hub_name: str | None = None
    label_order: tuple[int, ...] | None = None


def read_data(
    sources: Sequence[str], *, split: str | None = None, view: str = "prefixes", streaming: bool = False
) -> ReadData:
    """Read step-labelled data.

    Parameters
    ----------
    sources : sequence of str
        Files, patterns such as ``"steps-*.jsonl"``, folders, or one name on the Hugging Face hub.
    split : str, optional
        Of a data set on the hub, or a folder of PRM800K.
    view : {"prefixes", "trajectories"}
        As in ``load_prm800k``.
    streaming : bool
        Whether rows are read while training.

    Raises
    ------
    OSError
        If a file or a data set does not exist or cannot be reached.
    ValueError
        If it is of no known layout, of several, or damaged.
    """
    names = [name for source in sources for name in _expanded(source)]
    on_hub = [name for name in names if not Path(name).exists()]
    if on_hub and len(names) > 1:
        raise ValueError(f"{on_hub[0]} is no file: pass files alone, or one data set of the Hugging Face hub")
    if on_hub:
        return _from_hub(on_hub[0], split, view, streaming)
    paths = [Path(name) for name in names]
    layouts = {path: _layout(path) for path in paths}
    if len(set(layouts.values())) > 1:
        found = "; ".join(f"{path.name}: {layout}" for path, layout in layouts.items())
        raise ValueError(f"the files are of several layouts ({found}): pass those of one")
    layout = layouts[paths[0]]
    many = f" in {len(paths)} files" if len(paths) > 1 else f" in {paths[0].name}"
    if layout == "PRM800K":
        return _prm800k(paths if len(paths) > 1 else paths[0], split, view, streaming)
    if layout == "Parquet":
        return _loaded("parquet", streaming, data_files=[str(path) for path in paths], split="train")
    if streaming:
        import datasets

        stream = datasets.IterableDataset.from_generator(_stepwise_rows, gen_kwargs={"paths": paths})
        return ReadData(stream, f"a stream of stepwise rows{many}")
    rows = list(_stepwise_rows(paths))
    return ReadData(rows, f"{len(rows):,} stepwise rows{many}")


def split_by_problem(rows: Any, share: float, seed: int) -> tuple[Any, Any]:
    """Cut off a share of the problems; equal problem texts are one problem.

    Raises
    ------
    ValueError
        If there is only one problem, or the share is out of range.
    """
    from sklearn.model_selection import GroupShuffleSplit

    if not 0 < share < 1:
        raise ValueError(f"--eval-fraction {share}, expected a number between 0 and 1")
    ids: dict[str, int] = {}
    groups = np.array([ids.setdefault(problem, len(ids)) for problem in problems(rows)])
    if len(ids) < 2:
        raise ValueError(
            "all rows have one problem: none can be kept for evaluation. Pass --eval-fraction 0, or --eval-data"
        )
    n_kept = min(max(1, round(share * len(ids))), len(ids) - 1)
    parts = GroupShuffleSplit(1, test_size=n_kept, random_state=seed).split(groups, groups=groups)
    first, second = (_part(rows, indices) for indices in next(parts))
    return first, second


def problems(rows: Any) -> list[str]:
    """Return the problem of every row; of a ``StepDataset`` that of every step."""
    if isinstance(rows, StepDataset):
        return [step.problem for step in rows.X]
    return [row["prompt"] for row in rows] if isinstance(rows, list) else list(rows["prompt"])


def _part(rows: Any, indices: np.ndarray) -> Any:
    if isinstance(rows, StepDataset):
        return rows.take(indices)
    return [rows[i] for i in indices] if isinstance(rows, list) else rows.select(indices)


def _expanded(source: str) -> list[str]:
    path = Path(source).expanduser()
    if path.exists():
        return [str(path)]
    if any(sign in source for sign in "*?["):
        found = sorted(glob(str(path)))  # noqa: PTH207 (a pattern may be absolute)
        if found:
            return found
    elif _HUB_NAME.match(source) and path.suffix not in _FILE_ENDINGS:
        return [source]
    raise FileNotFoundError(
        f"{source} does not exist: expected a file, a folder with PRM800K's files, or the name owner/name of a "
        "Hugging Face data set"
    )


def _layout(path: Path) -> str:
    if path.is_dir():
        return "PRM800K"  # its loader says what is missing
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            return "Parquet"
    _, first = next(_records(path), (0, None))
    if first is None:
        raise ValueError(f"{path} holds no rows, {_EXPECTED}")
    if not isinstance(first, dict):
        raise ValueError(f"the first row of {path} is {type(first).__name__}, {_EXPECTED}")
    if {"question", "label"} <= set(first):
        return "PRM800K"
    if set(_STEPWISE) & set(first):
        return "stepwise rows"  # what is missing is said line by line
    raise ValueError(f"the rows of {path} have the fields {', '.join(first)}; {_EXPECTED}")


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the rows of JSON lines, or of one JSON list, with the number of the line or row."""
    with open_file(path) as file:
        if not file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            yield from iter_json_lines(path)
            return
        file.seek(0)
        try:
            rows = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error})") from None
    yield from enumerate(rows, start=1)


def _stepwise_rows(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for number, row in _records(path):
            where = f"{path}, row {number}"
            missing = [name for name in _STEPWISE if not isinstance(row, dict) or name not in row]
            if missing:
                raise ValueError(f"{where} lacks {', '.join(missing)}; {_EXPECTED}")
            steps, labels = row["completions"], row["labels"]
            if not (isinstance(steps, list) and isinstance(labels, list) and len(steps) == len(labels) > 0):
                raise ValueError(f"{where}: expected one or more completions, and a label (or null) for each")
            if not all(isinstance(text, str) for text in (row["prompt"], *steps)):
                raise ValueError(f"{where}: the prompt and each of the completions must be text")
            yield {name: row[name] for name in _STEPWISE}


def _prm800k(source: Any, split: str | None, view: str, streaming: bool) -> ReadData:
    if streaming:
        raise ValueError("PRM800K is merged before use and cannot be streamed: leave --streaming out")
    dataset = load_prm800k(source, split=split, view=view)
    lines = [line for line in dataset.description.strip().splitlines() if not line.endswith(": 0")]
    return ReadData(dataset, "\n".join(lines), label_order=RATINGS)  # also where no step is rated -1


def _from_hub(name: str, split: str | None, view: str, streaming: bool) -> ReadData:
    read = _loaded(name, streaming, split=split or "train")
    if {"question", "label"} <= set(read.rows.column_names or ()):
        read = _prm800k(name, split, view, streaming)
    return replace(read, description=f"{name} of the Hugging Face hub, {read.description}", hub_name=name)


def _loaded(kind: str, streaming: bool, **where: Any) -> ReadData:
    import datasets

    from prmkit.models.trainer.stepwise import column_names

    try:
        rows = datasets.load_dataset(kind, streaming=streaming, **where)
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
        raise ValueError(
            f"{where.get('data_files', kind)} cannot be read: {error.__cause__ or error}"
        ) from None
    if not {"question", "label"} <= set(rows.column_names or ()):
        column_names(rows)
    size = "a stream of rows" if streaming else f"{len(rows):,} rows"
    return ReadData(rows, f"{size} with {', '.join(rows.column_names or ())}")
