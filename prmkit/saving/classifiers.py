"""A fitted classifier as a folder of JSON, safetensors and (for scikit-learn parts) skops; never pickle."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from prmkit.saving.folder import read_config, writing_folder
from prmkit.saving.parts import plain, read_part, write_part

_KIND = "PRMClassifier"
_PROBLEMS = "problems.safetensors"
_PARTS = ("featurizer", "head")
_KEYS = {"classes", "classes_dtype", "label_order", "random_state", "n_features_in", "default_head"}
_KEYS |= {"featurizer_name", *_PARTS}


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
    from safetensors.numpy import save_file

    check_is_fitted(classifier)
    with writing_folder(path, _KIND) as (folder, config):
        parts = {name: write_part(getattr(classifier, f"{name}_"), folder, name) for name in _PARTS}
        known = getattr(classifier, "training_problems_", None)  # a pickle may be older than the attribute
        if known is not None:
            save_file({"problems": known}, folder / _PROBLEMS)
        seed = classifier.random_state
        config |= {
            "classes": plain(classifier.classes_),
            "classes_dtype": classifier.classes_.dtype.str,
            "label_order": None if classifier.label_order is None else plain(list(classifier.label_order)),
            "random_state": int(seed) if isinstance(seed, Integral) else None,  # a generator is no setting
            "n_features_in": getattr(classifier, "n_features_in_", None),
            "default_head": classifier.head is None,
            "featurizer_name": classifier.featurizer if isinstance(classifier.featurizer, str) else None,
            **parts,
        }


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
    from safetensors.numpy import load_file

    from prmkit.data.labels import resolve_label_order

    path = Path(path).expanduser()
    config = read_config(path, _KIND, _KEYS)
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
    known = _PROBLEMS in config["files"]
    classifier.training_problems_ = load_file(path / _PROBLEMS)["problems"] if known else None
    if config["n_features_in"] is not None:
        classifier.n_features_in_ = config["n_features_in"]
    for name in _PARTS:
        setattr(classifier, f"{name}_", parts[name])
    return classifier
