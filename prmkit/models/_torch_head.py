"""What all torch heads share: fitting, predicting, weights at rest, and saving."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from prmkit.features._sequences import StepSequences
from prmkit.utils._sklearn import Interval, StrOptions, distinct_classes, fit_context, random_generator


class TorchHead(ClassifierMixin, BaseEstimator):
    """Base of the torch heads; a subclass adds its own parameters and ``_build_module``.

    ``reads_sequences`` says whether a row's score depends on the other rows of its solution.
    """

    reads_sequences = False

    _parameter_constraints = {
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup": [Interval(Real, 0, 1, closed="both")],
        "max_norm": [Interval(Real, 0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "device": [str, None],
        "dtype": [StrOptions({"float32", "float64"})],
        "show_progress": ["boolean"],
        "random_state": ["random_state"],
    }

    @fit_context
    def fit(self, X, y, sample_weight=None, groups=None):
        """Learn from feature rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional
        groups : array-like of shape (n_rows,), optional
            The solution of each row: rows of one solution, in their order, form a sequence and stay on
            one side of the early-stopping split. Without, each row stands alone.

        Returns
        -------
        self
        """
        X, y = validate_data(self, X, y, dtype=self.dtype)
        return self._fit(StepSequences.from_rows(X, groups), y, sample_weight)

    def fit_sequences(self, sequences: StepSequences, y, sample_weight=None):
        """Learn from sequences whose ``answers`` are the rows of ``y``."""
        self._validate_params()
        self.n_features_in_ = sequences.values.shape[1]
        return self._fit(sequences, np.asarray(y), sample_weight)

    def predict_proba(self, X, groups=None) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        groups : array-like of shape (n_rows,), optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self.dtype, reset=False)
        return self.predict_proba_sequences(StepSequences.from_rows(X, groups))

    def predict_proba_sequences(self, sequences: StepSequences) -> np.ndarray:
        """Probability of each class for the rows that the sequences answer."""
        import torch

        from prmkit.models._training import predict_logits

        check_is_fitted(self)
        if sequences.values.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {sequences.values.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        module = self.module_.to(_device(self.device))
        try:
            logits = predict_logits(module, self._prepared(sequences), self.batch_size)
        finally:
            module.cpu()
        return torch.softmax(torch.from_numpy(logits), dim=1).numpy()

    def predict(self, X, groups=None) -> np.ndarray:
        """Most probable class of each row."""
        proba = self.predict_proba(X, groups)  # first: it raises NotFittedError
        return self.classes_[proba.argmax(axis=1)]

    def _fit(self, sequences: StepSequences, y: np.ndarray, sample_weight: Any):
        import torch

        from prmkit.models._training import Targets, TrainingPlan, train

        self.classes_ = distinct_classes(y)
        codes = np.searchsorted(self.classes_, y)
        weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        weights = weights * compute_sample_weight(self.class_weight, y)
        if not weights.sum() > 0:
            raise ValueError("sample_weight is zero everywhere: nothing to learn from")
        rng = random_generator(self.random_state)
        sequences, targets = self._prepared(sequences), Targets(codes, weights)
        plan = TrainingPlan(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            max_norm=self.max_norm,
            patience=self.patience,
            show_progress=self.show_progress,
        )
        learn, check = self._split(sequences, targets, rng)
        device = torch.device(_device(self.device))
        with torch.random.fork_rng():  # the caller's generators stay as they are
            torch.manual_seed(int(rng.randint(2**31 - 1)))
            module = self._build_module(self.n_features_in_, len(self.classes_))
            module.scale_to(*_moments(*learn))
            module = module.to(device=device, dtype=getattr(torch, self.dtype))
            curves = train(module, learn[0], learn[1], plan, rng=rng, validation=check)
        self.loss_curve_, self.validation_curve_ = curves
        self.module_ = module.cpu().eval()
        self.n_iter_ = len(self.loss_curve_)
        return self

    def restore(self, state: dict[str, Any], backbone: dict[str, Any] | None = None) -> None:
        """Rebuild the module around saved weights; ``backbone`` is the configuration of a named one."""
        import torch

        with torch.random.fork_rng():  # initial weights are drawn, only to be overwritten
            module = self._build_module(self.n_features_in_, len(self.classes_), backbone)
        module.to(next(iter(state.values())).dtype).load_state_dict(state)
        self.module_ = module.eval()

    def _split(self, sequences: StepSequences, targets: Any, rng: np.random.RandomState) -> tuple[Any, Any]:
        """Cut off a validation part by problem; none where too few problems would be left to judge by."""
        n_problems = len(np.unique(sequences.problems))
        if not self.early_stopping or n_problems < 10:
            return (sequences, targets), None
        splitter = GroupShuffleSplit(1, test_size=self.validation_fraction, random_state=rng)
        parts = next(splitter.split(sequences.problems, groups=sequences.problems))
        taken = [sequences.take(part) for part in parts]
        learn, check = ((part, targets.take(rows)) for part, rows in taken)
        if len(np.unique(learn[1].codes)) < len(self.classes_) or not check[1].weights.sum() > 0:
            return (sequences, targets), None
        return learn, check

    def _prepared(self, sequences: StepSequences) -> StepSequences:
        if not self.reads_sequences:
            sequences = sequences.as_rows()
        values = np.asarray(sequences.values, dtype=self.dtype)
        return StepSequences(values, sequences.lengths, sequences.answers, sequences.problems)

    def _build_module(self, n_features: int, n_classes: int, backbone: dict[str, Any] | None = None) -> Any:
        raise NotImplementedError


def _moments(sequences: StepSequences, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and deviation of the answered rows: what the module subtracts and divides by."""
    values = sequences.values[sequences.answers].astype(np.float64)
    mean = np.average(values, axis=0, weights=targets.weights)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=targets.weights))
    return mean, np.where(deviation > 1e-8, deviation, 1.0)


def _device(device: str | None) -> str:
    import torch

    if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}, but this torch finds no GPU: use device=None or 'cpu'")
    if device is not None:
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
