"""Save and load every fitted model of prmkit: one folder layout, one pair of functions, one list of classes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from prmkit.saving.folder import place_of, read_config, saved_class, writing_folder
from prmkit.saving.parts import plain, read_part, write_part
from prmkit.utils.saved import Contents, SavedModel
from prmkit.utils.sklearn import thawed

_ARRAYS = "arrays.safetensors"
# Folders of format 1 keep their arrays under this name, if they hold a PRMClassifier.
_OLD_ARRAYS = "problems.safetensors"
# The rooms whose public classes can be saved. A class in a folder is looked up here, and nowhere else.
_ROOMS = ("prmkit.classifier", "prmkit.uncertainty", "prmkit.models")
_Model = TypeVar("_Model", bound="SavedModel")


def save_model(model: SavedModel, path: str | Path) -> None:
    """Save a fitted model of prmkit to a folder. No pickle is written.

    Parameters
    ----------
    model : PRMClassifier, PathClassifier, or a fitted estimator of :mod:`prmkit.uncertainty`
        The model to save, with the models inside it.
    path : str or path
        Folder to write. A saved model of the same class that stands there is replaced when all is written.

    Raises
    ------
    FileExistsError
        If something else stands at ``path``.
    TypeError, ValueError
        If the model, or a part of it, is made of types that loading would refuse.

    Examples
    --------
    >>> import tempfile
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> X, y = make_arithmetic_solutions(20, 2, random_state=0)
    >>> clf = PRMClassifier(StepStatistics()).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(clf, f"{folder}/model")
    ...     bool((load_model(f"{folder}/model").predict(X) == clf.predict(X)).all())
    True
    """
    contents = _savable(model, "model")._contents()
    inside = {name: _savable(inner, name) for name, inner in contents.models.items()}
    with writing_folder(path, _saved_name(type(model))) as (folder, config):
        for name, inner in inside.items():
            save_model(inner, folder / name)
        config["parts"] = {name: write_part(part, folder, name) for name, part in contents.parts.items()}
        if contents.arrays:
            from safetensors.numpy import save_file

            arrays = {name: np.ascontiguousarray(array) for name, array in contents.arrays.items()}
            save_file(arrays, folder / _ARRAYS)
        config["settings"] = plain(dict(contents.settings))
        config["models"] = sorted(inside)


def load_model(path: str | Path) -> SavedModel:
    """Load any model that prmkit saved. No code from the folder is run.

    Parameters
    ----------
    path : str or path
        Folder that :func:`save_model` or the ``save`` of a model wrote.

    Returns
    -------
    SavedModel
        The fitted model, of the class that was saved.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no saved model, or it is incomplete, damaged, of a class that this version does not have, or holds
        types that prmkit does not save.
    """
    folder = place_of(path)
    return read_model(model_class(folder), folder)


def model_class(path: Path) -> type[SavedModel]:
    """Return the class of the model that is saved at ``path``; errors as :func:`load_model`."""
    name, version = saved_class(path)
    cls = public_class(name)
    if cls is None:
        raise ValueError(
            f"{path} describes a {name!r}, which this prmkit does not have: it was saved by prmkit {version}, load it "
            "with that version"
        )
    return cls


def public_class(name: str) -> type[SavedModel] | None:
    """Return the savable class that a room exports under this name. A folder cannot name anything else."""
    for room in map(import_module, _ROOMS):
        cls = getattr(room, name) if name in getattr(room, "__all__", ("PRMClassifier",)) else None
        if isinstance(cls, type) and issubclass(cls, SavedModel):
            return cls
    return None


def _savable(model: Any, name: str) -> SavedModel:
    inner = thawed(model)
    if not isinstance(inner, SavedModel):
        raise TypeError(
            f"the {name} is {type(inner).__name__}, which cannot be saved without pickle: prmkit saves PRMClassifier, "
            "PathClassifier and the fitted estimators of prmkit.uncertainty"
        )
    return inner


def _saved_name(cls: type) -> str:
    """Return the name under which a class is saved: for a user's own subclass that of prmkit's class."""
    public = (base.__name__ for base in cls.__mro__ if public_class(base.__name__) is base)
    return next(public, cls.__name__)


def read_model(cls: type[_Model], path: str | Path) -> _Model:
    """Read a folder as a model of ``cls``; errors as :func:`load_model`."""
    from safetensors.numpy import load_file

    path = place_of(path)
    config = read_config(path, _saved_name(cls))
    parts, settings = config.get("parts"), config.get("settings")
    version = config["versions"].get("scikit-learn")
    if parts is None:  # format 1 had no common layout
        parts = {name: config[name] for name in ("featurizer", "head") if name in config}
        settings = settings or {name: value for name, value in config.items() if name not in parts}
    arrays = {
        key: array
        for name in (_ARRAYS, _OLD_ARRAYS)
        if name in config["files"]
        for key, array in load_file(path / name).items()
    }
    contents = Contents(
        settings=settings or {},
        arrays=arrays,
        parts={name: read_part(described, path, name, version) for name, described in parts.items()},
        models={name: load_model(path / name) for name in config.get("models", ())},
    )
    try:
        return cls._from_contents(contents)
    except (KeyError, TypeError) as error:
        reason = f"without {list(error.args)}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path / 'config.json'} is damaged ({reason}): copy or save the model again") from error
