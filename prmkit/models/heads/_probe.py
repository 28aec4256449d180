"""``StepProbe``: a small head on the states of a frozen language model, at the tokens of a step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Step
from prmkit.features.sequences import StepSequences
from prmkit.features.states import TokenStates
from prmkit.models.heads.head import Featurizer, Label, Matrix
from prmkit.models.heads.torch_heads import TorchHead, predict_sequences, weighted_moments
from prmkit.utils.environment import kept_generators
from prmkit.utils.sklearn import Interval, StrOptions, fit_context

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from prmkit.models.heads._training import FurtherTargets, ScaledModule, Targets, TrainingPlan


_TOKENS_PER_STEP = 32


class StepProbe(TorchHead):
    """Read the states of a frozen language model at the tokens of a step, pooled, through a small network.

    Its featurizer is ``PRMFeaturizer(kind="states", pooling="tokens")``. The states of all chosen layers and the
    further columns of the step, such as its place and its length, are brought to zero mean and unit deviation on the
    training rows. Several networks are trained from different seeds, and their probabilities are averaged.

    Parameters
    ----------
    pooling : {"mean", "last", "attention"}, default="mean"
        How the tokens of a step become one vector: their mean, the last one, or learned attention. Each query q of
        ``"attention"`` weighs a token with the state h by ``softmax(q·h / sqrt(d))`` over the tokens of the step.
    n_queries : int, default=2
        Number of queries of ``pooling="attention"``. Their vectors stand side by side.
    hidden_size : int, default=64
        Number of hidden units. 0 gives a linear model.
    n_seeds : int, default=3
        Number of networks that are averaged. Each has its own validation part, initial weights and batches.
    dropout : float, default=0.3
        Share of the hidden units that are dropped in training.
    class_weight : "balanced", dict or None, default=None
        Weight of each class in the loss. ``"balanced"`` gives all classes the same total weight.
    outcome_weight : float, default=0.0
        Weight of a further loss: whether the final answer of the solution is right, forecast at each step by outputs of
        its own. In :class:`~prmkit.PRMClassifier`, ``Solution.meta["final_answer_correct"]`` says it.
    extra_targets : dict or None, default=None
        Weights of further targets of steps: ``{"error_type": 0.2}`` learns the list ``Solution.meta["error_type"]``.
    max_epochs : int, default=30
        Largest number of passes over the training steps.
    batch_size : int or None, default=256
        Steps per batch. ``pooling="attention"`` takes 32 times as many tokens, padding included. If None, all steps
        are one batch.
    learning_rate : float, default=1e-3
        Largest learning rate of AdamW.
    weight_decay : float, default=1e-2
        Weight decay of AdamW.
    warmup : float, default=0.1
        Share of the updates in which the learning rate rises. It falls afterwards, as a cosine does.
    max_norm : float, default=1.0
        Gradients that are longer than this are scaled down to it.
    early_stopping : bool, default=True
        Whether to keep the weights of the best epoch on a part of the problems, and to stop when it gets no better. It
        needs 10 problems. With fewer, the head learns from all steps for ``max_epochs``.
    validation_fraction : float, default=0.125
        Share of the problems that is kept apart for early stopping.
    patience : int, default=5
        Number of epochs without improvement after which training stops.
    device : str or None, default=None
        Device to compute on. If ``None``, a GPU if there is one. The fitted weights rest on the CPU.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the weights, and of the states as they are read.
    show_progress : bool, default=True
        Whether to show a progress bar on a terminal when training takes more than a moment.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, batches, dropout and the validation parts. Global generators stay untouched.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Columns of ``predict_proba``, sorted.
    loss_curve_ : list of list of float
        Mean training loss of each epoch, for each seed.
    validation_curve_ : list of list of float
        Mean validation loss of each epoch, for each seed. The lists are empty without early stopping.
    n_iter_ : int
        Largest number of epochs that were run.
    n_features_in_ : int
        Numbers per token: those of all layers, and the further columns.
    n_columns_ : int
        How many of them are further columns.
    objectives_ : dict
        Classes of the further objectives by name, such as ``{"outcome": (False, True)}``.
    module_ : torch.nn.Module
        The trained networks.

    See Also
    --------
    StepMLP : The same network on plain rows of features.

    Notes
    -----
    ``"mean"`` and ``"last"`` are computed once, before training: an epoch costs as much as that of :class:`StepMLP`.
    ``"attention"`` reads all tokens in every epoch, and holds their states in ``dtype`` in memory.

    Steps that do not fit into the language model have no states. They are left out of ``fit``, with a warning, and
    their probabilities are NaN.

    Choose layers and width inside cross-validation, and never on the data that you report: choosing a layer there has
    raised an AUROC by .18 in one report. The example chooses the width. A search over a
    :class:`~prmkit.PRMClassifier` chooses both, ``{"featurizer__layer": [16, 20, [12, 20]], "head__hidden_size": [0,
    64]}``, with ``cv=StratifiedProblemKFold(3)``.

    Further objectives share the hidden units with the labels. States that are given as :class:`TokenStates` hold their
    values in ``targets``: ``{"outcome": [True, True, None]}`` has one per step, None where it is not known. Early
    stopping looks at the labels alone.

    References
    ----------
    Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021, arXiv:2110.14168 (the outcome, learnt at every
    token).

    Ni et al., "ReProbe: Efficient Test-Time Scaling of Multi-Step Reasoning by Probing Internal States of Large
    Language Models", ACL 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> X = np.random.default_rng(0).normal(size=(120, 8))
    >>> probe = StepProbe(n_seeds=1, max_epochs=5, random_state=0)
    >>> search = GridSearchCV(probe, {"hidden_size": [0, 16]}, cv=3, scoring="neg_log_loss").fit(X, X[:, 0] > 0)
    >>> search.predict_proba(X).shape
    (120, 2)
    """

    n_columns_: int
    objectives_: dict[str, tuple[Any, ...]]
    loss_curve_: list[list[float]]  # type: ignore[assignment]
    validation_curve_: list[list[float]]  # type: ignore[assignment]

    too_long = "nan"  # a step that was cut off has no probabilities
    _parameter_constraints = {
        **TorchHead._parameter_constraints,
        "pooling": [StrOptions({"mean", "last", "attention"})],
        "n_queries": [Interval(Integral, 1, None, closed="left")],
        "hidden_size": [Interval(Integral, 0, None, closed="left")],
        "n_seeds": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "outcome_weight": [Interval(Real, 0, None, closed="left")],
        "extra_targets": [dict, None],
    }

    def __init__(
        self,
        pooling: Literal["mean", "last", "attention"] = "mean",
        *,
        n_queries: int = 2,
        hidden_size: int = 64,
        n_seeds: int = 3,
        dropout: float = 0.3,
        class_weight: Literal["balanced"] | dict[Label, float] | None = None,
        outcome_weight: float = 0.0,
        extra_targets: dict[str, float] | None = None,
        max_epochs: int = 30,
        batch_size: int | None = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        max_norm: float = 1.0,
        early_stopping: bool = True,
        validation_fraction: float = 0.125,
        patience: int = 5,
        device: str | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        show_progress: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.pooling = pooling
        self.n_queries = n_queries
        self.hidden_size = hidden_size
        self.n_seeds = n_seeds
        self.dropout = dropout
        self.class_weight = class_weight
        self.outcome_weight = outcome_weight
        self.extra_targets = extra_targets
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

    @fit_context
    def fit(
        self,
        X: TokenStates | Matrix,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
        *,
        unlabelled: TokenStates | None = None,
    ) -> Self:
        """Learn from the states of steps.

        Parameters
        ----------
        X : TokenStates, or array-like of shape (n_steps, n_features)
            States of the tokens of each step. A plain row is a step of one token.
        y : array-like of shape (n_steps,)
            Label of each step.
        sample_weight : array-like of shape (n_steps,), default=None
            Weight of each step in the loss. If ``None``, all steps count the same.
        groups : array-like of shape (n_steps,), default=None
            Problem of each plain row. Steps of one problem stay on one side of the early-stopping split.
            ``TokenStates`` know their problems.
        unlabelled : TokenStates, default=None
            States of steps without labels, of which the outcome or extra targets are learnt.

        Returns
        -------
        StepProbe
            The fitted head.

        Raises
        ------
        ValueError
            If no step has states, or no step of a class, some are infinite or NaN, y does not label each step, or an
            objective has nothing to learn from.
        """
        if isinstance(X, TokenStates):
            if groups is not None:
                raise ValueError("groups is for plain rows: TokenStates know their problems. Leave groups out")
            states, labels = X, column_or_1d(y)
            check_consistent_length(X, labels)
            self.n_features_in_ = _width(states)
        else:
            _refuse_steps(X)
            rows, labels = validate_data(self, X, y, dtype=self.dtype)
            states = _as_states(rows, groups)
        self.n_columns_ = states.columns.shape[1]
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, labels, dtype=np.float64)
        lost = _lost(states)
        if lost.any():
            if lost.all():
                raise ValueError("no step of X has states: none fits into the language model. Raise its max_length")
            warnings.warn(
                f"{int(lost.sum())} of {len(lost)} steps have no states, for they do not fit into the language model: "
                "they are not learnt from",
                stacklevel=2,
            )
            if gone := sorted(set(labels.tolist()) - set(labels[~lost].tolist())):
                raise ValueError(f"no step of class {gone[0]!r} has states: raise max_length, or leave the class out")
            states, labels = states[~lost], labels[~lost]
            weight = None if weight is None else weight[~lost]
        if unlabelled is not None:
            if not isinstance(unlabelled, TokenStates):
                raise TypeError(
                    f"unlabelled is {type(unlabelled).__name__}, expected TokenStates with targets: "
                    "dataclasses.replace(states, targets={'outcome': […]})"
                )
            states = TokenStates.joined([states, unlabelled[~_lost(unlabelled)]])
        self.objectives_, further = self._objectives(states, unlabelled is not None)
        return self._fit(self._pooled(states), labels, weight, further)

    def predict_proba(self, X: TokenStates | Matrix, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the probability of each class, the mean over the seeds.

        Parameters
        ----------
        X : TokenStates, or array-like of shape (n_steps, n_features)
            States of the tokens of each step.
        groups : array-like of shape (n_steps,), default=None
            It has no effect: each step is scored by itself.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``. NaN for a step without states.
        """
        check_is_fitted(self)
        return self._proba(X, slice(len(self.classes_)))

    def predict_objective(self, X: TokenStates | Matrix, name: str = "outcome") -> np.ndarray:
        """Return the probability of each class of a further objective, read at each step.

        Parameters
        ----------
        X : TokenStates, or array-like of shape (n_steps, n_features)
            States of the tokens of each step.
        name : str, default="outcome"
            Name of the objective: "outcome", or a key of ``extra_targets``.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``objectives_[name]``. For an outcome the second one is P(final answer right). NaN
            for a step without states.

        Raises
        ------
        ValueError
            If there is no such objective.
        """
        check_is_fitted(self)
        if name not in self.objectives_:
            raise ValueError(
                f"the probe has no objective {name!r}, expected one of {list(self.objectives_)}: fit it with "
                "outcome_weight or extra_targets"
            )
        names = list(self.objectives_)
        ends = np.cumsum(self._sizes).tolist()
        return self._proba(X, slice(*ends[names.index(name) :][:2]))

    def _proba(self, X: TokenStates | Matrix, outputs: slice) -> np.ndarray:
        """Return the probabilities of some outputs of the network."""
        if not isinstance(X, TokenStates):
            _refuse_steps(X)
            X = _as_states(validate_data(self, X, dtype=self.dtype, reset=False), None)
        if _width(X) != self.n_features_in_ or X.columns.shape[1] != self.n_columns_:
            raise ValueError(
                f"X has {_width(X)} features, {X.columns.shape[1]} of them further columns, but StepProbe is expecting "
                f"{self.n_features_in_} features as input, {self.n_columns_} of them further columns"
            )
        lost = _lost(X)
        proba = np.full((len(X), outputs.stop - (outputs.start or 0)), np.nan)
        if not lost.all():
            sequences = self._pooled(X[~lost] if lost.any() else X)
            proba[~lost] = predict_sequences(self, sequences, self._rows_per_batch(), outputs)
        return proba

    def _objectives(
        self, states: TokenStates, has_unlabelled: bool
    ) -> tuple[dict[str, tuple[Any, ...]], tuple[FurtherTargets, ...]]:
        """Return the classes of the further objectives, and their targets with the weights of their losses."""
        if not (self.outcome_weight or self.extra_targets):
            if has_unlabelled:
                raise ValueError("unlabelled holds steps without labels: set outcome_weight or extra_targets too")
            return {}, ()
        from prmkit.models.heads._training import FurtherTargets
        from prmkit.models.losses._registry import objective_weights
        from prmkit.models.trainer._objectives import coded

        asked = objective_weights(self.outcome_weight, self.extra_targets)
        if not self.hidden_size:
            raise ValueError(
                f"hidden_size is 0, so that {', '.join(asked)} would share nothing with the labels: choose a "
                "hidden_size above 0, or leave outcome_weight and extra_targets out"
            )
        found = {name: coded(name, states.targets.get(name, ())) for name in asked}
        targets = (FurtherTargets(codes, len(classes), asked[name]) for name, (classes, codes) in found.items())
        return {name: classes for name, (classes, _) in found.items()}, tuple(targets)

    @property
    def _sizes(self) -> list[int]:
        """Numbers of outputs: those of the labels, and of each further objective."""
        return [len(self.classes_), *map(len, self.objectives_.values())]

    def _read(
        self,
        featurizer: Featurizer | None,
        X: Sequence[Step] | Matrix,
        y: np.ndarray | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> TokenStates:
        """Return the states of the tokens of steps. Plain rows of another featurizer are steps of one token."""
        found = X if featurizer is None else featurizer.transform(X)
        if not isinstance(found, TokenStates):
            # A step that was cut off is a row of NaN.
            rows = check_array(found, dtype=self.dtype, ensure_all_finite="allow-nan")
            found = _as_states(rows, groups if featurizer is None else problem_groups(X))
        if featurizer is None or y is None or not (self.outcome_weight or self.extra_targets):
            return found
        from prmkit.models.losses._registry import objective_weights
        from prmkit.models.trainer._objectives import targets_of_steps

        asked = objective_weights(self.outcome_weight, self.extra_targets)
        return replace(found, targets=targets_of_steps(X, asked))

    def _rows_per_batch(self) -> int | None:
        return self.batch_size and self.batch_size * (_TOKENS_PER_STEP if self.pooling == "attention" else 1)

    def _pooled(self, states: TokenStates) -> StepSequences:
        """Return one row per step, or the tokens of each step as a sequence, with a mark that is 0 in padding."""
        n, problems = len(states), states.problems
        columns = np.asarray(states.columns, dtype=self.dtype)
        values = states.values.reshape(len(states.values), self.n_features_in_ - self.n_columns_)
        # The sum of a row is not finite if one of its numbers is not.
        if faults := int((~np.isfinite(values.sum(axis=1, dtype=np.float64))).sum()):
            raise ValueError(
                f"{faults} of {len(values)} tokens have states that are infinite or NaN: make them anew with "
                "dtype='float32' or 'bfloat16' in the featurizer"
            )
        lengths = np.maximum(states.lengths, 1)
        if not states.lengths.all():  # the state of a step without a token is zero
            with_gaps = np.zeros((int(lengths.sum()), values.shape[1]), dtype=values.dtype)
            with_gaps[np.repeat(states.lengths > 0, lengths)] = values
            values = with_gaps
        ends = np.cumsum(lengths)
        if self.pooling == "attention":
            marked = np.ones((len(values), 1), dtype=self.dtype)
            tokens = np.hstack([values.astype(self.dtype), np.repeat(columns, lengths, axis=0), marked])
            return StepSequences(tokens, lengths, ends - 1, problems)
        if self.pooling == "last":
            pooled = values[ends - 1].astype(self.dtype)
        else:
            sums = np.add.reduceat(values, ends - lengths, axis=0, dtype=np.float64)
            pooled = (sums / lengths[:, None]).astype(self.dtype)
        return StepSequences(np.hstack([pooled, columns]), np.ones(n, dtype=np.int64), np.arange(n), problems)

    def _prepared(self, sequences: StepSequences) -> StepSequences:
        return sequences

    def _moments(self, sequences: StepSequences, targets: Targets) -> tuple[np.ndarray, np.ndarray]:
        if self.pooling != "attention":
            return super()._moments(sequences, targets)
        # Every token of a step counts, and the mark is no feature.
        return weighted_moments(sequences.values[:, :-1], np.repeat(targets.weights, sequences.lengths))

    def _trained(
        self, sequences: StepSequences, targets: Targets, plan: TrainingPlan, rng: np.random.RandomState
    ) -> tuple[torch.nn.Module, tuple[Any, Any]]:
        from prmkit.models.heads._training import Averaged

        plan = replace(plan, batch_size=self._rows_per_batch())
        trained = [super(StepProbe, self)._trained(sequences, targets, plan, rng) for _ in range(self.n_seeds)]
        losses, checks = ([curves[part] for _, curves in trained] for part in (0, 1))
        return Averaged([module for module, _ in trained], self.n_columns_, self._sizes), (losses, checks)

    def _n_epochs(self) -> int:
        return max(len(curve) for curve in self.loss_curve_)

    def restore(self, state: dict[str, torch.Tensor], backbone: dict[str, Any] | None = None) -> None:
        """Rebuild the networks around saved weights.

        Parameters
        ----------
        state : dict of str to Tensor
            The weights.
        backbone : dict, default=None
            It has no meaning here.
        """
        from prmkit.models.heads._training import Averaged

        self.n_columns_ = int(state["n_columns"])
        with kept_generators():  # initial weights are drawn, only to be overwritten
            members: list[torch.nn.Module] = [
                self._build_module(self.n_features_in_, len(self.classes_)) for _ in range(self.n_seeds)
            ]
        module = Averaged(members, self.n_columns_, self._sizes)
        module.to(state["members.0.mean"].dtype).load_state_dict(state)
        self.module_ = module.eval()
        self.n_iter_ = self._n_epochs()

    def _build_module(self, n_features: int, n_classes: int, backbone: dict[str, Any] | None = None) -> ScaledModule:
        from prmkit.models.heads._training import Perceptron, TokenProbe

        n_further = sum(self._sizes) - n_classes
        if self.pooling != "attention":
            return Perceptron(n_features, n_classes, self.hidden_size, self.dropout, n_further)
        columns, queries = self.n_columns_, self.n_queries
        return TokenProbe(n_features, columns, n_classes, self.hidden_size, self.dropout, queries, n_further)


def _width(states: TokenStates) -> int:
    _, n_layers, width = states.values.shape
    return int(n_layers * width + states.columns.shape[1])


def _refuse_steps(X: object) -> None:
    if isinstance(X, (list, tuple, np.ndarray)) and np.ndim(X) and isinstance(next(iter(X), None), Step):
        raise TypeError(
            "X holds steps, and StepProbe reads their states: pass them to "
            "PRMClassifier(PRMFeaturizer(kind='states', model=…, pooling='tokens'), StepProbe())"
        )


def _as_states(rows: np.ndarray, groups: npt.ArrayLike | None) -> TokenStates:
    states = replace(TokenStates.from_rows(rows), values=rows[:, None])
    if groups is None:
        return states
    if np.shape(groups) != (len(rows),):
        raise ValueError(f"groups has shape {np.shape(groups)}, expected one problem per row: ({len(rows)},)")
    return replace(states, problems=np.unique(np.asarray(groups), return_inverse=True)[1])


def _lost(states: TokenStates) -> np.ndarray:
    """Which steps lie beyond what the language model reads: their columns are NaN, or all of their states."""
    lost = np.asarray(np.isnan(states.columns).any(axis=1))
    read = states.lengths > 0
    lost[read] |= np.isnan(states.values[states.starts[read]]).all(axis=(1, 2))
    return lost
