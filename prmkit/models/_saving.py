"""A fitted classifier as a folder of JSON, safetensors and (for scikit-learn parts) skops; never pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from prmkit.features import PRMFeaturizer
from prmkit.models._mlp import StepMLP
from prmkit.models._torch_head import TorchHead
from prmkit.models._transformer import StepTransformer

_FORMAT = 1
_CONFIG = "config.json"
_PARTS = ("featurizer", "head")
_OWN_CLASSES = {cls.__name__: cls for cls in (PRMFeaturizer, StepMLP, StepTransformer)}
# Types that skops does not trust by itself and that the default model is made of.
_TRUSTED = (
    "prmkit.features._featurizer.PRMFeaturizer",
    "prmkit.features._statistics.StepStatistics",
    "prmkit.features._words.StepWords",
    "prmkit.models._blend.StepBlend",
    "prmkit.models._blend.bounded",
    "prmkit.models._blend.signed_log",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)


def save_classifier(classifier: Any, path: str | Path) -> None:
    """Write a fitted ``PRMClassifier`` to the folder ``path``, replacing it only when all is written."""
    check_is_fitted(classifier)
    path = Path(path)
    if path.exists() and not (path / _CONFIG).is_file():
        raise FileExistsError(f"{path} exists and is no saved model: choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        parts = {name: _write_part(getattr(classifier, f"{name}_"), folder, name) for name in _PARTS}
        config = {
            "format": _FORMAT,
            "class": "PRMClassifier",
            "classes": _plain(classifier.classes_),
            "classes_dtype": classifier.classes_.dtype.str,
            "label_order": None if classifier.label_order is None else _plain(list(classifier.label_order)),
            "random_state": classifier.random_state if isinstance(classifier.random_state, int) else None,
            "n_features_in": getattr(classifier, "n_features_in_", None),
            "default_head": classifier.head is None,
            "featurizer_name": classifier.featurizer if isinstance(classifier.featurizer, str) else None,
            **parts,
            "files": {file.name: _digest(file) for file in sorted(folder.iterdir())},
            "versions": {name: version(name) for name in ("prmkit", "numpy", "scikit-learn", "torch")},
        }
        (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        folder.chmod(0o755)
        _replace(folder, path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def load_classifier(cls: type, path: str | Path) -> Any:
    """Read what ``save_classifier`` wrote, checking that every file is whole."""
    from prmkit.data._labels import resolve_label_order

    path = Path(path)
    config = _read_config(path)
    parts = {name: _read_part(config[name], path, name) for name in _PARTS}
    params = {
        "featurizer": config["featurizer_name"] or clone(parts["featurizer"]),
        "head": None if config["default_head"] else clone(parts["head"]),
        "label_order": config["label_order"],
        "random_state": config["random_state"],
    }
    if config["featurizer_name"] is None and parts["featurizer"] is None:
        params["featurizer"] = clone(parts["head"].featurizer)
    classifier = cls(**params)
    classifier.classes_ = np.array(config["classes"], dtype=config["classes_dtype"])
    classifier.label_order_ = resolve_label_order(classifier.classes_, config["label_order"])
    if config["n_features_in"] is not None:
        classifier.n_features_in_ = config["n_features_in"]
    for name in _PARTS:
        setattr(classifier, f"{name}_", parts[name])
    return classifier


def _read_config(path: Path) -> dict[str, Any]:
    if not (path / _CONFIG).is_file():
        raise FileNotFoundError(f"{path} holds no saved model: no {_CONFIG} there")
    try:
        config = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path / _CONFIG} is damaged ({error}): save the model again") from error
    if not isinstance(config, dict) or config.get("class") != "PRMClassifier":
        raise ValueError(f"{path / _CONFIG} describes no PRMClassifier")
    if config["format"] != _FORMAT:
        raise ValueError(
            f"{path} has format {config['format']}, this prmkit reads {_FORMAT}: "
            f"it was saved by prmkit {config['versions']['prmkit']}"
        )
    for name, digest in config["files"].items():
        file = path / Path(name).name
        if not file.is_file():
            raise ValueError(f"{file} is missing: the saved model is incomplete; copy or save it again")
        if _digest(file) != digest:
            raise ValueError(f"{file} is damaged (its checksum differs): copy or save the model again")
    return config


def _write_part(part: Any, folder: Path, name: str) -> dict[str, Any] | None:
    if part is None:
        return None
    if isinstance(part, PRMFeaturizer):
        return {"class": "PRMFeaturizer", "params": _plain(part.get_params(deep=False))}
    if isinstance(part, TorchHead):
        from safetensors.torch import save_file

        state = {key: tensor.contiguous().clone() for key, tensor in part.module_.state_dict().items()}
        save_file(state, folder / f"{name}.safetensors")
        return {
            "class": type(part).__name__,
            "params": _plain(part.get_params(deep=False)),
            "classes": _plain(part.classes_),
            "classes_dtype": part.classes_.dtype.str,
            "n_features_in": part.n_features_in_,
            "loss_curve": part.loss_curve_,
            "validation_curve": part.validation_curve_,
        }
    _skops().dump(part, folder / f"{name}.skops")
    return {"class": f"{type(part).__module__}.{type(part).__qualname__}"}


def _read_part(described: dict[str, Any] | None, folder: Path, name: str) -> Any:
    if described is None:
        return None
    cls = _OWN_CLASSES.get(described["class"])
    if cls is None:
        return _read_skops(folder / f"{name}.skops")
    part = cls(**described["params"])
    if isinstance(part, TorchHead):
        from safetensors.torch import load_file

        part.classes_ = np.array(described["classes"], dtype=described["classes_dtype"])
        part.n_features_in_ = described["n_features_in"]
        part.loss_curve_ = described["loss_curve"]
        part.validation_curve_ = described["validation_curve"]
        part.n_iter_ = len(part.loss_curve_)
        part.restore(load_file(folder / f"{name}.safetensors"))
    return part


def _read_skops(file: Path) -> BaseEstimator:
    skops = _skops()
    untrusted = sorted(set(skops.get_untrusted_types(file=file)) - set(_TRUSTED))
    if untrusted:
        raise ValueError(
            f"{file} holds types that prmkit does not vouch for: {untrusted}. If you trust its author, read it "
            f"yourself with skops.io.load({str(file)!r}, trusted={untrusted})"
        )
    return skops.load(file, trusted=skops.get_untrusted_types(file=file))


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "saving or loading a scikit-learn part needs skops: pip install 'prmkit[skops]'; "
            "or use a torch head (StepMLP, StepTransformer), which is saved as safetensors"
        ) from error
    return skops.io


def _plain(value: Any) -> Any:
    """Turn numpy scalars, paths and containers into what JSON holds."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.random.RandomState):
        return None  # a generator's state is no setting
    return str(value) if isinstance(value, Path) else value


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _replace(folder: Path, path: Path) -> None:
    """Put the finished folder in the place of ``path``."""
    if not path.exists():
        folder.replace(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
    path.replace(old / "model")
    try:
        folder.replace(path)
    except OSError:
        (old / "model").replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
