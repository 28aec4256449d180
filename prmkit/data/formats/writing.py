"""Step labels into a file of any layout that prmkit writes, with an account of what the layout could not hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Rating, first_error_of
from prmkit.data.formats.labelled_solutions import labelled_solutions
from prmkit.data.formats.registry import FORMATS, check_format
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.utils.files import writing

BESIDE = ("id", "meta:")
"""How losses begin that concern no label."""
_OTHER_NAMES = {"answer": "final_answer"}  # PRM800K's loader calls the reference answer so


def losses_of(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    """Return what reading back lacks.

    Raises
    ------
    MalformedRecordError
        If it would say something else than was meant: another problem or step, or another label.
    """
    if not back:
        raise MalformedRecordError("not readable", "its record would be left out in reading")
    lost = [*_texts(labelled, back), *_ratings(labelled, back)]
    longest = max(back, key=lambda one: one.solution.n_steps)
    first_error = labelled.first_error
    if first_error is not None and len(back) == 1 and longest.first_error is None:
        lost.append("the first error, which the labels alone do not tell")
    elif first_error is None and len(back) == 1 and longest.first_error != first_error_of(labelled.ratings):
        lost.append("that nobody knows the first error")
    elif None not in (first_error, longest.first_error) and first_error != longest.first_error:
        raise MalformedRecordError(
            "another first error", f"{first_error} would be read as {longest.first_error}"
        )
    meta = longest.solution.meta or {}
    lost += [
        f"meta: {key}"
        for key, value in (labelled.solution.meta or {}).items()
        if value is not None and value not in (meta.get(key), meta.get(_OTHER_NAMES.get(key, key)))
    ]
    if labelled.solution.id is not None and longest.solution.id != labelled.solution.id:
        lost.append("id")
    return lost


def _texts(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    problem, steps = labelled.solution.problem, labelled.solution.steps
    lost: list[str] = []
    for one in back:
        read = one.solution.steps
        given = steps[: len(read)]
        if (one.solution.problem, read) != (problem, given):
            numbered = tuple(f"Step {i}: {step}" for i, step in enumerate(given, start=1))
            lost += _differences(problem, given, numbered, one)
    if max(one.solution.n_steps for one in back) < len(steps):
        lost.append("steps after the last labelled one")
    if len(back) > 1:
        lost.append("the solution as one: its steps become rows")
    return list(dict.fromkeys(lost))


def _differences(
    problem: str, steps: tuple[str, ...], numbered: tuple[str, ...], one: LabelledSolution
) -> list[str]:
    def bare(texts: Sequence[str]) -> list[str]:
        return [text.strip() for text in texts]

    read, lost = one.solution.steps, []
    if bare([problem]) != bare([one.solution.problem]) or len(read) != len(steps):
        raise MalformedRecordError("another text", "problem and steps would be cut elsewhere in reading")
    gained = any(
        text.strip() not in (plain.strip(), "") and text.strip() == number.strip()
        for text, plain, number in zip(read, steps, numbered, strict=True)
    )
    for text, plain, number in zip(read, steps, numbered, strict=True):
        if text.strip() not in (plain.strip(), number.strip()):
            raise MalformedRecordError("another text", f"{plain!r:.40} would be read as {text!r:.40}")
    if gained:
        lost.append("texts as they are: steps get a number, 'Step 1: '")
    if problem != one.solution.problem or any(
        text not in (plain, number) for text, plain, number in zip(read, steps, numbered, strict=True)
    ):
        lost.append("white space around texts")
    return lost


def _ratings(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    read: list[Rating] = [None] * labelled.solution.n_steps
    for one in back:
        for i, rating in enumerate(one.ratings):
            read[i] = rating if rating is not None else read[i]
    lost = []
    for given, found in zip(labelled.ratings, read, strict=True):
        if given == found and isinstance(given, float) == isinstance(found, float):
            continue
        if given == 0 and not isinstance(given, float) and found == 1:
            lost.append("neutral steps become right")
        elif given is not None and found is None:
            lost.append("labels after the first error")
        else:
            raise MalformedRecordError("another label", f"{given} would be read as {found}")
    return list(dict.fromkeys(lost))


_MERGED = "equal solutions, which load_prm800k merges"


@dataclass
class WriteReport:
    """What became of a data set in a file.

    Parameters
    ----------
    path : Path
    format : str
    solutions, records : int
        Written.
    left_out : Counter
        Solutions that the layout cannot hold, by reason.
    lost : Counter
        In how many of the written solutions something is lost, by what it is.
    """

    path: Path
    format: str
    solutions: int = 0
    records: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Return the report in lines, for people."""
        records = "" if self.records == self.solutions else f" in {self.records} records"
        lines = [f"written: {self.solutions} solutions{records}, as {self.format}, to {self.path}"]
        lines += [f"left out: {n} solutions ({reason})" for reason, n in self.left_out.items()]
        beside = {what: n for what, n in self.lost.items() if what.startswith(BESIDE)}
        lines += [f"lost in {n} solutions: {what}" for what, n in self.lost.items() if what not in beside]
        if beside:
            names = ", ".join(f"{what.removeprefix('meta: ')} ({n})" for what, n in beside.items())
            lines.append(f"lost beside the labels: {names}")
        return "\n".join(lines)


def write(
    dataset: StepDataset | Iterable[LabelledSolution],
    path: Any,
    format: str,  # noqa: A002 (the word of the field)
    *,
    on_loss: str = "count",
) -> WriteReport:
    """Write step labels in another layout.

    The file appears when it is whole, or not at all. It is gzipped if its name ends in ``.gz``.

    Parameters
    ----------
    dataset : StepDataset, or iterable of LabelledSolution
        A stream is written as it comes.
    path : str or Path
        A file that is there already is replaced.
    format : {"stepwise", "sdiehl", "math_shepherd", "prm800k", "processbench", "flat", "rated"}
        "rated", prmkit's own, loses nothing.
    on_loss : {"count", "raise"}, default="count"
        What to do where the layout cannot hold all that is said of a step: count it and write the rest, or raise before
        anything is written. Ids and metadata beside the labels are counted in both cases.

    Returns
    -------
    WriteReport
        Every record is read back as it is written, so what it says is lost is lost, and nothing else.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If prmkit does not write the layout, for a loss (``on_loss="raise"``), or if no solution can be written.

    Examples
    --------
    >>> import tempfile
    >>> from prmkit.data import Solution, StepDataset, flatten
    >>> dataset = StepDataset(flatten([Solution("2 + 3?", ["We add.", "2 + 3 = 6."])]), [0, -1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = write(dataset, f"{folder}/mine.jsonl", "stepwise")
    ...     print(Path(folder, "mine.jsonl").read_text())
    {"prompt": "2 + 3?", "completions": ["We add.", "2 + 3 = 6."], "labels": [true, false]}
    >>> dict(report.lost)
    {'neutral steps become right': 1}
    """
    layout = check_writable(format)
    if on_loss not in ("count", "raise"):
        raise ValueError(f"on_loss is {on_loss!r}, expected 'count' or 'raise'")
    report = WriteReport(Path(path).expanduser(), layout.name)
    given = (
        labelled_solutions(dataset) if isinstance(dataset, StepDataset) else ((one, False) for one in dataset)
    )
    with writing(report.path, as_array=layout.as_one) as add:
        for record in _records(given, layout, on_loss, report):
            add(record)
            report.records += 1
        if not report.records:
            reasons = "; ".join(f"{n} {reason}" for reason, n in report.left_out.items()) or "there are none"
            raise ValueError(f"no solution can be written as {layout.name} ({reasons}): nothing was written")
    return report


def check_writable(name: Any) -> Format:
    """Return a layout that prmkit writes; ValueError for any other."""
    layout = FORMATS[check_format(name)]
    if layout.write is None:
        known = ", ".join(repr(other) for other, one in FORMATS.items() if one.write is not None)
        raise ValueError(f"prmkit reads the layout {name} and does not write it; it writes {known}")
    return layout


def _records(
    given: Iterable[tuple[LabelledSolution, bool]], layout: Format, on_loss: str, report: WriteReport
) -> Iterator[str]:
    seen: set[int] = set()
    for labelled, again in given:
        where = f"solution {labelled.solution.id or report.solutions}"
        try:
            records, lost = _written(labelled, layout)
        except MalformedRecordError as error:
            if on_loss == "raise":
                raise ValueError(f"{where} cannot be written as {layout.name}: {error}") from None
            report.left_out[error.reason] += 1
            continue
        if again:
            lost.append("further labels of a step, as a solution of their own")
        key = hash(labelled.solution)
        if layout.name == "prm800k" and key in seen:
            lost.append(_MERGED)
        seen.add(key)
        if on_loss == "raise" and (grave := [what for what in lost if not what.startswith(BESIDE)]):
            raise ValueError(
                f"{where} loses something as {layout.name}: {'; '.join(grave)}. Pass on_loss='count' to accept that"
            )
        report.lost.update(lost)
        report.solutions += 1
        for record in records:
            yield _as_json(record, where)


def _written(labelled: LabelledSolution, layout: Format) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the records of a solution, and what reading them back lacks."""
    assert layout.write is not None
    made = layout.write(labelled)
    records = made if isinstance(made, list) else [made]
    # What reading says is what counts: a text that a layout would take for a mark never gets a wrong label.
    back = [one for record in records for one in layout.parse(record, "", Counter(), **layout.options)]
    return records, losses_of(labelled, back)


def _as_json(record: dict[str, Any], where: str) -> str:
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can escape and UTF-8 not hold
        text = json.dumps(record)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} has metadata that JSON cannot hold ({error})") from None
    return text
