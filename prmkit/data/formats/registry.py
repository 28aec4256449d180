"""All layouts by name, and ``load``, which finds out by itself which one a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from itertools import islice
from typing import Any, NamedTuple

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.candidates import is_candidates
from prmkit.data.formats.format import Format
from prmkit.data.formats.sources import iter_records

_LOOKED_AT = 20


class _Place(NamedTuple):
    module: str
    constant: str
    loader: str


def _place(name: str) -> _Place:
    return _Place(f"prmkit.data.formats._{name}", name.upper(), f"load_{name}")


_PLACES: dict[str, _Place] = {
    "prm800k": _Place("prmkit.data.formats._prm800k", "PRM800K", "load_trajectories"),
    **{
        name: _place(name)
        for name in (
            "stepwise",
            "sdiehl",
            "math_shepherd",
            "openrlhf",
            "rlhflow",
            "processbench",
            "prmbench",
            "reasoneval",
            "mr_gsm8k",
            "mr_ben",
            "big_bench_mistake",
            "flat",
            "rated",
        )
    },
}


class _Formats(Mapping[str, Format]):
    """Name -> Format, each imported when it is asked for."""

    def __getitem__(self, name: str) -> Format:
        place = _PLACES[name]
        return getattr(import_module(place.module), place.constant)

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


FORMATS: Mapping[str, Format] = _Formats()
"""Every layout of step labels by the name that ``load(path, format=…)`` knows it by."""


def load(path: Any, format: str | None = None, **options: Any) -> StepDataset:  # noqa: A002 (the word of the field)
    """Load step labels of any layout.

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array or object, CSV, Parquet; also gzipped) or a folder of such.
    format : str, optional
        One of ``FORMATS``. By default the first records tell, and ``description`` says what they were recognised as.
        PRM800K is then read as trajectories: one solution per record.
    **options
        Of the loader of that layout, such as ``on_error="skip"`` or ``limit=100``.

    Returns
    -------
    StepDataset

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    TypeError
        For an option that the layout's loader does not have.
    ValueError
        For an unknown format, where no layout or several fit the first records, or for what the loader refuses.

    Examples
    --------
    >>> dataset = load([{"input": "2 + 3?", "value": ["2 + 3 = 5."], "label": ["+"]}])
    >>> dataset.y, dataset.description.splitlines()[0]
    (array([1]), 'recognised by its first records as sdiehl')
    """
    source = list(path) if isinstance(path, Iterator) else path
    name = check_format(format) if format is not None else recognise(source, split=options.get("split"))
    dataset = _loader(name)(source, **options)
    if format is not None:
        return dataset
    return replace(dataset, description=f"recognised by its first records as {name}\n{dataset.description}")


def recognise(source: Any, *, split: str | None = None) -> str:
    """Return the name of the layout that the first records of a source have.

    Raises
    ------
    FileNotFoundError, ConnectionError, TypeError
        If there are no records to look at.
    ValueError
        If none fits, or several do, naming them.
    """
    found = iter_records(source, split=split or "train", on_error="skip")
    records = [one.record for one in islice(found, _LOOKED_AT)]
    if not records:
        raise ValueError(f"{_named(source)} holds no records, expected step labels")
    if any(map(is_candidates, records)):
        raise ValueError(
            f"{_named(source)} holds sampled solutions for best-of-N, without step labels: "
            "load_candidates(path, step_splitter=…) reads it"
        )
    fitting = [name for name, layout in FORMATS.items() if any(map(layout.recognises, records))]
    if len(fitting) == 1:
        return fitting[0]
    first = records[0]
    fields = ", ".join(map(repr, first)) if isinstance(first, Mapping) else f"none, but {first!r:.60}"
    if fitting:
        raise ValueError(
            f"the first records of {_named(source)} fit several layouts ({', '.join(fitting)}): say which, format="
            f"{fitting[0]!r}"
        )
    raise ValueError(
        f"{_named(source)} fits no known layout: its first record has the fields {fields}. Known: "
        f"{', '.join(FORMATS)}. If it is one of them with other names of fields, say which: format='openrlhf', "
        "input_key='text'"
    )


def check_format(name: Any) -> str:
    """Return a name that is in ``FORMATS``; ValueError for any other."""
    if not isinstance(name, str) or name not in _PLACES:
        raise ValueError(f"format is {name!r}, expected one of {', '.join(_PLACES)}")
    return name


def _loader(name: str) -> Callable[..., StepDataset]:
    place = _PLACES[name]
    return getattr(import_module(place.module), place.loader)


def _named(source: Any) -> str:
    is_path = isinstance(source, str) or hasattr(source, "__fspath__")
    return str(source) if is_path else f"the {type(source).__name__}"
