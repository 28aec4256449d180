"""PRM800K in its official layout: streamed as labelled steps, or loaded, merged and reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from os import PathLike
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.labels import ratings_to_names
from prmkit.data.prm800k._merge import CONFLICTS, NEUTRAL, MergedRows, report, warn_of_malformed
from prmkit.data.prm800k._records import (
    Rules,
    parse_record,
    prefix_rows,
    trajectory_rows,
    why_dropped,
)
from prmkit.data.prm800k._sources import SPLITS, Source, find_sources
from prmkit.data.solution import Step

_VIEWS = {"prefixes": prefix_rows, "trajectories": trajectory_rows}


def load_prm800k(
    path_or_split: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    phase: int | None = None,
    split: str | None = None,
    view: str = "prefixes",
    include_alternatives: bool = True,
    drop_quality_control: bool = True,
    drop_screening: bool = True,
    drop_flagged: bool = True,
    include_human: bool = True,
    neutral: str = "keep",
    labels: str = "ratings",
    conflicts: str = "majority",
    cut_answer: bool = False,
    on_error: str = "raise",
    limit: int | None = None,
) -> StepDataset:
    """Load PRM800K (Lightman et al. 2023), every labelled step once.

    Parameters
    ----------
    path_or_split : path, sequence of paths, or str
        A file (.jsonl, also gzipped); a folder with the official files ``phase1_train.jsonl``,
        ``phase1_test.jsonl``, ``phase2_train.jsonl``, ``phase2_test.jsonl``, or a clone of
        openai/prm800k; several files; or the name ``"owner/name"`` of a Hugging Face data set in
        PRM800K's own schema.
    phase : {1, 2, None}, default=None
        None is both. In a folder it selects the files; in a file that is not named like an official
        one, the records: phase 2 numbers its ``generation`` or has pre-generated steps, phase 1 has
        neither and no such fields. Where they are there but null, the phase is not recorded, and a
        record is left out, and counted, if ``phase`` is given.
    split : {"train", "test", None}, default=None
        Which files of a folder, or split of a Hugging Face data set; None is "train". A single file
        is its own split: one with an official name must not contradict, any other cannot.
    view : {"prefixes", "trajectories"}, default="prefixes"
        "prefixes": every rated step after the prefix it was judged in, alternatives included.
        "trajectories": the one solution that each record follows, and the ratings of its steps.
    include_alternatives : bool, default=True
        Whether candidates that the solution does not continue with are rows; with False, "prefixes"
        has the rows of "trajectories". Without effect on trajectories.
    drop_quality_control, drop_screening : bool, default=True
        Leave out repeated labellings of few solutions.
    drop_flagged : bool, default=True
        Take no label from steps that the labeller did not know how to rate; they stay context.
    include_human : bool, default=True
        Whether steps that a labeller wrote are rows, rated +1; they stay context in any case.
    neutral : {"keep", "positive", "negative", "drop"}, default="keep"
        What becomes of the rating 0; with "drop" the step stays context.
    labels : {"ratings", "names"}, default="ratings"
        ``y`` as -1, 0, +1 or as "negative", "neutral", "positive".
    conflicts : {"majority", "drop", "keep"}, default="majority"
        What becomes of a step that was rated differently: the most frequent rating (none on a tie);
        no row; or one row per rating.
    cut_answer : bool, default=False
        End a step before its line ``# Answer``; the answer goes to ``Solution.meta["answer"]``. A step
        that is nothing but the answer keeps its text.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a line that is not JSON, and with a record that breaks the schema: it is
        left out as a whole, counted by reason and warned about.
    limit : int, optional
        Read this many records at most.

    Returns
    -------
    StepDataset
        ``description`` reports what was read, left out and merged. ``first_errors`` follow from the
        merged ratings, also from those that ``neutral="drop"`` or ``include_human=False`` keep out
        of ``y``. ``rows`` has the columns ``source`` ("model" or "human"), ``chosen`` (whether
        the solution continues with the step), ``count`` (equal labellings merged), ``flagged``,
        ``labeler``, ``generation`` and ``phase`` (of the first labelling, or the first that chose it).

    Raises
    ------
    FileNotFoundError
        If the path does not exist, or a folder lacks an official file.
    ConnectionError
        If a Hugging Face data set cannot be read.
    ValueError
        For an unknown option, a Git-LFS pointer, a malformed record (``on_error="raise"``), or when
        no labelled step is left.

    Warns
    -----
    UserWarning
        If malformed records were skipped.

    Notes
    -----
    Alternatives branch: each was judged after the same prefix, and none becomes context of a later
    step. In "prefixes", steps equal in problem, prefix and text are one row; in "trajectories" only
    whole equal solutions are merged, so that each keeps the ratings of all its steps.

    Train and test share no problem; the phases do, so cut a validation part by problem.

    Examples
    --------
    >>> import json, tempfile
    >>> step = {"completions": [{"text": "3 * 4 = 12.", "rating": 1}, {"text": "3 * 4 = 7.", "rating": -1}],
    ...         "chosen_completion": 0, "human_completion": None}
    >>> record = {"question": {"problem": "2 + 3 * 4?"}, "label": {"steps": [step]}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(f"{folder}/mine.jsonl", "w") as file:
    ...         _ = file.write(json.dumps(record))
    ...     X, y = load_prm800k(f"{folder}/mine.jsonl")
    >>> [step.text for step in X], y
    (['3 * 4 = 12.', '3 * 4 = 7.'], array([ 1, -1]))
    """
    _check("labels", labels, ("ratings", "names"))
    _check("conflicts", conflicts, CONFLICTS)
    _check("neutral", neutral, NEUTRAL)
    counts: Counter[str] = Counter()
    stream = iter_prm800k(
        path_or_split,
        phase=phase,
        split=split,
        view=view,
        include_alternatives=include_alternatives,
        drop_quality_control=drop_quality_control,
        drop_screening=drop_screening,
        drop_flagged=drop_flagged,
        cut_answer=cut_answer,
        on_error=on_error,
        limit=limit,
        counts=counts,
    )
    merged = MergedRows(whole_solutions=view == "trajectories")
    for step, rating, meta in stream:
        merged.add(step, rating, meta)
    # Policies come after merging: a rating that is no row still tells where a first error is not.
    X, y, columns = merged.settle(
        neutral=neutral, conflicts=conflicts, include_human=include_human, counts=counts
    )

    source = ", ".join(s.name for s in find_sources(path_or_split, phase, split))
    options = f'view "{view}", neutral "{neutral}", conflicts "{conflicts}"'
    description = f"PRM800K, official layout, from {source}; {options}\n{report(counts, X, y)}"
    warn_of_malformed(counts)
    if not X:
        raise ValueError(f"no labelled step is left, expected at least one. What was read:\n{description}")
    solutions = list({id(step.solution): step.solution for step in X}.values())
    return StepDataset(
        X,
        ratings_to_names(y) if labels == "names" else y,
        solutions=solutions,
        description=description,
        first_errors=[merged.first_error(solution) for solution in solutions],
        rows=columns,
    )


def iter_prm800k(
    path_or_split: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    phase: int | None = None,
    split: str | None = None,
    view: str = "prefixes",
    include_alternatives: bool = True,
    drop_quality_control: bool = True,
    drop_screening: bool = True,
    drop_flagged: bool = True,
    include_human: bool = True,
    neutral: str = "keep",
    cut_answer: bool = False,
    on_error: str = "raise",
    limit: int | None = None,
    counts: Counter[str] | None = None,
) -> Iterator[tuple[Step, int, dict[str, Any]]]:
    """Stream the labelled steps of PRM800K, one record in memory at a time, duplicates included.

    Parameters
    ----------
    path_or_split, phase, split, view, include_alternatives, drop_quality_control, drop_screening, \
drop_flagged, include_human, neutral, cut_answer, on_error, limit
        As in `load_prm800k`.
    counts : Counter, optional
        Filled while reading with what was read and left out, by reason.

    Returns
    -------
    iterator of (Step, int, dict)
        The step, its rating, and metadata: ``source``, ``chosen``, ``flagged``, ``labeler``,
        ``generation``, ``phase``. The steps of one record that continue each other share one
        ``Solution``; its ``id`` is "file:line", an alternative's "file:line/step.candidate".

    Raises
    ------
    FileNotFoundError, ConnectionError, ValueError
        As in `load_prm800k`: options and paths at once, records when they are reached.

    Examples
    --------
    >>> import json, tempfile
    >>> step = {"completions": [{"text": "3 * 4 = 12.", "rating": 1}], "chosen_completion": 0}
    >>> record = {"question": {"problem": "2 + 3 * 4?"}, "label": {"steps": [step]}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(f"{folder}/mine.jsonl", "w") as file:
    ...         _ = file.write(json.dumps(record))
    ...     for step, rating, meta in iter_prm800k(f"{folder}/mine.jsonl"):
    ...         print(step.text, rating, meta["source"], step.solution.id)
    3 * 4 = 12. 1 model mine:1
    """
    _check("phase", phase, (1, 2, None))
    _check("split", split, (*SPLITS, None))
    _check("view", view, tuple(_VIEWS))
    _check("neutral", neutral, NEUTRAL)
    _check("on_error", on_error, ("raise", "skip"))
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit is {limit!r}, expected a positive number of records, or None for all")
    rules = Rules(
        phase=phase,
        view=view,
        include_alternatives=include_alternatives,
        drop_quality_control=drop_quality_control,
        drop_screening=drop_screening,
        drop_flagged=drop_flagged,
        cut_answer=cut_answer,
    )
    sources = find_sources(path_or_split, phase, split)
    rows = _iter_rows(sources, rules, on_error, limit, Counter() if counts is None else counts)
    mapped = {"positive": 1, "negative": -1}.get(neutral, 0)
    return (
        (step, rating or mapped, meta)
        for step, rating, meta in rows
        if (include_human or meta["source"] != "human") and (rating != 0 or neutral != "drop")
    )


def _iter_rows(
    sources: list[Source], rules: Rules, on_error: str, limit: int | None, counts: Counter[str]
) -> Iterator[tuple[Step, int, dict[str, Any]]]:
    lines = ((source, *line) for source in sources for line in source.records(on_error, counts))
    for source, number, value in islice(lines, limit):
        counts["records"] += 1
        try:
            reason = why_dropped(value, rules, source.phase)
            if reason is not None:
                counts[f"dropped: {reason}"] += 1
                continue
            record_id = f"{source.stem}:{number}"
            record = parse_record(value, record_id, cut_answer=rules.cut_answer, file_phase=source.phase)
        except MalformedRecordError as error:
            if on_error == "raise":
                raise ValueError(
                    f"{source.path or source.name}, line {number}: {error}. "
                    "Pass on_error='skip' to leave such records out."
                ) from None
            counts[f"malformed: {error.reason}"] += 1
            continue
        counts[f"finish_reason {record.meta['finish_reason']}"] += 1
        yield from _VIEWS[rules.view](record, rules, counts)


def _check(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed or isinstance(value, (bool, float)):
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")
