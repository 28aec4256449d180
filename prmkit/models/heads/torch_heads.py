"""Torch heads: a small network and a small transformer over the features of steps."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from prmkit.data.growing import Growing, InContext, Then, growing
from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Step
from prmkit.features.sequences import StepSequences
from prmkit.models.heads.head import Featurizer, Head, Label, Matrix
from prmkit.utils.environment import kept_generators, on_device, quiet_loading, safe_after_fork
from prmkit.utils.sklearn import Interval, StrOptions, distinct_classes, fit_context, random_generator

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from prmkit.models.heads._training import ScaledModule


class TorchHead(Head, ClassifierMixin, BaseEstimator):
    """Base of the torch heads. A subclass adds its own parameters and ``_build_module``.

    With ``reads = "sequences"`` the score of a row depends on the earlier rows of its solution.
    """

    is_smooth = True
    classes_: np.ndarray
    n_features_in_: int
    module_: torch.nn.Module
    loss_curve_: list[float]
    validation_curve_: list[float]
    n_iter_: int
    # Parameters that every head has; each head gives them its own defaults.
    class_weight: Literal["balanced"] | dict[Label, float] | None
    max_epochs: int
    batch_size: int | None
    learning_rate: float
    weight_decay: float
    warmup: float
    max_norm: float
    early_stopping: bool
    validation_fraction: float
    patience: int
    device: str | None
    dtype: Literal["float32", "float64"]
    show_progress: bool
    random_state: int | np.random.RandomState | None

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
    def fit(
        self,
        X: Matrix | StepSequences,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> Self:
        """Learn from feature rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), or StepSequences
            Feature rows, or the result of ``read``.
        y : array-like of shape (n_rows,)
            Label of each row.
        sample_weight : array-like of shape (n_rows,), default=None
            Weight of each row in the loss. If ``None``, all rows count the same.
        groups : array-like of shape (n_rows,), default=None
            Solution of each row. Rows of one solution form a sequence, in their order, and stay on one
            side of the early-stopping split. If ``None``, each row stands alone.

        Returns
        -------
        TorchHead
            The fitted head.
        """
        if isinstance(X, StepSequences):
            self.n_features_in_ = X.values.shape[1]
            return self._fit(X, np.asarray(y), sample_weight)
        rows, labels = validate_data(self, X, y, dtype=self.dtype)
        return self._fit(StepSequences.from_rows(rows, groups), labels, sample_weight)

    def _read(
        self,
        featurizer: Featurizer | None,
        X: Sequence[Step] | Matrix,
        y: np.ndarray | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> StepSequences:
        """Return the feature rows as sequences."""
        if featurizer is None:
            sequences = StepSequences.from_rows(np.asarray(X), groups)
        elif self.reads == "sequences":
            sequences = StepSequences.from_steps(featurizer, X)
        else:
            rows = check_array(featurizer.transform(X), dtype=self.dtype)
            sequences = StepSequences.from_rows(rows, problem_groups(X))
        return sequences if self.reads == "sequences" else sequences.as_rows()

    @safe_after_fork()
    def predict_proba(self, X: Matrix | StepSequences, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), or StepSequences
            Feature rows, or the result of ``read``.
        groups : array-like of shape (n_rows,), default=None
            Solution of each row, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Columns in the order of ``classes_``.
        """
        from prmkit.models.heads._training import predict_logits

        check_is_fitted(self)
        if isinstance(X, StepSequences):
            sequences = X
        else:
            X = validate_data(self, X, dtype=self.dtype, reset=False)
            sequences = StepSequences.from_rows(X, groups)
        if sequences.values.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {sequences.values.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        with on_device(self.module_, _device(self.device)):
            logits = predict_logits(self.module_, self._prepared(sequences), self.batch_size)
        return _softmax(logits)

    def predict(self, X: Matrix | StepSequences, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), or StepSequences
            Feature rows, or the result of ``read``.
        groups : array-like of shape (n_rows,), default=None
            Solution of each row, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_rows,)
            Labels out of ``classes_``.
        """
        proba = self.predict_proba(X, groups)  # first: it raises NotFittedError
        labels: np.ndarray = self.classes_[proba.argmax(axis=1)]
        return labels

    def grow(self, problem: str, featurizer: Featurizer | None = None) -> Growing:
        """Return a solution of a problem that grows: the way of :class:`~prmkit.scoring.IncrementalScorer`.

        Parameters
        ----------
        problem : str
            Text of the problem.
        featurizer : fitted transformer over steps
            Gives the features.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the probabilities of the new steps.
        """
        check_is_fitted(self)
        return self._growing(problem, featurizer)

    def _growing(self, problem: str, featurizer: Featurizer | None) -> Growing:
        return Then(growing(featurizer, problem, "transform"), self.predict_proba)

    @safe_after_fork()
    def _fit(self, sequences: StepSequences, y: np.ndarray, sample_weight: npt.ArrayLike | None) -> Self:
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
        with kept_generators(int(rng.randint(2**31 - 1))):
            module = self._build_module(self.n_features_in_, len(self.classes_))
            module.scale_to(*_moments(*learn))
            module = module.to(device=device, dtype=getattr(torch, self.dtype))
            curves = train(module, learn[0], learn[1], plan, rng=rng, validation=check)
        self.loss_curve_, self.validation_curve_ = curves
        self.module_ = module.cpu().eval()
        self.n_iter_ = len(self.loss_curve_)
        return self

    def restore(self, state: dict[str, torch.Tensor], backbone: dict[str, Any] | None = None) -> None:
        """Rebuild the module around saved weights.

        Parameters
        ----------
        state : dict of str to Tensor
            The weights.
        backbone : dict, default=None
            The saved configuration of a named backbone.
        """
        with kept_generators():  # initial weights are drawn, only to be overwritten
            module = self._build_module(self.n_features_in_, len(self.classes_), backbone)
        module.to(next(iter(state.values())).dtype).load_state_dict(state)
        self.module_ = module.eval()

    def _split(self, sequences: StepSequences, targets: Any, rng: np.random.RandomState) -> tuple[Any, Any]:
        """Cut off a validation part by problem, or None if too few problems would be left to judge by."""
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
        if self.reads != "sequences":
            sequences = sequences.as_rows()
        values = np.asarray(sequences.values, dtype=self.dtype)
        return StepSequences(values, sequences.lengths, sequences.answers, sequences.problems)

    def _build_module(self, n_features: int, n_classes: int, backbone: dict[str, Any] | None = None) -> ScaledModule:
        """Return the module, untrained; ``backbone`` is the saved configuration of a named one."""
        raise NotImplementedError


def _moments(sequences: StepSequences, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and deviation of the answered rows, which the module subtracts and divides by."""
    values = sequences.values[sequences.answers].astype(np.float64)
    mean = np.average(values, axis=0, weights=targets.weights)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=targets.weights))
    return mean, np.where(deviation > 1e-8, deviation, 1.0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    import torch

    proba: np.ndarray = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    return proba


def _device(device: str | None) -> str:
    import torch

    if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}, but this torch finds no GPU: use device=None or 'cpu'")
    if device is not None:
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


class StepMLP(TorchHead):
    """Put one hidden layer on the features of a step, each row by itself.

    Parameters
    ----------
    hidden_size : int, default=128
        Number of hidden units. 0 gives a linear model.
    dropout : float, default=0.3
        Share of the hidden units that are dropped in training.
    class_weight : "balanced", dict or None, default=None
        Weight of each class in the loss. ``"balanced"`` gives all classes the same total weight.
    max_epochs : int, default=30
        Largest number of passes over the training rows.
    batch_size : int or None, default=256
        Rows per batch. If ``None``, all rows are one batch.
    learning_rate : float, default=1e-3
        Largest learning rate of AdamW.
    weight_decay : float, default=1e-2
        Weight decay of AdamW.
    warmup : float, default=0.1
        Share of the updates in which the learning rate rises. It falls afterwards, as a cosine does.
    max_norm : float, default=1.0
        Gradients that are longer than this are scaled down to it.
    early_stopping : bool, default=True
        Whether to keep the weights of the best epoch on a part of the groups, and to stop when it gets no better. It
        needs 10 groups. With fewer, the head learns from all rows for ``max_epochs``.
    validation_fraction : float, default=0.1
        Share of the groups that is kept apart for early stopping. Inside ``PRMClassifier``, groups are problems.
    patience : int, default=5
        Number of epochs without improvement after which training stops.
    device : str or None, default=None
        Device to compute on. If ``None``, a GPU if there is one. The fitted weights rest on the CPU.
    dtype : {"float32", "float64"}, default="float32"
        Precision of weights and rows.
    show_progress : bool, default=True
        Whether to show a progress bar on a terminal when training takes more than a moment.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, batches, dropout and the validation part. Global generators stay untouched.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Columns of ``predict_proba``, sorted.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_curve_ : list of float
        Mean validation loss of each epoch. It is empty without early stopping.
    n_iter_ : int
        Number of epochs that were run.
    n_features_in_ : int
        Number of features of a row.
    module_ : torch.nn.Module
        The trained network.

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
        hidden_size: int = 128,
        *,
        dropout: float = 0.3,
        class_weight: Literal["balanced"] | dict[Label, float] | None = None,
        max_epochs: int = 30,
        batch_size: int | None = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        max_norm: float = 1.0,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int = 5,
        device: str | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        show_progress: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
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

    def _build_module(self, n_features: int, n_classes: int, backbone: dict[str, Any] | None = None) -> ScaledModule:
        from prmkit.models.heads._training import Perceptron

        return Perceptron(n_features, n_classes, self.hidden_size, self.dropout)


class StepTransformer(TorchHead):
    """Attend from each step to the problem and the steps up to it, in one pass for all steps.

    The input of the encoder is one vector per step (``inputs_embeds``), the problem's first, after a
    linear projection where sizes differ. The attention is causal, so a step's score cannot depend on
    what follows it, nor on how long its solution is.

    Parameters
    ----------
    backbone : str, path or None, default=None
        A BERT-family encoder of transformers (BERT, ModernBERT, RoBERTa, …), by local folder or hub
        name. If ``None``, it is a small BERT of the sizes below.
    initialization : {"pretrained", "random"}, default="pretrained"
        Whether a named backbone brings its weights, or its shape alone.
    hidden_size : int, default=128
        Width of the small BERT.
    n_layers : int, default=2
        Number of layers of the small BERT.
    n_heads : int, default=4
        Number of attention heads of the small BERT.
    dropout : float, default=0.1
        Share of the units that are dropped in training.
    class_weight : "balanced", dict or None, default=None
        Weight of each class in the loss. ``"balanced"`` gives all classes the same total weight.
    max_epochs : int, default=20
        Largest number of passes over the training solutions.
    batch_size : int or None, default=1024
        Positions per batch (steps and problems), padding included. If ``None``, all are one batch.
    learning_rate : float, default=5e-4
        Largest learning rate of AdamW.
    weight_decay : float, default=1e-2
        Weight decay of AdamW.
    warmup : float, default=0.1
        Share of the updates in which the learning rate rises. It falls afterwards, as a cosine does.
    max_norm : float, default=1.0
        Gradients that are longer than this are scaled down to it.
    early_stopping : bool, default=True
        Whether to stop by the loss on a part of the problems, as in :class:`StepMLP`.
    validation_fraction : float, default=0.1
        Share of the problems that is kept apart for early stopping.
    patience : int, default=5
        Number of epochs without improvement after which training stops.
    device : str or None, default=None
        Device to compute on. If ``None``, a GPU if there is one. The fitted weights rest on the CPU.
    dtype : {"float32", "float64"}, default="float32"
        Precision of weights and rows.
    show_progress : bool, default=True
        Whether to show a progress bar on a terminal when training takes more than a moment.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, batches, dropout and the validation part. Global generators stay untouched.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Columns of ``predict_proba``, sorted.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_curve_ : list of float
        Mean validation loss of each epoch. It is empty without early stopping.
    n_iter_ : int
        Number of epochs that were run.
    n_features_in_ : int
        Number of features of a row.
    module_ : torch.nn.Module
        The trained network.

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

    reads = "sequences"

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
        backbone: str | Path | None = None,
        *,
        initialization: Literal["pretrained", "random"] = "pretrained",
        hidden_size: int = 128,
        n_layers: int = 2,
        n_heads: int = 4,
        dropout: float = 0.1,
        class_weight: Literal["balanced"] | dict[Label, float] | None = None,
        max_epochs: int = 20,
        batch_size: int | None = 1024,
        learning_rate: float = 5e-4,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        max_norm: float = 1.0,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int = 5,
        device: str | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        show_progress: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
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

    def _build_module(self, n_features: int, n_classes: int, backbone: dict[str, Any] | None = None) -> ScaledModule:
        from prmkit.models.heads._training import CausalEncoder

        return CausalEncoder(n_features, n_classes, self._encoder(backbone), self.dropout)

    def _growing(self, problem: str, featurizer: Featurizer | None) -> Growing:
        from prmkit.models.heads._growing import GrowingSequence, can_grow

        module: Any = self.module_
        if featurizer is None or not can_grow(module):
            return InContext(lambda steps: self.predict_proba(self.read(featurizer, steps)), problem)
        return Then(GrowingSequence(module, featurizer, problem, _device(self.device)), _softmax)

    def _encoder(self, saved: dict[str, Any] | None) -> Any:
        """Return the encoder: of a saved configuration, by name, or a small BERT."""
        from transformers import AutoConfig, AutoModel, BertConfig, BertModel

        if saved is not None:
            # The shape alone: the folder or the hub may be gone, and foreign code stays out.
            config = AutoConfig.for_model(**{key: value for key, value in saved.items() if key != "auto_map"})
            return AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        if self.backbone is None:
            if self.hidden_size % self.n_heads:
                raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of n_heads={self.n_heads}")
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
            return AutoModel.from_config(AutoConfig.from_pretrained(path))  # type: ignore[no-untyped-call]
        with quiet_loading():
            return AutoModel.from_pretrained(path, use_safetensors=True, dtype="float32")
