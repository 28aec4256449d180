"""``read_benchmark``: from a text such as "processbench:gsm8k.json" to a benchmark."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from prmkit.data import Candidates, StepDataset
from prmkit.data.answers.equivalence import AnswerComparison
from prmkit.data.answers.extraction import extract_answer
from prmkit.data.contradictions import CORRECT
from prmkit.data.formats.candidates import load_candidates
from prmkit.data.formats.fields import check_fields
from prmkit.data.formats.reading import read
from prmkit.data.formats.registry import FORMATS, load, recognise
from prmkit.data.formats.samples import load_samples
from prmkit.data.formats.sources import check_reading, iter_records
from prmkit.data.jsonlines import is_url, matching_files
from prmkit.data.problem_keys import problem_keys
from prmkit.data.step_splitting import BY
from prmkit.evaluation._inputs._benchmark import Benchmark, CandidateRows
from prmkit.utils.files import sha256_of

_SHORT = {"bbm": "big_bench_mistake"}
_SAMPLED: dict[str, Any] = {"bon": "line", **{f"bon-{by}": by for by in BY}}
"""The kinds of sampled solutions, and the unit that becomes a step."""
_FIELDS = "fields"
"""The kind of step labels whose fields are named."""
_OF_SAMPLES = ("candidates", "text", "answer", "correct", "reference")
_SAMPLE_FIELDS = ("problem", "steps", "text", "answer", "correct", "reference", "id", "generator")
_HUB_SPLIT = re.compile(r"[\w.-]+/[\w.-]+:[\w.-]+")
_ENDINGS = (".gz", ".jsonl", ".json", ".parquet", ".csv")


def read_benchmark(
    spec: str | Path | Benchmark | StepDataset | Candidates,
    *,
    fields: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> Benchmark:
    """Read a benchmark.

    Parameters
    ----------
    spec : str, path, Benchmark, StepDataset or Candidates
        ``"KIND:PATH"``, ``"PATH"`` or ``"NAME=KIND:PATH"``. PATH is a file, a folder, or a Hugging Face data set as
        ``owner/name`` or ``owner/name:split``. KIND is the name of a format such as "processbench", "prmbench",
        "prm800k", "reasoneval" or "mr_ben", "bbm" for BIG-Bench-Mistake, or "bon" for sampled solutions with a step
        per line. "bon-paragraph", "bon-enumeration" and "bon-sentence" cut them as `split_steps` does. Without KIND,
        the first records decide.
    fields : mapping of str to str, optional
        The field of each part of the records, for data without KIND, as :func:`prmkit.data.load` takes them:
        ``dict(problem="question", steps="response.steps", labels="response.labels")``. With a part ``candidates`` they
        are sampled solutions, also behind the KIND "bon", and the parts are those of `load_candidates`. So they are
        with ``correct``, ``answer`` or ``reference`` in place of labels, and the parts are those of `load_samples`.
    options : mapping, optional
        Options of the reader, such as ``dict(labels="binary", base=1)``.
    limit : int, optional
        Largest number of records to read, from the first one on. Of a StepDataset or a Benchmark the first solutions
        are taken, of candidates the first problems. The description says so. By default all are read.

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
    check_reading("raise", limit)
    if isinstance(spec, StepDataset):
        spec = Benchmark.from_dataset("data", spec)
    if isinstance(spec, Candidates):
        spec = candidates_benchmark("samples", spec)
    if isinstance(spec, Benchmark):
        return spec if limit is None else _first(spec, limit)
    spec = str(spec) if isinstance(spec, Path) else spec
    if not isinstance(spec, str):
        raise TypeError(
            f"a benchmark is {type(spec).__name__}, expected a string such as 'processbench:gsm8k.json', a "
            "StepDataset, Candidates or a Benchmark"
        )
    name, kind, path = _parts(spec, fields)
    # PRMScore leaves the original solutions out.
    settings: dict[str, Any] = {"include_original": False} if kind == "prmbench" else {}
    is_named = fields is not None and takes_fields(spec, fields)
    # With fields, the options are those of the data that have these fields.
    settings |= {**(options if options and (is_named or fields is None) else {}), "limit": limit}
    if _HUB_SPLIT.fullmatch(path) and not Path(path).exists():
        path, _, settings["split"] = path.rpartition(":")
    if kind in _SAMPLED:
        if fields is not None and is_named and "candidates" not in fields:
            settings |= {"by": _SAMPLED[kind]} if named_path(spec)[1] and "by" not in settings else {}
            settings |= check_fields(fields, _SAMPLE_FIELDS, ("problem",))
            candidates = load_samples(path, **settings)
        else:
            given = fields if is_named else None
            mode = settings.pop("contradictions", "keep")
            candidates = load_candidates(path, fields=given, extract=_answer, **{"by": _SAMPLED[kind], **settings})
            candidates = candidates.checked(mode)
        benchmark = candidates_benchmark(name, candidates)
    else:
        if kind == _FIELDS:
            dataset = load(path, fields=fields, **settings)
        elif FORMATS[kind].benchmark:
            # Rows that the publication got wrong are left out and named. The description counts them.
            dataset = read(path, FORMATS[kind], published=True, **settings)
        else:
            dataset = load(path, kind, **settings)
        benchmark = Benchmark.from_dataset(name, dataset, kind, _problems(dataset))
    lines = [benchmark.description, *([] if limit is None else [f"read: at most the first {limit:,} records"])]
    return replace(benchmark, description=_as_typed("\n".join(filter(None, lines)), path))


def _first(benchmark: Benchmark, n: int) -> Benchmark:
    """Return the first solutions of a benchmark, or the candidates of its first problems."""
    rows = np.arange(len(benchmark.solutions))
    if benchmark.candidates is not None:
        rows = np.unique(benchmark.candidates.sets, return_inverse=True)[1]
    what, there = "solutions" if benchmark.candidates is None else "problems", int(rows.max()) + 1
    line = f"taken: the first {min(n, there):,} of {there:,} {what}"
    return benchmark.subset(rows < n, "\n".join(filter(None, [benchmark.description, line])))


def candidates_benchmark(name: str, candidates: Candidates) -> Benchmark:
    """Make a best-of-N benchmark of sampled solutions.

    If nothing says whether a candidate is correct, its answer is compared with the reference answer. Without a
    reference answer the candidate is left out and counted. A ValueError says that no candidate is left.
    """
    counts: Counter[str] = Counter()
    n_unknown = int(np.isnan(candidates.correct).sum())
    with AnswerComparison() as comparison:
        judged = candidates.judged(comparison)
        counts[CORRECT] = sum(
            correct is not None and comparison.agree(answer, one.answer) is (not correct)
            for one in candidates
            for correct, answer in zip(one.is_correct, one.answers, strict=True)
        )
        counts |= {f"answers that {why.replace('_', ' ')}": comparison.counts[why] for why in ("failed", "timed_out")}
    is_known = ~np.isnan(judged.correct)
    counts["candidates left out: nothing tells whether they are correct"] = n_left_out = int((~is_known).sum())
    counts["candidates that were compared with the reference answer"] = n_unknown - n_left_out
    if not is_known.any():
        raise ValueError(
            f"{name}: none of the candidates is known to be correct or not, and there is no reference answer: "
            "if the data have one of them, name its field as correct or reference, beside problem and text"
            if len(is_known)
            else f"{name} holds no record, expected sampled solutions"
        )
    rows = np.flatnonzero(is_known).tolist()
    everything, keys, answers = judged.solutions, judged.answer_keys, judged.answers
    solutions, keys, answers = [everything[i] for i in rows], [keys[i] for i in rows], [answers[i] for i in rows]
    references = [one.answer for one in judged]
    counts |= {"candidates": len(solutions), "candidates without an answer": keys.count(None)}
    # What reading counted is not told twice, be it as samples.
    known = {what.replace("samples", "candidates", 1): n for what, n in candidates.counts.items()}
    told = {what: n for what, n in counts.items() if n and known.get(what) != n}
    return Benchmark(
        name,
        "bon",
        solutions,
        [(None,) * solution.n_steps for solution in solutions],
        [None] * len(solutions),
        problem_keys(one.problem for one in judged)[judged.groups[rows]],
        "\n".join(filter(None, (candidates.description, *(f"{what}: {n}" for what, n in told.items())))),
        CandidateRows(
            judged.groups[rows],
            judged.correct[rows].astype(np.bool_),
            keys,
            answers,
            [references[i] for i in judged.groups[rows].tolist()],
        ),
    )


def _answer(text: str) -> str | None:
    return extract_answer(text).answer


def distinct_names(benchmarks: Sequence[Benchmark]) -> None:
    """Raise if two benchmarks have the same name."""
    doubled = [name for name, n in Counter(one.name for one in benchmarks).items() if n > 1]
    if doubled:
        raise ValueError(
            f"{doubled[0]!r} is the name of two: write NAME=… in front of one of them, or pass {{name: data}}"
        )


def _parts(spec: str, fields: Mapping[str, str] | None = None) -> tuple[str, str, str]:
    """Return the name, the kind and the path that a text names."""
    name, kind, path = named_path(spec)
    if not kind and fields is not None:
        kind = "bon" if _are_samples(fields) else _FIELDS
    kind = kind or _recognised(path)
    stem = _stem(path)
    return name or (stem if kind in (stem, _FIELDS) else f"{kind} {stem}"), kind, path


def takes_fields(spec: str, fields: Mapping[str, str]) -> bool:
    """Tell whether the fields that a user names are those of these data: no KIND says what the fields are."""
    kind = named_path(spec)[1]
    return not kind or (kind in _SAMPLED and _are_samples(fields))


def _are_samples(fields: Mapping[str, str]) -> bool:
    """Tell whether fields are those of sampled solutions, in a list or one by one."""
    return bool(fields.keys() & set(_OF_SAMPLES)) and not fields.keys() & {"labels", "first_error", "step"}


def named_path(spec: str) -> tuple[str, str, str]:
    """Return the name, the kind and the path in a text, "" for a name or a kind that is not there."""
    name, is_named, rest = spec.partition("=")
    if not is_named or "/" in name or ":" in name:
        name, rest = "", spec
    kind, has_kind, path = rest.partition(":")
    kind = _SHORT.get(kind, kind)
    if not has_kind or (kind not in FORMATS and kind not in _SAMPLED):
        if has_kind and not Path(rest).expanduser().exists():
            known = ", ".join([*_SAMPLED, *_SHORT, *FORMATS])
            raise ValueError(f"the benchmark {spec!r} is of the unknown kind {kind!r}, expected one of {known}")
        kind, path = "", rest
    if not path:
        raise ValueError(f"the benchmark {spec!r} has no path, expected KIND:PATH, like processbench:gsm8k.json")
    return name, kind, path


def _recognised(path: str) -> str:
    from prmkit.data.formats.candidates import is_candidates

    first = next(iter_records(path, on_error="skip"), None)
    return "bon" if first is not None and is_candidates(first.record) else recognise(path)


def data_files(path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the SHA-256 of each local file that a path stands for.

    Paths are relative if ``path`` is, so that a report tells no more about a machine than was typed.
    """
    place = Path(path).expanduser()
    files = [Path(match) for match in matching_files(path)] or [place]
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.is_file())
    if is_url(path) or not files[0].exists():
        yield path, f"not taken: read from {'a URL' if is_url(path) else 'the Hugging Face hub'}"
        return
    for file in files:
        yield _as_typed(str(file), path), sha256_of(file)


def _as_typed(text: str, path: str) -> str:
    """Return a text with the places in it as the user typed them, where reading made them absolute."""
    if is_url(path) or Path(path).is_absolute():
        return text
    folder, _, last = path.rpartition("/")
    for absolute, typed in ((Path(folder, last), path), (Path(folder), folder or ".")):
        # Not resolved: a link keeps its name.
        text = text.replace(os.path.abspath(absolute), typed)  # noqa: PTH100
    return text


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
