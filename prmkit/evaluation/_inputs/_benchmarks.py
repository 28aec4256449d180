"""``read_benchmark``: from a text such as "processbench:gsm8k.json" to a benchmark."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prmkit.data import Candidates, StepDataset
from prmkit.data.answers.equivalence import AnswerComparison
from prmkit.data.answers.extraction import extract_answer
from prmkit.data.formats.candidates import load_candidates
from prmkit.data.formats.reading import read
from prmkit.data.formats.registry import FORMATS, load, recognise
from prmkit.data.formats.sources import iter_records
from prmkit.data.problem_keys import problem_keys
from prmkit.evaluation._inputs._benchmark import Benchmark, CandidateRows

_SHORT = {"bbm": "big_bench_mistake"}
_SPLITTERS: dict[str, Literal["line", "paragraph", "step"]] = {
    "bon": "line",
    "bon-paragraph": "paragraph",
    "bon-step": "step",
}
_HUB_SPLIT = re.compile(r"[\w.-]+/[\w.-]+:[\w.-]+")
_ENDINGS = (".gz", ".jsonl", ".json", ".parquet", ".csv")


def read_benchmark(spec: str | Path | Benchmark | StepDataset | Candidates) -> Benchmark:
    """Read a benchmark.

    Parameters
    ----------
    spec : str, path, Benchmark, StepDataset or Candidates
        ``"KIND:PATH"``, ``"PATH"`` or ``"NAME=KIND:PATH"``. PATH is a file, a folder, or a Hugging Face data set as
        ``owner/name`` or ``owner/name:split``. KIND is the name of a format such as "processbench", "prmbench",
        "prm800k", "reasoneval" or "mr_ben", "bbm" for BIG-Bench-Mistake, or "bon" for sampled solutions with a step
        per line. "bon-paragraph" takes a step per paragraph, and "bon-step" a step per "Step 1:". Without KIND, the
        first records decide.

    Returns
    -------
    Benchmark
        The benchmark. A Benchmark is returned unchanged.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the data cannot be read.
    TypeError
        If ``spec`` is something else.
    ValueError
        If the kind is unknown, or if the data do not have its format.
    """
    if isinstance(spec, Benchmark):
        return spec
    if isinstance(spec, StepDataset):
        return Benchmark.from_dataset("data", spec)
    if isinstance(spec, Candidates):
        return candidates_benchmark("samples", spec)
    spec = str(spec) if isinstance(spec, Path) else spec
    if not isinstance(spec, str):
        raise TypeError(
            f"a benchmark is {type(spec).__name__}, expected a string such as 'processbench:gsm8k.json', a "
            "StepDataset, Candidates or a Benchmark"
        )
    name, kind, path = _parts(spec)
    if kind in _SPLITTERS:
        return candidates_benchmark(name, load_candidates(path, _SPLITTERS[kind], extract=_answer))
    # PRMScore leaves the original solutions out.
    options: dict[str, Any] = {"include_original": False} if kind == "prmbench" else {}
    if _HUB_SPLIT.fullmatch(path) and not Path(path).exists():
        path, _, options["split"] = path.rpartition(":")
    file_format = FORMATS[kind]
    # Rows that the publication got wrong are left out and named. The description counts them.
    dataset = (
        read(path, file_format, published=True, **options) if file_format.benchmark else load(path, kind, **options)
    )
    return Benchmark.from_dataset(name, dataset, kind, _problems(dataset))


def candidates_benchmark(name: str, candidates: Candidates) -> Benchmark:
    """Make a best-of-N benchmark of sampled solutions.

    If nothing says whether a candidate is correct, its answer is compared with the reference answer. Without a
    reference answer the candidate is left out and counted. A ValueError says that no candidate is left.
    """
    counts: Counter[str] = Counter()
    n_unknown = int(np.isnan(candidates.correct).sum())
    with AnswerComparison() as comparison:
        judged = candidates.judged(comparison)
        counts |= {f"answers that {why.replace('_', ' ')}": comparison.counts[why] for why in ("failed", "timed_out")}
    is_known = ~np.isnan(judged.correct)
    counts["candidates left out: nothing tells whether they are correct"] = n_left_out = int((~is_known).sum())
    counts["candidates that were compared with the reference answer"] = n_unknown - n_left_out
    if not is_known.any():
        raise ValueError(
            f"{name}: none of the candidates is known to be correct or not, and there is no reference answer"
            if len(is_known)
            else f"{name} holds no record, expected sampled solutions"
        )
    rows = np.flatnonzero(is_known).tolist()
    everything, keys = judged.solutions, judged.answer_keys
    solutions, keys = [everything[i] for i in rows], [keys[i] for i in rows]
    counts |= {"candidates": len(solutions), "candidates without an answer": keys.count(None)}
    told = {what: n for what, n in counts.items() if n and candidates.counts.get(what) != n}
    return Benchmark(
        name,
        "bon",
        solutions,
        [(None,) * solution.n_steps for solution in solutions],
        [None] * len(solutions),
        problem_keys(one.problem for one in judged)[judged.groups[rows]],
        "\n".join(filter(None, (candidates.description, *(f"{what}: {n}" for what, n in told.items())))),
        CandidateRows(judged.groups[rows], judged.correct[rows].astype(np.bool_), keys),
    )


def _answer(text: str) -> str | None:
    return extract_answer(text).answer


def distinct_names(benchmarks: Sequence[Benchmark]) -> None:
    """Raise if two benchmarks have the same name."""
    doubled = [name for name, n in Counter(one.name for one in benchmarks).items() if n > 1]
    if doubled:
        raise ValueError(f"{doubled[0]!r} is the name of two: write NAME=… in front of one of them")


def _parts(spec: str) -> tuple[str, str, str]:
    """Return the name, the kind and the path that a text names."""
    name, is_named, rest = spec.partition("=")
    if not is_named or "/" in name or ":" in name:
        name, rest = "", spec
    kind, has_kind, path = rest.partition(":")
    kind = _SHORT.get(kind, kind)
    if not has_kind or (kind not in FORMATS and kind not in _SPLITTERS):
        if has_kind and not Path(rest).expanduser().exists():
            known = ", ".join([*_SPLITTERS, *_SHORT, *FORMATS])
            raise ValueError(f"the benchmark {spec!r} is of the unknown kind {kind!r}, expected one of {known}")
        kind, path = _recognised(rest), rest
    if not path:
        raise ValueError(f"the benchmark {spec!r} has no path, expected KIND:PATH, like processbench:gsm8k.json")
    stem = _stem(path)
    return name or (stem if stem == kind else f"{kind} {stem}"), kind, path


def _recognised(path: str) -> str:
    from prmkit.data.formats.candidates import is_candidates

    first = next(iter_records(path, on_error="skip"), None)
    return "bon" if first is not None and is_candidates(first.record) else recognise(path)


def _stem(path: str) -> str:
    name = Path(path).name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


def _problems(dataset: StepDataset) -> np.ndarray | None:
    """Return the problem of each solution, if the source names it in a field of its own."""
    ids: list[Any] = []
    for solution in dataset.solutions:
        meta = solution.meta or {}
        ids.append(next((meta[key] for key in ("problem_key", "problem_id") if meta.get(key) is not None), None))
    return None if None in ids else np.array(list(map(str, ids)))
