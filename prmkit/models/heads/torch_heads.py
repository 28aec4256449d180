"""The base of the torch heads, and ``StepMLP``: a small network over the features of a step."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from prmkit.data.growing import Growing, Then, growing
from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Step
from prmkit.features.sequences import StepSequences
from prmkit.features.states import TokenStates
from prmkit.models.heads.head import Featurizer, Head, Label, Matrix, most_probable
from prmkit.utils.environment import kept_generators, on_device, safe_after_fork
from prmkit.utils.sklearn import Interval, StrOptions, distinct_classes, fit_context, random_generator

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from prmkit.models.heads._training import ScaledModule, Targets, TrainingPlan


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
            labels = column_or_1d(y)
            check_consistent_length(X.answers, labels)
            return self._fit(X, labels, sample_weight)
        rows, labels = validate_data(self, X, y, dtype=self.dtype)
        return self._fit(StepSequences.from_rows(rows, groups), labels, sample_weight)

    def _read(
        self,
        featurizer: Featurizer | None,
        X: Sequence[Step] | Matrix,
        y: np.ndarray | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> StepSequences | TokenStates:
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
        return predict_sequences(self, self._prepared(sequences), self.batch_size)

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

        Raises
        ------
        ValueError
            If a row has no probabilities.
        """
        proba = self.predict_proba(X, groups)  # first: it raises NotFittedError
        return most_probable(self.classes_, proba)

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
    def _fit(
        self, sequences: StepSequences, y: np.ndarray, sample_weight: npt.ArrayLike | None, further: Any = ()
    ) -> Self:
        """Learn from rows. The first of them have labels, and all of them have ``further`` targets."""
        from prmkit.models.heads._training import Targets, TrainingPlan

        self.classes_ = distinct_classes(y)
        codes = np.searchsorted(self.classes_, y)
        weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        weights = weights * compute_sample_weight(self.class_weight, y)
        if not weights.sum() > 0:
            raise ValueError("sample_weight is zero everywhere: nothing to learn from")
        rng = random_generator(self.random_state)
        n_without = len(sequences.answers) - len(codes)
        targets = Targets(np.pad(codes, (0, n_without)), np.pad(weights, (0, n_without)), further)
        sequences = self._prepared(sequences)
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
        module, (self.loss_curve_, self.validation_curve_) = self._trained(sequences, targets, plan, rng)
        self.module_ = module.cpu().eval()
        self.n_iter_ = self._n_epochs()
        return self

    def _trained(
        self, sequences: StepSequences, targets: Targets, plan: TrainingPlan, rng: np.random.RandomState
    ) -> tuple[torch.nn.Module, tuple[Any, Any]]:
        """Return a trained module, and its losses on the part that it learns from and on the one that it does not."""
        import torch

        from prmkit.models.heads._training import train

        learn, check = self._split(sequences, targets, rng)
        with kept_generators(int(rng.randint(2**31 - 1))):
            module = self._build_module(self.n_features_in_, len(self.classes_))
            module.scale_to(*self._moments(*learn))
            module = module.to(device=torch.device(usable_device(self.device)), dtype=getattr(torch, self.dtype))
            return module, train(module, learn[0], learn[1], plan, rng=rng, validation=check)

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

    def _moments(self, sequences: StepSequences, targets: Targets) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of the answered rows, which the module subtracts and divides by."""
        return weighted_moments(sequences.values[sequences.answers], targets.weights)

    def _n_epochs(self) -> int:
        return len(self.loss_curve_)

    def _build_module(self, n_features: int, n_classes: int, backbone: dict[str, Any] | None = None) -> ScaledModule:
        """Return the module, untrained; ``backbone`` is the saved configuration of a named one."""
        raise NotImplementedError


def predict_sequences(
    head: TorchHead, sequences: StepSequences, batch_size: int | None, outputs: slice = slice(None)
) -> np.ndarray:
    """Return the probabilities of what a fitted head has prepared, of some of its outputs."""
    from prmkit.models.heads._training import predict_logits

    with on_device(head.module_, usable_device(head.device)):
        return softmax(predict_logits(head.module_, sequences, batch_size)[:, outputs])


def weighted_moments(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and deviation of each column. A column that does not vary has the deviation 1."""
    values = rows.astype(np.float64)
    mean = np.average(values, axis=0, weights=weights)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
    return mean, np.where(deviation > 1e-8, deviation, 1.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, one row per step."""
    import torch

    proba: np.ndarray = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    return proba


def usable_device(device: str | None) -> str:
    """Return the name of the device to compute on. A GPU that is not there raises ValueError."""
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
