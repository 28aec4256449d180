"""A BERT-family encoder over step embeddings, causal over the steps."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path

from prmkit.models._torch_head import TorchHead
from prmkit.utils._quiet import quiet_loading
from prmkit.utils._sklearn import Interval, StrOptions


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
        from prmkit.models._modules import CausalEncoder

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
        from prmkit.features._model_path import resolve_model

        path = resolve_model(self.backbone)
        if self.initialization == "random":
            return AutoModel.from_config(AutoConfig.from_pretrained(path))
        with quiet_loading():
            return AutoModel.from_pretrained(path, use_safetensors=True, dtype="float32")
