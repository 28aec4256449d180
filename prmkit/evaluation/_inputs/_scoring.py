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

    ``risks`` is P(step is wrong), NaN for a step without a score. ``neutral`` is P(step is neutral) if the model has
    three classes. ``raw`` holds rewards on any scale, if that is what the model gives. Then ``risks`` are their
    sigmoids, in which large rewards tie, so only tables of probabilities read them.
    """

    risks: np.ndarray
    neutral: np.ndarray | None = None
    raw: np.ndarray | None = None

    @property
    def ranking(self) -> np.ndarray:
        """What ranks steps and chooses thresholds, higher is worse: the risks, or the raw rewards with a minus."""
        return self.risks if self.raw is None else -self.raw

    @property
    def half(self) -> float:
        """The place in ``ranking`` at which a step is as likely wrong as right."""
        return 0.5 if self.raw is None else 0.0

    @property
    def rewards(self) -> np.ndarray:
        """``1 - risks``, or the raw rewards: higher is better."""
        return 1.0 - self.risks if self.raw is None else self.raw

    def rows(self, kept: np.ndarray) -> StepScores:
        """Return the steps where ``kept`` is True."""
        neutral, raw = (None if values is None else values[kept] for values in (self.neutral, self.raw))
        return StepScores(self.risks[kept], neutral, raw)


def score_steps(classifier: Any, solutions: Sequence[Solution]) -> StepScores:
    """Score solutions with a fitted classifier. A step that it could not read gets NaN."""
    proba = np.array(classifier.predict_proba(flatten(solutions)), dtype=np.float64)
    # The rows without a score. An array of another shape is named below.
    unread = np.flatnonzero(np.isnan(proba).all(axis=1)) if proba.ndim == 2 else np.empty(0, dtype=np.int64)
    # ``score_solutions`` checks the probabilities. The unread rows get valid ones for the moment.
    proba[unread] = 1 / proba.shape[-1]
    scored = score_solutions(classifier, solutions, proba=proba)
    proba = np.concatenate([one.proba for one in scored])
    proba[unread] = np.nan
    columns = scored[0].ordered_columns
    return StepScores(proba[:, columns[0]], proba[:, columns[1]] if len(columns) == 3 else None)


def rounded(value: float | None) -> float | None:
    """Return a number with six significant digits. More digits would differ between machines."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


# Number of solutions that are scored at once. It is part of the key of stored scores, since the other rows of a batch
# may change the last digits of a score.
CHUNK = 64


def cached_scores(
    model: JudgedModel, name: str, solutions: Sequence[Solution], work: Path | None, show_progress: bool = True
) -> StepScores:
    """Return a model's scores of solutions, storing each chunk in the folder ``work`` as soon as it is scored.

    A run that was killed goes on with the first missing chunk. ``name`` is the benchmark's, for the progress bar.
    """
    lengths = [sum(one.n_steps for one in solutions[i : i + CHUNK]) for i in range(0, len(solutions), CHUNK)]
    file = None if work is None else work / f"{scores_key(model, solutions)}.jsonl"
    chunks = {} if file is None else read_chunks(file, lengths)
    messages: list[str] = []
    bar = tqdm(
        total=len(solutions),
        initial=sum(min(CHUNK, len(solutions) - CHUNK * i) for i in chunks),
        desc=f"{model.name} on {name}",
        unit="solution",
        delay=1,
        disable=None if show_progress else True,
    )
    with bar:
        for number in range(len(lengths)):
            if number in chunks:
                continue
            chunk = solutions[number * CHUNK : (number + 1) * CHUNK]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    chunks[number] = score_steps(model.classifier, chunk)
                except ValueError as error:
                    raise ValueError(f"{model.name} on {name}: {error}") from error
            messages += [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
            if file is not None:
                append_chunk(file, number, chunks[number])
            bar.update(len(chunk))
    # Every chunk may give the same warning. The user sees the first one, with the number of the others.
    if messages:
        more = f" (and {len(messages) - 1} such warnings for other chunks)" if len(messages) > 1 else ""
        warnings.warn(f"{model.name} on {name}: {messages[0]}{more}", UserWarning, stacklevel=2)
    parts = [chunks[number] for number in range(len(lengths))]
    return StepScores(
        np.concatenate([part.risks for part in parts]),
        None
        if any(part.neutral is None for part in parts)
        else np.concatenate([part.neutral for part in parts if part.neutral is not None]),
    )


def scores_key(model: JudgedModel, solutions: Sequence[Solution]) -> str:
    """Return a digest of the model, the texts, the size of a chunk and prmkit's version: scores depend on these."""
    from prmkit import __version__

    digest = hashlib.sha256(f"{__version__}\0{CHUNK}\0{model.digest()}\n".encode())
    for solution in solutions:
        text = json.dumps([solution.problem, *solution.steps])
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()[:32]


def append_chunk(file: Path, number: int, scores: StepScores) -> None:
    """Add a chunk to a file as one line. If a kill cuts the line, reading notices it."""
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
    """Return the complete chunks of a file by number, and delete a line that a kill left half written.

    ``lengths`` holds the number of steps of each chunk.
    """
    if not file.is_file():
        return {}
    chunks = {}
    n_bytes = 0
    with file.open("rb") as stream:
        for line in stream:
            chunk = _complete_chunk(line, lengths)
            if chunk is None:
                break
            chunks[chunk[0]] = chunk[1]
            n_bytes += len(line)
    if n_bytes < file.stat().st_size:
        os.truncate(file, n_bytes)
    return chunks


def _complete_chunk(line: bytes, lengths: Sequence[int]) -> tuple[int, StepScores] | None:
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
