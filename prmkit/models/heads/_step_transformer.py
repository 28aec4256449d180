"""``StepTransformer``: a small transformer over the features of the steps of a solution."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prmkit.data.growing import Growing, InContext, Then
from prmkit.models.heads.head import Featurizer, Label
from prmkit.models.heads.torch_heads import TorchHead, softmax, usable_device
from prmkit.utils.environment import quiet_loading
from prmkit.utils.sklearn import Interval, StrOptions

if TYPE_CHECKING:
    from prmkit.models.heads._training import ScaledModule


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
        return Then(GrowingSequence(module, featurizer, problem, usable_device(self.device)), softmax)

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
