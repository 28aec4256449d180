"""Models that can be evaluated: saved by prmkit, published, fitted objects, or scores made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prmkit.fitted import FittedClassifier, gives_unscored_steps, training_problems, with_setting
from prmkit.saving.folder import CONFIG
from prmkit.saving.places import model_place, object_digest
from prmkit.utils.files import sha256_of

_SCORE_FILES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model by name, which is loaded when it is first needed.

    ``kind`` says where the scores come from: a classifier of "prmkit", a "pretrained" published model, or a file of
    "scores". ``path`` is empty for an object that was passed in. ``digest`` returns a text that differs between
    models with different scores.
    """

    name: str
    kind: str
    path: str
    load: Callable[[], Any] = field(repr=False, default=lambda: None)
    digest: Callable[[], str] = field(repr=False, default=lambda: "")

    @cached_property
    def classifier(self) -> FittedClassifier:
        """The fitted classifier."""
        classifier: FittedClassifier = self.load()
        return classifier

    @cached_property
    def fingerprint(self) -> str:
        """What ``digest`` returns. It may read all weights, so it is asked once."""
        return self.digest()

    def files(self) -> dict[str, str]:
        """Return the path that was typed, and the SHA-256 of what was read there.

        A folder that prmkit saved has a list of its files and their SHA-256, ``config.json``. Of another folder such a
        list is made.
        """
        if not self.path:
            return {"name": self.name, "path": "an object in memory", "sha256": ""}
        if self.kind == "prmkit":
            file = Path(self.path).expanduser() / CONFIG
            return {"name": self.name, "path": f"{self.path}/{CONFIG}", "sha256": sha256_of(file)}
        # A layout may stand in front, and the name of a model on the hub has its commit behind it.
        found = self.fingerprint.rpartition(":")[2]
        shown = found if found.isalnum() else f"not taken: {found} on the Hugging Face hub"
        return {"name": self.name, "path": self.path, "sha256": shown}

    @property
    def why_unscored(self) -> str:
        """Why a step may have no score, in words."""
        if self.kind == "scores":
            return "its file gives null"
        return "it cannot read them" if gives_unscored_steps(self.classifier) else "its probabilities are NaN"

    @property
    def scores_paths(self) -> bool:
        """Whether it judges whole solutions, and no steps."""
        return self.kind == "prmkit" and bool(getattr(self.classifier, "scores_paths", False))

    @property
    def training_problems(self) -> np.ndarray | None:
        """Keys of the problems that it was trained on, or None if nothing remembers them."""
        return training_problems(self.classifier) if self.kind == "prmkit" else None

    def to_dict(self) -> dict[str, str]:
        """Return what a report says of it."""
        return {"name": self.name, "kind": self.kind, "path": self.path}


def judged_models(models: Any) -> list[JudgedModel]:
    """Return models by name, from a list or a mapping of models. No model, or two of one name, raise ValueError."""
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
        raise ValueError(f"two models are called {doubled!r}: pass {{name: model}}, or NAME=PATH in a terminal")
    return found


def judged_model(model: Any, name: str | None = None) -> JudgedModel:
    """Return a model that is not loaded yet. :func:`evaluate` says what may be given as a model.

    ``name`` is its name in tables. By default it is the name of the folder, the file or the class. FileNotFoundError
    says that a path does not exist and is no hub name.
    """
    if not isinstance(model, (str, Path)):
        if not hasattr(model, "predict_proba"):
            raise TypeError(
                f"a model is {type(model).__name__}, expected a path, or a fitted classifier with predict_proba"
            )
        # Steps that are too long get NaN, rather than an error after hours.
        return JudgedModel(
            name or type(model).__name__,
            "prmkit",
            "",
            lambda: with_setting(model, "too_long", "nan"),
            lambda: object_digest(model),
        )
    text = str(model)
    before, is_named, rest = text.partition("=")
    if is_named and "/" not in before and not Path(text).exists():
        name, text = name or before, rest
    path = Path(text).expanduser()
    if path.name.endswith(_SCORE_FILES):
        if not path.is_file():
            raise FileNotFoundError(f"the file of step scores {path} does not exist")
        return JudgedModel(name or path.name.split(".jsonl")[0], "scores", text, digest=lambda: sha256_of(path))
    place = model_place(text, paths=True, otherwise=", or a file of step scores that ends in .jsonl")
    return JudgedModel(name or Path(place.path).expanduser().name, place.kind, text, place.load, place.digest)
