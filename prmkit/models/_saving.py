"""A fitted classifier as a folder of JSON, safetensors and (for scikit-learn parts) skops; never pickle."""

from __future__ import annotations

import json
import shutil
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from prmkit.models._saved_parts import plain, read_part, write_part
from prmkit.utils._digest import sha256_of
from prmkit.utils._versions import installed_version

_FORMAT = 1
_CONFIG = "config.json"
_PARTS = ("featurizer", "head")
_KEYS = {"format", "classes", "classes_dtype", "label_order", "random_state", "n_features_in", "default_head"}
_KEYS |= {"featurizer_name", "files", "versions", *_PARTS}


def save_classifier(classifier: Any, path: str | Path) -> None:
    """Write a fitted ``PRMClassifier`` to the folder ``path``, replacing a saved model only when all is written.

    Raises
    ------
    FileExistsError
        If something stands at ``path`` that is not a saved model alone.
    ImportError
        If a part is scikit-learn's and skops is not installed.
    ValueError
        If a part is made of types that loading would refuse.
    """
    check_is_fitted(classifier)
    path = Path(path).expanduser()
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent / f".{path.name}-{uuid4().hex}"
    folder.mkdir()
    try:
        parts = {name: write_part(getattr(classifier, f"{name}_"), folder, name) for name in _PARTS}
        seed = classifier.random_state
        config = {
            "format": _FORMAT,
            "class": "PRMClassifier",
            "classes": plain(classifier.classes_),
            "classes_dtype": classifier.classes_.dtype.str,
            "label_order": None if classifier.label_order is None else plain(list(classifier.label_order)),
            "random_state": int(seed) if isinstance(seed, Integral) else None,  # a generator is no setting
            "n_features_in": getattr(classifier, "n_features_in_", None),
            "default_head": classifier.head is None,
            "featurizer_name": classifier.featurizer if isinstance(classifier.featurizer, str) else None,
            **parts,
            "files": {name: sha256_of(folder / name) for name in _files(folder)},
            "versions": {
                name: installed_version(name) for name in ("prmkit", "numpy", "scikit-learn", "torch")
            },
        }
        (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        _replace(folder, path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def load_classifier(cls: type, path: str | Path) -> Any:
    """Read what ``save_classifier`` wrote, checking that every file is whole.

    Raises
    ------
    FileNotFoundError
        If there is no saved model at ``path``.
    ImportError
        If a part is scikit-learn's and skops is not installed.
    ValueError
        If the model is incomplete, damaged, of a later format, or holds types that prmkit does not save.
    """
    from prmkit.data._labels import resolve_label_order

    path = Path(path).expanduser()
    config = _read_config(path)
    parts = {name: read_part(config[name], path, name) for name in _PARTS}
    featurizer = parts["featurizer"]
    if featurizer is None:  # the default head keeps it
        featurizer = getattr(parts["head"], "featurizer", None)
    classifier = cls(
        featurizer=config["featurizer_name"] or clone(featurizer),
        head=None if config["default_head"] else clone(parts["head"]),
        label_order=config["label_order"],
        random_state=config["random_state"],
    )
    classifier.classes_ = np.array(config["classes"], dtype=config["classes_dtype"])
    classifier.label_order_ = resolve_label_order(classifier.classes_, config["label_order"])
    if config["n_features_in"] is not None:
        classifier.n_features_in_ = config["n_features_in"]
    for name in _PARTS:
        setattr(classifier, f"{name}_", parts[name])
    return classifier


def _check_replaceable(path: Path) -> None:
    """Refuse to replace what was not written here: another kind of model has a config.json too."""
    if not path.exists():
        return
    try:
        config = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
        written = {_CONFIG, *config["files"]} if config["class"] == "PRMClassifier" else set()
    except (OSError, ValueError, KeyError, TypeError):
        written = set()
    if not written:
        raise FileExistsError(f"{path} exists and is no saved model: choose another folder")
    foreign = sorted(set(_files(path)) - written)
    if foreign:
        raise FileExistsError(
            f"{path} also holds {foreign}, which saving over it would delete: move it or choose another folder"
        )


def _read_config(path: Path) -> dict[str, Any]:
    file = path / _CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no saved model: no {_CONFIG} there")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): copy or save the model again") from error
    if not isinstance(config, dict) or config.get("class") != "PRMClassifier":
        raise ValueError(f"{file} describes no PRMClassifier")
    if config.get("format", _FORMAT) != _FORMAT:
        raise ValueError(
            f"{path} has format {config['format']}, this prmkit reads {_FORMAT}: it was saved by prmkit "
            f"{config.get('versions', {}).get('prmkit')}, load it with that version"
        )
    if missing := sorted(_KEYS - config.keys()):
        raise ValueError(f"{file} is damaged (without {missing}): copy or save the model again")
    for name, digest in config["files"].items():
        part = path / PurePosixPath(name)
        if ".." in part.parts or not part.is_relative_to(path):
            raise ValueError(f"{file} names {name!r}, which lies outside the model")
        if not part.is_file():
            raise ValueError(f"{part} is missing: the saved model is incomplete; copy or save it again")
        if sha256_of(part) != digest:
            raise ValueError(f"{part} is damaged (its checksum differs): copy or save the model again")
    return config


def _files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _replace(folder: Path, path: Path) -> None:
    """Put the finished folder in the place of ``path``; what stood there is put back where that fails."""
    if not path.exists():
        folder.replace(path)
        return
    old = folder.with_name(f"{folder.name}-old")
    path.replace(old)
    try:
        folder.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
