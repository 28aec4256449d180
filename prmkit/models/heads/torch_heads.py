"""What all torch heads share: fitting, predicting, weights at rest, and saving."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from prmkit.features.sequences import StepSequences
from prmkit.utils.log_silence import quiet_loading
from prmkit.utils.sklearn import Interval, StrOptions, distinct_classes, fit_context, random_generator


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

        from prmkit.models.heads._training import predict_logits

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

        from prmkit.models.heads._training import Targets, TrainingPlan, train

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


class StepMLP(TorchHead):
    """One hidden layer on the features of a step; each row by itself.

    Parameters
    ----------
    hidden_size : int, default=128
        0 gives a linear model.
    dropout : float, default=0.3
    class_weight : "balanced", dict or None, default=None
    max_epochs : int, default=30
    batch_size : int or None, default=256
        Rows per batch; None: all of them.
    learning_rate, weight_decay : float, default=1e-3, 1e-2
        Of AdamW.
    warmup : float, default=0.1
        Share of the updates in which the learning rate rises, before it falls as a cosine does.
    max_norm : float, default=1.0
        Gradient clipping.
    early_stopping : bool, default=True
        Keep the weights of the best epoch on a part of the groups, and stop when it gets no better. Needs
        10 groups; with fewer, all rows are learnt from for ``max_epochs``.
    validation_fraction : float, default=0.1
        Share of the groups (problems, inside ``PRMClassifier``) kept apart for that.
    patience : int, default=5
        Epochs without improvement.
    device : str or None, default=None
        None takes a GPU if there is one. Fitted weights rest on the CPU.
    dtype : {"float32", "float64"}, default="float32"
    show_progress : bool, default=True
        A progress bar on a terminal when training takes more than a moment.
    random_state : int, RandomState or None, default=None
        Initial weights, batches, dropout and the validation part; global generators stay untouched.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    loss_curve_, validation_curve_ : list of float
        Mean loss of each epoch; the second is empty without early stopping.
    n_iter_ : int
        Epochs run.
    n_features_in_ : int
    module_ : torch.nn.Module

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> head = StepMLP(random_state=0).fit(X, X[:, 0] > 0)
    >>> head.predict_proba(X).shape
    (200, 2)
    """

    _parameter_constraints = {
        **TorchHead._parameter_constraints,
        "hidden_size": [Interval(Integral, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_size=128,
        *,
        dropout=0.3,
        class_weight=None,
        max_epochs=30,
        batch_size=256,
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup=0.1,
        max_norm=1.0,
        early_stopping=True,
        validation_fraction=0.1,
        patience=5,
        device=None,
        dtype="float32",
        show_progress=True,
        random_state=None,
    ):
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.class_weight = class_weight
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.max_norm = max_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.dtype = dtype
        self.show_progress = show_progress
        self.random_state = random_state

    def _build_module(self, n_features, n_classes, backbone=None):
        from prmkit.models.heads._networks import Perceptron

        return Perceptron(n_features, n_classes, self.hidden_size, self.dropout)


class StepTransformer(TorchHead):
    """Attend from each step to the problem and the steps up to it; one pass answers all steps.

    The input of the encoder is one vector per step (``inputs_embeds``), the problem's first, after a
    linear projection where sizes differ. The attention is causal, so a step's score cannot depend on
    what follows it, nor on how long its solution is.

    Parameters
    ----------
    backbone : str, path or None, default=None
        A BERT-family encoder of transformers (BERT, ModernBERT, RoBERTa, …), by local folder or hub
        name. None: a small BERT of the sizes below.
    initialization : {"pretrained", "random"}, default="pretrained"
        Whether a named backbone brings its weights or its shape alone.
    hidden_size, n_layers, n_heads : int, default=128, 2, 4
        Of the small BERT; unused with a backbone.
    dropout : float, default=0.1
    class_weight, max_epochs, batch_size, learning_rate, weight_decay, warmup, max_norm, early_stopping
        As in :class:`StepMLP`; defaults None, 20, 1024, 5e-4, 1e-2, 0.1, 1.0, True. ``batch_size`` counts
        positions (steps and problems), padding included.
    validation_fraction, patience, device, dtype, show_progress, random_state
        As in :class:`StepMLP`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    loss_curve_, validation_curve_ : list of float
    n_iter_ : int
    n_features_in_ : int
    module_ : torch.nn.Module

    Notes
    -----
    On rows (``fit(X, y, groups=…)``), rows of equal group are one sequence, in their order; without
    groups each row is a sequence of its own.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> X, y = make_arithmetic_solutions(20, 2, random_state=0)
    >>> clf = PRMClassifier(head=StepTransformer(hidden_size=32, max_epochs=3), random_state=0).fit(X, y)
    >>> clf.predict_proba(X[:4]).shape
    (4, 3)
    """

    reads_sequences = True

    _parameter_constraints = {
        **TorchHead._parameter_constraints,
        "backbone": [str, Path, None],
        "initialization": [StrOptions({"pretrained", "random"})],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        backbone=None,
        *,
        initialization="pretrained",
        hidden_size=128,
        n_layers=2,
        n_heads=4,
        dropout=0.1,
        class_weight=None,
        max_epochs=20,
        batch_size=1024,
        learning_rate=5e-4,
        weight_decay=1e-2,
        warmup=0.1,
        max_norm=1.0,
        early_stopping=True,
        validation_fraction=0.1,
        patience=5,
        device=None,
        dtype="float32",
        show_progress=True,
        random_state=None,
    ):
        self.backbone = backbone
        self.initialization = initialization
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.dropout = dropout
        self.class_weight = class_weight
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.max_norm = max_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.dtype = dtype
        self.show_progress = show_progress
        self.random_state = random_state

    def _build_module(self, n_features, n_classes, backbone=None):
        from prmkit.models.heads._networks import CausalEncoder

        return CausalEncoder(n_features, n_classes, self._encoder(backbone), self.dropout)

    def _encoder(self, saved):
        from transformers import AutoConfig, AutoModel, BertConfig, BertModel

        if (
            saved is not None
        ):  # the shape alone; the folder or the hub may be gone, and foreign code stays out
            config = AutoConfig.for_model(**{key: kept for key, kept in saved.items() if key != "auto_map"})
            return AutoModel.from_config(config, trust_remote_code=False)
        if self.backbone is None:
            if self.hidden_size % self.n_heads:
                raise ValueError(
                    f"hidden_size={self.hidden_size} is not a multiple of n_heads={self.n_heads}"
                )
            config = BertConfig(
                vocab_size=1,
                hidden_size=self.hidden_size,
                num_hidden_layers=self.n_layers,
                num_attention_heads=self.n_heads,
                intermediate_size=4 * self.hidden_size,
                hidden_dropout_prob=self.dropout,
                attention_probs_dropout_prob=self.dropout,
                pad_token_id=0,
            )
            return BertModel(config, add_pooling_layer=False)
        from prmkit.features.encoding.model_path import resolve_model

        path = resolve_model(self.backbone)
        if self.initialization == "random":
            return AutoModel.from_config(AutoConfig.from_pretrained(path))
        with quiet_loading():
            return AutoModel.from_pretrained(path, use_safetensors=True, dtype="float32")
