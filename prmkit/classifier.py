"""The front door: a classifier of steps that fits, predicts and scores whole solutions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from prmkit.data.labels import check_labels, resolve_label_order
from prmkit.data.problem_keys import distinct_problem_keys
from prmkit.data.solution import Solution, as_steps, refuse_steps
from prmkit.features import PRMFeaturizer
from prmkit.models.heads.blend import StepBlend
from prmkit.models.heads.decision import most_probable
from prmkit.models.heads.head_input import fit_head, head_input, head_proba, learn_input
from prmkit.models.tokens.token_prm import TokenPRM
from prmkit.scoring import ScoredSolution, score_solutions
from prmkit.scoring.fitted import Label
from prmkit.utils.sklearn import (
    HasMethods,
    StrOptions,
    distinct_classes,
    fit_context,
    set_random_states,
)


def make_head(featurizer: Any, head: Any, label_order: Any) -> Any:
    """Return an unfitted head; None where it can only be made when the rows are known."""
    if head is not None:
        made = clone(head)
        if isinstance(made, TokenPRM) and made.label_order is None:
            made.set_params(label_order=label_order)
        return made
    if isinstance(featurizer, PRMFeaturizer) and featurizer.kind == "embeddings":
        return StepBlend(clone(featurizer))
    if not isinstance(featurizer, str):
        return None
    return {"embeddings": StepBlend, "tokens": lambda: TokenPRM(label_order=label_order)}.get(
        featurizer, lambda: None
    )()


def _order_of_numbers(classes: np.ndarray, label_order: Any) -> Any:
    """Return the order for y, whose labels voting, stacking and bagging replace by their places in the alphabet."""
    labels = [] if label_order is None else list(label_order)
    if classes.dtype.kind not in "iu" or not all(isinstance(label, str) for label in labels):
        return label_order
    if classes.tolist() != list(range(len(labels))):
        return label_order
    return [sorted(labels).index(label) for label in labels]


def make_featurizer(featurizer: Any, head: Any) -> Any:
    """Return an unfitted featurizer; None where X is numeric or the head reads the steps itself.

    Raises
    ------
    ValueError
        If tokens are paired with a head that does not read them, or the other way round.
    """
    if getattr(featurizer, "kind", None) == "tokens":
        raise ValueError(
            "TokenPRM marks its tokens itself: pass featurizer='tokens' and set it up on the head"
        )
    by_name = featurizer if isinstance(featurizer, str) else None
    if isinstance(head, TokenPRM) != (by_name == "tokens"):
        raise ValueError("featurizer='tokens' and head=TokenPRM(…) go together, and with nothing else")
    if by_name == "precomputed" or isinstance(head, (StepBlend, TokenPRM)):
        return None
    if by_name == "embeddings":
        return PRMFeaturizer(context="none" if getattr(head, "reads_sequences", False) else "prefix")
    return clone(featurizer)


class PRMClassifier(ClassifierMixin, BaseEstimator):
    """Predict of each step of a solution whether it is negative, neutral or positive.

    Parameters
    ----------
    featurizer : {"embeddings", "tokens", "precomputed"} or transformer, default="embeddings"
        ``"embeddings"``: a :class:`~prmkit.PRMFeaturizer` with the context that the head can use.
        ``"tokens"``: the head, a :class:`~prmkit.models.TokenPRM`, fine-tunes a model on the text itself.
        ``"precomputed"``: X is numeric, of shape (n_steps, n_features). Else any transformer over steps.
    head : classifier or None, default=None
        Any scikit-learn classifier, or a torch head of :mod:`prmkit.models`. None: :class:`~prmkit.models.StepBlend`
        for steps, :class:`~prmkit.models.TokenPRM` for tokens, else logistic regression on standardised columns.
    label_order : sequence or None, default=None
        Labels from worst to best. Needed for rewards and risks unless the labels are -1/0/+1,
        "negative"/"neutral"/"positive", "-"/"+", False/True, 0/1 or 0/1/2. Names are understood
        inside ``VotingClassifier`` and ``StackingClassifier`` too, which number the labels of y.
    random_state : int, RandomState or None, default=None
        Passed to every part of featurizer and head whose own is None.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Columns of ``predict_proba``, sorted.
    label_order_ : tuple or None
        The classes from worst to best, where that is known.
    featurizer_, head_ : the fitted parts; ``featurizer_`` is None where the head reads X itself.
    training_problems_ : ndarray of uint64, or None
        Keys of the problems that ``fit`` saw, by which calibration refuses them. None: not known.
    n_features_in_ : int
        Only for precomputed features.

    See Also
    --------
    prmkit.StratifiedProblemKFold : splits that keep a problem on one side; a plain ``cv=5`` flatters every model.
    prmkit.metrics.step_report : quality beside its trivial baselines.

    Notes
    -----
    The score of a step depends on its problem, the steps before it and itself: never on what follows.

    The default head is what did best in ``benchmarks/bench_quality.py``: on new problems of 11 public data sets it
    finds wrong steps with a mean AUROC of 0.788 (more in :class:`~prmkit.models.StepBlend`).

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> data = make_arithmetic_solutions(30, 2, random_state=0)
    >>> clf = PRMClassifier(random_state=0).fit(data.X, data.y)
    >>> clf.predict_proba(data.X[:2]).shape
    (2, 3)
    >>> 0 < clf.score_solutions(data.solutions[:1])[0].p_no_error < 1
    True
    """

    _parameter_constraints = {
        "featurizer": [StrOptions({"embeddings", "tokens", "precomputed"}), HasMethods(["fit", "transform"])],
        "head": [HasMethods(["fit", "predict_proba"]), None],
        "label_order": ["array-like", None],
        "random_state": ["random_state"],
    }
    featurizer_: Any
    head_: Any

    def __init__(self, featurizer="embeddings", head=None, *, label_order=None, random_state=None):
        self.featurizer = featurizer
        self.head = head
        self.label_order = label_order
        self.random_state = random_state

    @fit_context
    def fit(self, X, y, sample_weight=None, groups=None):
        """Learn from labelled steps.

        Parameters
        ----------
        X : 1-D array-like of Step or str; with ``featurizer="precomputed"`` array-like (n_steps, n_features)
        y : array-like of shape (n_steps,)
            One label per step. Unlabelled steps are not rows; they stay context of later ones.
        sample_weight : array-like of shape (n_steps,), optional
        groups : array-like of shape (n_steps,), optional
            Only with precomputed features and a torch head: the solution of each row.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, or y does not label each of them with a class.
        """
        X, y = self._begin(X, y, groups)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, y, ensure_non_negative=True)
        rows, groups = learn_input(self.featurizer_, self.head_, X, y, groups)
        self.head_ = fit_head(self.head_, rows, y, sample_weight, groups)
        return self

    def predict_proba(self, X, groups=None) -> np.ndarray:
        """Probability of each class, for each step.

        Parameters
        ----------
        X, groups : as in ``fit``

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        return head_proba(self.head_, self._read(X, groups))

    def predict(self, X, groups=None) -> np.ndarray:
        """Class of each step, of shape (n_steps,).

        The most probable one; with the default head after weighing, so that rare classes are found at all
        (see ``decision_weights_`` of :class:`~prmkit.models.StepBlend`).
        """
        proba = self.predict_proba(X, groups)
        weights = getattr(self.head_, "decision_weights_", 1.0)
        return most_probable(self.classes_, proba * weights)

    def predict_log_proba(self, X, groups=None) -> np.ndarray:
        """Logarithm of ``predict_proba``, cut at the smallest positive number."""
        return np.log(np.clip(self.predict_proba(X, groups), np.finfo(float).tiny, None))

    def decision_function(self, X, groups=None) -> np.ndarray:
        """Log-odds of the second class, of shape (n_steps,); with more classes log-probabilities.

        These are what ``predict_proba`` says, so that calibration starts from honest numbers.
        """
        values = self.predict_log_proba(X, groups)
        return values[:, 1] - values[:, 0] if len(self.classes_) == 2 else values

    def score_solutions(
        self, solutions: Iterable[Solution], label_order: Sequence[Label] | None = None
    ) -> list[ScoredSolution]:
        """Score every step of each solution, and each solution as a whole.

        Parameters
        ----------
        solutions : list of Solution
            Solutions to score. Each has at least one step.
        label_order : sequence of labels, default=None
            Labels from worst to best. If ``None``, ``label_order_`` is used.

        Returns
        -------
        list of ScoredSolution
            Per step ``proba``, ``rewards``, ``risks``, ``entropy``, ``margin``; per path ``aggregates``,
            ``p_no_error`` and ``first_error_distribution``.

        Raises
        ------
        ValueError
            If it is not known which label is the worst (see ``label_order``), or a solution has no steps.
        """
        return score_solutions(self, solutions, label_order)

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a folder: JSON and safetensors (scikit-learn parts by skops), no pickle.

        Raises
        ------
        ImportError
            If a part is scikit-learn's and skops is not installed.
        """
        from prmkit.saving.classifiers import save_classifier

        save_classifier(self, path)

    @classmethod
    def load(cls, path: str | Path) -> PRMClassifier:
        """Read a saved model. Runs no code from the folder.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no model, or it is incomplete, damaged, or holds types that prmkit does not save.
        """
        from prmkit.saving.classifiers import load_classifier

        return load_classifier(cls, path)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, layout: str | None = None, *, classes: Any = None, **options: Any
    ) -> PRMClassifier:
        """Take an existing PRM as it is: fitted, ready to score. Runs no code from it.

        Of a raw reward trained to rank, PQM's or by the ranking losses, the probability is its sigmoid, by convention
        only: calibrate it. ``clf.head_.reward(X)`` is the reward itself.

        Parameters
        ----------
        name_or_path : str or path
            A local folder or hub name: saved by :class:`~prmkit.models.PRMTrainer`, or in a published layout.
        layout : {"trl", "math-shepherd", "rlhflow", "qwen2.5-math-prm", "pqm", "skywork", "reasoneval"} or None
            The published layout. None: as the folder's ``prmkit.json`` says.
        classes : sequence, optional
            Labels for its outputs, worst first, in place of its own.
        **options
            ``dtype`` of the weights (the checkpoint's), and ``max_length``, ``too_long``, ``device`` and other
            parameters of :class:`~prmkit.models.TokenPRM`.

        Raises
        ------
        OSError, TypeError, ValueError
            For no such model, another layout, pickled weights, unknown options.
        """
        head = TokenPRM.from_pretrained(name_or_path, layout, classes=classes, **options)
        classifier = cls("tokens", clone(head), label_order=head.label_order)
        classifier.classes_, classifier.label_order_ = head.classes_, tuple(head.label_order)
        classifier.featurizer_, classifier.head_, classifier.training_problems_ = None, head, None
        return classifier

    @property
    def _precomputed(self) -> bool:
        return isinstance(self.featurizer, str) and self.featurizer == "precomputed"

    def _begin(self, X: Any, y: Any, groups: Any) -> tuple[Any, np.ndarray]:
        """Check X and y, and set all that is learnt of them before featurizer and head are fitted."""
        if self._precomputed:
            refuse_steps(X)
            X, y = validate_data(self, X, y)
        else:
            X, y = self._check_steps(X, y, groups)
        self.classes_ = distinct_classes(y)
        self.training_problems_ = None if self._precomputed else distinct_problem_keys(X)
        order = _order_of_numbers(self.classes_, self.label_order)
        self.label_order_ = resolve_label_order(self.classes_, order)
        self.head_ = make_head(self.featurizer, self.head, order)
        self.featurizer_ = make_featurizer(self.featurizer, self.head_)
        for part in (self.featurizer_, self.head_):
            if part is not None:
                set_random_states(part, self.random_state)
        return X, y

    def _read(self, X: Any, groups: Any) -> Any:
        """Check X and return what the head reads of it; heads that share a featurizer can share this too."""
        X = (
            validate_data(self, X, reset=False)
            if self._precomputed
            else self._check_steps(X, None, groups)[0]
        )
        return head_input(self.featurizer_, self.head_, X, groups)

    def _check_steps(self, X: Any, y: Any, groups: Any) -> tuple[list, np.ndarray | None]:
        if groups is not None:
            raise ValueError("groups is for featurizer='precomputed': a Step already knows its solution")
        steps = as_steps(X)
        return steps, None if y is None else check_labels(y, len(steps), self.label_order)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self._precomputed
        tags.input_tags.string = not self._precomputed
        return tags
