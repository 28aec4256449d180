"""The default head and scikit-learn's linear models as JSON and plain arrays, which read the same in every version."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import gen_batches

from prmkit.features import PRMFeaturizer, StepStatistics, StepWords
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.heads import blend, members
from prmkit.utils.environment import installed_version

# A larger text, such as a vocabulary, is an array of bytes, so that config.json stays short.
_LONG_TEXT = 1000
# Rows that go through the trees together: so few that their places fit into the processor's cache.
_BLOCK = 256

_OWN: dict[str, type[Any]] = {cls.__name__: cls for cls in (blend.StepBlend, StepStatistics, StepWords, PRMFeaturizer)}
_FUNCTIONS = {
    function.__name__: function for function in (members.signed_log, members.bounded, members.log_prob_columns)
}
# Public classes of scikit-learn, and the public attributes that their predictions depend on.
_COMMON = ("n_features_in_", "feature_names_in_")
_FITTED: dict[type[Any], tuple[str, ...]] = {
    LogisticRegression: ("classes_", "coef_", "intercept_", "n_iter_"),
    StandardScaler: ("mean_", "var_", "scale_", "n_samples_seen_"),
    FunctionTransformer: (),
    Pipeline: (),
}
_PUBLIC = {cls.__name__: cls for cls in (*_FITTED, HistGradientBoostingClassifier)}


class NotPlainError(TypeError):
    """A part holds something that has no plain form here."""


class SavedTrees(ClassifierMixin, BaseEstimator):
    """Gradient-boosted trees that were fitted by scikit-learn, as arrays of nodes.

    Predictions are those of the ``HistGradientBoostingClassifier`` that was fitted, bit by bit. ``clone`` gives such a
    classifier with the same parameters, not fitted. ``params`` are its parameters, and ``nodes`` the arrays: for each
    node of all trees ``feature``, ``threshold``, ``missing_left``, ``left``, ``right`` and ``value``. A leaf is its
    own child. ``roots`` has a row per iteration and a column per class, and ``depth`` is that of the deepest leaf.
    """

    def __init__(self, params: dict[str, Any], nodes: dict[str, Any]) -> None:
        self.params = params
        self.nodes = nodes

    @classmethod
    def of(cls, fitted: HistGradientBoostingClassifier) -> SavedTrees:
        """Copy the trees of a fitted classifier. NotPlainError says that they hold more than numeric splits."""
        predictors = getattr(fitted, "_predictors", None)
        if not predictors or getattr(fitted, "is_categorical_", None) is not None:
            raise NotPlainError("trees with categories")
        trees = [predictor.nodes for iteration in predictors for predictor in iteration]
        starts = np.cumsum([0, *map(len, trees[:-1])])
        joined = np.concatenate(trees)
        leaf, here = joined["is_leaf"].astype(bool), np.arange(len(joined))
        first = np.repeat(starts, [len(tree) for tree in trees])
        nodes = {
            "feature": np.where(leaf, 0, joined["feature_idx"]).astype(np.int32),
            "threshold": joined["num_threshold"],
            "missing_left": joined["missing_go_to_left"].astype(bool),
            "left": np.where(leaf, here, joined["left"] + first).astype(np.int32),
            "right": np.where(leaf, here, joined["right"] + first).astype(np.int32),
            "value": joined["value"],
            "roots": starts.reshape(len(predictors), -1).astype(np.int32),
            "baseline": np.asarray(fitted._baseline_prediction, dtype=np.float64).reshape(1, -1),
        }
        nodes = {name: np.ascontiguousarray(array) for name, array in nodes.items()}
        copied = cls(_changed(fitted), nodes | {"depth": int(joined["depth"].max())})
        for name in ("classes_", *_COMMON):
            if hasattr(fitted, name):
                setattr(copied, name, getattr(fitted, name))
        # The attributes above are scikit-learn's own: a version that gives them another meaning is noticed here.
        probe = np.random.default_rng(0).choice(nodes["threshold"], (64, fitted.n_features_in_))
        probe[::9, ::2] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rows without names of columns
            expected = fitted.predict_proba(probe)
        if not np.array_equal(copied.predict_proba(probe), expected):
            raise NotPlainError("trees of a version that is not known here")
        return copied

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the probability of each class."""
        rows = np.asarray(X, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.n_features_in_:
            raise ValueError(f"X has shape {rows.shape}, and the trees were fitted on {self.n_features_in_} columns")
        raw = np.concatenate([self._raw(rows[part]) for part in gen_batches(len(rows), _BLOCK)])
        if len(self.classes_) == 2:
            second = expit(raw[:, 0])
            return np.stack([1 - second, second], axis=1)
        odds = np.exp(raw - raw.max(axis=1, keepdims=True))
        proba: npt.NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return proba

    def predict(self, X: npt.ArrayLike) -> np.ndarray:
        """Return the most probable class."""
        labels: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def _raw(self, rows: np.ndarray) -> np.ndarray:
        """Return the sum of the leaves that each row reaches."""
        nodes, roots = self.nodes, self.nodes["roots"]
        children = np.stack([nodes["right"], nodes["left"]], axis=1).ravel()
        is_leaf = nodes["left"] == nodes["right"]
        numbers, missing = np.ascontiguousarray(rows).ravel(), bool(np.isnan(rows).any())
        at = np.tile(roots.ravel(), len(rows))
        todo = np.arange(len(at))
        for _ in range(nodes["depth"]):
            todo = todo[~is_leaf.take(at.take(todo))]
            here = at.take(todo)
            values = numbers.take(todo // roots.size * rows.shape[1] + nodes["feature"].take(here))
            left = values <= nodes["threshold"].take(here)
            if missing:
                left |= np.isnan(values) & nodes["missing_left"].take(here)
            at[todo] = children.take(2 * here + left)
        reached = nodes["value"].take(at).reshape(len(rows), *roots.shape)
        raw = np.repeat(nodes["baseline"], len(rows), axis=0)
        for iteration in range(len(roots)):  # one after the other, so that the rounding is scikit-learn's
            raw += reached[:, iteration]
        return raw

    def __sklearn_clone__(self) -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(**self.params)


def to_arrays(part: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Describe a fitted part as JSON and arrays. NotPlainError says that it is made of something else too."""
    arrays: dict[str, np.ndarray] = {}
    described = _described(part, "", arrays)
    if not is_described(described):
        raise NotPlainError(type(part).__name__)
    return described, arrays


def from_arrays(described: dict[str, Any], arrays: dict[str, np.ndarray], version: str | None) -> Any:
    """Rebuild what ``to_arrays`` described under a version of scikit-learn."""
    if "class" in described:
        return _rebuilt(described, arrays, version)
    ((kind, value),) = described.items()
    if kind == "array":
        return arrays[value]
    if kind == "columns":
        return arrays[value].T
    if kind == "number":
        return arrays[value][()]
    if kind == "text":
        return arrays[value].tobytes().decode("utf-8", "surrogatepass")
    if kind == "labels":
        return np.array(value["values"], dtype=value["dtype"])
    if kind == "path":
        return Path(value)
    if kind == "scheme":
        return MarkingScheme(**value)
    if kind == "function":
        return _FUNCTIONS[value]
    if kind == "mapping":
        return {_read(key, arrays, version): _read(kept, arrays, version) for key, kept in value}
    return tuple(_read(kept, arrays, version) for kept in value)


def is_described(described: Any) -> bool:
    """Whether a description is one of ``to_arrays``."""
    return isinstance(described, dict) and "class" in described and not {"state", "fitted"}.isdisjoint(described)


def _read(value: Any, arrays: dict[str, np.ndarray], version: str | None) -> Any:
    if isinstance(value, list):
        return [_read(kept, arrays, version) for kept in value]
    return from_arrays(value, arrays, version) if isinstance(value, dict) else value


def _described(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return what JSON holds of a value. ``name`` is that of its array, if it needs one."""
    if isinstance(value, str) and len(value) > _LONG_TEXT:
        arrays[name] = np.frombuffer(value.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        return {"text": name}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.random.RandomState):
        return None  # a generator's state is no setting
    if isinstance(value, np.ndarray | np.generic):
        return _described_numbers(value, name, arrays)
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, MarkingScheme):
        return {"scheme": asdict(value)}
    if type(value) in (list, tuple):
        kept = [_described(inner, f"{name}.{i}", arrays) for i, inner in enumerate(value)]
        return kept if isinstance(value, list) else {"tuple": kept}
    if type(value) is dict:
        keys = [_described(key, f"{name}.key{i}", arrays) for i, key in enumerate(value)]
        inside = [_described(kept, f"{name}.{key}", arrays) for key, kept in value.items()]
        return {"mapping": [list(pair) for pair in zip(keys, inside, strict=True)]}
    for known, function in _FUNCTIONS.items():
        if value is function:
            return {"function": known}
    return _described_estimator(value, name, arrays)


def _described_numbers(value: np.ndarray | np.generic, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        if not isinstance(value, np.ndarray):
            arrays[name] = np.asarray(value)
            return {"number": name}
        # Products round by the order in memory, so it is kept.
        by_columns = value.ndim == 2 and not value.flags.c_contiguous
        arrays[name] = np.ascontiguousarray(value.T if by_columns else value)
        return {"columns" if by_columns else "array": name}
    is_text = value.dtype.kind == "U" or (value.dtype == object and all(type(label) is str for label in value.flat))
    if not is_text or not isinstance(value, np.ndarray):
        raise NotPlainError(f"{name} of type {value.dtype}")
    return {"labels": {"values": value.tolist(), "dtype": "O" if value.dtype == object else value.dtype.str}}


def _described_estimator(part: Any, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    def fields(values: dict[str, Any]) -> dict[str, Any]:
        return {key: _described(value, f"{name}.{key}".lstrip("."), arrays) for key, value in values.items()}

    cls = type(part)
    if cls in _OWN.values():
        # The state of a featurizer may hold the encoder, which is found again by name.
        left_out = ("_encoder", "_encoder_params") if cls is PRMFeaturizer else ()
        state = {key: value for key, value in part.__getstate__().items() if key not in left_out}
        state.pop("_sklearn_version", None)
        return {"class": cls.__name__, "state": fields(state)}
    if cls in (HistGradientBoostingClassifier, SavedTrees):
        trees = part if cls is SavedTrees else SavedTrees.of(part)
        learnt = {key: value for key, value in vars(trees).items() if key != "params"}
        return {"class": "HistGradientBoostingClassifier", "params": fields(trees.params), "fitted": fields(learnt)}
    if cls not in _FITTED:
        raise NotPlainError(cls.__name__)
    learnt = {key: getattr(part, key) for key in (*_FITTED[cls], *_COMMON) if key in vars(part)}
    return {"class": cls.__name__, "params": fields(_changed(part)), "fitted": fields(learnt)}


def _rebuilt(described: dict[str, Any], arrays: dict[str, np.ndarray], version: str | None) -> Any:
    def fields(kind: str) -> dict[str, Any]:
        return {key: _read(value, arrays, version) for key, value in described[kind].items()}

    name = described["class"]
    if name in _OWN:
        part = _OWN[name]()
        part.__setstate__(fields("state"))
        return part
    cls, params = _PUBLIC[name], fields("params")
    if unknown := sorted(params.keys() - signature(cls).parameters.keys()):
        raise ValueError(
            f"the {name} was saved under scikit-learn {version} with {unknown}, which scikit-learn "
            f"{installed_version('scikit-learn')} does not have: load it under {version}, or fit and save it anew"
        )
    learnt = fields("fitted")
    part = SavedTrees(params, learnt.pop("nodes")) if cls is HistGradientBoostingClassifier else cls(**params)
    for key, value in learnt.items():
        setattr(part, key, value)
    return part


def _changed(part: Any) -> dict[str, Any]:
    """Return the parameters that differ from scikit-learn's defaults, which change with its versions."""
    changed = {}
    for name, parameter in signature(type(part)).parameters.items():
        # A part that another version made may lack a parameter, or have one more.
        value, default = getattr(part, name, parameter.default), parameter.default
        if value is not default and not (type(value) is type(default) and value == default):
            changed[name] = value
    return changed
