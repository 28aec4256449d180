"""PRM800K in its official format: where its records are, and how they become labelled steps."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.fields import flat_labels, value_at
from prmkit.data.formats.sources import LabelAccount
from prmkit.data.jsonlines import (
    COMPRESSED,
    MalformedRecordError,
    is_url,
    iter_hub_records,
    iter_json_lines,
    matching_files,
)
from prmkit.data.labels import NAMES, ratings_to_names
from prmkit.data.prm800k._merge import MergedRows, report, warn_of_malformed
from prmkit.data.prm800k._records import RowMeta, Rules, parse_record, prefix_rows, trajectory_rows, why_dropped
from prmkit.data.solution import Step

Address: TypeAlias = str | PathLike[str]
Split: TypeAlias = Literal["train", "test"]
View: TypeAlias = Literal["prefixes", "trajectories"]
Neutral: TypeAlias = Literal["keep", "positive", "negative", "drop"]
Conflicts: TypeAlias = Literal["majority", "drop", "keep"]
OnError: TypeAlias = Literal["raise", "skip"]

_VIEWS = {"prefixes": prefix_rows, "trajectories": trajectory_rows}
_NEUTRAL = ("keep", "positive", "negative", "drop")
_SPLITS = ("train", "test")
_OFFICIAL = re.compile(r"phase([12])_(train|test)\.jsonl(?:\.(?:gz|bz2|xz|zst))?$")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+$")
# The folder itself, or a clone of openai/prm800k.
_DATA_FOLDERS = ("", "data", "prm800k/data")


def load_prm800k(
    path_or_split: Address | Sequence[Address],
    *,
    phase: Literal[1, 2] | None = None,
    split: Split | None = None,
    view: View = "prefixes",
    include_alternatives: bool = True,
    drop_quality_control: bool = True,
    drop_screening: bool = True,
    drop_flagged: bool = True,
    include_human: bool = True,
    neutral: Neutral = "keep",
    labels: Literal["ratings", "names"] = "ratings",
    conflicts: Conflicts = "majority",
    cut_answer: bool = False,
    on_error: OnError = "raise",
    limit: int | None = None,
) -> StepDataset:
    """Load PRM800K (Lightman et al. 2023), where every labelled step is one row.

    Parameters
    ----------
    path_or_split : path, URL, pattern, sequence of these, or str
        A file in JSON lines, which may be compressed. Or a folder with the official files ``phase1_train.jsonl``,
        ``phase1_test.jsonl``, ``phase2_train.jsonl``, ``phase2_test.jsonl``, or a clone of openai/prm800k. Or the
        name ``"owner/name"`` of a Hugging Face data set in PRM800K's own schema.
    phase : {1, 2}, optional
        Phase to load. By default both. In a folder it selects the files. In a file without an official name it
        selects records: those of phase 2 number their ``generation`` or have pre-generated steps, those of phase 1
        have no such fields. A record where these fields are null does not tell its phase, and is then left out.
    split : {"train", "test"}, optional
        Files of a folder, or split of a Hugging Face data set, to load. By default "train".
    view : {"prefixes", "trajectories"}, default="prefixes"
        Rows to make. "prefixes" gives every rated step after the prefix that it was judged in. "trajectories" gives
        the one solution that each record follows, without alternatives.
    include_alternatives : bool, default=True
        Whether candidates that the solution does not continue with are rows of "prefixes".
    drop_quality_control : bool, default=True
        Whether to leave out records that check the labellers.
    drop_screening : bool, default=True
        Whether to leave out the records that every labeller rated at first.
    drop_flagged : bool, default=True
        Whether to ignore ratings of steps that the labeller did not know how to rate. The steps stay context.
    include_human : bool, default=True
        Whether steps that a labeller wrote are rows, rated +1. They stay context in any case.
    neutral : {"keep", "positive", "negative", "drop"}, default="keep"
        What to do with the rating 0. With "drop" the step is no row, but stays context.
    labels : {"ratings", "names"}, default="ratings"
        Whether ``y`` holds -1, 0, +1 or "negative", "neutral", "positive".
    conflicts : {"majority", "drop", "keep"}, default="majority"
        What to do with a step that was rated differently. "majority" takes the most frequent rating, and none on a
        tie. "drop" takes none. "keep" makes one row per rating.
    cut_answer : bool, default=False
        Whether a step ends before its line ``# Answer``. The answer goes to ``Solution.meta["answer"]``. A step that
        is nothing but the answer keeps its text.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a line that is not JSON, and with a record that breaks the schema. A skipped record is left
        out as a whole, and a warning counts them by reason.
    limit : int, optional
        Number of records to read at most.

    Returns
    -------
    StepDataset
        Labelled steps. ``description`` counts the records and steps that were read, left out and merged.
        ``first_errors`` follow from the merged ratings, including those that ``neutral="drop"`` or
        ``include_human=False`` keep out of ``y``. ``rows`` has the columns ``source`` ("model" or "human"),
        ``chosen`` (whether the solution continues with the step), ``count`` (equal labellings), ``flagged``,
        ``labeler``, ``generation`` and ``phase`` (of the first labelling, or the first that chose the step).

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the path does not exist, a folder lacks an official file, or a Hugging Face data set cannot be read.
    ValueError
        If an option is unknown, contradicts an official file's name, a file is a Git-LFS pointer, a record is
        malformed (with ``on_error="raise"``), or no labelled step is left.

    Notes
    -----
    Each alternative was judged after the same prefix, and none becomes context of a later step. In "prefixes", steps
    that are equal in problem, prefix and text are one row. In "trajectories" only whole equal solutions are merged,
    so that each keeps the ratings of all its steps. Train and test share no problem, but the phases do. So cut a
    validation part by problem.

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
    _check("conflicts", conflicts, ("majority", "drop", "keep"))
    _check("neutral", neutral, _NEUTRAL)
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
    # Options act after merging, because a rating that is no row still tells where a first error is not.
    X, y, columns = merged.settle(neutral=neutral, conflicts=conflicts, include_human=include_human, counts=counts)

    source = ", ".join(s.name for s in find_sources(path_or_split, phase, split))
    options = f'view "{view}", neutral "{neutral}", conflicts "{conflicts}"'
    description = f"PRM800K, official format, from {source}; {options}\n{report(counts, X, y)}"
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
        counts=dict(counts),
        vocabulary=NAMES if labels == "names" else "rating",
    )


def iter_prm800k(
    path_or_split: Address | Sequence[Address],
    *,
    phase: Literal[1, 2] | None = None,
    split: Split | None = None,
    view: View = "prefixes",
    include_alternatives: bool = True,
    drop_quality_control: bool = True,
    drop_screening: bool = True,
    drop_flagged: bool = True,
    include_human: bool = True,
    neutral: Neutral = "keep",
    cut_answer: bool = False,
    on_error: OnError = "raise",
    limit: int | None = None,
    counts: Counter[str] | None = None,
) -> Iterator[tuple[Step, int, RowMeta]]:
    """Stream the labelled steps of PRM800K, duplicates included.

    One record is in memory at a time.

    Parameters
    ----------
    path_or_split, phase, split, view, include_alternatives, drop_quality_control, drop_screening, \
drop_flagged, include_human, neutral, cut_answer, on_error, limit
        As in `load_prm800k`.
    counts : Counter, optional
        Filled while reading with the number of records and steps that were read and left out, by reason.

    Returns
    -------
    iterator of (Step, int, dict)
        Step, rating and metadata (``source``, ``chosen``, ``flagged``, ``labeler``, ``generation``, ``phase``). The
        steps of one record that continue each other share one ``Solution``. Its ``id`` is "file:line". That of an
        alternative is "file:line/step.candidate".

    Raises
    ------
    FileNotFoundError, ConnectionError, ValueError
        As in `load_prm800k`. Options and paths are checked at once, records when they are reached.

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
    _check("split", split, (*_SPLITS, None))
    _check("view", view, tuple(_VIEWS))
    _check("neutral", neutral, _NEUTRAL)
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
    sources: list[Source], rules: Rules, on_error: OnError, limit: int | None, counts: Counter[str]
) -> Iterator[tuple[Step, int, RowMeta]]:
    """Yield the rows of the records that the rules keep."""
    account = LabelAccount()
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
            account.add(_ratings_in(value), lost=True)
            continue
        account.add(_ratings_in(value), lost=False)
        counts[f"finish_reason {record.meta['finish_reason']}"] += 1
        yield from _VIEWS[rules.view](record, rules, counts)
    account.report(counts)


def _ratings_in(value: object) -> list[object]:
    """Return the ratings in a record, also in a malformed one."""
    with contextlib.suppress(MalformedRecordError):
        return flat_labels(value_at(value, "label.steps.completions.rating", optional=True))
    return []


class Source(NamedTuple):
    """One place to read from. The phase is None where its name does not tell it."""

    name: str
    phase: int | None
    # None for the name of a Hugging Face data set.
    path: Address | None
    split: str = "train"

    @property
    def stem(self) -> str:
        """The name without its endings, with which the ids of solutions begin."""
        return _without_compression(self.name).removesuffix(".jsonl")

    def records(self, on_error: OnError, counts: Counter[str]) -> Iterator[tuple[int, Any]]:
        """Yield line numbers and records."""
        if self.path is not None:
            return iter_json_lines(self.path, on_error=on_error, counts=counts)
        return enumerate(iter_hub_records(self.name, self.split), start=1)


def find_sources(path_or_split: Address | Sequence[Address], phase: int | None, split: str | None) -> list[Source]:
    """Return the places to read from. An official file's name must not contradict ``phase`` or ``split``."""
    if isinstance(path_or_split, Sequence) and not isinstance(path_or_split, (str, bytes)):
        if not path_or_split:
            raise ValueError("an empty list of files, expected at least one")
        return [source for path in path_or_split for source in find_sources(path, phase, split)]
    if not isinstance(path_or_split, (str, PathLike)):
        raise TypeError(
            f"path_or_split is {type(path_or_split).__name__}, expected a file, a folder, a list of files, "
            "or the name of a Hugging Face data set"
        )
    if files := matching_files(path_or_split):
        return [_file(file, phase, split) for file in files]
    if is_url(path_or_split):
        return [_file(path_or_split, phase, split)]
    path = Path(path_or_split).expanduser()
    if path.is_dir():
        return _official_files(path, phase, split or "train")
    if path.exists():
        return [_file(path, phase, split)]
    name = str(path_or_split)
    if name in _SPLITS:
        raise ValueError(
            f"{name!r} names a split but not where the files are, and there is no such path: "
            f"load_prm800k(folder, split={name!r}), with the folder that holds phase1_{name}.jsonl and "
            f"phase2_{name}.jsonl (github.com/openai/prm800k, Git LFS)"
        )
    if _HUB_NAME.match(name) and path.suffix not in (".jsonl", ".json", *COMPRESSED):
        return [Source(name, None, None, split or "train")]
    raise FileNotFoundError(
        f"{name} does not exist (looked for {path.absolute()}). Expected a PRM800K file (.jsonl, which may be "
        "compressed), the folder with phase1_train.jsonl and the others, or the name 'owner/name' of a Hugging Face "
        "data set"
    )


def _file(path: Address, phase: int | None, split: str | None) -> Source:
    """Return a file as a source. An official name tells phase and split."""
    name = fspath(path).replace("\\", "/").rpartition("/")[2]
    official = _OFFICIAL.match(name)
    if official is None:
        return Source(name, None, path)
    if split not in (None, official[2]):
        raise ValueError(f"{name} is the {official[2]} split, but split={split!r}: leave split out")
    if phase not in (None, int(official[1])):
        raise ValueError(f"{name} is phase {official[1]}, but phase={phase}: leave phase out")
    return Source(name, int(official[1]), path)


def _official_files(folder: Path, phase: int | None, split: str) -> list[Source]:
    """Return the official files of a folder, plain or compressed."""
    names = [f"phase{number}_{split}.jsonl" for number in ((1, 2) if phase is None else (phase,))]
    sources, missing = [], []
    for name in names:
        candidates = [folder / sub / f"{name}{ending}" for sub in _DATA_FOLDERS for ending in ("", *COMPRESSED)]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            missing.append(name)
        else:
            sources.append(_file(path, None, None))
    if missing:
        hint = f" To read what is there, pass phase={sources[0].phase}." if sources else ""
        raise FileNotFoundError(
            f"{folder} lacks {' and '.join(missing)} (looked for them, and for compressed ones, in it, in data/ and "
            f"in prm800k/data/).{hint} A file of another name is passed by its own path."
        )
    return sources


def _without_compression(name: str) -> str:
    return next((name.removesuffix(ending) for ending in COMPRESSED if name.endswith(ending)), name)


def _check(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed or isinstance(value, (bool, float)):
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")
