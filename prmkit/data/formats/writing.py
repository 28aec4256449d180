"""Step labels into a file of any format that prmkit writes, with an account of the information that is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from prmkit.data.dataset import StepDataset, solution_positions
from prmkit.data.formats.format import Format, LabelledSolution, first_error_of
from prmkit.data.formats.label_words import Rating
from prmkit.data.formats.registry import FORMATS, check_format, lists_formats
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.labels import names_to_ratings, order_of_vocabulary
from prmkit.utils.files import writing

_BESIDE_LABELS = ("id", "meta:")
"""How the names of losses begin that concern no label."""
# PRM800K's loader calls the reference answer so.
_OTHER_NAMES = {"answer": "final_answer"}


def labelled_solutions(dataset: StepDataset) -> Iterator[tuple[LabelledSolution, bool]]:
    """Yield each solution with the ratings of its steps, and whether it repeats one because a step has several labels.

    Raises
    ------
    ValueError
        If labels are neither ratings, nor their names, nor booleans, nor floats in [0, 1].
    """
    lines: list[list[list[Rating]]] = [[[None] * solution.n_steps] for solution in dataset.solutions]
    # A step with several labels puts its solution on several lines.
    positions = solution_positions(dataset).tolist()
    for step, position, rating in zip(dataset.X, positions, _as_ratings(dataset), strict=True):
        line = next((line for line in lines[position] if line[step.index] is None), None)
        if line is None:
            line = [None] * step.solution.n_steps
            lines[position].append(line)
        line[step.index] = rating
    for i, solution in enumerate(dataset.solutions):
        for number, line in enumerate(lines[i]):
            is_stated = dataset.first_errors is not None and not number
            first_error = dataset.first_errors[i] if is_stated else first_error_of(line)  # type: ignore[index]
            yield LabelledSolution(solution, tuple(line), first_error), number > 0


def _as_ratings(dataset: StepDataset) -> list[Any]:
    """Return the labels as ratings or probabilities, if their kind tells which of them they are."""
    values: list[Any] = dataset.y.tolist()
    kind: str = dataset.y.dtype.kind
    vocabulary = dataset.vocabulary
    if vocabulary == "rating":
        return [int(value) for value in values]  # 0.0 is neutral, and no probability of 0
    if vocabulary == "soft":
        return values
    if vocabulary is not None:
        order = order_of_vocabulary(vocabulary) or ()
        if len(order) > 3:
            raise ValueError(f"y has {len(order)} classes {list(order)}, expected two or three: no format holds more")
        return [(-1, 0, 1)[order.index(value) if len(order) == 3 else 2 * order.index(value)] for value in values]
    if kind == "O" and len({type(value) for value in values}) == 1:
        kind = {str: "U", bool: "b", int: "i", float: "f"}.get(type(values[0]), "O")
    if kind == "U":
        return list(names_to_ratings(values).tolist())
    if kind == "b":
        return [1 if value else -1 for value in values]
    if kind in "iu" and set(values) <= {-1, 0, 1}:
        if 0 in values and -1 not in values:
            raise ValueError(
                "y holds 0 and no -1, and nothing says what 0 means: make StepDataset(…, vocabulary='binary') if it is "
                "wrong, or vocabulary='rating' if it is neutral"
            )
        return values
    if kind == "f" and all(0 <= value <= 1 for value in values):
        return [float(value) for value in values]
    examples = sorted({repr(value) for value in values})[:5]
    raise ValueError(
        f"y holds {', '.join(examples)} ({dataset.y.dtype}), expected ratings -1, 0, 1 as integers, their names, "
        "booleans, or probabilities in [0, 1]"
    )


def losses_of(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    """Return the names of the losses of a solution, whose records are read as ``back``.

    Losses of ids and metadata begin with "id" and "meta:".

    Raises
    ------
    MalformedRecordError
        If the records say something else than the solution: another problem, step, label or first error.
    """
    if not back:
        raise MalformedRecordError("not readable", "its record would be left out in reading")
    lost = [*_lost_texts(labelled, back), *_lost_ratings(labelled, back)]
    longest = max(back, key=lambda part: part.solution.n_steps)
    first_error = labelled.first_error
    if first_error is not None and len(back) == 1 and longest.first_error is None:
        lost.append("the first error, which the labels alone do not tell")
    elif first_error is None and len(back) == 1 and longest.first_error != first_error_of(labelled.ratings):
        lost.append("that nobody knows the first error")
    elif None not in (first_error, longest.first_error) and first_error != longest.first_error:
        raise MalformedRecordError("another first error", f"{first_error} would be read as {longest.first_error}")
    meta = longest.solution.meta or {}
    lost += [
        f"meta: {key}"
        for key, value in (labelled.solution.meta or {}).items()
        if value is not None and value not in (meta.get(key), meta.get(_OTHER_NAMES.get(key, key)))
    ]
    if labelled.solution.id is not None and longest.solution.id != labelled.solution.id:
        lost.append("id")
    return lost


def _lost_texts(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    problem, steps = labelled.solution.problem, labelled.solution.steps
    lost: list[str] = []
    for part in back:
        lost += _differences(problem, steps[: part.solution.n_steps], part.solution.problem, part.solution.steps)
    if max(part.solution.n_steps for part in back) < len(steps):
        lost.append("steps after the last labelled one")
    if len(back) > 1:
        lost.append("the solution as one: its steps become rows")
    return list(dict.fromkeys(lost))


def _differences(problem: str, steps: tuple[str, ...], read_problem: str, read_steps: tuple[str, ...]) -> list[str]:
    """Return the harmless differences of texts: numbers in front of steps, and white space. Refuse any other."""
    if (read_problem, read_steps) == (problem, steps):
        return []
    if problem.strip() != read_problem.strip() or len(read_steps) != len(steps):
        raise MalformedRecordError("another text", "problem and steps would be cut elsewhere in reading")
    lost = []
    has_number = has_other_space = False
    for i, (text, read_text) in enumerate(zip(steps, read_steps, strict=True), start=1):
        # Math-Shepherd needs a number in front of each step.
        numbered = f"Step {i}: {text}"
        if read_text.strip() not in (text.strip(), numbered.strip()):
            raise MalformedRecordError("another text", f"{text!r:.40} would be read as {read_text!r:.40}")
        has_number |= read_text.strip() not in (text.strip(), "")
        has_other_space |= read_text not in (text, numbered)
    if has_number:
        lost.append("texts as they are: steps get a number, 'Step 1: '")
    if has_other_space or problem != read_problem:
        lost.append("white space around texts")
    return lost


def _lost_ratings(labelled: LabelledSolution, back: Sequence[LabelledSolution]) -> list[str]:
    read_ratings: list[Rating] = [None] * labelled.solution.n_steps
    for part in back:
        for i, rating in enumerate(part.ratings):
            read_ratings[i] = rating if rating is not None else read_ratings[i]
    lost = []
    for rating, read_rating in zip(labelled.ratings, read_ratings, strict=True):
        if rating == read_rating and isinstance(rating, float) == isinstance(read_rating, float):
            continue
        if rating == 0 and not isinstance(rating, float) and read_rating == 1:
            lost.append("neutral steps become right")
        elif rating is not None and read_rating is None:
            lost.append("labels after the first error")
        else:
            raise MalformedRecordError("another label", f"{rating} would be read as {read_rating}")
    return list(dict.fromkeys(lost))


@dataclass
class WriteReport:
    """An account of a data set that was written to a file.

    Parameters
    ----------
    path : Path
        File that was written.
    format : str
        Name of its format.
    solutions : int
        Number of solutions that were written.
    records : int
        Number of records that were written.
    left_out : Counter
        Number of solutions that the format cannot hold, by reason.
    lost : Counter
        Number of written solutions that lost something, by the name of the loss.
    replaced : bool
        Whether a file of this name was there before.
    """

    path: Path
    format: str
    solutions: int = 0
    records: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    replaced: bool = False

    def __str__(self) -> str:
        """Return the report in lines, for people."""
        records = "" if self.records == self.solutions else f" in {self.records} records"
        place = ", in place of the file that was there" if self.replaced else ""
        lines = [f"written: {self.solutions} solutions{records}, as {self.format}, to {self.path}{place}"]
        lines += [f"left out: {n} solutions ({reason})" for reason, n in self.left_out.items()]
        beside = {name: n for name, n in self.lost.items() if name.startswith(_BESIDE_LABELS)}
        lines += [f"lost in {n} solutions: {name}" for name, n in self.lost.items() if name not in beside]
        if beside:
            names = ", ".join(f"{name.removeprefix('meta: ')} ({n})" for name, n in beside.items())
            lines.append(f"lost beside the labels: {names}")
        return "\n".join(lines)


@lists_formats(writable=True)
def write(
    dataset: StepDataset | Iterable[LabelledSolution],
    path: str | PathLike[str],
    format: str,  # noqa: A002 (the word of the field)
    *,
    on_loss: Literal["count", "raise"] = "count",
    overwrite: bool = True,
) -> WriteReport:
    """Write step labels in any format.

    The file appears when it is whole, or not at all. It is gzipped if its name ends in ``.gz``.

    Parameters
    ----------
    dataset : StepDataset or iterable of LabelledSolution
        Labelled steps. A stream is written as it comes.
    path : path
        File to write.
    format : str
        Name of the format, see Notes. "rated", prmkit's own, loses nothing.
    on_loss : {"count", "raise"}, default="count"
        What to do if the format cannot hold all that is said of a step: count the loss and write the rest, or raise
        before anything is written. Lost ids and metadata are counted in both cases.
    overwrite : bool, default=True
        Whether to replace a file that exists, which the report then says. If False, it is an error. ``prmkit convert``
        has the flag ``--overwrite``.

    Returns
    -------
    WriteReport
        Numbers of solutions that were written and left out, and the losses. Every record is read back when it is
        written, so exactly the losses that it names are lost.

    Raises
    ------
    FileExistsError
        If the file exists, with ``overwrite=False``.
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If prmkit does not write the format, something is lost (with ``on_loss="raise"``), or no solution can be
        written.

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
    file_format = check_writable(format)
    if on_loss not in ("count", "raise"):
        raise ValueError(f"on_loss is {on_loss!r}, expected 'count' or 'raise'")
    report = WriteReport(Path(path).expanduser(), file_format.name)
    report.replaced = report.path.exists()
    if report.replaced and not overwrite:
        raise FileExistsError(f"{report.path} is there already: pass overwrite=True, or choose another name")
    if isinstance(dataset, StepDataset):
        solutions = labelled_solutions(dataset)
    else:
        solutions = ((labelled, False) for labelled in dataset)
    with writing(report.path, as_array=file_format.json_array) as add:
        for record in _records(solutions, file_format, on_loss, report):
            add(record)
            report.records += 1
        if not report.records:
            reasons = "; ".join(f"{n} {reason}" for reason, n in report.left_out.items()) or "there are none"
            raise ValueError(f"no solution can be written as {file_format.name} ({reasons}): nothing was written")
    return report


def check_writable(name: object) -> Format:
    """Return a format that prmkit writes. Raise ValueError for any other name."""
    file_format = FORMATS[check_format(name)]
    if file_format.write is None:
        writable = ", ".join(repr(other) for other in FORMATS if FORMATS[other].write is not None)
        raise ValueError(f"prmkit reads the format {name} and does not write it; it writes {writable}")
    return file_format


def _records(
    solutions: Iterable[tuple[LabelledSolution, bool]], file_format: Format, on_loss: str, report: WriteReport
) -> Iterator[str]:
    """Yield the records of all solutions as JSON, and fill the report."""
    hashes: set[int] = set()
    for labelled, is_repeated in solutions:
        where = f"solution {labelled.solution.id or report.solutions}"
        try:
            records, lost = _written(labelled, file_format)
        except MalformedRecordError as error:
            if on_loss == "raise":
                raise ValueError(f"{where} cannot be written as {file_format.name}: {error}") from None
            report.left_out[error.reason] += 1
            continue
        if is_repeated:
            lost.append("further labels of a step, as a solution of their own")
        # A format with a reader of its own merges equal solutions.
        if file_format.reader is not None and hash(labelled.solution) in hashes:
            lost.append(f"equal solutions, which load_{file_format.name} merges")
        hashes.add(hash(labelled.solution))
        if on_loss == "raise" and (grave := [name for name in lost if not name.startswith(_BESIDE_LABELS)]):
            raise ValueError(
                f"{where} loses something as {file_format.name}: {'; '.join(grave)}. Pass on_loss='count' to accept "
                "that"
            )
        report.lost.update(lost)
        report.solutions += 1
        for record in records:
            yield _as_json(record, where)


def _written(labelled: LabelledSolution, file_format: Format) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the records of a solution, and the losses that reading them back shows."""
    assert file_format.write is not None
    result = file_format.write(labelled)
    records = result if isinstance(result, list) else [result]
    # Reading back decides: a text that a format would take for a mark never gets a wrong label.
    back = [part for record in records for part in file_format.solutions_of(record, "", Counter())]
    return records, losses_of(labelled, back)


def _as_json(record: dict[str, Any], where: str) -> str:
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can escape and UTF-8 cannot hold
        text = json.dumps(record)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} has metadata that JSON cannot hold ({error})") from None
    return text
