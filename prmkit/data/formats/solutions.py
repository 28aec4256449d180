"""The solutions of a source as a stream, to be scored: no labels are needed, and one record is in memory at a time."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from prmkit.data.formats.candidates import is_candidates, sampled_in
from prmkit.data.formats.fields import by_fields, check_fields
from prmkit.data.formats.format import Format, LabelledSolution, Record, from_cell
from prmkit.data.formats.reading import iter_labelled
from prmkit.data.formats.registry import FORMATS, check_format, recognise
from prmkit.data.formats.samples import SampleFields
from prmkit.data.formats.sources import OnError, Source, iter_records, name_of, several_addresses, skipped_in
from prmkit.data.jsonlines import MalformedRecordError, file_system, is_url, matching_files
from prmkit.data.solution import Solution
from prmkit.data.step_splitting import BY, By, Think, check_by, split_steps

_N_INSPECTED = 20
_N_PIECES, _PIECE = 16, 1 << 16
"""Number and size of the pieces of a file that tell it from another one."""
_SAMPLED: dict[str, Any] = {"bon": "line", **{f"bon-{by}": by for by in BY}}
"""Names of sampled solutions among the formats, and the unit that becomes a step, as ``evaluate`` has them."""
_OF_SAMPLES = ("problem", "text", "steps", "id", "answer", "correct", "reference", "generator")
_OF_CANDIDATES = ("problem", "candidates", "answer", "correct", "id")
_WITH_PLAIN_STEPS = ("rated", "stepwise", "processbench")
"""Formats whose rows say the same without their labels."""
_STEPS = ("steps", "completions")
_PROBLEMS = ("problem", "prompt", "question")
_HOW_TO_SKIP = re.compile(r"[;.] [Pp]ass on_error")
_LABELS = re.compile(r",? ?\b(?:labels|first_error)=(?:'[^']*'|[\w…]+)")


def iter_solutions_of(
    source: Source | Iterable[Solution],
    format: str | None = None,  # noqa: A002 (the word of the field)
    *,
    fields: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
    counts: Counter[str] | None = None,
    skipped: list[str] | None = None,
) -> Iterator[Solution]:
    """Yield the solutions of a source in their order, whether they have labels or not.

    Parameters
    ----------
    source : Source, or iterable of Solution
        What ``load`` reads, sampled solutions, or solutions themselves, also in a ``StepDataset`` or ``Candidates``.
    format : str, optional
        A format of ``load``, or "bon", "bon-paragraph" and so on for sampled solutions. If None, the first records
        tell it. Rows with a problem and a list of steps need no labels.
    fields : mapping of str to str, optional
        The field of each part, as ``load`` takes them, without those of labels: ``problem`` and ``steps``, or
        ``problem`` and ``step`` (with ``order`` and ``solution``), ``problem`` and ``text``, or ``problem`` and
        ``candidates``.
    options : mapping, optional
        Options of the reader, such as ``by="paragraph"`` where texts are cut.
    on_error, limit, split
        As in ``load``.
    counts, skipped
        Filled with the numbers of records, and with the place and reason of each record that was left out.

    Yields
    ------
    Solution
        One in memory at a time. A table with one step per row is read whole, since its rows may come in any order.
    """
    given, source = _given(source)
    if given is not None:
        counts = Counter() if counts is None else counts
        for solution in islice(given, limit):
            counts["records"] += 1
            yield solution
        return
    head: list[Any] | None = None
    if isinstance(source, Iterator):
        head = list(islice(source, _N_INSPECTED))
        source = chain(head, source)
    seen = source if head is None else head
    file_format = _format_of(seen, format, fields, split)
    if head is None or len(head) < _N_INSPECTED:
        _check_readable(seen, split)
    settings: dict[str, Any] = {"on_error": on_error, "limit": limit, "split": split}
    settings |= {"counts": counts, "skipped": skipped}
    labelled = iter_labelled(source, file_format, **settings, **dict(options or {}))
    yield from (one.solution for one in labelled)


def _given(source: Any) -> tuple[Iterable[Solution] | None, Any]:
    """Return the solutions that a source consists of, None if it holds records, and the source unspent."""
    inside = getattr(source, "solutions", None)
    if isinstance(inside, (list, tuple)):
        return inside, source
    if isinstance(source, (list, tuple)):
        return (source if source and isinstance(source[0], Solution) else None), source
    if isinstance(source, Iterator):
        first = list(islice(source, 1))
        source = chain(first, source)
        return (source if first and isinstance(first[0], Solution) else None), source
    return None, source


def source_state(source: Any, split: str | None = None) -> Any:
    """Return what tells one state of a source from another, as JSON holds it.

    The state of a local file is its name, its size, the time of its last change, and a hash of pieces of it.
    """
    addresses = [source] if isinstance(source, (str, PathLike)) else several_addresses(source)
    if addresses:
        return [one for address in addresses for one in _state_of(fspath(address), split)]
    if isinstance(source, Iterator):
        return f"read once, {uuid4().hex}"
    import joblib

    return f"in memory, {joblib.hash(source, hash_name='sha1')}"


def _state_of(address: str, split: str | None) -> Iterator[dict[str, Any]]:
    place = Path(address).expanduser()
    files = [Path(match) for match in matching_files(address)] or [place] if not is_url(address) else []
    if files == [place] and place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.is_file())
    if not files or not files[0].exists():
        found: dict[str, Any] = {"name": address, "split": split}
        with contextlib.suppress(Exception):  # the server, the network and the hub each raise their own kind
            if is_url(address):
                system, name = file_system(address)
                found["state"] = system.ukey(name)
            else:
                from huggingface_hub import HfApi

                found["state"] = HfApi().dataset_info(address).sha
        yield found
    for file in files if files and files[0].exists() else ():
        about = file.stat()
        yield {
            "name": file.name,
            "size": about.st_size,
            "pieces": _pieces(file, about.st_size),
            "time": about.st_mtime_ns,
        }


def _pieces(file: Path, size: int) -> str:
    """Return a digest of some pieces of a file, the first and the last among them, however large it is."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for number in range(_N_PIECES):
            stream.seek(max(0, size - _PIECE) * number // (_N_PIECES - 1))
            digest.update(stream.read(_PIECE))
    return digest.hexdigest()[:32]


def check_apart(source: Any, out: Path) -> None:
    """Raise ValueError if a file to write is the source, or would be read as a part of it."""
    out = out.resolve()
    addresses = [source] if isinstance(source, (str, PathLike)) else several_addresses(source)
    for address in addresses:
        if is_url(address):
            continue
        place = Path(address).expanduser().resolve()
        if place == out or (place.is_dir() and place in out.parents) or (not place.exists() and out.match(str(place))):
            raise ValueError(f"{out} is to be written, and is a part of the source {address}: choose another place")


def n_records(source: Any, limit: int | None = None) -> int | None:
    """Return the number of records of a source, where it is found without reading them. None otherwise."""
    found: int | None = None
    if isinstance(source, (str, PathLike)) and (file := Path(source).expanduser()).is_file():
        if file.suffix == ".parquet":
            from pyarrow.parquet import read_metadata

            with contextlib.suppress(OSError, ValueError):
                found = read_metadata(file).num_rows
        elif file.suffix in (".jsonl", ".ndjson"):
            with file.open("rb") as stream:
                found = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    elif hasattr(source, "__len__") and not several_addresses(source) and not isinstance(source, str):
        found = len(getattr(source, "solutions", source))
    return found if found is None or limit is None else min(found, limit)


def _check_readable(source: Source, split: str | None) -> None:
    """Raise if a source holds no record that can be read: to skip the others would leave nothing to score."""
    counts: Counter[str] = Counter()
    if next(iter_records(source, split=split, on_error="skip", counts=counts), None) is not None:
        return
    n_broken, why = skipped_in(counts)
    why = f"each of its {n_broken} lines or rows is malformed ({why})" if n_broken else "it holds no records"
    try:
        next(iter_records(source, split=split), None)
    except ValueError as error:
        why += ", first " + _HOW_TO_SKIP.split(str(error))[0]
    raise ValueError(f"there is no solution to score in {name_of(source)}: {why}")


def _format_of(source: Source, name: str | None, fields: Mapping[str, str] | None, split: str | None) -> Format:
    """Return the way to read a source, by the name of its format, by its fields, or by its first records."""
    if fields is not None:
        if name is not None and name not in _SAMPLED:
            raise ValueError(f"format={name!r} and fields exclude each other: a format knows its fields")
        if isinstance(fields, Mapping) and "candidates" in fields:
            paths = check_fields(fields, _OF_CANDIDATES, ("problem", "candidates"))
            return _sampled(_SAMPLED[name or "bon"], paths)
        if isinstance(fields, Mapping) and "text" in fields and not fields.keys() & {"steps", "step"}:
            paths = check_fields(fields, _OF_SAMPLES, ("problem", "text"))
            return _cut(_SAMPLED[name or "bon-paragraph"], paths)
        return by_fields(fields, labelled=False)
    if name is not None and name in _SAMPLED:
        return _sampled(_SAMPLED[name])
    if name is not None and name not in FORMATS:
        raise ValueError(f"format is {name!r}, expected one of {', '.join([*FORMATS, *_SAMPLED])}")
    found = next(iter_records(source, split=split, on_error="skip"), None)
    first: Mapping[str, Any] = found.record if found is not None and isinstance(found.record, Mapping) else {}
    if name is None and is_candidates(first):
        return _sampled(_SAMPLED["bon"])
    plain = _plain_fields(first)
    try:
        name = recognise(source, split=split) if name is None else check_format(name)
    except ValueError as error:
        if found is None:
            _check_readable(source, split)
        if not first:
            raise
        if plain is None:
            said = _LABELS.sub("", str(error)).replace("steps and labels in place", "steps in place")
            said = said.replace(". Put the field of labels in place of '…'", "")
            raise ValueError(f"{said}. To score, no labels are needed") from None
    return FORMATS[name] if name not in (None, *_WITH_PLAIN_STEPS) or plain is None else _plain(*plain)  # type: ignore[index]


def _plain_fields(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the fields of problem and steps of a row that holds both as texts, under the usual names."""
    problems = [name for name in _PROBLEMS if isinstance(record.get(name), str)]
    steps = {name: from_cell(record[name]) for name in _STEPS if name in record}
    texts = [
        name for name, value in steps.items() if isinstance(value, list) and all(isinstance(s, str) for s in value)
    ]
    return (problems[0], texts[0]) if len(problems) == len(texts) == 1 else None


def _plain(problem: str, steps: str) -> Format:
    """Return the format of rows with problem and steps, of which labels are not read."""

    def parse(
        record: Record,
        solution_id: str,
        _: Counter[str],
        *,
        labels: Any = None,  # noqa: ARG001 (options of the formats, which say what labels mean)
        threshold: Any = None,  # noqa: ARG001
    ) -> list[LabelledSolution]:
        texts = record.texts(steps)
        if not texts:
            raise MalformedRecordError("no steps", "the list of steps is empty")
        return [_unlabelled(record.text(problem), texts, record.note("id") or solution_id, _told(record))]

    return Format("rows", "rows with problem and steps", recognises=lambda _: False, parse=parse)


def _told(record: Record) -> dict[str, Any] | None:
    """Return what a generator told of its tokens, beside the steps or in the metadata of prmkit's files."""
    inside = from_cell(record.value("meta", None))
    lists = record.value("token_logprobs", inside.get("token_logprobs") if isinstance(inside, Mapping) else None)
    return None if lists is None else {"token_logprobs": lists}


def _unlabelled(
    problem: str, steps: Sequence[str], solution_id: str, meta: Mapping[str, Any] | None = None
) -> LabelledSolution:
    return LabelledSolution(Solution(problem, steps, id=solution_id, meta=meta), (None,) * len(steps), None)


def _solutions(
    problem: str,
    contents: Iterable[str | list[str] | None],
    ids: Iterable[str],
    counts: Counter[str],
    by: By,
    think: Think,
) -> list[LabelledSolution]:
    """Return the samples that are not blank, cut into steps where they are texts."""
    found = []
    for content, one_id in zip(contents, ids, strict=False):
        parts = content if isinstance(content, list) else split_steps(content or "", by, think=think)
        steps = tuple(step.strip() for step in parts if step.strip())
        if not steps:
            counts["blank samples left out"] += 1
            continue
        found.append(_unlabelled(problem, steps, one_id))
    if not found:
        raise MalformedRecordError("blank samples", "no sample of the record has a step")
    return found


def _sampled(unit: By, fields: Mapping[str, str] | None = None) -> Format:
    """Return the format of records with several samples of a problem, in the layouts of ``load_candidates``."""

    def parse(
        record: Record,
        solution_id: str,
        counts: Counter[str],
        *,
        by: By | Literal["step"] = unit,
        think: Think = "keep",
    ) -> list[LabelledSolution]:
        by = "enumeration" if by == "step" else by
        check_by(by)
        sampled = sampled_in(record, fields)
        ids = [f"{solution_id}/{number}" for number in range(len(sampled.candidates))]
        return _solutions(sampled.problem, sampled.candidates, ids, counts, by, think)

    return Format("samples", "sampled solutions", recognises=is_candidates, parse=parse)


def _cut(unit: By, paths: Mapping[str, str]) -> Format:
    """Return the format of records whose texts are cut into steps, one sample per record or several."""
    fields = SampleFields(paths)

    def parse(
        record: Record, solution_id: str, counts: Counter[str], *, by: By = unit, think: Think = "keep"
    ) -> list[LabelledSolution]:
        check_by(by)
        samples = fields.samples_of(record)
        own = samples[0].problem_id or solution_id
        ids = [own] if len(samples) == 1 else [f"{own}/{number}" for number in range(len(samples))]
        return _solutions(samples[0].problem, [one.content for one in samples], ids, counts, by, think)

    return Format("samples", "samples as texts", recognises=lambda _: False, parse=parse)
