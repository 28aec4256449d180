"""All formats by name, and ``load``, which finds out by itself which one a file has.

To add a format, write three files:

1. ``_mine.py`` in this folder, with the constant ``MINE = Format(name="mine", …)``;
2. one line in ``_FILES`` below: ``"mine": "_mine"``;
3. its test.

Then ``load(path)``, ``load(path, format="mine")``, ``write(dataset, path, "mine")`` and ``prmkit convert`` know the
format, and so does their help. A function ``load_mine`` is only needed if the format gets a public loader of its own.
It stands in the file of the format, completed by the decorator `reads`, and in the stubs of ``prmkit.data.formats`` and
``prmkit.data``.

A format outside of prmkit calls `register_format` instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from importlib import import_module
from itertools import islice
from typing import Any, TypeVar

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.candidates import is_candidates
from prmkit.data.formats.fields import by_fields
from prmkit.data.formats.format import Format, nearest_format
from prmkit.data.formats.proposals import proposal
from prmkit.data.formats.reading import read
from prmkit.data.formats.sources import Source, iter_records, name_of

_FILES = {
    "prm800k": "_prm800k",
    "stepwise": "_stepwise",
    "sdiehl": "_sdiehl",
    "math_shepherd": "_math_shepherd",
    "openrlhf": "_rlhf",
    "rlhflow": "_rlhf",
    "processbench": "_processbench",
    "prmbench": "_prmbench",
    "reasoneval": "_reasoneval",
    "mr_gsm8k": "_mr",
    "mr_ben": "_mr",
    "big_bench_mistake": "_big_bench_mistake",
    "flat": "_flat",
    "rated": "_rated",
    "scan": "_scan",
    "versaprm": "_versaprm",
    "math_aps": "_math_aps",
    "verify_then_generate": "_verify_then_generate",
}
"""File of each format in this folder. The constant in it has the name of the format in capital letters."""
_N_INSPECTED = 20
"""Number of first records that tell the format of a file."""


class _Formats(MutableMapping[str, Format]):
    """Formats by name. Those of prmkit are imported when they are needed, and cannot be replaced."""

    def __init__(self) -> None:
        self._registered: dict[str, Format] = {}

    def __getitem__(self, name: str) -> Format:
        if name in self._registered:
            return self._registered[name]
        module = import_module(f"prmkit.data.formats.{_FILES[name]}")
        file_format: Format = getattr(module, name.upper())
        return file_format

    def __setitem__(self, name: str, file_format: Format) -> None:
        if not isinstance(file_format, Format) or file_format.name != name or not name.isidentifier():
            raise ValueError(
                f"{name!r} is registered as {file_format!r:.80}, expected a Format whose name is an identifier"
            )
        if name in _FILES:
            raise ValueError(f"{name!r} is a format of prmkit already: choose another name")
        self._registered[name] = file_format

    def __delitem__(self, name: str) -> None:
        del self._registered[name]

    def __iter__(self) -> Iterator[str]:
        yield from _FILES
        yield from self._registered

    def __len__(self) -> int:
        return len(_FILES) + len(self._registered)


_Function = TypeVar("_Function", bound=Callable[..., Any])

FORMATS: MutableMapping[str, Format] = _Formats()
"""Every format of step labels by its name."""


def register_format(file_format: Format) -> None:
    """Add a format of your own, so that ``load``, ``write`` and ``prmkit convert`` know it.

    Parameters
    ----------
    file_format : Format
        The format. One that was registered under the same name before is replaced.

    Raises
    ------
    ValueError
        If prmkit itself has a format of this name.

    Examples
    --------
    >>> from prmkit.data.formats.format import from_ratings, has_fields
    >>> def parse(record, solution_id, counts):
    ...     ratings = [1 if good else -1 for good in record.array("good")]
    ...     return [from_ratings(record.text("task"), record.texts("lines"), ratings, solution_id)]
    >>> register_format(Format("mine", "task, lines, good", has_fields({"task": str, "lines": list}), parse))
    >>> load([{"task": "2 + 3?", "lines": ["2 + 3 = 5."], "good": [True]}]).y
    array([1])
    >>> del FORMATS["mine"]
    """
    FORMATS[file_format.name] = file_format


def describe_formats(*, writable: bool = False) -> list[str]:
    """Return a line per format with its name and description, only of those that prmkit writes if ``writable``."""
    return [
        f"{name}: {file_format.description}"
        for name, file_format in FORMATS.items()
        if file_format.write is not None or not writable
    ]


def lists_formats(*, writable: bool = False) -> Callable[[_Function], _Function]:
    """Make a decorator that adds the registered formats to the docstring of a function, as its Notes."""

    def add(function: _Function) -> _Function:
        lines = "\n".join(f"- {line}" for line in describe_formats(writable=writable))
        title = "The formats that prmkit writes:" if writable else "The formats:"
        notes = f"Notes\n-----\n{title}\n\n{lines}\n\nExamples\n--------\n"
        # Every format is listed from the registry, so that a new one needs no edit here.
        function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace("Examples\n--------\n", notes, 1)
        return function

    return add


@lists_formats()
def load(
    source: Source,
    format: str | None = None,  # noqa: A002 (the word of the field)
    *,
    fields: Mapping[str, str] | None = None,
    **options: Any,
) -> StepDataset:
    """Load step labels of any format, or of records whose fields are named.

    Parameters
    ----------
    source : path, URL, sequence of paths, list of dict, data frame, Dataset or name on the Hugging Face hub
        Where the records are. A file holds JSON lines, a JSON array or object, CSV, TSV, Parquet or Arrow, also
        compressed. A folder stands for all such files in it, and a pattern such as ``"part-*.jsonl"`` for the files
        that match it. Data frames of pandas and polars, Arrow tables and ``datasets.Dataset`` are read by row.
    format : str, optional
        Name of the format, see Notes. If None, the first records tell it, and ``description`` names it.
    fields : mapping of str to str, optional
        The field of each part, for records of no known format: ``dict(problem="question", steps="answer.steps.text",
        labels="answer.steps.rating")``. A path has dots, and goes on in each entry of a list. A list of lists holds
        several solutions. Parts are ``problem``, ``steps``, and either ``labels``, one for each step, or
        ``first_error``. ``id`` is the id of the solution. Any other name becomes ``Solution.meta``. Where each record
        is one step, the parts are ``problem``, ``step``, ``label``, and perhaps ``order`` and ``solution``, as in
        ``StepDataset.from_frame``.
    **options : object
        Options of the loader of that format, such as ``on_error="skip"``, ``limit=100`` or ``split="test"``. With
        ``fields`` these are:

        - ``labels``: the meaning of numbers. "binary": 0 wrong, 1 right. "rating": -1 wrong, 0 neutral, 1 right.
          "soft": the probability that the step is right. Words such as "correct" and floats need no declaration.
        - ``label_map``: the rating of each label, as in `load_flat`, where labels are other words.
        - ``base``: number of the first step, 0 (the default) or 1, for ``first_error``. Steps before the first error
          are right.
        - ``no_error``: what a file writes as ``first_error`` where no step is wrong, beside -1 and "N/A":
          ``no_error=None`` for null, ``no_error=["none", ""]`` for several. Null is an error otherwise.
        - ``step_separator``: text between the steps, where they are one text. Tags "ки" and "[P]" need none.

    Returns
    -------
    StepDataset
        Labelled steps. PRM800K is read as trajectories: one solution per record.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        If the format or an option is unknown, if no format or several fit the first records, or if a record breaks the
        format.

    Examples
    --------
    >>> dataset = load([{"input": "2 + 3?", "value": ["2 + 3 = 5."], "label": ["+"]}])
    >>> dataset.y, dataset.description.splitlines()[0]
    (array([1]), 'recognised by its first records as sdiehl')
    >>> row = {"question": "2 + 3?", "steps": [{"text": "2 + 3 = 6.", "good": 0}, {"text": "So 5.", "good": 1}]}
    >>> load([row], fields=dict(problem="question", steps="steps.text", labels="steps.good"), labels="binary").y
    array([-1,  1])
    """
    if fields is not None:
        if format is not None:
            raise ValueError(f"format={format!r} and fields exclude each other: a format knows its fields")
        return read(source, by_fields(fields), **options)
    # Recognising reads the first records, which an iterator would not give again.
    records = list(source) if isinstance(source, Iterator) else source
    name = check_format(format) if format is not None else recognise(records, split=options.get("split"))
    file_format = FORMATS[name]
    if file_format.reader is None:
        dataset = read(records, file_format, **options)
    else:
        dataset = file_format.reader(records, **options)
    if format is not None:
        return dataset
    return replace(dataset, description=f"recognised by its first records as {name}\n{dataset.description}")


def recognise(source: Source, *, split: str | None = None) -> str:
    """Return the name of the only format that fits the first records of a source.

    Raises
    ------
    FileNotFoundError, ConnectionError, TypeError
        If there are no records to look at.
    ValueError
        If no format fits, or several do. The message names them.
    """
    stream = iter_records(source, split=split, on_error="skip")
    records = [found.record for found in islice(stream, _N_INSPECTED)]
    name = name_of(source) if isinstance(source, str) or hasattr(source, "__fspath__") else f"the {name_of(source)}"
    if not records:
        # Lines that are no JSON were passed over. The first of them tells why nothing could be read.
        next(iter_records(source, split=split), None)
        raise ValueError(f"{name} holds no records, expected step labels")
    # Sampled solutions have fields of some formats, but no step labels.
    if any(map(is_candidates, records)):
        raise ValueError(
            f"{name} holds sampled solutions for best-of-N, without step labels: load_candidates(path, by=…) reads it. "
            f"If the texts are steps of one solution, say which field is what: {proposal(records)}"
        )
    fitting = [known for known, file_format in FORMATS.items() if any(map(file_format.recognises, records))]
    if len(fitting) == 1:
        return fitting[0]
    first = records[0]
    fields = ", ".join(map(repr, first)) if isinstance(first, Mapping) else f"none, but {first!r:.60}"
    if fitting:
        raise ValueError(
            f"the first records of {name} fit several formats ({', '.join(fitting)}): say which, format={fitting[0]!r}"
        )
    is_chat = isinstance(first, Mapping) and any(
        isinstance(first.get(chat), list) for chat in ("messages", "conversation")
    )
    about = (
        "A chat holds step labels where the assistant answers each step by + or -, as in RLHFlow's. " if is_chat else ""
    )
    about += nearest_format(first, FORMATS.values())
    raise ValueError(
        f"{name} fits no known format: its first record has the fields {fields or 'none'}. Known: "
        f"{', '.join(FORMATS)}. {about}Say which field is what: {proposal(records)}"
    )


def check_format(name: object) -> str:
    """Return the name of a known format. Raise ValueError for any other value."""
    if not isinstance(name, str) or name not in FORMATS:
        raise ValueError(f"format is {name!r}, expected one of {', '.join(FORMATS)}")
    return name
