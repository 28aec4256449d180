"""Files of step scores that were made elsewhere: JSON lines, one solution per line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy.special import expit

from prmkit.data import Solution
from prmkit.data.jsonlines import iter_json_lines
from prmkit.evaluation._inputs._benchmark import Benchmark
from prmkit.evaluation._inputs._scoring import StepScores, joined_scores
from prmkit.metrics.calibration.calibration import check_class_probabilities, check_probabilities
from prmkit.utils.files import writing

_Name: TypeAlias = "tuple[str | None, str | None]"
_Lines: TypeAlias = "dict[_Name, list[StepScores]]"
FIELDS = ("risks", "rewards", "raw_rewards", "probabilities")
_EXAMPLE = '{"id": "gsm8k-7", "rewards": [0.98, 0.12]}'


def read_step_scores(
    path: str | Path, benchmarks: Iterable[Benchmark], *, partial: bool = False
) -> dict[str, StepScores]:
    """Return the scores that a file holds for benchmarks, by the benchmark's name.

    A line is an object with the ``id`` of a solution, its ``benchmark`` (optional if ids are distinct) and one kind of
    scores: ``rewards`` is P(step is right), ``risks`` is P(step is wrong), ``probabilities`` holds those of all
    classes, worst first, and ``raw_rewards`` may have any scale, the higher the better. The id is that of
    ``Solution.id`` or the one that the record has in its own file, also a number. Several solutions of a record are
    told apart by a number behind a slash, or by the order of their lines. The score of a step may be null, and the step
    then has none. A ValueError counts the solutions without a line, with two lines, or with another number of scores
    than of steps. The benchmarks may be ``partial``: then more lines than solutions of an id are no fault.
    """
    lines = _lines_by_solution(Path(path))
    result = {}
    complaints: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        names = [_name_in(lines, benchmark, solution) for solution in benchmark.solutions]
        n_solutions, n_taken = Counter(names), Counter[_Name]()
        scores = []
        for name, solution in zip(names, benchmark.solutions, strict=True):
            own = lines.get(name, [])
            # Several solutions may have one id. Their lines follow the order of the solutions.
            one = own[n_taken[name]] if n_taken[name] < len(own) else None
            n_taken[name] += 1
            if one is None:
                complaints.setdefault(f"{benchmark.name}: solutions without scores", []).append(repr(solution.id))
            elif len(one.risks) != solution.n_steps:
                case = f"{solution.id!r}: {len(one.risks)} scores for {solution.n_steps} steps"
                complaints.setdefault(f"{benchmark.name}: other numbers of scores than steps", []).append(case)
            else:
                scores.append(one)
        for name, n in n_solutions.items():
            if len(lines.get(name, [])) > n and not partial:
                case = f"{name[1]!r}: {len(lines[name])} lines for {n}"
                complaints.setdefault(f"{benchmark.name}: more lines than solutions", []).append(case)
        if not complaints:
            result[benchmark.name] = joined_scores(scores)
    if complaints:
        counts = "; ".join(f"{kind}: {len(cases)} (first {cases[0]})" for kind, cases in complaints.items())
        ids = ", ".join(repr(key[1]) for key in list(lines)[:3]) or "none"
        raise ValueError(
            f"{path} does not fit. {counts}. Expected a line per solution and a score per step, like {_EXAMPLE}, with "
            f'"benchmark": NAME where two benchmarks have an id in common; ids in the file: {ids}'
        )
    return result


def write_step_scores(path: str | Path, classifier: Any, benchmark: Benchmark) -> None:
    """Score a benchmark with a classifier, and write a file that ``evaluate`` reads in the classifier's place.

    Parameters
    ----------
    path : str or Path
        The file to write. Its name must end in ``.jsonl``.
    classifier : fitted classifier over steps
        Gives the probabilities.
    benchmark : Benchmark
        The solutions to score.

    Raises
    ------
    ValueError
        If the file has another name, or the classifier cannot score a solution.

    Examples
    --------
    >>> import tempfile
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(20, 2, random_state=0)
    >>> clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_step_scores(f"{folder}/scores.jsonl", clf, Benchmark.from_dataset("new", data))
    ...     print(len(Path(folder, "scores.jsonl").read_text().splitlines()))
    40
    """
    from prmkit.scoring import score_solutions

    if not str(path).endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"path is {path}, expected a name that ends in .jsonl, since evaluate knows such files by it")
    with writing(Path(path)) as add:
        for scored in score_solutions(classifier, benchmark.solutions):
            record = {
                "id": scored.solution.id,
                "benchmark": benchmark.name,
                # null in place of NaN, which is not JSON: the model gave this step no score.
                "probabilities": [
                    None if np.isnan(row).any() else row.tolist() for row in scored.proba[:, scored.ordered_columns]
                ],
            }
            add(json.dumps(record, ensure_ascii=False))


def _lines_by_solution(path: Path) -> _Lines:
    lines: _Lines = {}
    first: StepScores | None = None
    for number, record in iter_json_lines(path):
        try:
            key = _key(record)
            scores = _scores(record)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        first = first or scores
        if (first.raw is None) != (scores.raw is None):
            raise ValueError(
                f"{path}, line {number}: raw_rewards and probabilities are in one file: their scales differ, so they "
                "cannot be ranked together. Write one kind of scores in all lines"
            )
        lines.setdefault(key, []).append(scores)
    return lines


def _key(record: Any) -> _Name:
    if not isinstance(record, Mapping) or "id" not in record:
        raise ValueError(f"found {str(record)[:60]!r}, expected an object with an id, like {_EXAMPLE}")
    benchmark, own_id = record.get("benchmark"), record["id"]
    if isinstance(own_id, bool) or not isinstance(own_id, (str, int, float, type(None))):
        raise ValueError(f"id is {own_id!r:.60}, expected a string or a number")
    if not isinstance(benchmark, (str, type(None))):
        raise ValueError(f"benchmark is {benchmark!r:.60}, expected a string")
    if isinstance(own_id, float) and own_id.is_integer():
        own_id = int(own_id)  # a column of whole numbers with a gap becomes one of floats
    return benchmark, None if own_id is None else str(own_id)


def _scores(record: Mapping[str, Any]) -> StepScores:
    names = [name for name in FIELDS if name in record]
    if len(names) != 1:
        raise ValueError(f"found {' and '.join(names) or 'no scores'}, expected one of {', '.join(FIELDS)}")
    name = names[0]
    rows = record[name]
    if name == "probabilities" and isinstance(rows, list) and None in rows:
        n_classes = next((len(row) for row in rows if isinstance(row, list)), 2)
        rows = [[None] * n_classes if row is None else row for row in rows]
    try:
        # "0.3" and True are no scores, though numpy would read them.
        values = np.asarray(rows if _holds_numbers(rows) else "?", dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {record[name]!r:.60}, expected numbers") from None
    if name == "probabilities":
        if values.ndim != 2 or values.shape[1] not in (2, 3):
            raise ValueError(
                f"probabilities has shape {values.shape}, expected (n_steps, 2) or (n_steps, 3), worst first"
            )
        values = check_class_probabilities(values, (len(values), values.shape[1]), unscored=True)
        return StepScores(values[:, 0], values[:, 1] if values.shape[1] == 3 else None)
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}, expected one number per step")
    if name == "raw_rewards":
        if np.isinf(values).any():
            raise ValueError("raw_rewards holds an infinity, expected finite numbers, or null for a step without one")
        return StepScores(expit(-values), raw=values)
    scored = ~np.isnan(values)
    try:
        values[scored] = check_probabilities(values[scored], name)
    except ValueError as error:
        raise ValueError(f"{error}; scores on another scale are called raw_rewards") from None
    return StepScores(values if name == "risks" else 1.0 - values)


def _holds_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_holds_numbers, value))
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _name_in(lines: _Lines, benchmark: Benchmark, solution: Solution) -> _Name:
    """Return the name of a solution under which a file holds lines: its id, or that of its record in its own file."""
    meta = solution.meta or {}
    ids = [solution.id, meta.get("record_id"), meta.get("problem_id") if benchmark.kind == "prmbench" else None]
    if solution.id is not None and "/" in solution.id:
        # One of several solutions of a record. Its number stands behind the id of the record.
        record, _, number = solution.id.rpartition("/")
        ids += [record, f"{ids[1]}/{number}"]
    names = [(of, None if own is None else str(own)) for own in ids for of in (benchmark.name, None)]
    return next((name for name in names if (name[1] is not None or solution.id is None) and name in lines), names[0])
