"""What can be evaluated: a saved classifier, an existing PRM, a fitted object, or scores made elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prmkit.scoring.fitted import training_problems
from prmkit.utils.files import sha256_of

_SCORE_FILES = (".jsonl", ".jsonl.gz")
_SHOWN_CONFIG = "config.json"


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model by name; it is loaded when it is first needed.

    Parameters
    ----------
    name : str
    kind : {"prmkit", "pretrained", "scores"}
    path : str
        Empty for an object that was passed in.
    load : callable
        Gives the fitted classifier.
    digest : callable
        Gives what tells its scores from those of any other model.
    """

    name: str
    kind: str
    path: str
    load: Callable[[], Any] = field(repr=False, default=lambda: None)
    digest: Callable[[], str] = field(repr=False, default=lambda: "")

    @cached_property
    def classifier(self) -> Any:
        """The fitted classifier."""
        return self.load()

    @property
    def training_problems(self) -> np.ndarray | None:
        """Keys of the problems that it was trained on; None where nobody knows."""
        return training_problems(self.classifier) if self.kind == "prmkit" else None

    def to_dict(self) -> dict[str, str]:
        """Return what a report says of it."""
        return {"name": self.name, "kind": self.kind, "path": self.path}


def judged_models(models: Any) -> list[JudgedModel]:
    """Return models by name, from a list or a mapping of such as :func:`judged_model` takes.

    Raises
    ------
    ValueError
        If there are none, or two of one name.
    """
    if isinstance(models, Mapping):
        found = [judged_model(model, name) for name, model in models.items()]
    else:
        alone = isinstance(models, (str, Path)) or not isinstance(models, Sequence)
        found = [judged_model(model) for model in ([models] if alone else models)]
    if not found:
        raise ValueError("there is no model to evaluate: pass a path, a fitted classifier, or several")
    names = [model.name for model in found]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ValueError(
            f"two models are called {doubled!r}: pass {{name: model}}, or NAME=PATH in a terminal"
        )
    return found


def judged_model(model: Any, name: str | None = None) -> JudgedModel:
    """Return a model with what is known of it before it is loaded.

    Parameters
    ----------
    model : str, path or fitted classifier
        A folder that ``PRMClassifier.save`` wrote; a folder or hub name for ``PRMClassifier.from_pretrained``, with
        its published layout in front where it needs one (``"skywork:FOLDER"``); a file of step scores (``.jsonl``);
        each also as ``"NAME=…"``. Or any fitted classifier over steps.
    name : str, optional

    Raises
    ------
    FileNotFoundError
        If a path does not exist and is no hub name.
    TypeError
        If it is neither a path nor a fitted classifier.
    """
    if not isinstance(model, (str, Path)):
        if not hasattr(model, "predict_proba"):
            raise TypeError(
                f"a model is {type(model).__name__}, expected a path, or a fitted classifier with predict_proba"
            )
        return JudgedModel(
            name or type(model).__name__, "prmkit", "", lambda: model, lambda: _object_digest(model)
        )
    text = str(model)
    before, is_named, rest = text.partition("=")
    if is_named and "/" not in before and not Path(text).exists():
        name, text = name or before, rest
    path = Path(text).expanduser()
    if path.name.endswith(_SCORE_FILES):
        if not path.is_file():
            raise FileNotFoundError(f"the file of step scores {path} does not exist")
        return JudgedModel(
            name or path.name.split(".jsonl")[0], "scores", text, digest=lambda: sha256_of(path)
        )
    if _is_saved_classifier(path):
        return JudgedModel(
            name or path.name, "prmkit", text, lambda: _load(path), lambda: folder_digest(path)
        )
    scheme, has_scheme, place = text.partition(":")
    if not has_scheme or path.exists():
        scheme, place = "", text
    folder = Path(place).expanduser()
    if not folder.is_dir() and place.count("/") != 1:
        raise FileNotFoundError(
            f"the model {place} does not exist, expected a folder that PRMClassifier.save wrote, a folder or hub name "
            "(owner/name) of an existing PRM, or a file of step scores that ends in .jsonl"
        )
    return JudgedModel(
        name or folder.name,
        "pretrained",
        text,
        lambda: _from_pretrained(place, scheme or None),
        lambda: f"{scheme}:{folder_digest(folder) if folder.is_dir() else hub_digest(place)}",
    )


def folder_digest(folder: Path) -> str:
    """Return a digest of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def hub_digest(name: str) -> str:
    """Return what tells one state of a model on the hub from another: the commit that is in use here."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, _SHOWN_CONFIG)
    return f"{name}@{Path(found).parent.name}" if isinstance(found, str) else name


def _object_digest(model: Any) -> str:
    import joblib

    return str(joblib.hash(model, hash_name="sha1"))


def _is_saved_classifier(path: Path) -> bool:
    config = path / _SHOWN_CONFIG
    if not config.is_file():
        return False
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("class") == "PRMClassifier"


def _load(path: Path) -> Any:
    from prmkit.classifier import PRMClassifier

    classifier = PRMClassifier.load(path)
    if hasattr(classifier.head_, "too_long"):  # an answer for what fits, rather than an error after hours
        classifier.head_.too_long = "nan"
    return classifier


def _from_pretrained(place: str, scheme: str | None) -> Any:
    from prmkit.classifier import PRMClassifier

    return PRMClassifier.from_pretrained(place, scheme, too_long="nan")
