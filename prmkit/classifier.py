"""The front door: a classifier of steps that fits, predicts and scores whole solutions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from prmkit.data.growing import Growing, grow_head
from prmkit.data.labels import check_labels, declared_order, resolve_label_order
from prmkit.data.problem_keys import distinct_problem_keys, warn_of_plain_strings
from prmkit.data.solution import Solution, Step, as_steps, flatten, refuse_steps
from prmkit.features import PRMFeaturizer
from prmkit.fitted import Label, decision_weights, order_of_numbers
from prmkit.marking.scheme import MarkingScheme
from prmkit.metrics.report_table import html_table, markdown_table
from prmkit.models.heads.blend import StepBlend
from prmkit.models.heads.head import Classifier, Featurizer, Rows, fit_head, most_probable, read_rows, read_unlabelled
from prmkit.models.pairing import FeaturizerLike, Views, unfitted_parts
from prmkit.models.tokens.token_prm import TokenPRM
from prmkit.saving.hub import HUB_OPTIONS, LANGUAGE_MODEL_FILES, HubModel, fetch, is_hub_name, saved_folder
from prmkit.scoring.tables import ScoresSolutions
from prmkit.utils.environment import safe_after_fork
from prmkit.utils.saved import Contents
from prmkit.utils.sklearn import (
    HasDefaultParts,
    HasMethods,
    StrOptions,
    distinct_classes,
    fit_context,
    set_random_states,
)

if TYPE_CHECKING:
    import pandas as pd

Steps: TypeAlias = "Sequence[Step] | Sequence[str] | npt.ArrayLike"
"""Steps in one dimension, or rows of numbers for ``featurizer="precomputed"``."""


class PRMClassifier(HasDefaultParts, HubModel, ScoresSolutions, ClassifierMixin, BaseEstimator):
    """Predict of each step of a solution whether it is negative, neutral or positive.

    Parameters
    ----------
    featurizer : {"embeddings", "tokens", "precomputed"} or transformer, default="embeddings"
        Makes numbers of steps. ``"embeddings"`` is ``PRMFeaturizer()``, whose context is then what the head needs.
        ``"tokens"`` leaves the text to the head, a :class:`~prmkit.models.TokenPRM`.
        ``"precomputed"`` means that X is numeric, of shape (n_steps, n_features). Any transformer over steps will do.
    head : classifier or None, default=None
        Makes probabilities of the numbers. Any scikit-learn classifier, or a head of :mod:`prmkit.models`. If
        ``None``, it is :class:`~prmkit.models.StepBlend` for steps, :class:`~prmkit.models.TokenPRM` for tokens, and
        logistic regression on standardised columns for other features.
        A ``TokenPRM`` needs no featurizer: ``PRMClassifier(head=TokenPRM())``.
    label_order : sequence or None, default=None
        Labels from worst to best. Needed for rewards and risks unless the labels are -1/0/+1,
        "negative"/"neutral"/"positive", "-"/"+", False/True, 0/1 or 0/1/2. Names are understood
        inside ``VotingClassifier`` and ``StackingClassifier`` too, which number the labels of y.
    views : "auto" or sequence of {"statistics", "words", "embeddings", "states"}, default="auto"
        What the default head reads of a step: its statistics, its words, and what the featurizer makes of it. A
        sequence is obeyed, and ``"embeddings"`` in it are those of ``featurizer``. ``"auto"`` takes all of them if a
        featurizer is given. If none is, it tries embeddings on a sample of at most 2,000 steps, and leaves them out
        unless they help: see :class:`~prmkit.models.StepBlend`. Then predictions need no encoder. Other heads have no
        views.
    random_state : int, RandomState or None, default=None
        Seed of every part of featurizer and head that has none of its own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Columns of ``predict_proba``, sorted.
    label_order_ : tuple or None
        The classes from worst to best, where that is known.
    featurizer_ : transformer or None
        The fitted featurizer. ``None`` if the head reads X itself.
    head_ : classifier
        The fitted head.
    training_problems_ : ndarray of uint64, or None
        Keys of the problems that ``fit`` saw. Calibration and evaluation refuse these problems. ``None`` if they are
        not known.
    n_features_in_ : int
        Number of columns of precomputed features. It exists for these only.
    view_report_ : pandas.DataFrame
        Only of the default head: a row for each view, with its gain, its interval, its cost and whether it was kept.

    See Also
    --------
    prmkit.StratifiedProblemKFold : splits that keep a problem on one side; a plain ``cv=5`` flatters every model.
    prmkit.metrics.step_report : quality beside its trivial baselines.

    Notes
    -----
    The score of a step depends on its problem, the steps before it and itself: never on what follows.

    Searches tune the default parts too: ``views``, ``head__members``, ``head__C`` and ``head__n_trees`` of
    :class:`~prmkit.models.StepBlend`, and ``featurizer__max_length`` and the like of :class:`~prmkit.PRMFeaturizer`.

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
        "views": [StrOptions({"auto"}), "array-like"],
        "random_state": ["random_state"],
    }
    scores_steps = True
    classes_: np.ndarray
    label_order_: tuple[Label, ...] | None
    featurizer_: Featurizer | None
    head_: Classifier
    training_problems_: npt.NDArray[np.uint64] | None
    n_features_in_: int

    def __init__(
        self,
        featurizer: FeaturizerLike = "embeddings",
        head: Classifier | None = None,
        *,
        label_order: Sequence[Label] | None = None,
        views: Views = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.featurizer = featurizer
        self.head = head
        self.label_order = label_order
        self.views = views
        self.random_state = random_state

    def _default_part(self, name: str) -> Any:
        by_name = self.featurizer if isinstance(self.featurizer, str) else None
        if name == "featurizer" and by_name in ("embeddings", "tokens"):
            return PRMFeaturizer(by_name)
        if name == "head" and (by_name == "tokens" or self._marks_tokens):
            return TokenPRM()
        if name == "head" and (by_name == "embeddings" or isinstance(self.featurizer, PRMFeaturizer)):
            return StepBlend()
        made = "a logistic regression on standardised columns" if name == "head" else "numbers that you give"
        raise ValueError(
            f"{name} is {getattr(self, name)!r}, {made}, which has no parameters here: pass {name}=… to have "
            f"{name}__… , such as PRMClassifier(…, head=LogisticRegression())"
        )

    @fit_context
    @safe_after_fork()
    def fit(
        self,
        X: Steps,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
        *,
        unlabelled: Iterable[Solution] = (),
    ) -> PRMClassifier:
        """Learn from labelled steps.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or array-like of shape (n_steps, n_features)
            Steps, such as ``dataset.X``. Numbers with ``featurizer="precomputed"``.
        y : array-like of shape (n_steps,)
            One label per step. Unlabelled steps are not in X. They are still read as context of later steps.
        sample_weight : array-like of shape (n_steps,), default=None
            Weight of each step. If ``None``, all steps count the same.
        groups : array-like of shape (n_steps,), default=None
            Solution of each row of precomputed features, for a torch head. Other heads need none.
        unlabelled : iterable of Solution, default=()
            Solutions without labelled steps, of which a :class:`~prmkit.models.TokenPRM` or a
            :class:`~prmkit.models.StepProbe` learns the outcome, or its extra targets.

        Returns
        -------
        PRMClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, y does not label each of them with a class, or the head learns nothing of
            solutions without labels.
        """
        steps, labels = self.begin_fit(X, y, groups)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, labels, ensure_non_negative=True)
        if self.featurizer_ is not None:
            self.featurizer_.fit(steps, labels)
        rows = read_rows(self.head_, self.featurizer_, steps, labels, groups)
        further = {}
        if others := flatten(unlabelled):
            further["unlabelled"] = read_unlabelled(self.head_, self.featurizer_, others)
            self.training_problems_ = distinct_problem_keys([*steps, *others])
        self.head_ = fit_head(self.head_, rows, labels, weights, **further)
        return self

    @safe_after_fork()
    def predict_proba(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the probability of each class, for each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or array-like of shape (n_steps, n_features)
            Steps or numbers, as in ``fit``.
        groups : array-like of shape (n_steps,), default=None
            Solution of each row, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        return self.head_.predict_proba(self.read(X, groups))

    def predict(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the class of each step.

        It is the most probable class. The default head weighs the probabilities first, because rare classes would
        otherwise never be found (see ``decision_weights_`` of :class:`~prmkit.models.StepBlend`).

        Parameters
        ----------
        X : 1-D array-like of Step or str, or array-like of shape (n_steps, n_features)
            Steps or numbers, as in ``fit``.
        groups : array-like of shape (n_steps,), default=None
            Solution of each row, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_steps,)
            Labels out of ``classes_``.
        """
        proba = self.predict_proba(X, groups)
        weights = decision_weights(self)
        return most_probable(self.classes_, proba if weights is None else proba * weights)

    def predict_log_proba(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the logarithm of ``predict_proba``, cut at the smallest positive number.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or array-like of shape (n_steps, n_features)
            Steps or numbers, as in ``fit``.
        groups : array-like of shape (n_steps,), default=None
            Solution of each row, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.
        """
        proba = np.clip(self.predict_proba(X, groups), np.finfo(float).tiny, None)
        log_proba: np.ndarray = np.log(proba)
        return log_proba

    def decision_function(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return log-odds of the second of two classes, or the log-probability of each of more classes.

        They come from ``predict_proba``, without the weights of ``predict``, so that calibration starts from honest
        numbers.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or array-like of shape (n_steps, n_features)
            Steps or numbers, as in ``fit``.
        groups : array-like of shape (n_steps,), default=None
            Solution of each row, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_steps,) or (n_steps, n_classes)
            One number per step for two classes, otherwise one per class.
        """
        values = self.predict_log_proba(X, groups)
        if len(self.classes_) == 2:
            log_odds: np.ndarray = values[:, 1] - values[:, 0]
            return log_odds
        return values

    @classmethod
    def from_pretrained(  # type: ignore[override]  # layout may stand second
        cls,
        name_or_path: str | Path,
        layout: str | MarkingScheme | None = None,
        *,
        classes: Sequence[Label] | None = None,
        **options: Any,
    ) -> PRMClassifier:
        """Make a fitted classifier of an existing PRM: a saved one, or a language model. No code from it is run.

        A model that was trained to rank gives raw rewards (PQM, or one of the ranking losses). Its probability is the
        sigmoid of the reward. This is a convention, so calibrate it. ``clf.head_.reward(X)`` returns the raw reward.

        Parameters
        ----------
        name_or_path : str or path
            Local folder or hub name of a classifier that ``save`` or ``push_to_hub`` wrote, of a model that
            :class:`~prmkit.models.PRMTrainer` saved, or of a published one.
        layout : str, MarkingScheme or None, default=None
            Published model's way of writing a solution: "trl", "math-shepherd", "rlhflow", "qwen2.5-math-prm", "pqm",
            "skywork" or "reasoneval". A :class:`~prmkit.marking.MarkingScheme` describes one that has no name here. If
            ``None``, the folder's ``prmkit.json`` says it.
        classes : sequence of labels, default=None
            Labels of the model's outputs, worst first, to use instead of its own. A classifier whose outputs are named
            in its configuration is read by these names, in whatever order they stand.
        **options
            For a language model parameters of :class:`~prmkit.models.TokenPRM`, such as ``max_length``, ``too_long``
            and ``device``, and ``dtype``, the precision of the weights. For a name on the hub ``revision``, ``token``,
            ``cache_dir``, ``force_download`` and ``local_files_only``.

        Returns
        -------
        PRMClassifier
            A fitted classifier, ready to score.

        Raises
        ------
        OSError, TypeError, ValueError
            If there is no such model, it has another layout, its weights are pickled, or an option is unknown.
        """
        hub = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
        if (folder := saved_folder(name_or_path, hub)) is not None:
            given = [
                *(["layout"] if layout is not None else []),
                *(["classes"] if classes is not None else []),
                *options,
            ]
            if given:
                raise TypeError(f"{name_or_path} holds a saved classifier, which is read as it is: leave {given} out")
            return super().load(folder)
        if hub and is_hub_name(name_or_path):
            name_or_path = fetch(str(name_or_path), hub)
        head = TokenPRM.from_pretrained(name_or_path, layout, classes=classes, **options)
        order: Any = head.label_order
        classifier = cls("tokens", clone(head), label_order=order)
        return classifier._take_fitted(head.classes_, tuple(order), None, head)

    @classmethod
    def load(cls, path: str | Path, layout: str | MarkingScheme | None = None, **options: Any) -> PRMClassifier:
        """Load a fitted classifier, by folder or hub name. No code from it is run.

        Parameters
        ----------
        path : str or path
            Folder that ``save`` wrote, or anything that :meth:`from_pretrained` reads.
        layout, **options : as in ``from_pretrained``
            How a published language model is read.

        Returns
        -------
        PRMClassifier
            The fitted classifier.

        Raises
        ------
        OSError, TypeError, ValueError
            If there is no model, or it is incomplete, damaged, or holds types that prmkit does not save.
        """
        is_language_model = any((Path(path).expanduser() / file).is_file() for file in LANGUAGE_MODEL_FILES)
        if is_language_model or layout is not None or options or is_hub_name(path):
            return cls.from_pretrained(path, layout, **options)
        return super().load(path)

    def begin_fit(self, X: Steps, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> tuple[Any, np.ndarray]:
        """Check X and y and make the unfitted parts: the first half of ``fit``, which ensembles do once per member.

        Parameters
        ----------
        X, y, groups : as in ``fit``
            The rows of ``fit``.

        Returns
        -------
        tuple of (list of Step or ndarray, ndarray)
            The checked rows and labels.
        """
        declared: Any = declared_order(y, self.label_order)
        if self._precomputed:
            refuse_steps(X)
            rows, labels = validate_data(self, X, y)
        else:
            rows = self._check_steps(X, groups)
            labels = check_labels(y, len(rows), declared)
            warn_of_plain_strings(rows)
        self.classes_ = distinct_classes(labels)
        self.training_problems_ = None if self._precomputed else distinct_problem_keys(rows)
        order = order_of_numbers(self.classes_, declared)
        self.label_order_ = resolve_label_order(self.classes_, order)
        self.featurizer_, head = unfitted_parts(self.featurizer, self.head, order, self.views)
        for part in (self.featurizer_, head):
            if part is not None:
                set_random_states(part, self.random_state)
        # None until ``fit`` has seen the rows; see ``fit_head``.
        self.head_ = head  # type: ignore[assignment]
        return rows, labels

    def read(self, X: Steps, groups: npt.ArrayLike | None = None) -> Rows:
        """Return what the fitted head reads of X. Heads with the same featurizer can share it.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or array-like of shape (n_steps, n_features)
            Steps or numbers, as in ``fit``.
        groups : array-like of shape (n_steps,), default=None
            Solution of each row, as in ``fit``.

        Returns
        -------
        StepSequences, StepViews, list of Step or matrix
            Input of ``head_.predict_proba``.
        """
        if self._precomputed:
            refuse_steps(X)
        rows = validate_data(self, X, reset=False) if self._precomputed else self._check_steps(X, groups)
        return read_rows(self.head_, self.featurizer_, rows, groups=groups)

    @property
    def view_report_(self) -> pd.DataFrame:
        """What each view adds to those that are cheaper, and whether it was kept.

        Returns
        -------
        DataFrame
            That of :attr:`prmkit.models.StepBlend.view_report_`. Other heads have no views, and then there is none.
        """
        check_is_fitted(self)
        if not isinstance(self.head_, StepBlend):
            raise AttributeError(f"{type(self.head_).__name__} has no views, so there is no view_report_")
        return self.head_.view_report_

    def grow(self, problem: str) -> Growing:
        """Return a solution of a problem that grows, as the fitted parts read it.

        Parameters
        ----------
        problem : str
            Text of the problem.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the probabilities of the new steps. :meth:`incremental` makes more of it.
        """
        check_is_fitted(self)
        if self._precomputed:
            refuse_steps([problem])
        return grow_head(self.head_, self.featurizer_, problem, self.predict_proba)

    @property
    def _precomputed(self) -> bool:
        return isinstance(self.featurizer, str) and self.featurizer == "precomputed"

    @property
    def _marks_tokens(self) -> bool:
        return isinstance(self.featurizer, PRMFeaturizer) and self.featurizer.kind == "tokens"

    def _check_steps(self, X: Steps, groups: npt.ArrayLike | None) -> list[Step]:
        if groups is not None:
            raise ValueError("groups is for featurizer='precomputed': a Step already knows its solution")
        steps: Any = X
        return as_steps(steps)

    def _take_fitted(
        self,
        classes: np.ndarray,
        label_order: tuple[Label, ...] | None,
        featurizer: Featurizer | None,
        head: Classifier,
        training_problems: npt.NDArray[np.uint64] | None = None,
    ) -> PRMClassifier:
        """Take parts that were fitted elsewhere: the one way to a fitted classifier beside ``fit``."""
        self.classes_, self.label_order_ = classes, label_order
        self.featurizer_, self.head_ = featurizer, head
        self.training_problems_ = training_problems
        return self

    def _contents(self) -> Contents:
        check_is_fitted(self)
        # A generator is no setting, so only an integer is kept.
        seed = int(self.random_state) if isinstance(self.random_state, Integral) else None
        # A pickle may be older than the attribute.
        problems = getattr(self, "training_problems_", None)
        return Contents(
            settings={
                "classes": self.classes_,
                "classes_dtype": self.classes_.dtype.str,
                "label_order": None if self.label_order is None else list(self.label_order),
                "fitted_order": None if self.label_order_ is None else list(self.label_order_),
                "random_state": seed,
                "views": self.views if isinstance(self.views, str) else list(self.views),
                "n_features_in": getattr(self, "n_features_in_", None),
                # A featurizer that marks tokens has handed its settings to the head, which then keeps them.
                "default_head": self.head is None and not self._marks_tokens,
                "featurizer_name": self.featurizer if isinstance(self.featurizer, str) else None,
            },
            arrays={} if problems is None else {"problems": problems},
            parts={"featurizer": self.featurizer_, "head": self.head_},
        )

    def _html_repr(self) -> str:
        """Show the report on the views below scikit-learn's diagram."""
        page: str = super()._html_repr()
        return page + html_table(table) if (table := self._view_table()) else page

    def _view_table(self) -> list[list[str]]:
        head = getattr(self, "head_", None)
        return head.view_table() if isinstance(head, StepBlend) else []

    def _card_fields(self) -> dict[str, Any]:
        check_is_fitted(self)
        problems = self.training_problems_
        featurizer = "those of the head" if self.featurizer_ is None else f"`{self.featurizer_!r}`"
        return {
            "title": "Process reward model",
            "labels": ", ".join(f"`{label}`" for label in self.label_order_ or self.classes_.tolist()),
            "order": "" if self.label_order_ is None else " (worst first)",
            "head": f"`{self.head_!r:.500}`",
            "views": "\n".join(markdown_table(table)) if (table := self._view_table()) else "",
            "featurizer": featurizer,
            "n_problems": "an unknown number of" if problems is None else len(problems),
        }

    @classmethod
    def _from_contents(cls, contents: Contents) -> PRMClassifier:
        settings, parts = contents.settings, contents.parts
        featurizer, head = parts["featurizer"], parts["head"]
        # The default head keeps the featurizer that the user has given.
        given = getattr(head, "featurizer", None) if featurizer is None else featurizer
        by_name: Any = settings["featurizer_name"] or ("tokens" if isinstance(head, TokenPRM) else None)
        unfitted = None if settings["default_head"] else clone(head)
        if isinstance(unfitted, StepBlend) and by_name is None:
            unfitted.set_params(featurizer=None)
        if isinstance(unfitted, StepBlend) and not isinstance(settings.get("views", "auto"), str):
            unfitted.set_params(members="auto")  # the views say it
        classifier = cls(
            featurizer=by_name or clone(given),
            head=unfitted,
            label_order=settings["label_order"],
            views=settings.get("views", "auto"),
            random_state=settings["random_state"],
        )
        classes = np.array(settings["classes"], dtype=settings["classes_dtype"])
        order = settings.get("fitted_order")
        if "fitted_order" in settings:
            order = None if order is None else tuple(order)
        else:  # a folder of prmkit 0.1
            order = resolve_label_order(classes, order_of_numbers(classes, settings["label_order"]))
        if settings["n_features_in"] is not None:
            classifier.n_features_in_ = settings["n_features_in"]
        return classifier._take_fitted(classes, order, featurizer, head, contents.arrays.get("problems"))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self._precomputed
        tags.input_tags.string = not self._precomputed
        return tags
