"""What every model that can be saved has. The writing and the reading are in ``prmkit.saving``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

# By name, since rooms to the left of saving have models too.
_SAVING = "prmkit.saving.model"
_Model = TypeVar("_Model", bound="SavedModel")


@dataclass(frozen=True)
class Contents:
    """Everything that a folder says about a fitted model.

    ``settings`` holds what JSON holds, and numpy scalars and arrays of them. ``arrays`` are written as safetensors.
    ``parts`` are fitted featurizers and heads by file name. ``models`` are fitted models inside, by folder name. A
    ``FrozenEstimator`` is saved as the model that it freezes.
    """

    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)


class SavedModel:
    """Mixin of fitted models that can be saved. A class says what its contents are, and this one writes and reads them.

    To make a class savable, derive from this one, write ``_contents`` and ``_from_contents``, and export the class
    from its room.
    """

    # Whether the model gives class probabilities of steps, so that it can be evaluated.
    scores_steps: ClassVar[bool] = False
    # Whether it gives probabilities of whole solutions, so that it can be evaluated on candidates.
    scores_paths: ClassVar[bool] = False

    def save(self, path: str | Path) -> None:
        """Save the fitted model to a folder. No pickle is written.

        Parameters
        ----------
        path : str or path
            Folder to write. A saved model of the same class that stands there is replaced when all is written.

        Raises
        ------
        FileExistsError
            If something else stands at ``path``.
        TypeError, ValueError
            If a part is made of types that loading would refuse.
        """
        import_module(_SAVING).save_model(self, path)

    @classmethod
    def load(cls: type[_Model], path: str | Path) -> _Model:
        """Load a saved model. No code from the folder is run.

        Parameters
        ----------
        path : str or path
            Folder that ``save`` wrote.

        Returns
        -------
        SavedModel
            The fitted model.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no model of this class, or it is incomplete, damaged, or holds types that prmkit does not save.
        """
        model: _Model = import_module(_SAVING).read_model(cls, path)
        return model

    def _contents(self) -> Contents:
        """Return what is to be saved; raise NotFittedError before ``fit``."""
        raise NotImplementedError

    @classmethod
    def _from_contents(cls: type[_Model], contents: Contents) -> _Model:
        """Return the fitted model that ``_contents`` described."""
        raise NotImplementedError
