"""Where PRM800K records come from: files, the official folder, or a Hugging Face data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from prmkit.data.jsonlines import iter_json_lines

SPLITS = ("train", "test")
_OFFICIAL = re.compile(r"phase([12])_(train|test)\.jsonl(\.gz)?$")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+$")
# The folder itself, or a clone of openai/prm800k.
_DATA_FOLDERS = ("", "data", "prm800k/data")


class Source(NamedTuple):
    """One place to read from; ``phase`` is None where the name does not tell."""

    name: str
    phase: int | None
    path: Path | None  # None: the name is a Hugging Face data set
    split: str = "train"

    @property
    def stem(self) -> str:
        """The name without its endings: what solution ids begin with."""
        return self.name.removesuffix(".gz").removesuffix(".jsonl")

    def records(self, on_error: str, counts: Counter[str]) -> Iterator[tuple[int, Any]]:
        """Yield ``(line number, record)``."""
        if self.path is not None:
            return iter_json_lines(self.path, on_error=on_error, counts=counts)
        from prmkit.data.jsonlines import iter_hub_records

        return enumerate(iter_hub_records(self.name, self.split), start=1)


def find_sources(path_or_split: Any, phase: int | None, split: str | None) -> list[Source]:
    """Return what there is to read.

    Raises
    ------
    FileNotFoundError
        If a path, or an official file of a folder, does not exist.
    TypeError
        If it is no path, name or sequence of paths.
    ValueError
        If an official file's name contradicts ``phase`` or ``split``, or there is only a split's name.
    """
    if isinstance(path_or_split, Sequence) and not isinstance(path_or_split, (str, bytes)):
        if not path_or_split:
            raise ValueError("an empty list of files, expected at least one")
        return [source for path in path_or_split for source in find_sources(path, phase, split)]
    if not isinstance(path_or_split, (str, PathLike)):
        raise TypeError(
            f"path_or_split is {type(path_or_split).__name__}, expected a file, a folder, a list of files, "
            "or the name of a Hugging Face data set"
        )
    path = Path(path_or_split).expanduser()
    if path.is_dir():
        return _official_files(path, phase, split or "train")
    if path.exists():
        return [_file(path, phase, split)]
    name = str(path_or_split)
    if name in SPLITS:
        raise ValueError(
            f"{name!r} names a split but not where the files are, and there is no such path: "
            f"load_prm800k(folder, split={name!r}), with the folder that holds phase1_{name}.jsonl and "
            f"phase2_{name}.jsonl (github.com/openai/prm800k, Git LFS)"
        )
    if _HUB_NAME.match(name) and path.suffix not in (".jsonl", ".gz", ".json"):
        return [Source(name, None, None, split or "train")]
    raise FileNotFoundError(
        f"{name} does not exist (looked for {path.absolute()}). Expected a PRM800K file (.jsonl or "
        ".jsonl.gz), the folder with phase1_train.jsonl and the others, or the name 'owner/name' of a "
        "Hugging Face data set"
    )


def _file(path: Path, phase: int | None, split: str | None) -> Source:
    official = _OFFICIAL.match(path.name)
    if official is None:
        return Source(path.name, None, path)
    if split not in (None, official[2]):
        raise ValueError(f"{path.name} is the {official[2]} split, but split={split!r}: leave split out")
    if phase not in (None, int(official[1])):
        raise ValueError(f"{path.name} is phase {official[1]}, but phase={phase}: leave phase out")
    return Source(path.name, int(official[1]), path)


def _official_files(folder: Path, phase: int | None, split: str) -> list[Source]:
    wanted = [f"phase{number}_{split}.jsonl" for number in ((1, 2) if phase is None else (phase,))]
    found, missing = [], []
    for name in wanted:
        candidates = [folder / sub / f"{name}{suffix}" for sub in _DATA_FOLDERS for suffix in ("", ".gz")]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            missing.append(name)
        else:
            found.append(_file(path, None, None))
    if missing:
        hint = f" To read what is there, pass phase={found[0].phase}." if found else ""
        raise FileNotFoundError(
            f"{folder} lacks {' and '.join(missing)} (looked for them, and for .gz, in it, in data/ and in "
            f"prm800k/data/).{hint} A file of another name is passed by its own path."
        )
    return found
