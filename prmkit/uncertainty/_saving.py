"""Models on top of a classifier as folders: settings as JSON, arrays as safetensors, what they wrap inside."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator

from prmkit.saving.folder import read_config, saved_class, writing_folder
from prmkit.saving.parts import plain

_ARRAYS = "arrays.safetensors"
# What a folder inside a folder may be, and where its class is: nothing else is ever imported by a saved name.
_CLASSES = {
    "PRMClassifier": "prmkit.classifier",
    "CalibratedStepClassifier": "prmkit.uncertainty",
    "StepEnsemble": "prmkit.uncertainty",
    "MCDropout": "prmkit.uncertainty",
}


def save_model(
    kind: str,
    path: str | Path,
    *,
    settings: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray] | None = None,
    models: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder with settings, numeric arrays, and the models inside, each by its own ``save``.

    Parameters
    ----------
    kind : str
        Name of the class that is saved.
    path : path
    settings : mapping
        What JSON can hold, and numpy scalars and arrays of them.
    arrays : mapping of str to numeric ndarray, optional
    models : mapping of str to fitted model, optional
        By folder name; each with ``save``. A ``FrozenEstimator`` is saved as what it freezes.

    Raises
    ------
    FileExistsError
        If something stands at ``path`` that is not such a model alone.
    TypeError
        If a model inside has no ``save``.
    """
    from safetensors.numpy import save_file

    inside = {name: thawed(model) for name, model in (models or {}).items()}
    for name, model in inside.items():
        if type(model).__name__ not in _CLASSES or not hasattr(model, "save"):
            raise TypeError(
                f"the {name} is {type(model).__name__}, which cannot be saved without pickle: prmkit saves "
                f"{', '.join(_CLASSES)}"
            )
    with writing_folder(path, kind) as (folder, config):
        for name, model in inside.items():
            model.save(folder / name)
        if arrays:
            save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, folder / _ARRAYS)
        config |= {"settings": plain(dict(settings)), "models": sorted(inside)}


def load_model(kind: str, path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    """Read what ``save_model`` wrote: settings, arrays and models, every file checked.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no model of this class, or it is incomplete or damaged.
    """
    from safetensors.numpy import load_file

    path = Path(path).expanduser()
    config = read_config(path, kind, ("settings", "models"))
    arrays = load_file(path / _ARRAYS) if _ARRAYS in config["files"] else {}
    return config["settings"], arrays, {name: load_any(path / name) for name in config["models"]}


def load_any(path: str | Path) -> Any:
    """Read a saved classifier of any of prmkit's classes."""
    name = saved_class(path)
    if name not in _CLASSES:
        raise ValueError(f"{path} describes a {name!r}, expected one of {', '.join(_CLASSES)}")
    return getattr(import_module(_CLASSES[name]), name).load(path)


def thawed(classifier: Any) -> Any:
    """Return what a ``FrozenEstimator`` freezes; anything else as it is."""
    while isinstance(classifier, FrozenEstimator):
        classifier = classifier.estimator
    return classifier
