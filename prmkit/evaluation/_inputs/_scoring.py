"""Scores of models on benchmarks, kept on disk as they are made: a run that is killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from prmkit.data import Solution, flatten
from prmkit.evaluation._inputs._models import JudgedModel
from prmkit.scoring.scoring import score_solutions


@dataclass(frozen=True, eq=False)
class StepScores:
    """Scores of the steps of a benchmark, all solutions end to end.

    Parameters
    ----------
    risks : ndarray of shape (n_steps,)
        P(step is wrong); NaN where a model could not read the step; no table gets such.
    neutral : ndarray of shape (n_steps,), optional
        P(step is neutral), of models with three classes.
    """

    risks: np.ndarray
    neutral: np.ndarray | None = None

    @property
    def rewards(self) -> np.ndarray:
        """``1 - risks``; higher is better."""
        return 1.0 - self.risks

    def rows(self, kept: np.ndarray) -> StepScores:
        """Return the steps where ``kept`` is True."""
        return StepScores(self.risks[kept], None if self.neutral is None else self.neutral[kept])

    def paths(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Return the rewards of each solution."""
        return np.split(self.rewards, np.cumsum(lengths)[:-1])


def score_steps(classifier: Any, solutions: Sequence[Solution]) -> StepScores:
    """Score solutions with a fitted classifier; a row of NaN is a step that it could not read.

    Errors as :func:`prmkit.scoring.score_solutions`.
    """
    proba = np.array(classifier.predict_proba(flatten(solutions)), dtype=np.float64)
    unread = np.flatnonzero(np.isnan(proba).all(axis=1))
    proba[unread] = 1 / proba.shape[1]  # so that all else is checked
    scored = score_solutions(classifier, solutions, proba=proba)
    proba = np.concatenate([one.proba for one in scored])
    proba[unread] = np.nan
    columns = scored[0].ordered_columns
    return StepScores(proba[:, columns[0]], proba[:, columns[1]] if len(columns) == 3 else None)


CHUNK = 64
"""Solutions scored at once. Part of the key: scores may depend, in their last digits, on the company of a batch."""


def cached_scores(
    model: JudgedModel,
    name: str,
    solutions: Sequence[Solution],
    work: Path | None,
    show_progress: bool = True,
) -> StepScores:
    """Return a model's scores of solutions, in chunks that are written down as soon as they are made.

    Parameters
    ----------
    model : JudgedModel
    name : str
        Of the benchmark, for the progress bar.
    solutions : sequence of Solution
    work : Path or None
        Folder of the chunks, one file per model and data. None: nothing is kept.
    show_progress : bool, default=True

    Returns
    -------
    StepScores
    """
    lengths = [sum(one.n_steps for one in solutions[i : i + CHUNK]) for i in range(0, len(solutions), CHUNK)]
    file = None if work is None else work / f"{scores_key(model, solutions)}.jsonl"
    found = {} if file is None else read_chunks(file, lengths)
    told: list[str] = []
    bar = tqdm(
        total=len(solutions),
        initial=sum(min(CHUNK, len(solutions) - CHUNK * i) for i in found),
        desc=f"{model.name} on {name}",
        unit="solution",
        delay=1,
        disable=None if show_progress else True,
    )
    with bar:
        for number in range(len(lengths)):
            if number in found:
                continue
            chunk = solutions[number * CHUNK : (number + 1) * CHUNK]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found[number] = score_steps(model.classifier, chunk)
            told += [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
            if file is not None:
                append_chunk(file, number, found[number])
            bar.update(len(chunk))
    if told:
        more = f" (and {len(told) - 1} such warnings for other chunks)" if len(told) > 1 else ""
        warnings.warn(f"{model.name} on {name}: {told[0]}{more}", UserWarning, stacklevel=2)
    parts = [found[number] for number in range(len(lengths))]
    return StepScores(
        np.concatenate([part.risks for part in parts]),
        None
        if any(part.neutral is None for part in parts)
        else np.concatenate([part.neutral for part in parts if part.neutral is not None]),
    )


def scores_key(model: JudgedModel, solutions: Sequence[Solution]) -> str:
    """Return a digest of all that the scores depend on: the model, the texts, how they are cut into chunks, prmkit."""
    from prmkit import __version__

    digest = hashlib.sha256(f"{__version__}\0{CHUNK}\0{model.digest()}\n".encode())
    for solution in solutions:
        text = json.dumps([solution.problem, *solution.steps])
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()[:32]


def append_chunk(file: Path, number: int, scores: StepScores) -> None:
    """Add a chunk to a file as one line; a kill leaves it whole, or cut off where reading notices."""
    file.parent.mkdir(parents=True, exist_ok=True)
    neutral = None if scores.neutral is None else _with_nulls(scores.neutral)
    line = json.dumps({"chunk": number, "risks": _with_nulls(scores.risks), "neutral": neutral}) + "\n"
    with file.open("ab") as stream:
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def _with_nulls(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]


def read_chunks(file: Path, lengths: Sequence[int]) -> dict[int, StepScores]:
    """Return the whole chunks of a file by number, and cut off what a kill left half written.

    Parameters
    ----------
    file : Path
    lengths : sequence of int
        Steps of each chunk.
    """
    if not file.is_file():
        return {}
    found = {}
    whole = 0
    with file.open("rb") as stream:
        for line in stream:
            chunk = _whole_chunk(line, lengths)
            if chunk is None:
                break
            found[chunk[0]] = chunk[1]
            whole += len(line)
    if whole < file.stat().st_size:
        os.truncate(file, whole)
    return found


def _whole_chunk(line: bytes, lengths: Sequence[int]) -> tuple[int, StepScores] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record: dict[str, Any] = json.loads(line)
        number = record["chunk"]
        risks = np.array(record["risks"], dtype=np.float64)
        neutral = None if record["neutral"] is None else np.array(record["neutral"], dtype=np.float64)
    except (ValueError, KeyError, TypeError):
        return None
    if not 0 <= number < len(lengths) or len(risks) != lengths[number]:
        return None
    return number, StepScores(risks, neutral)
