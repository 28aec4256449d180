"""TokenPRM: a fine-tuned BERT or language model as a scikit-learn classifier of steps."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from prmkit.data.labels import check_labels, resolve_label_order
from prmkit.data.solution import as_steps
from prmkit.marking.scheme import SCHEMES
from prmkit.models.heads.decision import most_probable
from prmkit.models.tokens.links import as_rewards
from prmkit.utils.sklearn import (
    Interval,
    ReadsSteps,
    StrOptions,
    distinct_classes,
    fit_context,
    random_generator,
)


class TokenPRM(ReadsSteps, ClassifierMixin, BaseEstimator):
    """Fine-tune a BERT-family encoder or a decoder-only language model; score all steps in one pass.

    Parameters
    ----------
    model : str or path, default="all-MiniLM-L6-v2"
        A transformers model, by local folder or hub name. The default is read from the ``offline`` extra.
    scheme : {"separator", "special_token", "reward_tokens", "prefix"}, default="separator"
        How steps are marked and where their scores are read. ``"separator"``: a classifier at the end of each step.
        ``"special_token"``: the same at a token that is added to the vocabulary. ``"reward_tokens"``: a language
        model's logits of ``reward_tokens``. ``"prefix"``: a sequence classifier, one row per step; n passes for n
        steps, for models whose attention cannot be kept from looking ahead.
    step_separator : str or None, default=None
        What closes a step. None: a line break, or the tokenizer's own separator where it drops white space.
    reward_tokens : list of str or None, default=None
        One token per class, worst first. None: "-" and "+", or "-", "0", "+".
    loss : str, default="cross_entropy"
        A key of :func:`prmkit.models.losses.get_loss`: "cross_entropy", "reward_token", "soft_cross_entropy", "bce",
        "mse", "orm", "rank", "theory_rank", "ablate_rank".
    loss_options : dict or None, default=None
        Such as ``{"class_weight": [2.0, 1.0, 1.0]}`` (worst first) or ``{"zeta": 2.0}``.
    neutral : {"positive", "negative", "drop"}, default="positive"
        What a neutral step counts as in a loss that knows right and wrong alone.
    label_order : sequence or None, default=None
        Labels from worst to best.
    initialization : {"pretrained", "random"}, default="pretrained"
    model_kwargs : dict or None, default=None
        Settings of the backbone's configuration to change, such as ``{"num_hidden_layers": 2}``.
    max_length : int or None, default=None
        Tokens of a solution. None: as many as the backbone has positions for.
    max_prompt_length : int or None, default=None
        Tokens of the problem; a longer one loses its beginning, in training and in use.
    too_long : {"drop", "nan", "raise"}, default="drop"
        What becomes of a solution that is longer. ``"drop"``: its last steps are left out of training, counted and
        warned about, and asking for their scores is an error. ``"nan"``: the same, but their probabilities are NaN.
        ``"raise"``: an error in ``fit`` too.
    num_train_epochs : int, default=3
    learning_rate : float, default=1e-4
    weight_decay : float, default=0.01
    warmup_steps : float, default=0.1
        Number of updates in which the learning rate rises, or their share if less than 1. Then it falls linearly to
        zero.
    tokens_per_batch : int, default=2048
        Padded tokens per update; solutions of like length go together.
    validation_fraction : float, default=0.2
        Share of the problems on which the probabilities of a loss without any (ranking, outcome) are calibrated.
    device : str or None, default=None
        None: a GPU if there is one. Weights rest on the CPU.
    dtype : {"float32", "bfloat16"} or None, default=None
        Precision of training. None: bfloat16 where the hardware computes in it. Scores are computed in float32.
    show_progress : bool, default=True
    store_weights_in_pickle : bool, default=False
        Whether to pickle weights that also lie in a folder (``weights_path_``). Others are pickled always.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    scheme_ : MarkingScheme
    loss_curve_ : list of float
        Loss of each logged update.
    weights_path_ : str or None
        The folder that the weights were read from, and that a pickle names in their place.

    See Also
    --------
    PRMTrainer : checkpoints, adapters, several devices.

    Notes
    -----
    Encoders attend block-causally: a token sees the problem and the steps up to its own, so one pass answers all
    steps and none looks ahead. Rewards of the ranking losses are no probabilities: a multinomial logistic regression
    on the reward, fitted on problems that the model did not learn, makes them (Platt, 1999).

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> X, y = make_arithmetic_solutions(4, 1, random_state=0)
    >>> tiny = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    >>> head = TokenPRM(initialization="random", model_kwargs=tiny, num_train_epochs=1, random_state=0).fit(X, y)
    >>> head.predict_proba(X[:2]).shape
    (2, 3)
    """

    learns = True

    _parameter_constraints = {
        "model": [str, Path],
        "scheme": [StrOptions(set(SCHEMES))],
        "step_separator": [str, None],
        "reward_tokens": ["array-like", None],
        "loss": [str],
        "loss_options": [dict, None],
        "neutral": [StrOptions({"positive", "negative", "drop"})],
        "label_order": ["array-like", None],
        "initialization": [StrOptions({"pretrained", "random"})],
        "model_kwargs": [dict, None],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "max_prompt_length": [Interval(Integral, 1, None, closed="left"), None],
        "too_long": [StrOptions({"drop", "nan", "raise"})],
        "num_train_epochs": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_steps": [Interval(Real, 0, None, closed="left")],
        "tokens_per_batch": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "device": [str, None],
        "dtype": [StrOptions({"float32", "bfloat16"}), None],
        "show_progress": ["boolean"],
        "store_weights_in_pickle": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        model="all-MiniLM-L6-v2",
        *,
        scheme="separator",
        step_separator=None,
        reward_tokens=None,
        loss="cross_entropy",
        loss_options=None,
        neutral="positive",
        label_order=None,
        initialization="pretrained",
        model_kwargs=None,
        max_length=None,
        max_prompt_length=None,
        too_long="drop",
        num_train_epochs=3,
        learning_rate=1e-4,
        weight_decay=0.01,
        warmup_steps=0.1,
        tokens_per_batch=2048,
        validation_fraction=0.2,
        device=None,
        dtype=None,
        show_progress=True,
        store_weights_in_pickle=False,
        random_state=None,
    ):
        self.model = model
        self.scheme = scheme
        self.step_separator = step_separator
        self.reward_tokens = reward_tokens
        self.loss = loss
        self.loss_options = loss_options
        self.neutral = neutral
        self.label_order = label_order
        self.initialization = initialization
        self.model_kwargs = model_kwargs
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.too_long = too_long
        self.num_train_epochs = num_train_epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.tokens_per_batch = tokens_per_batch
        self.validation_fraction = validation_fraction
        self.device = device
        self.dtype = dtype
        self.show_progress = show_progress
        self.store_weights_in_pickle = store_weights_in_pickle
        self.random_state = random_state

    @fit_context
    def fit(self, X, y):
        """Fine-tune the backbone on labelled steps.

        Parameters
        ----------
        X : 1-D array-like of Step or str
        y : array-like of shape (n_steps,)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If labels, loss and scheme do not fit together, or no step fits into ``max_length``.
        """
        from prmkit.models.tokens._fine_tuning import fine_tune

        steps = as_steps(X)
        y = check_labels(y, len(steps), self.label_order)
        self.classes_ = distinct_classes(y)
        order = resolve_label_order(self.classes_, self.label_order)
        if order is None and self.loss != "cross_entropy":
            raise ValueError(
                f"the classes {self.classes_.tolist()} have no known order, and loss={self.loss!r} needs one: "
                "pass label_order=[worst, …, best]"
            )
        order = tuple(self.classes_.tolist()) if order is None else tuple(order)
        learnt = fine_tune(self, steps, y, order, random_generator(self.random_state))
        self._scorer: Any = learnt.scorer
        self.weights_path_ = None
        self.loss_curve_ = learnt.loss_curve
        columns = np.array([order.index(label) for label in self.classes_.tolist()])
        self.link_ = learnt.link.reordered(columns)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Probability of each class, for each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``; rows of NaN for steps that do not fit, with ``too_long="nan"``.

        Raises
        ------
        ValueError
            If a step does not fit into the model, unless ``too_long`` says otherwise.
        """
        check_is_fitted(self)
        return self.link_(self._outputs(X))

    def reward(self, X) -> np.ndarray:
        """Raw output of shape (n_steps,) that grows with how right a step is, such as the log-odds of best to worst."""
        check_is_fitted(self)
        return as_rewards(self._outputs(X))

    def predict(self, X) -> np.ndarray:
        """Most probable class of each step."""
        proba = self.predict_proba(X)
        return most_probable(self.classes_, proba)

    @classmethod
    def from_pretrained(cls, name_or_path, layout=None, *, classes=None, dtype=None, **options) -> TokenPRM:
        """Read an existing PRM; see :meth:`prmkit.PRMClassifier.from_pretrained`."""
        from prmkit.models.pretrained.loading import load_head

        return load_head(cls, name_or_path, layout, classes=classes, dtype=dtype, options=options)

    def take_weights(self, origin, scorer) -> None:
        """Score with a model that was read from a folder; after unpickling it is read again when first needed."""
        self.weights_path_, self._origin, self._scorer = origin.name, origin, scorer

    @property
    def scheme_(self):
        """The marking scheme in use."""
        from prmkit.models.tokens.scorer import loaded

        check_is_fitted(self)
        return loaded(self).scheme

    def _outputs(self, X: Any) -> np.ndarray:
        from prmkit.models.tokens.scorer import loaded

        outputs = loaded(self).outputs(
            as_steps(X),
            too_long=self.too_long,
            tokens_per_batch=max(self.tokens_per_batch, 8192),
            device=self.device,
            show_progress=self.show_progress,
        )
        if lost := int(np.isnan(outputs).reshape(len(outputs), -1).any(axis=1).sum()):
            warnings.warn(f"{lost} of {len(outputs)} steps do not fit into the model: NaN", stacklevel=3)
        return outputs

    def __getstate__(self):
        state = super().__getstate__().copy()
        if state.get("weights_path_") and not self.store_weights_in_pickle:
            state["_scorer"] = None  # read again from the folder when needed, if that still holds the same
            state["_origin"] = self._origin.sealed()
        return state
