"""A saved model is a folder: written beside its place and renamed into it, with a checksum of each file."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from prmkit import __version__
from prmkit.utils.environment import installed_version
from prmkit.utils.files import replaced, replacing, sha256_of

CONFIG = "config.json"
CARD = "README.md"
# Files that people and the hub write into a folder. They are kept when another model takes its place.
_KEPT = (CARD, ".gitattributes")
_FORMAT = 3
# Formats 1 and 2 were written before the first release. Format 2 has skops archives where format 3 has arrays.
_READABLE = (1, 2, _FORMAT)


@contextmanager
def writing_folder(path: str | Path, kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give a hidden folder, and a dictionary for its ``config.json``, which replace ``path`` when all is written.

    FileExistsError says that something else than a saved ``kind`` stands at ``path``, or files beside one.
    """
    path = Path(path).expanduser()
    check_replaceable(path, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as folder:
        folder.mkdir()
        config: dict[str, Any] = {"format": _FORMAT, "class": kind}
        yield folder, config
        config["files"] = {name: sha256_of(folder / name) for name in _files(folder)}
        installed = {name: installed_version(name) for name in ("numpy", "scikit-learn", "torch")}
        config["versions"] = {"prmkit": __version__, **installed}
        for name in _KEPT:
            if (path / name).is_file():
                shutil.copy2(path / name, folder / name)
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def place_of(path: str | Path) -> Path:
    """Return the folder of a saved model: ``path``, or where a save left the model that was killed in between."""
    path = Path(path).expanduser()
    if not (left := replaced(path)):
        return path
    warnings.warn(
        f"the saving of {path} was interrupted at its end, and the model is read from {left[0]}, where it is whole: "
        f"save it again, or rename that folder to {path.name}",
        stacklevel=3,
    )
    return left[0]


def holds_saved_model(path: Path) -> bool:
    """Whether a folder holds a model of prmkit. Other libraries write a config.json too, without a class."""
    try:
        return bool(_read_json(path, "model that prmkit saved"))
    except (OSError, ValueError):
        return False


def saved_class(path: Path) -> tuple[str, str | None]:
    """Return the name of the class that is saved at ``path``, and the version of prmkit that saved it."""
    config = _read_json(path, "model that prmkit saved")
    return config["class"], config.get("versions", {}).get("prmkit")


def read_config(path: Path, kind: str) -> dict[str, Any]:
    """Read the configuration of a saved model, checking that every file is whole.

    FileNotFoundError says that there is no saved model. ValueError says that it is of another class or a later
    format, incomplete or damaged.
    """
    file, config = path / CONFIG, _read_json(path, kind)
    if config["class"] != kind:
        raise ValueError(f"{file} describes no {kind} but a {config['class']}: read it with {config['class']}.load")
    if config.get("format", _FORMAT) not in _READABLE:
        raise ValueError(
            f"{path} has format {config['format']}, this prmkit reads {_FORMAT}: it was saved by prmkit "
            f"{config.get('versions', {}).get('prmkit')}, load it with that version"
        )
    if missing := sorted({"format", "files", "versions"} - config.keys()):
        raise ValueError(f"{file} is damaged (without {missing}): copy or save the model again")
    for name, digest in config["files"].items():
        part = path / PurePosixPath(name)
        if ".." in PurePosixPath(name).parts or not part.is_relative_to(path):
            raise ValueError(f"{file} names {name!r}, which lies outside the model")
        if not part.is_file():
            raise ValueError(f"{part} is missing: the saved model is incomplete; copy or save it again")
        if sha256_of(part) != digest:
            raise ValueError(f"{part} is damaged (its checksum differs): copy or save the model again")
    return config


def _read_json(path: Path, kind: str) -> dict[str, Any]:
    file = path / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{str(path)!r} holds no saved model: no {CONFIG} there")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): copy or save the model again") from error
    if not isinstance(config, dict) or not isinstance(config.get("class"), str):
        if (path / "prmkit.json").is_file():
            raise ValueError(
                f"{path} holds a language model: type PRMClassifier.from_pretrained({str(path)!r}) to load it"
            )
        raise ValueError(
            f"{file} describes no {kind}. For a published language model type "
            f"PRMClassifier.load({str(path)!r}, layout=…)"
        )
    return config


def check_replaceable(path: Path, kind: str) -> None:
    """Refuse to replace what was not written here: another kind of model has a config.json too."""
    if not path.exists():
        return
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        found, written = config["class"], {CONFIG, *config["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise FileExistsError(f"{path} exists and is no saved model: choose another folder") from None
    if found != kind:
        raise FileExistsError(f"{path} holds a saved {found}, and this is a {kind}: choose another folder")
    foreign = sorted(set(_files(path)) - written - set(_KEPT))
    if foreign:
        raise FileExistsError(
            f"{path} also holds {foreign}, which saving over it would delete: move it or choose another folder"
        )


def _files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
