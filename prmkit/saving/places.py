"""A model by its place: a folder that prmkit saved, or an existing PRM in a folder or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from prmkit.fitted import FittedClassifier, with_setting
from prmkit.saving.folder import CONFIG, holds_saved_model
from prmkit.saving.model import load_model, model_class, public_class
from prmkit.utils.files import sha256_of


@dataclass(frozen=True)
class ModelPlace:
    """Where a model of steps is, checked and not loaded yet. It can be sent to another process.

    ``kind`` is "prmkit" for a folder that prmkit saved, and "pretrained" for an existing PRM, whose ``layout`` may be
    named.
    """

    kind: Literal["prmkit", "pretrained"]
    path: str
    layout: str | None = None

    def load(self) -> FittedClassifier:
        """Return the classifier. Steps that are too long get NaN, rather than an error after hours."""
        if self.kind == "prmkit":
            saved: FittedClassifier = with_setting(load_model(self.path), "too_long", "nan")
            return saved
        # The class stands to the right of this room.
        classifier: Any = public_class("PRMClassifier")
        pretrained: FittedClassifier = classifier.from_pretrained(self.path, self.layout, too_long="nan")
        return pretrained

    def digest(self) -> str:
        """Return a text that differs between models with different scores. It may read all weights."""
        folder = Path(self.path).expanduser()
        if self.kind == "prmkit":
            return folder_digest(folder)
        return f"{self.layout or ''}:{folder_digest(folder) if folder.is_dir() else hub_digest(self.path)}"


def model_place(text: str | Path, *, otherwise: str = "", paths: bool = False) -> ModelPlace:
    """Return where the model is that a text names: a path, a name ``owner/name`` of the hub, or ``LAYOUT:MODEL``.

    With ``paths``, a classifier of whole solutions will do too.

    Raises
    ------
    FileNotFoundError
        If there is none. ``otherwise`` says what else the caller takes.
    ValueError
        If a saved model gives no probabilities of steps.
    """
    path = Path(text).expanduser()
    if holds_saved_model(path):
        cls = model_class(path)
        if not cls.scores_steps and not (paths and cls.scores_paths):
            raise ValueError(
                f"{path} holds a {cls.__name__}, which gives no probabilities of steps: take the classifier inside "
                f"it, which is in {path / 'classifier'} if there is one"
            )
        return ModelPlace("prmkit", str(text))
    layout, has_layout, place = str(text).partition(":")
    if not has_layout or path.exists():
        layout, place = "", str(text)
    if not Path(place).expanduser().is_dir() and place.count("/") != 1:
        raise FileNotFoundError(
            f"the model {place} does not exist, expected a folder that prmkit saved, or a folder or hub name "
            f"(owner/name) of an existing PRM{otherwise}"
        )
    return ModelPlace("pretrained", place, layout or None)


def folder_digest(folder: Path) -> str:
    """Return a digest of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def hub_digest(name: str) -> str:
    """Return what tells one state of a model on the hub from another: the commit that is in use here."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, CONFIG)
    return f"{name}@{Path(found).parent.name}" if isinstance(found, str) else name


def object_digest(model: Any) -> str:
    """Return a digest of a model in memory."""
    import joblib

    try:
        return str(joblib.hash(model, hash_name="sha1"))
    except (pickle.PicklingError, AttributeError, TypeError):
        # It cannot be told from any other model, so it is the same as none.
        return uuid4().hex
