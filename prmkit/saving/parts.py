"""One fitted part of a classifier as files: parameters as JSON, weights as safetensors, other estimators by skops."""

from __future__ import annotations

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from prmkit.data.solution import Solution
from prmkit.features import AgreementFeatures, LogProbFeatures, PRMFeaturizer, StepStatistics, StepWords
from prmkit.marking.scheme import MarkingScheme
from prmkit.models import StepMLP, StepProbe, StepTransformer
from prmkit.models.heads import blend, members
from prmkit.models.heads.torch_heads import TorchHead
from prmkit.models.tokens.probabilities import ProbabilityMap
from prmkit.models.tokens.token_prm import TokenPRM
from prmkit.saving.arrays import NotPlainError, from_arrays, is_described, to_arrays
from prmkit.utils.environment import installed_version

_OWN_CLASSES = {cls.__name__: cls for cls in (PRMFeaturizer, StepMLP, StepProbe, StepTransformer)}
# Classes and functions of prmkit that a skops archive may name. An archive of another version names the module in
# which one of them was then, so they are known by their own name alone.
_IN_ARCHIVES = {
    part.__name__: part
    for part in (
        AgreementFeatures,
        LogProbFeatures,
        PRMFeaturizer,
        Solution,
        StepStatistics,
        StepWords,
        blend.StepBlend,
        members.bounded,
        members.log_prob_columns,
        members.signed_log,
    )
}
# Types that skops does not trust by itself and that a common head, or the default of format 2, is made of.
_TRUSTED = frozenset(f"{part.__module__}.{name}" for name, part in _IN_ARCHIVES.items()) | frozenset(
    [
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    ]
)


def write_part(part: Any, folder: Path, name: str) -> dict[str, Any] | None:
    """Write a fitted part's arrays to a file and return what else there is to know of it."""
    if part is None:
        return None
    if type(part) is PRMFeaturizer:
        described = {"class": "PRMFeaturizer", "params": plain(part.get_params(deep=False))}
        if (copy := getattr(part, "quantized_", None)) is not None:
            from safetensors.numpy import save_file

            save_file({"quantized": copy}, folder / f"{name}.safetensors")
        kept = {"backend": "backend_", "weights": "weights_"}
        return described | {key: getattr(part, name) for key, name in kept.items() if hasattr(part, name)}
    if type(part) is TokenPRM:
        return _write_token_head(part, folder / name)
    if type(part) in _OWN_CLASSES.values():
        return _write_torch_head(part, folder / f"{name}.safetensors")
    try:
        described, arrays = to_arrays(part)
    except NotPlainError:
        _write_skops(part, folder / f"{name}.skops")
        return {"class": f"{type(part).__module__}.{type(part).__qualname__}"}
    if arrays:
        from safetensors.numpy import save_file

        save_file(arrays, folder / f"{name}.safetensors")
    return described


def read_part(described: dict[str, Any] | None, folder: Path, name: str, version: str | None) -> Any:
    """Rebuild what ``write_part`` wrote and described, under that version of scikit-learn."""
    if described is None:
        return None
    if described["class"] == "TokenPRM":
        return _read_token_head(described, folder / name)
    if is_described(described):
        from safetensors.numpy import load_file

        file = folder / f"{name}.safetensors"
        return from_arrays(described, load_file(file) if file.is_file() else {}, version)
    cls = _OWN_CLASSES.get(described["class"])
    if cls is None:
        return _read_skops(folder / f"{name}.skops", version)
    params = {name: _from_plain(value) for name, value in described["params"].items()}
    if "scheme" in params:
        params["scheme"] = _as_scheme(params["scheme"])
    part = cls(**params)
    if isinstance(part, PRMFeaturizer):
        # Folders of early versions say None for "auto".
        kept: dict[str, Any] = {f"{name}_": described[name] for name in ("backend", "weights") if name in described}
        if (file := folder / f"{name}.safetensors").is_file():
            from safetensors.numpy import load_file

            kept["quantized_"] = load_file(file)["quantized"]
        part.__setstate__(part.get_params(deep=False) | kept)
    if isinstance(part, TorchHead):
        _restore_torch_head(part, described, folder / f"{name}.safetensors")
    return part


def _write_torch_head(head: TorchHead, file: Path) -> dict[str, Any]:
    from safetensors.torch import save_file

    save_file({key: value.contiguous().clone() for key, value in head.module_.state_dict().items()}, file)
    module: Any = head.module_
    backbone = module.backbone.config if getattr(head, "backbone", None) is not None else None
    return {
        "class": type(head).__name__,
        "params": plain(head.get_params(deep=False)),
        "classes": plain(head.classes_),
        "classes_dtype": head.classes_.dtype.str,
        "n_features_in": head.n_features_in_,
        "loss_curve": plain(head.loss_curve_),
        "validation_curve": plain(head.validation_curve_),
        "objectives": plain({name: list(classes) for name, classes in getattr(head, "objectives_", {}).items()}),
        "backbone": None if backbone is None else json.loads(backbone.to_json_string(use_diff=False)),
    }


def _restore_torch_head(head: TorchHead, described: dict[str, Any], file: Path) -> None:
    from safetensors.torch import load_file

    head.classes_ = np.array(described["classes"], dtype=described["classes_dtype"])
    head.n_features_in_ = described["n_features_in"]
    head.loss_curve_ = described["loss_curve"]
    head.validation_curve_ = described["validation_curve"]
    head.n_iter_ = len(head.loss_curve_)
    if isinstance(head, StepProbe):
        head.objectives_ = {name: tuple(classes) for name, classes in described.get("objectives", {}).items()}
    head.restore(load_file(file), described["backbone"])


def _write_token_head(head: TokenPRM, folder: Path) -> dict[str, Any]:
    """Write model and tokenizer as transformers does, so that the folder is a model of its own too."""
    from prmkit.models.tokens.model_folder import save_scorer

    save_scorer(head.scorer_, folder, loss=head.loss)
    return {
        "class": "TokenPRM",
        "params": plain(head.get_params(deep=False)),
        "classes": plain(head.classes_),
        "classes_dtype": head.classes_.dtype.str,
        "loss_curve": plain(head.loss_curve_),
        "link": plain(asdict(head.probability_map_)),
    }


# Folders saved before the first release have the old names of these parameters.
_RENAMED = {
    "backbone": "model",
    "backbone_options": "model_kwargs",
    "max_problem_length": "max_prompt_length",
    "max_epochs": "num_train_epochs",
    "warmup": "warmup_steps",
}


def _read_token_head(described: dict[str, Any], folder: Path) -> TokenPRM:
    from prmkit.models.pretrained.loading import load_scorer

    params = {_RENAMED.get(name, name): _from_plain(value) for name, value in described["params"].items()}
    params["scheme"] = _as_scheme(params["scheme"])
    params.pop("store_weights_in_pickle", None)  # a parameter of the same early versions
    classes = np.array(described["classes"], dtype=described["classes_dtype"])
    probability_map = ProbabilityMap.from_dict(described["link"])
    # The weights are read at once: later another model may stand there.
    return TokenPRM(**params).restore(load_scorer(folder), probability_map, classes, described["loss_curve"])


def _write_skops(part: Any, file: Path) -> None:
    import skops.io

    try:
        skops.io.dump(part, file, compression=ZIP_DEFLATED)
        untrusted = _untrusted(_with_current_modules(file.read_bytes()))
        reason = f"holds {untrusted}" if untrusted else ""
    except Exception as error:  # whatever a foreign class raises when it is taken apart
        reason = f"cannot be taken apart ({error})"
    if reason:
        raise ValueError(
            f"{part!r:.300} {reason}: it could not be loaded again without running its code. "
            "Use parts of scikit-learn, or StepMLP, StepProbe or StepTransformer as the head itself"
        )


def _read_skops(file: Path, version: str | None) -> Any:
    import skops.io

    installed = installed_version("scikit-learn")
    try:
        archive = _with_current_modules(file.read_bytes())
        untrusted = _untrusted(archive)
        if not untrusted:
            part = skops.io.loads(archive, trusted=sorted(_TRUSTED))
            return part if _minor(version) == _minor(installed) else _renewed(part, version)
        reason = f"it holds {untrusted}"
    except Exception as error:  # whatever a class raises that is gone or has other fields now
        untrusted, reason = [], f"{type(error).__name__}: {error}"
        if _minor(version) == _minor(installed):
            raise
    if _minor(version) != _minor(installed):
        raise ValueError(
            f"{file} was saved under scikit-learn {version}, and {installed} is installed. This part is made of "
            f"classes that change with every minor version ({reason}). Load it under scikit-learn {_minor(version)}.*, "
            "or fit and save the model anew"
        )
    raise ValueError(
        f"{file} holds types that prmkit does not vouch for: {untrusted}. If you trust its author, read it "
        f"yourself with skops.io.load({str(file)!r}, trusted={untrusted})"
    )


def _renewed(part: Any, version: str | None) -> Any:
    """Return a part that another scikit-learn fitted as one of the installed version, where that is known."""
    try:
        return from_arrays(*to_arrays(part), version)
    except NotPlainError:
        return part


def _minor(version: str | None) -> str:
    return ".".join(str(version).split(".")[:2])


def _untrusted(archive: bytes) -> list[str]:
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(data=archive)) - _TRUSTED)


def _with_current_modules(archive: bytes) -> bytes:
    """Return a skops archive in which prmkit's classes and pathlib's stand in the modules where they are now.

    Only the names in the archive's description change, so nothing of it is run.
    """
    out = BytesIO()
    with ZipFile(BytesIO(archive)) as old, ZipFile(out, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "schema.json":
                content = json.dumps(_renamed(json.loads(content))).encode()
            new.writestr(name, content)
    return out.getvalue()


def _renamed(node: Any) -> Any:
    """Return a node of the description with the current module of each class or function."""
    if isinstance(node, list):
        return [_renamed(value) for value in node]
    if not isinstance(node, dict):
        return node
    node = {key: _renamed(value) for key, value in node.items()}
    for module, name in (("__module__", "__class__"), ("module_path", "function")):
        part = _IN_ARCHIVES.get(node.get(name)) if isinstance(node.get(name), str) else None
        if part is not None and str(node.get(module)).startswith("prmkit."):
            node[module] = part.__module__
    if node.get("__module__") == "pathlib._local":  # where Python 3.13 alone has its paths
        node["__module__"] = "pathlib"
    return node


def plain(value: Any) -> Any:
    """Turn scalars, paths, schemes and containers into what JSON holds. Keys that are no strings make pairs."""
    if isinstance(value, MarkingScheme):
        return asdict(value)
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: plain(kept) for key, kept in value.items()}
        return {"pairs": [[plain(key), plain(kept)] for key, kept in value.items()]}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(kept) for kept in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.random.RandomState):
        return None  # a generator's state is no setting
    return str(value) if isinstance(value, Path) else value


def _as_scheme(value: Any) -> Any:
    return MarkingScheme(**value) if isinstance(value, dict) else value


def _from_plain(value: Any) -> Any:
    """Undo what ``plain`` did to the keys of a mapping, such as the labels of ``class_weight``."""
    is_pairs = isinstance(value, dict) and isinstance(value.get("pairs"), list)
    return dict(value["pairs"]) if is_pairs else value
