"""Every estimator of prmkit, with the parameters with which the common checks try it.

Rooms above ``utils`` are named by path and imported when they are needed, so nothing here points upward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Registered:
    """An estimator, by module and class, and the parameters with which it is checked.

    With ``numeric``, scikit-learn's checks run on numeric input. Each of ``steps`` reads steps and is checked for the
    guarantees. Each of ``paths`` reads the step risks of whole paths. ``expected_failures`` gives a reason for each
    check of scikit-learn that cannot pass.
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
        """Build the estimator. A parameter that is itself a ``(path, params)`` pair is built first."""
        return _build(self.path, params)


def _build(path: str, params: Mapping[str, Any]) -> Any:
    module, _, name = path.rpartition(".")
    built = {key: _build(*value) if isinstance(value, tuple) else value for key, value in params.items()}
    return getattr(import_module(module), name)(**built)


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
        # With the usual 0.02, all steps would get nearly the same score.
        "initializer_range": 0.3,
    },
    "num_train_epochs": 1,
    "random_state": 0,
}
_STATISTICS: tuple[str, dict[str, Any]] = ("prmkit.features.StepStatistics", {})
_MLP = ("prmkit.models.StepMLP", {"hidden_size": 16, **_QUICK})
_PROBE = ("prmkit.models.StepProbe", {"hidden_size": 16, "n_seeds": 2, **_QUICK})
_TRANSFORMER = ("prmkit.models.StepTransformer", {**_SMALL_TRANSFORMER, **_QUICK})

# The solutions that the tests put to the common checks.
_CANDIDATES = (
    "prmkit.data.make_arithmetic_solutions",
    {"n_problems": 12, "solutions_per_problem": 2, "error_rate": 0.5, "neutral_rate": 0.3, "random_state": 0},
)


def _classifier(**params: Any) -> tuple[str, dict[str, Any]]:
    """Return a ``PRMClassifier`` as a pair that ``Registered.make`` builds."""
    return "prmkit.classifier.PRMClassifier", params


def _states(**params: Any) -> tuple[str, dict[str, Any]]:
    """Return a featurizer of the states of a tiny language model. Without a cache, each check computes them anew."""
    model: tuple[str, dict[str, Any]] = ("prmkit.utils._tiny_model.tiny_language_model", {})
    return "prmkit.features.PRMFeaturizer", {"kind": "states", "model": model, "cache": False, **params}


_NUMERIC = _classifier(featurizer="precomputed")

REGISTRY: tuple[Registered, ...] = (
    Registered(
        "prmkit.classifier.PRMClassifier",
        numeric={"featurizer": "precomputed"},
        steps=(
            {"random_state": 0},
            {"featurizer": ("prmkit.features.PRMFeaturizer", {"dtype": "float32"}), "random_state": 0},
            {"head": _TRANSFORMER},
            {"head": _MLP},
            {"head": _PROBE},
            {"head": ("sklearn.linear_model.LogisticRegression", {"max_iter": 2000})},
            {"featurizer": _STATISTICS},
            # States blended with the text views, and states of tokens.
            *(
                {"featurizer": _states(pooling="mean_last", log_probs=True, dtype=dtype), "random_state": 0}
                for dtype in ("float32", "bfloat16")
            ),
            *(
                {"featurizer": _states(pooling="tokens", dtype=dtype), "head": _PROBE}
                for dtype in ("float32", "bfloat16")
            ),
            {"featurizer": "tokens", "head": ("prmkit.models.TokenPRM", _SMALL_TOKEN_MODEL)},
        ),
    ),
    Registered("prmkit.models.StepBlend", steps=({"random_state": 0},)),
    Registered("prmkit.models.StepMLP", numeric={"hidden_size": 16, "max_epochs": 30, **_EXACT_TRAINING}),
    Registered(
        "prmkit.models.StepProbe", numeric={"hidden_size": 16, "n_seeds": 1, "max_epochs": 30, **_EXACT_TRAINING}
    ),
    Registered("prmkit.models.StepTransformer", numeric={**_SMALL_TRANSFORMER, "max_epochs": 15, **_EXACT_TRAINING}),
    # Without scheme="prefix", which by design costs a pass per step. Its own tests check the rest.
    Registered(
        "prmkit.models.TokenPRM",
        steps=tuple(
            {**_SMALL_TOKEN_MODEL, **other}
            for other in ({}, {"scheme": "special_token"}, {"loss": "bce"}, {"loss": "rank"})
        ),
    ),
    Registered(
        "prmkit.features.PRMFeaturizer",
        steps=(
            {"context": "none"},
            {"context": "problem"},
            {"context": "prefix", "dtype": "float32"},
            _states(pooling="mean_last", log_probs=True, dtype="float32")[1],
            _states(pooling="statistics", layer=[1, 2, 3], dtype="float32")[1],
        ),
    ),
    # Guarantees hold for a fixed set of solutions.
    Registered("prmkit.features.AgreementFeatures", steps=({"candidates": _CANDIDATES},)),
    # The checks build solutions without log-probabilities too.
    Registered("prmkit.features.LogProbFeatures", steps=({"missing": "nan"},)),
    Registered("prmkit.features.StepStatistics", steps=({},)),
    Registered("prmkit.features.StepWords", steps=({},)),
    Registered(
        "prmkit.uncertainty.StepEnsemble",
        numeric={"classifier": _NUMERIC, "n_members": 3, "random_state": 0},
        steps=(
            {"classifier": _classifier(featurizer=_STATISTICS), "n_members": 3, "random_state": 0},
            {"classifier": _classifier(head=_TRANSFORMER), "n_members": 2, "random_state": 0},
        ),
    ),
    Registered(
        "prmkit.uncertainty.MCDropout",
        numeric={"classifier": (_MLP[0], {"hidden_size": 16, "max_epochs": 30, **_EXACT_TRAINING, "dropout": 0.1})},
        steps=(
            {"classifier": _classifier(head=_MLP), "n_members": 3},
            {"classifier": _classifier(featurizer=_STATISTICS, head=_TRANSFORMER), "n_members": 3},
            {"classifier": ("prmkit.models.TokenPRM", _SMALL_TOKEN_MODEL), "n_members": 3, "rate": 0.2},
        ),
    ),
    Registered(
        "prmkit.uncertainty.CalibratedStepClassifier",
        numeric={"classifier": _NUMERIC},
        steps=tuple(
            {"classifier": _classifier(featurizer=_STATISTICS), "method": method}
            for method in ("temperature", "sigmoid", "vector")
        ),
    ),
    Registered("prmkit.uncertainty.PrefixCertifier", paths=({}, {"alpha": 0.3, "delta": 0.2}, {"alpha": 0.001})),
    Registered("prmkit.uncertainty.ErrorDetector", paths=({}, {"recall": 0.7, "delta": 0.2})),
    Registered("prmkit.uncertainty.FirstErrorSet", paths=({}, {"alpha": 0.3})),
    Registered("prmkit.uncertainty.PathTriage", paths=({}, {"accept_error": 0.2, "delta": 0.2})),
    Registered("prmkit.uncertainty.SelectiveRisk", paths=({"alpha": 0.5}, {"alpha": 0.3, "delta": 0.5})),
    Registered("prmkit.uncertainty.PathCalibrator", paths=({}, {"method": "temperature"})),
    # It judges whole solutions, so the guarantees of steps say nothing about it, and agreement needs the other samples.
    # Its own tests check order, other problems, training problems, folds and saving.
    Registered("prmkit.models.PathClassifier"),
    Registered("prmkit.uncertainty.CertifiedSelection"),  # sampled solutions: checked by its own tests
    Registered("prmkit.uncertainty.StepPredictionSets"),  # probabilities of steps: checked by its own tests
    Registered("prmkit.uncertainty.MahalanobisShift", steps=({"featurizer": _STATISTICS},)),
    Registered("prmkit.uncertainty.LengthShift", steps=({},)),
)
