"""How agreement, the report on rules and selective risk grow with the number of samples: the part "scale"."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from prmkit import Solution
from prmkit.data import Candidates
from prmkit.data.answers.equivalence import AnswerComparison
from prmkit.data.sampled import CandidateSet, with_keys
from prmkit.metrics import selection_report
from prmkit.uncertainty import SelectiveRisk, sample_uncertainty

N_SAMPLES = 10
SIZES = (1_000, 10_000)
"""Numbers of problems."""


def made(n_problems: int) -> tuple[Candidates, np.ndarray]:
    """Return samples whose answers are written in several ways, and a score that knows something of what is right."""
    rng = np.random.default_rng(0)
    ease = rng.beta(2, 1, n_problems)[:, None]
    right = rng.random((n_problems, N_SAMPLES)) < ease
    scores = 1 / (1 + np.exp(-(2.0 * right - 1 + rng.normal(size=right.shape))))
    answers = np.where(right, 0, rng.integers(1, 6, right.shape)) + 1000 * np.arange(1, n_problems + 1)[:, None]
    written = np.where(rng.random(right.shape) < 0.5, "{:,}", "{}.0")
    sets = []
    for number, (row, forms, hits) in enumerate(zip(answers.tolist(), written.tolist(), right.tolist(), strict=True)):
        problem = f"Problem {number}: how many are there?"
        texts = [form.format(answer) for form, answer in zip(forms, row, strict=True)]
        solutions = tuple(Solution(problem, ["We count them.", f"There are {text}."]) for text in texts)
        blank = (None,) * N_SAMPLES
        sets.append(CandidateSet(problem, solutions, tuple(hits), tuple(texts), blank, None, str(number)))
    return Candidates(sets), scores.ravel()


def measure(n_problems: int) -> list[dict[str, Any]]:
    """Run each task once, one after the other."""
    candidates, scores = made(n_problems)
    rows = []
    n = n_problems * N_SAMPLES

    def timed(task: str, work: Callable[[], Any]) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rows.append(
            {"task": task, "samples": n, "CPU seconds": cpu, "seconds": wall, "peak of the process, MB": peak / 1e6}
        )
        return result

    def keyed() -> Candidates:
        with AnswerComparison() as comparison:
            return Candidates(with_keys(candidates.sets, comparison))

    timed("samples in memory", lambda: None)
    candidates = timed("classes of answers", keyed)
    found = timed("sample_uncertainty", lambda: sample_uncertainty(candidates, scores))
    timed("selection_report, one score", lambda: selection_report(candidates, {"score": scores}))
    errors = ~candidates.correct
    fitted = timed("SelectiveRisk.fit", lambda: SelectiveRisk().fit(found.disagreement, errors, found.groups))
    timed("SelectiveRisk.predict", lambda: fitted.predict(found.disagreement))
    return rows


def scale(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Measure each size in a process of its own, on one core."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    rows: list[dict[str, Any]] = []
    for size in sizes:
        command = [sys.executable, __file__, str(size)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        rows += json.loads(done.stdout.splitlines()[-1])
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
