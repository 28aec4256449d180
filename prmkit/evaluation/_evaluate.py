"""``evaluate``: models on benchmarks, as one report."""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import prmkit
from prmkit.data import Candidates, StepDataset
from prmkit.evaluation._evaluation import Curve, Evaluation, LeftOut, Table, check_folder
from prmkit.evaluation._inputs._benchmark import Benchmark, known_problems, unscored_in
from prmkit.evaluation._inputs._benchmarks import data_files, distinct_names, named_path, read_benchmark, takes_fields
from prmkit.evaluation._inputs._models import JudgedModel, judged_models
from prmkit.evaluation._inputs._path_scores import path_scores
from prmkit.evaluation._inputs._score_file import read_step_scores
from prmkit.evaluation._inputs._scoring import StepScores, cached_scores
from prmkit.evaluation._page._data import browsed_solutions
from prmkit.evaluation._tables._context import Context, System, ThresholdData, baseline_systems
from prmkit.evaluation._tables._published import (
    first_error_tables,
    prmbench_tables,
    processbench_mean,
    reasoneval_tables,
    without_published,
)
from prmkit.evaluation._tables._selection import sampled_candidates, selection
from prmkit.evaluation._tables._steps import step_curves, step_tables
from prmkit.evaluation._tables._wrong_samples import wrong_samples

_TRAINED_ON = ("exclude", "keep")


def evaluate(
    models: Any,
    on: Any,
    *,
    fields: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    work: str | Path | None = None,
    threshold_data: str | Benchmark | StepDataset | None = None,
    trained_on: str = "exclude",
    quoted: bool = False,
    n_resamples: int = 1000,
    n_jobs: int | None = None,
    random_state: int = 0,
    show_progress: bool = True,
    command: str | None = None,
) -> Evaluation:
    """Evaluate models on benchmarks, with trivial baselines beside every number.

    Parameters
    ----------
    models : str, path, fitted classifier, a list of these, or a mapping of names to these
        A model is a folder that prmkit saved, a folder or hub name of an existing PRM, a file of step scores
        (``.jsonl``, see *Notes*), or any fitted classifier over steps. A :class:`~prmkit.models.PathClassifier` is
        evaluated on candidates alone. The layout of an existing PRM stands in front if
        it is needed (``"skywork:FOLDER"``). If a model gives a step no score, because it is too long for instance,
        its solution is left out for all models. A candidate of best-of-N stays, and such a model chooses it after all
        others. The notes of the tables count and name these solutions.
    on : str, path, Benchmark, StepDataset, Candidates, a list of these, or a mapping of names to these
        The benchmarks, as :func:`read_benchmark` takes them: ``"processbench:gsm8k.json"``, ``"bon:samples.jsonl"``,
        or what :func:`prmkit.data.load_samples` returns.
    fields : mapping of str to str, optional
        The field of each part, for the data without a KIND, as :func:`read_benchmark` takes them.
    options : mapping, optional
        Options of the reader of these data, or of all data without ``fields``: ``dict(labels="binary", base=1)``.
    limit : int, optional
        Largest number of records to read of each of the data, from the first one on. The descriptions of the benchmarks
        say so. A longer run takes over the stored scores of a shorter one. By default all records are read.
    out : str or path, optional
        Folder for ``report.html``, ``results.json``, ``results.md`` and ``run.json``.
    overwrite : bool, default=False
        Whether to replace the report of another run in ``out``. A report of the same models, data and settings is
        always replaced.
    work : str or path, optional
        Folder for the scores, which are stored while the models run. A run that was killed goes on there, and a run
        with the same model and data scores nothing again. By default ``out/scores``. Without ``out``, no scores are
        stored.
    threshold_data : str, Benchmark or StepDataset, optional
        The data that choose the thresholds: the name of one of ``on``, or other data. By default each half of a
        benchmark's problems is judged with the threshold that the other half chose.
    trained_on : {"exclude", "keep"}, default="exclude"
        Whether to leave out the problems that a model was trained on, for all models, or to keep them. The description
        of the benchmark counts them. The training problems of existing PRMs and of score files are unknown.
    quoted : bool, default=False
        If True, published numbers stand beside, marked and with their source.
    n_resamples : int, default=1000
        Number of resamples of the problems, for the 95% intervals.
    n_jobs : int, optional
        Number of processes that make the tables, one benchmark each. By default one.
    random_state : int, default=0
        Seed of the resamples and of the halves. The result depends on no other random number.
    show_progress : bool, default=True
        If True, show a progress bar on a terminal.
    command : str, optional
        The command that the report names. By default this call, without the settings that change no number.

    Returns
    -------
    Evaluation
        The tables and curves, and the solutions behind them.

    Raises
    ------
    FileExistsError
        If ``out`` holds the report of another run.
    FileNotFoundError, TypeError
        If a model or a benchmark does not exist, or has the wrong type.
    ValueError
        If two names are equal, if scores do not fit the solutions, or if a benchmark holds no problem that is new to
        the models.

    Notes
    -----
    A file of step scores holds one line per solution: ``{"id": "gsm8k-7", "rewards": [0.98, 0.12]}``. In place of
    ``rewards`` it may hold ``risks`` (P(wrong)), ``probabilities`` (of all classes, worst first) or ``raw_rewards``.
    The id is that of the solution, or that of its record in its own file, also a number. The samples of record 7 are
    ``"7/0"``, ``"7/1"`` …, or have ``7`` each, in their order. ``"benchmark": NAME`` tells equal ids apart. A score may
    be null: the step has none. :func:`write_step_scores` writes such a file.

    Raw rewards may have any scale. Steps and solutions are ranked by them, thresholds are chosen on them, and best-of-N
    takes the rules that have a meaning on any scale. Only numbers about probabilities (log-loss, ECE, "at 0.5", sums of
    votes) take their sigmoid.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data, new = (make_arithmetic_solutions(40, 2, random_state=seed) for seed in (0, 1))
    >>> clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    >>> result = evaluate({"statistics": clf}, Benchmark.from_dataset("new", new), n_resamples=20)
    >>> [row.system for row in result.table("Steps of new").rows]
    ['statistics', 'majority', 'position', 'length']
    >>> round(result.table("Steps of new").rows[1].values["AUROC"].value, 3)
    0.5
    """
    command = _call(dict(locals())) if command is None else command
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    if trained_on not in _TRAINED_ON:
        raise ValueError(f"trained_on is {trained_on!r}, expected one of {', '.join(map(repr, _TRAINED_ON))}")
    if isinstance(n_resamples, bool) or not isinstance(n_resamples, (int, np.integer)) or n_resamples < 0:
        raise ValueError(f"n_resamples is {n_resamples!r}, expected a whole number, 0 or more")
    if isinstance(random_state, bool) or not isinstance(random_state, (int, np.integer)) or random_state < 0:
        raise ValueError(f"random_state is {random_state!r}, expected a whole number, 0 or more")
    if out is not None and Path(out).expanduser().is_file():
        raise ValueError(f"out is the file {out}, expected a folder for the report")
    judged = judged_models(models)
    specs = _by_name(on)
    read_one = partial(_read, fields=fields, options=options, limit=limit)
    with _one_warning():
        benchmarks = [read_one(*one) for one in specs]
        chooser = _chooser(threshold_data, specs, benchmarks, read_one)
    distinct_names(benchmarks)
    if fields is not None and not any(
        isinstance(spec, (str, Path)) and takes_fields(str(spec), fields) for _, spec in specs
    ):
        raise ValueError("fields is for data without a KIND in front, and all data here have one: leave it out")
    everything = benchmarks if chooser is None or chooser in benchmarks else [*benchmarks, chooser]
    settings = {
        "n_resamples": n_resamples,
        "random_state": random_state,
        "threshold_data": None if chooser is None else chooser.name,
        "trained_on": trained_on,
        "quoted": quoted,
    }
    identify = lru_cache(partial(_identity, judged, everything, settings))
    if out is not None:
        check_folder(Path(out).expanduser(), identify(), overwrite)
    work = Path(out) / "scores" if work is None and out is not None else work
    stored = None if work is None else Path(work).expanduser()
    with _one_warning():
        scores = _scores(judged, everything, stored, show_progress, limit is not None)
    contexts = _contexts(judged, everything, scores, trained_on, n_resamples, random_state, quoted)
    data = None
    if chooser is not None:
        chosen = next(one for one in contexts if one.benchmark.name == chooser.name)
        data = ThresholdData(chosen.benchmark, {system.name: system for system in chosen.systems})
    contexts = [replace(one, threshold_data=data) for one in contexts[: len(benchmarks)]]
    tables, left_out, curves = _tables(contexts, n_jobs, quoted)
    named = {one.name: spec for one, (_, spec) in zip(benchmarks, specs, strict=True)}
    if chooser is not None and chooser.name not in named:
        named[chooser.name] = threshold_data
    inputs = [model.files() for model in judged]
    inputs += [file for name, spec in named.items() for file in _files_of(name, spec)]
    run = {
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        "prmkit": prmkit.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "limit": limit,
        **settings,
        "inputs": inputs,
    }
    evaluation = Evaluation(
        judged,
        [one.benchmark for one in contexts],
        tables,
        curves,
        lambda: browsed_solutions(contexts, sampled_candidates),
        run,
        left_out,
        identify,
    )
    if out is not None:
        evaluation.save(out, overwrite=overwrite)
    return evaluation


def _by_name(on: Any) -> list[tuple[str | None, Any]]:
    """Return the data to evaluate on, each with the name that a mapping gives it."""
    if on is None or isinstance(on, (str, Path, Benchmark, StepDataset, Candidates)):
        on = [on]
    named: list[tuple[str | None, Any]] = [(None, spec) for spec in on]
    if isinstance(on, Mapping):
        named = list(on.items())
    if not named:
        raise ValueError("there is no benchmark to evaluate on, expected one such as 'processbench:gsm8k.json'")
    return named


def _read(name: str | None, spec: Any, **settings: Any) -> Benchmark:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        benchmark = read_benchmark(spec, **settings)
    benchmark = benchmark if name is None else replace(benchmark, name=name)
    for one in caught:
        warnings.warn(f"{benchmark.name}: {one.message}", one.category, stacklevel=2)
    return benchmark


@contextmanager
def _one_warning() -> Iterator[None]:
    """Give all warnings of a part of the run as one, which names the place where ``evaluate`` was called."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said = dict.fromkeys(str(one.message).rstrip(".") for one in caught if issubclass(one.category, UserWarning))
    if said:
        warnings.warn(". ".join(said), UserWarning, stacklevel=4)


def _files_of(name: str, spec: Any) -> list[dict[str, str]]:
    files = data_files(named_path(str(spec))[2]) if isinstance(spec, (str, Path)) else ()
    return [{"name": name, "path": path, "sha256": digest} for path, digest in files]


def _identity(
    models: Sequence[JudgedModel], benchmarks: Sequence[Benchmark], settings: Mapping[str, Any]
) -> dict[str, str]:
    """Return a digest of the models, of the data and of the settings of a run."""
    parts = {
        "models": [[model.name, model.fingerprint] for model in models],
        "data": [one.fingerprint for one in benchmarks],
        "settings": settings,
    }
    return {name: hashlib.sha256(json.dumps(part).encode()).hexdigest() for name, part in parts.items()}


_NO_NUMBER = ("out", "overwrite", "work", "n_jobs", "show_progress", "command")
"""Settings that change no number."""


def _call(given: Mapping[str, Any]) -> str:
    """Return a call of ``evaluate`` as text. Objects are named by their class."""
    parameters = inspect.signature(evaluate).parameters.values()
    shown = [
        ("" if one.default is one.empty else f"{one.name}=") + _shown(given[one.name])
        for one in parameters
        if one.name not in _NO_NUMBER and (one.default is one.empty or given[one.name] != one.default)
    ]
    return f"evaluate({', '.join(shown)})"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_shown(one)}' for key, one in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Path):
        return repr(str(value))
    return repr(value) if isinstance(value, (str, int, float, type(None))) else f"<{type(value).__name__}>"


def _chooser(
    threshold_data: Any,
    specs: Sequence[tuple[str | None, Any]],
    benchmarks: Sequence[Benchmark],
    read_one: Callable[[str | None, Any], Benchmark],
) -> Benchmark | None:
    """Return the benchmark that chooses the thresholds: one of ``on``, or another one."""
    if threshold_data is None:
        return None
    for (_, spec), benchmark in zip(specs, benchmarks, strict=True):
        if threshold_data is spec or (isinstance(threshold_data, str) and threshold_data in (spec, benchmark.name)):
            return benchmark
    other = read_one(None, threshold_data)
    distinct_names([*benchmarks, other])
    return other


def _scores(
    models: Sequence[JudgedModel],
    benchmarks: Sequence[Benchmark],
    work: Path | None,
    show_progress: bool,
    is_partial: bool,
) -> dict[str, dict[str, StepScores]]:
    """Return scores by model and benchmark."""
    return {
        model.name: read_step_scores(model.path, benchmarks, partial=is_partial)
        if model.kind == "scores"
        else {
            one.name: path_scores(model, one)
            if model.scores_paths
            else cached_scores(model, one.name, one.solutions, work, show_progress)
            for one in benchmarks
        }
        for model in models
    }


def _contexts(
    models: Sequence[JudgedModel],
    benchmarks: Sequence[Benchmark],
    scores: Mapping[str, Mapping[str, StepScores]],
    trained_on: str,
    n_resamples: int,
    random_state: int,
    quoted: bool,
) -> list[Context]:
    contexts = []
    for benchmark in benchmarks:
        known, lines = known_problems(models, benchmark, trained_on)
        unscored, more = unscored_in(models, benchmark, scores)
        lines += more
        description = "\n".join(filter(None, [benchmark.description, *lines]))
        new = ~unscored & ~known if trained_on == "exclude" else ~unscored
        if not new.any():
            raise ValueError(
                f"{benchmark.name}: {'; '.join(lines)}. Nothing is left to evaluate on. Take other data, or pass "
                "trained_on='keep' to see how the model does on problems that it knows, or a longer max_length"
            )
        kept = benchmark.subset(new, description)
        by_step = np.repeat(new, benchmark.lengths)
        systems = [System(model.name, scores[model.name][benchmark.name].rows(by_step)) for model in models]
        systems += baseline_systems(kept, random_state)
        contexts.append(Context(kept, systems, None, n_resamples, random_state, quoted, tuple(lines)))
    return contexts


def _tables(
    contexts: Sequence[Context], n_jobs: int | None, quoted: bool
) -> tuple[list[Table], list[LeftOut], list[Curve]]:
    """Return the tables, those that are left out for a reason, and the curves."""
    from joblib import Parallel, delayed

    results = Parallel(n_jobs=n_jobs)(delayed(_tables_of)(context) for context in contexts)
    found = [table for one in results for table in one[0]]
    curves = [curve for one in results for curve in one[1]]
    tables = [one for one in found if isinstance(one, Table)]
    splits = [context.benchmark.name for context in contexts if context.benchmark.kind == "processbench"]
    found = processbench_mean(tables, splits, quoted) + found
    left_out = [one for one in found if isinstance(one, LeftOut)]
    if quoted:
        left_out += without_published({one.benchmark.name: one.benchmark.kind for one in contexts})
    return [one for one in found if isinstance(one, Table)], left_out, curves


def _tables_of(context: Context) -> tuple[list[Table | LeftOut], list[Curve]]:
    found, curves = selection(context)
    if context.benchmark.candidates is not None:
        found += wrong_samples(context)
    of_steps = [one for one in context.systems if not one.scores.of_solutions]
    if all(one.baseline for one in of_steps):
        return found, curves
    context = replace(context, systems=of_steps)
    makers = (first_error_tables, prmbench_tables, reasoneval_tables, step_tables)
    return found + [one for make in makers for one in make(context)], curves + step_curves(context)
