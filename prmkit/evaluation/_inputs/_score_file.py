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
from prmkit.evaluation._inputs._scoring import StepScores
from prmkit.metrics.calibration.calibration import check_class_probabilities, check_probabilities
from prmkit.utils.files import writing

_Lines: TypeAlias = "dict[tuple[str | None, str | None], list[StepScores]]"
FIELDS = ("risks", "rewards", "raw_rewards", "probabilities")
_EXAMPLE = '{"id": "gsm8k-7", "rewards": [0.98, 0.12]}'


def read_step_scores(path: str | Path, benchmarks: Iterable[Benchmark]) -> dict[str, StepScores]:
    """Return the scores that a file holds for benchmarks, by the benchmark's name.

    A line is an object with the ``id`` of a solution, its ``benchmark`` (optional if ids are distinct) and one kind of
    scores: ``rewards`` is P(step is right), ``risks`` is P(step is wrong), ``probabilities`` holds those of all
    classes, worst first, and ``raw_rewards`` may have any scale, since their sigmoid is taken. A ValueError counts the
    solutions without a line, with two lines, or with another number of scores than of steps.
    """
    lines = _lines_by_solution(Path(path))
    result = {}
    complaints: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        n_taken: Counter[str | None] = Counter()
        scores = []
        for solution in benchmark.solutions:
            own = _lines_of(lines, benchmark, solution)
            # Several solutions may have one id. Their lines follow the order of the solutions.
            n_equal = n_taken[solution.id]
            n_taken[solution.id] += 1
            one = own[n_equal] if n_equal < len(own) else None
            if one is None:
                complaints.setdefault(f"{benchmark.name}: solutions without scores", []).append(repr(solution.id))
            elif len(one.risks) != solution.n_steps:
                case = f"{solution.id!r}: {len(one.risks)} scores for {solution.n_steps} steps"
                complaints.setdefault(f"{benchmark.name}: other numbers of scores than steps", []).append(case)
            else:
                scores.append(one)
        for solution in benchmark.solutions:
            own = _lines_of(lines, benchmark, solution)
            if len(own) > n_taken[solution.id]:
                case = f"{solution.id!r}: {len(own)} lines for {n_taken[solution.id]}"
                complaints.setdefault(f"{benchmark.name}: more lines than solutions", []).append(case)
        if not complaints:
            result[benchmark.name] = _joined(scores)
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

    with writing(Path(path)) as add:
        for scored in score_solutions(classifier, benchmark.solutions):
            record = {
                "id": scored.solution.id,
                "benchmark": benchmark.name,
                "probabilities": scored.proba[:, scored.ordered_columns].tolist(),
            }
            add(json.dumps(record, ensure_ascii=False))


def _lines_by_solution(path: Path) -> _Lines:
    lines: _Lines = {}
    for number, record in iter_json_lines(path):
        try:
            key = _key(record)
            lines.setdefault(key, []).append(_scores(record))
        except ValueError as error:  # noqa: PERF203
            raise ValueError(f"{path}, line {number}: {error}") from None
    return lines


def _key(record: Any) -> tuple[str | None, str | None]:
    if not isinstance(record, Mapping) or "id" not in record:
        raise ValueError(f"found {str(record)[:60]!r}, expected an object with an id, like {_EXAMPLE}")
    benchmark = record.get("benchmark")
    if not isinstance(record["id"], (str, type(None))) or not isinstance(benchmark, (str, type(None))):
        raise ValueError(f"id is {record['id']!r} and benchmark {benchmark!r}, expected strings")
    return benchmark, record["id"]


def _scores(record: Mapping[str, Any]) -> StepScores:
    names = [name for name in FIELDS if name in record]
    if len(names) != 1:
        raise ValueError(f"found {' and '.join(names) or 'no scores'}, expected one of {', '.join(FIELDS)}")
    name = names[0]
    try:
        values = np.asarray(record[name], dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {record[name]!r:.60}, expected numbers") from None
    if name == "probabilities":
        if values.ndim != 2 or values.shape[1] not in (2, 3):
            raise ValueError(
                f"probabilities has shape {values.shape}, expected (n_steps, 2) or (n_steps, 3), worst first"
            )
        values = check_class_probabilities(values, (len(values), values.shape[1]))
        return StepScores(values[:, 0], values[:, 1] if values.shape[1] == 3 else None)
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}, expected one number per step")
    if name == "raw_rewards":
        if np.isnan(values).any():
            raise ValueError("raw_rewards holds NaN, expected a number per step")
        return StepScores(expit(-values))
    try:
        values = check_probabilities(values, name)
    except ValueError as error:
        raise ValueError(f"{error}; scores on another scale are called raw_rewards") from None
    return StepScores(values if name == "risks" else 1.0 - values)


def _lines_of(lines: _Lines, benchmark: Benchmark, solution: Solution) -> list[StepScores]:
    return lines.get((benchmark.name, solution.id)) or lines.get((None, solution.id)) or []


def _joined(scores: list[StepScores]) -> StepScores:
    neutral = [one.neutral for one in scores if one.neutral is not None]
    return StepScores(
        np.concatenate([one.risks for one in scores]), np.concatenate(neutral) if len(neutral) == len(scores) else None
    )
