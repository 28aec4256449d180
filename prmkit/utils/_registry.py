"""Every estimator of prmkit, and with which parameters the common checks try it.

Rooms above ``utils`` are named by path and imported when asked for, so nothing here points upward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Registered:
    """An estimator and how it is checked.

    Parameters
    ----------
    path : str
        Module and class.
    numeric : mapping or None
        Parameters under which scikit-learn's checks run on numeric input; None where it reads only steps.
    steps : tuple of mapping
        Parameter sets under which it reads steps, each checked for the guarantees; empty where it reads numbers.
    paths : tuple of mapping
        Parameter sets under which it reads the step risks of whole paths.
    expected_failures : mapping of str to str
        scikit-learn's checks that cannot pass, each with the reason.
    """

    path: str
    numeric: Mapping[str, Any] | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    paths: tuple[Mapping[str, Any], ...] = ()
    expected_failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The class name."""
        return self.path.rpartition(".")[2]

    @property
    def a_setting(self) -> Mapping[str, Any]:
        """The first of its parameter sets."""
        return next(iter([*([self.numeric] if self.numeric else []), *self.steps, *self.paths]), {})

    def make(self, params: Mapping[str, Any]) -> Any:
        """Build the estimator; a parameter that is itself a ``(path, params)`` pair is built first."""
        return _build(self.path, params)


def _build(path: str, params: Mapping[str, Any]) -> Any:
    module, _, name = path.rpartition(".")
    made = {key: _build(*value) if isinstance(value, tuple) else value for key, value in params.items()}
    return getattr(import_module(module), name)(**made)


# Weights compare equal to repeated rows only when every row is in every batch, in float64.
_EXACT_TRAINING = {
    "early_stopping": False,
    "batch_size": None,
    "dtype": "float64",
    "dropout": 0.0,
    "learning_rate": 1e-2,
    "random_state": 0,
}
_SMALL_TRANSFORMER = {"hidden_size": 16, "n_layers": 1, "n_heads": 2}
_QUICK = {"max_epochs": 2, "random_state": 0}
_SMALL_TOKEN_MODEL = {
    "initialization": "random",
    "model_kwargs": {
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.3,  # with the usual 0.02 it would say nearly the same of every step
    },
    "num_train_epochs": 1,
    "random_state": 0,
}
_CLASSIFIER = "prmkit.classifier.PRMClassifier"
_STATISTICS: tuple[str, dict[str, Any]] = ("prmkit.features.StepStatistics", {})
REGISTRY: tuple[Registered, ...] = (
    Registered(
        "prmkit.classifier.PRMClassifier",
        numeric={"featurizer": "precomputed"},
        steps=(
            {"random_state": 0},
            {"featurizer": ("prmkit.features.PRMFeaturizer", {"dtype": "float32"}), "random_state": 0},
            {"head": ("prmkit.models.StepTransformer", {**_SMALL_TRANSFORMER, **_QUICK})},
            {"head": ("prmkit.models.StepMLP", {"hidden_size": 16, **_QUICK})},
            {"head": ("sklearn.linear_model.LogisticRegression", {"max_iter": 2000})},
            {"featurizer": ("prmkit.features.StepStatistics", {})},
            {"featurizer": "tokens", "head": ("prmkit.models.TokenPRM", _SMALL_TOKEN_MODEL)},
        ),
    ),
    Registered("prmkit.models.StepBlend", steps=({"random_state": 0},)),
    Registered("prmkit.models.StepMLP", numeric={"hidden_size": 16, "max_epochs": 60, **_EXACT_TRAINING}),
    Registered(
        "prmkit.models.StepTransformer", numeric={**_SMALL_TRANSFORMER, "max_epochs": 30, **_EXACT_TRAINING}
    ),
    Registered(  # without scheme="prefix", which by design costs a pass per step; its own tests check the rest
        "prmkit.models.TokenPRM",
        steps=(
            _SMALL_TOKEN_MODEL,
            {**_SMALL_TOKEN_MODEL, "scheme": "special_token"},
            {**_SMALL_TOKEN_MODEL, "loss": "bce"},
            {**_SMALL_TOKEN_MODEL, "loss": "rank"},
        ),
    ),
    Registered(
        "prmkit.features.PRMFeaturizer",
        steps=({"context": "none"}, {"context": "problem"}, {"context": "prefix", "dtype": "float32"}),
    ),
    Registered("prmkit.features.StepStatistics", steps=({},)),
    Registered("prmkit.features.StepWords", steps=({},)),
    Registered(
        "prmkit.uncertainty.StepEnsemble",
        numeric={
            "classifier": (_CLASSIFIER, {"featurizer": "precomputed"}),
            "n_members": 3,
            "random_state": 0,
        },
        steps=(
            {"classifier": (_CLASSIFIER, {"featurizer": _STATISTICS}), "n_members": 3, "random_state": 0},
            {
                "classifier": (
                    _CLASSIFIER,
                    {"head": ("prmkit.models.StepTransformer", {**_SMALL_TRANSFORMER, **_QUICK})},
                ),
                "n_members": 2,
                "random_state": 0,
            },
        ),
    ),
    Registered(
        "prmkit.uncertainty.MCDropout",
        numeric={
            "classifier": (
                "prmkit.models.StepMLP",
                {"hidden_size": 16, "max_epochs": 60, **_EXACT_TRAINING, "dropout": 0.1},
            )
        },
        steps=(
            {
                "classifier": (
                    _CLASSIFIER,
                    {"head": ("prmkit.models.StepMLP", {"hidden_size": 16, **_QUICK})},
                ),
                "n_members": 3,
            },
            {
                "classifier": (
                    _CLASSIFIER,
                    {
                        "featurizer": _STATISTICS,
                        "head": ("prmkit.models.StepTransformer", {**_SMALL_TRANSFORMER, **_QUICK}),
                    },
                ),
                "n_members": 3,
            },
            {"classifier": ("prmkit.models.TokenPRM", _SMALL_TOKEN_MODEL), "n_members": 3, "rate": 0.2},
        ),
    ),
    Registered(
        "prmkit.uncertainty.CalibratedStepClassifier",
        numeric={"classifier": ("prmkit.classifier.PRMClassifier", {"featurizer": "precomputed"})},
        steps=tuple(
            {"classifier": (_CLASSIFIER, {"featurizer": _STATISTICS}), "method": method}
            for method in ("temperature", "sigmoid", "vector")
        ),
    ),
    Registered(
        "prmkit.uncertainty.PrefixCertifier", paths=({}, {"alpha": 0.3, "delta": 0.2}, {"alpha": 0.001})
    ),
    Registered("prmkit.uncertainty.ErrorDetector", paths=({}, {"recall": 0.7, "delta": 0.2})),
    Registered("prmkit.uncertainty.FirstErrorSet", paths=({}, {"alpha": 0.3})),
    Registered("prmkit.uncertainty.PathTriage", paths=({}, {"accept_error": 0.2, "delta": 0.2})),
    Registered("prmkit.uncertainty.PathCalibrator", paths=({}, {"method": "temperature"})),
    Registered("prmkit.uncertainty.StepPredictionSets"),  # probabilities of steps: checked by its own tests
    Registered("prmkit.uncertainty.MahalanobisShift", steps=({"featurizer": _STATISTICS},)),
    Registered("prmkit.uncertainty.LengthShift", steps=({},)),
)
