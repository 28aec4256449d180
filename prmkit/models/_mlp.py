"""A small perceptron on feature rows."""

from __future__ import annotations

from numbers import Integral, Real

from prmkit.models._torch_head import TorchHead
from prmkit.utils._sklearn import Interval


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
        from prmkit.models._modules import Perceptron

        return Perceptron(n_features, n_classes, self.hidden_size, self.dropout)
