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
from prmkit.scoring.scoring import score_solutions, unscored_solutions
from prmkit.utils.environment import UnscoredWarning


@dataclass(frozen=True, eq=False)
class StepScores:
    """Scores of the steps of a benchmark, all solutions end to end.

    ``risks`` is P(step is wrong), NaN for a step without a score. ``neutral`` is P(step is neutral) if the model has
    three classes. ``raw`` holds rewards on any scale, if that is what the model gives. Then ``risks`` are their
    sigmoids, in which large rewards tie, so only tables of probabilities read them. With ``of_solutions`` all steps of
    a solution have the score of the solution, and nothing is known of the steps.
    """

    risks: np.ndarray
    neutral: np.ndarray | None = None
    raw: np.ndarray | None = None
    of_solutions: bool = False

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
        return StepScores(self.risks[kept], neutral, raw, self.of_solutions)


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


# Number of solutions that are scored at once, and stored as one line.
CHUNK = 64


def cached_scores(
    model: JudgedModel, name: str, solutions: Sequence[Solution], work: Path | None, show_progress: bool = True
) -> StepScores:
    """Return a model's scores of solutions, storing each chunk in the folder ``work`` as soon as it is scored.

    Only solutions without stored scores are scored. So a run that was killed goes on with the first missing chunk, and
    a run with more records takes over the scores of one with fewer. ``name`` is the benchmark's, for the progress bar.
    """
    keys = [solution_key(one) for one in solutions]
    file = None if work is None else work / f"{scores_key(model)}.jsonl"
    known = {} if file is None else read_scores(file)
    messages: list[str] = []
    bar = tqdm(
        total=len(solutions),
        initial=sum(key in known for key in keys),
        desc=f"{model.name} on {name}",
        unit="solution",
        delay=1,
        disable=None if show_progress else True,
    )
    with bar:
        for start in range(0, len(solutions), CHUNK):
            missing = [i for i in range(start, min(start + CHUNK, len(solutions))) if keys[i] not in known]
            if not missing:
                continue
            chunk = [solutions[i] for i in missing]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    scores = score_steps(model.classifier, chunk)
                except ValueError as error:
                    raise ValueError(f"{model.name} on {name}: {error}") from error
            # Steps without a score are told at the end, for all chunks.
            told = [one for one in caught if not issubclass(one.category, UnscoredWarning)]
            messages += [str(one.message) for one in told if issubclass(one.category, UserWarning)]
            own = [keys[i] for i in missing]
            known |= _by_solution(own, [one.n_steps for one in chunk], scores)
            if file is not None:
                append_scores(file, own, [one.n_steps for one in chunk], scores)
            bar.update(len(chunk))
    scores = joined_scores([known[key] for key in keys])
    # Every chunk may give the same warning. The user sees the first one, with the number of the others.
    more = f" (and {len(messages) - 1} such warnings for other chunks)" if len(messages) > 1 else ""
    said = [f"{messages[0]}{more}"] if messages else []
    if (without := np.isnan(scores.risks)).any():
        said.append(f"no score for {unscored_solutions(solutions, without)}")
    if said:
        warnings.warn(f"{model.name} on {name}: {'; '.join(said)}", UserWarning, stacklevel=2)
    return scores


def joined_scores(scores: Sequence[StepScores]) -> StepScores:
    """Return the scores of several solutions end to end. A kind of scores that one of them lacks is left out."""

    def column(name: str) -> np.ndarray | None:
        parts = [part for one in scores if (part := getattr(one, name)) is not None]
        return np.concatenate(parts) if len(parts) == len(scores) else None

    return StepScores(np.concatenate([one.risks for one in scores]), column("neutral"), column("raw"))


def scores_key(model: JudgedModel) -> str:
    """Return a digest of the model and of prmkit's version, on which scores depend besides the texts."""
    from prmkit import __version__

    return hashlib.sha256(f"{__version__}\0{model.fingerprint}".encode()).hexdigest()[:32]


def solution_key(solution: Solution) -> str:
    """Return a digest of the texts that a score depends on."""
    return hashlib.sha256(json.dumps([solution.problem, *solution.steps]).encode()).hexdigest()[:32]


def append_scores(file: Path, keys: Sequence[str], lengths: Sequence[int], scores: StepScores) -> None:
    """Add the scores of some solutions to a file as one line. If a kill cuts the line, reading notices it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    neutral = None if scores.neutral is None else _with_nulls(scores.neutral)
    record = {"solutions": keys, "steps": lengths, "risks": _with_nulls(scores.risks), "neutral": neutral}
    with file.open("ab") as stream:
        stream.write((json.dumps(record) + "\n").encode())
        stream.flush()
        os.fsync(stream.fileno())


def _with_nulls(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]


def read_scores(file: Path) -> dict[str, StepScores]:
    """Return the scores in a file by the key of the solution, and delete a line that a kill left half written."""
    if not file.is_file():
        return {}
    found: dict[str, StepScores] = {}
    n_bytes = 0
    with file.open("rb") as stream:
        for line in stream:
            scores = _complete_line(line)
            if scores is None:
                break
            found |= scores
            n_bytes += len(line)
    if n_bytes < file.stat().st_size:
        os.truncate(file, n_bytes)
    return found


def _complete_line(line: bytes) -> dict[str, StepScores] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record: dict[str, Any] = json.loads(line)
        keys, lengths = record["solutions"], record["steps"]
        risks = np.array(record["risks"], dtype=np.float64)
        neutral = None if record["neutral"] is None else np.array(record["neutral"], dtype=np.float64)
        if len(keys) != len(lengths) or any(len(one) != sum(lengths) for one in (risks, neutral) if one is not None):
            return None
    except (ValueError, KeyError, TypeError):
        return None
    return _by_solution(keys, lengths, StepScores(risks, neutral))


def _by_solution(keys: Sequence[str], lengths: Sequence[int], scores: StepScores) -> dict[str, StepScores]:
    ends = np.cumsum(lengths)[:-1]
    risks = np.split(scores.risks, ends)
    neutral: Sequence[np.ndarray | None] = [None] * len(keys)
    if scores.neutral is not None:
        neutral = np.split(scores.neutral, ends)
    return {key: StepScores(*one) for key, one in zip(keys, zip(risks, neutral, strict=True), strict=True)}
