"""``PathClassifier``: how likely a sampled solution is right, learnt from samples that are right or wrong."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from prmkit.data.labels import is_missing
from prmkit.data.sampled import HOW_TO_KNOW, Candidates
from prmkit.data.solution import Solution, as_solutions
from prmkit.features import PRMFeaturizer
from prmkit.fitted import FittedClassifier, GivesPValues, refuse_shared_problems, training_problems
from prmkit.models.heads.head import Classifier
from prmkit.models.paths._features import PathFeatures, Samples, read_samples, warn_of_missing
from prmkit.models.paths._stack import Columns, Floats, Stack, complete, fit_logistic, folds_by_problem, take
from prmkit.utils.saved import Contents, SavedModel
from prmkit.utils.sklearn import HasMethods, ReadsSteps, StrOptions, fit_context

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Features: TypeAlias = "Literal['auto'] | Sequence[str]"
_FLOOR = 1e-300


class PathClassifier(SavedModel, ReadsSteps, ClassifierMixin, BaseEstimator):
    """Say of each sampled solution how likely it is right, by features of the whole solution.

    It learns from samples whose final answer is known to be right or wrong. Its probability ranks the samples of a
    problem, so it is a learnt reranker too.

    Parameters
    ----------
    classifier : classifier or None, default=None
        Any classifier of scikit-learn, which reads a row of features per sample. None is a logistic regression on
        standardised columns, whose strength is chosen by folds of problems.
    features : "auto" or sequence of str, default="auto"
        Groups of features. ``"auto"`` takes each of them that at least half of the training samples have.

        - ``"agreement"``: how far the answers to the problem agree, and with this one
        - ``"length"``: number of steps and of characters
        - ``"risks"``: minimum, mean, last and product of the rewards of the steps. They come from ``step_classifier``,
          or stand in ``Solution.meta["step_scores"]``, a probability of being right for each step
        - ``"log_probs"``: sum, mean and minimum of ``Solution.meta["token_logprobs"]``, those of the generator
        - ``"shift"``: how unusual the sample is to ``shift``
        - ``"states"``: what ``model`` holds while it reads the sample
        - ``"surprisal"``: how likely the tokens of the sample are to ``model``
    step_classifier : fitted classifier of steps, or None, default=None
        Gives the risks. It must not have been trained on a problem of ``fit``. It is not changed.
    shift : fitted and calibrated shift detector, or None, default=None
        Gives p-values, such as :class:`~prmkit.uncertainty.MahalanobisShift`. It is not changed.
    model : str, path, PRMFeaturizer or None, default=None
        Folder or hub name of a frozen causal language model. Its states are pooled over the tokens of the solution:
        their mean and the last one, in two middle layers. A ``PRMFeaturizer(kind="states", …)`` sets layers, pooling,
        device and cache by itself. None runs no model.
    calibration : {"sigmoid", "isotonic"} or None, default=None
        Method of scikit-learn's ``CalibratedClassifierCV``, which then calibrates ``classifier`` on folds of problems.
        The default classifier needs none: its strength has the best log loss on other problems.

    Attributes
    ----------
    classes_ : ndarray
        ``[False, True]``: the sample is wrong, or right.
    features_ : tuple of str
        Groups of features that are read.
    left_out_ : dict of str to str
        Why each other group is not read.
    feature_names_ : list of str
        Columns that the classifier reads. ``states_log_odds`` stands for all states.
    n_unread_ : int
        Number of training samples from which nothing was learnt: they lack a feature, or nobody knows whether they
        are right.
    classifier_ : classifier
        The fitted classifier.
    states_classifier_ : Pipeline or None
        The logistic regression on the states.
    training_problems_ : ndarray of uint64
        Keys of the problems that ``fit`` has learnt from, and of the training of the models inside. Predictions refuse
        them.

    See Also
    --------
    prmkit.uncertainty.SelectiveRisk : A threshold on such a score that bounds the errors among the accepted.
    prmkit.metrics.best_of_n_accuracy : What the best sample of each problem is worth.

    Notes
    -----
    **Stacking is honest.** The states are some thousand columns. A logistic regression of their own, whose strength is
    chosen by problem, turns them into one column, which stands beside the other features. Its values for the training
    samples come from folds that have not seen their problem.

    Agreement looks at the other samples of a problem, so pass all samples of a problem together. Other problems, and
    the order, have no influence. All other features depend on the sample alone.

    A sample that lacks a feature has no probability: NaN, with a warning that says what it lacks. A solution without
    steps is an error.

    What it has learnt is about one generator and one kind of problems. Check recorded correctness first, see
    ``contradictions`` of :func:`prmkit.data.load_samples`: a classifier learns the faults of a source too.

    Examples
    --------
    >>> from prmkit.data import load_samples
    >>> answers = ["4", "4", "5", "4", "7", "7", "7", "1"] * 3
    >>> rows = [
    ...     {"problem": f"What is {i // 4} + {i // 4}?", "steps": [f"It is {one}."], "correct": one in "47"}
    ...     for i, one in enumerate(answers)
    ... ]
    >>> candidates = load_samples(rows, steps="steps", correct="correct")
    >>> train, new = candidates[:4], candidates[4:]
    >>> clf = PathClassifier().fit(train)
    >>> clf.features_
    ('agreement', 'length')
    >>> candidates.answers[16:20], clf.predict(new)[:4]
    (['4', '4', '5', '4'], array([ True,  True, False,  True]))
    """

    scores_paths = True
    learns = True
    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "features": [StrOptions({"auto"}), "array-like"],
        "step_classifier": [HasMethods(["predict_proba"]), None],
        "shift": [HasMethods(["p_value"]), None],
        "model": [str, Path, PRMFeaturizer, None],
        "calibration": [StrOptions({"sigmoid", "isotonic"}), None],
    }
    classes_: np.ndarray
    features_: tuple[str, ...]
    left_out_: dict[str, str]
    featurizer_: PRMFeaturizer | None
    n_unread_: int
    training_problems_: npt.NDArray[np.uint64]

    def __init__(
        self,
        classifier: Classifier | None = None,
        *,
        features: Features = "auto",
        step_classifier: FittedClassifier | None = None,
        shift: GivesPValues | None = None,
        model: str | Path | PRMFeaturizer | None = None,
        calibration: Literal["sigmoid", "isotonic"] | None = None,
    ) -> None:
        self.classifier = classifier
        self.features = features
        self.step_classifier = step_classifier
        self.shift = shift
        self.model = model
        self.calibration = calibration

    @fit_context
    def fit(
        self, X: Candidates | Iterable[Solution], y: npt.ArrayLike | None = None, groups: npt.ArrayLike | None = None
    ) -> PathClassifier:
        """Learn from samples that are known to be right or wrong.

        Parameters
        ----------
        X : Candidates, or list of Solution
            All samples of the training problems. The answers of plain solutions are read from their texts.
        y : array-like of bool, shape (n_samples,), optional
            True for a right sample, NaN or None if it is not known. If None, ``X.correct`` of Candidates.
        groups : array-like of shape (n_samples,), optional
            Problem of each solution of a list. If None, problems are told apart by their texts.

        Returns
        -------
        PathClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            If X holds no solutions, or one without steps, y is missing or holds anything but right, wrong and unknown,
            fewer than two problems have a right or a wrong sample, a group of features cannot be had, or a model inside
            was trained on a problem of X.

        Warns
        -----
        UserWarning
            If samples are not known to be right or wrong, or lack a feature. Nothing is learnt from them, but their
            answers count for the agreement of the others.
        """
        samples, right, known, columns = self._read_labelled(X, y, groups)
        known &= complete(columns)
        self.n_unread_ = int((~known).sum())
        warn_of_missing(samples, columns, "are not learnt from")
        folds = folds_by_problem(right[known], samples.fixed_problems[known])
        self._stack = Stack.fit(take(columns, known), right[known], folds, self.classifier, self.calibration)
        self.classes_ = np.array([False, True])
        self.features_ = tuple(columns)
        inside = [np.unique(samples.problem_keys[known]), *map(training_problems, (self.step_classifier, self.shift))]
        self.training_problems_ = np.unique(np.concatenate([keys for keys in inside if keys is not None]))
        return self

    def predict_proba(self, X: Candidates | Iterable[Solution], groups: npt.ArrayLike | None = None) -> Floats:
        """Return the probability that each sample is wrong, and that it is right.

        Parameters
        ----------
        X : Candidates, or list of Solution
            All samples of new problems.
        groups : array-like of shape (n_samples,), optional
            Problem of each solution of a list, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Columns in the order of ``classes_``. NaN for a sample that lacks a feature.

        Raises
        ------
        ValueError
            If a problem belongs to the training, or a solution has no steps.

        Warns
        -----
        UserWarning
            If samples lack a feature.
        """
        check_is_fitted(self)
        samples = read_samples(X, groups)
        refuse_shared_problems(samples.problem_keys, self.training_problems_, f"{type(self).__name__} was trained on")
        columns = self._features_of(self.featurizer_).read(samples, self.features_)
        warn_of_missing(samples, columns, "have no probability")
        right = self._stack.p_right(columns)
        return np.column_stack([1 - right, right])

    def predict(self, X: Candidates | Iterable[Solution], groups: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
        """Return whether each sample is more likely right than wrong.

        Parameters
        ----------
        X : Candidates, or list of Solution
            All samples of new problems.
        groups : array-like of shape (n_samples,), optional
            Problem of each solution of a list, as in ``fit``.

        Returns
        -------
        ndarray of bool, shape (n_samples,)
            True for a sample that is more likely right.

        Raises
        ------
        ValueError
            If a problem belongs to the training, or a sample lacks a feature, so that nothing is known of it.
        """
        right = self.predict_proba(X, groups)[:, 1]
        if lost := int(np.isnan(right).sum()):
            raise ValueError(
                f"{lost} of {len(right)} samples lack a feature, so they are neither right nor wrong: leave them out, "
                "or use predict_proba, which returns NaN for them"
            )
        return right > 0.5

    def decision_function(self, X: Candidates | Iterable[Solution], groups: npt.ArrayLike | None = None) -> Floats:
        """Return the log-odds that each sample is right.

        Parameters
        ----------
        X : Candidates, or list of Solution
            All samples of new problems.
        groups : array-like of shape (n_samples,), optional
            Problem of each solution of a list, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Higher is better. NaN for a sample that lacks a feature.
        """
        wrong, right = np.clip(self.predict_proba(X, groups), _FLOOR, None).T
        log_odds: Floats = np.log(right) - np.log(wrong)
        return log_odds

    def score(
        self, X: Candidates | Iterable[Solution], y: npt.ArrayLike | None = None, groups: npt.ArrayLike | None = None
    ) -> float:
        """Return the share of samples that ``predict`` judges as they are, among those of which it is known.

        Parameters
        ----------
        X : Candidates, or list of Solution
            All samples of new problems.
        y : array-like of bool, shape (n_samples,), optional
            True for a right sample, NaN or None if it is not known. If None, ``X.correct`` of Candidates.
        groups : array-like of shape (n_samples,), optional
            Problem of each solution of a list, as in ``fit``.

        Returns
        -------
        float
            The accuracy.
        """
        right, known = _as_right(X, y)
        return float(np.mean((self.predict(X, groups) == right)[known]))

    def out_of_fold(
        self,
        X: Candidates | Iterable[Solution],
        y: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
        *,
        n_folds: int = 5,
    ) -> dict[str, Floats]:
        """Return how likely each sample is wrong by all features, and by each group of them alone.

        Each number comes from a classifier that has not seen the problem. The features are computed once. The
        classifier itself is neither used nor changed.

        Parameters
        ----------
        X : Candidates, or list of Solution
            All samples of some problems.
        y : array-like of bool, shape (n_samples,), optional
            True for a right sample, NaN or None if it is not known. If None, ``X.correct`` of Candidates.
        groups : array-like of shape (n_samples,), optional
            Problem of each solution of a list, as in ``fit``.
        n_folds : int, default=5
            Number of folds of problems.

        Returns
        -------
        dict of str to ndarray of shape (n_samples,)
            P(wrong) by ``"all"`` groups together, then by each of them. Then come numbers that are not learnt:
            ``"disagreement"`` of the answers, and ``"1 - lowest reward"``, as far as they are known. NaN for samples
            that lack a feature, or are not known to be right or wrong. :func:`prmkit.metrics.selective_report` makes a
            table of it.

        Raises
        ------
        TypeError, ValueError
            As ``fit``.

        Examples
        --------
        >>> from prmkit.data import load_samples
        >>> from prmkit.metrics import selective_report
        >>> texts = ["It is 8, I think."] * 3 + ["It is 7."] * 4
        >>> rows = [{"problem": f"{i} + 7 - {i}?", "steps": [one]} for i in range(20) for one in texts[i % 4 :][:4]]
        >>> candidates = load_samples(rows, steps="steps")
        >>> right = np.array([answer == "7" for answer in candidates.answers])
        >>> risks = PathClassifier().out_of_fold(candidates, right, n_folds=2)
        >>> list(risks)
        ['all', 'agreement', 'length', 'disagreement']
        >>> report = selective_report(~right, risks, candidates.groups, n_resamples=100)
        >>> print(report.metrics["all"]["auroc"], report.differences["disagreement"]["auroc"])
        1.000 [1.000, 1.000] 0.300 [0.155, 0.454]
        """
        samples, right, known, columns = self._read_labelled(X, y, groups)
        problems, known = samples.fixed_problems, known & complete(columns)
        warn_of_missing(samples, columns, "are left out")
        views = {"all": list(columns), **({name: [name] for name in columns} if len(columns) > 1 else {})}
        risks = {name: np.full(len(right), np.nan) for name in views}
        rows = np.flatnonzero(known)
        for learn, check in folds_by_problem(right[rows], problems[rows], n_folds):
            learn, check = rows[learn], rows[check]
            inner = folds_by_problem(right[learn], problems[learn])
            # The costliest part is shared by the views.
            states = fit_logistic(columns["states"][1][learn], right[learn], inner) if "states" in columns else None
            for name, of_view in views.items():
                stack = Stack.fit(
                    take(columns, learn, of_view), right[learn], inner, self.classifier, self.calibration, states
                )
                risks[name][check] = 1 - stack.p_right(take(columns, check, of_view))
        for name, group, column in (("disagreement", "agreement", 0), ("1 - lowest reward", "risks", 0)):
            if group in columns:
                risks[name] = np.where(known, 1 - columns[group][1][:, column], np.nan)
        return risks

    @property
    def feature_names_(self) -> list[str]:
        """Columns that the classifier reads. ``states_log_odds`` stands for all states."""
        check_is_fitted(self)
        return self._stack.names

    @property
    def classifier_(self) -> Classifier:
        """The fitted classifier of these columns."""
        check_is_fitted(self)
        return self._stack.classifier

    @property
    def states_classifier_(self) -> Pipeline | None:
        """The logistic regression on the states, None if they are not read."""
        check_is_fitted(self)
        return self._stack.states

    def _read_labelled(
        self, X: Candidates | Iterable[Solution], y: npt.ArrayLike | None, groups: npt.ArrayLike | None
    ) -> tuple[Samples, npt.NDArray[np.bool_], npt.NDArray[np.bool_], Columns]:
        """Return the samples, which are right, of which this is known, and the columns of all of them."""
        if not isinstance(X, Candidates):
            X = as_solutions(X)
        samples, (right, known) = read_samples(X, groups), _as_right(X, y)
        if len(right) != len(samples.solutions):
            raise ValueError(f"y has {len(right)} values and X {len(samples.solutions)} samples, expected as many")
        if len(kinds := np.unique(right[known])) == 1:
            raise ValueError(
                f"all {known.sum():,} samples are {'right' if kinds[0] else 'wrong'}, expected both kinds: nothing "
                "tells them apart. Add samples of the other kind"
            )
        for name in ("step_classifier", "shift"):
            if (inside := getattr(self, name)) is not None:
                keys = training_problems(inside)
                refuse_shared_problems(samples.problem_keys, keys, f"the {name} was trained on")
        self.featurizer_ = self._featurizer()
        columns, self.left_out_ = self._features_of(self.featurizer_).chosen(samples, self.features)
        return samples, right, known, columns

    def _featurizer(self) -> PRMFeaturizer | None:
        if self.model is None:
            return None
        if not isinstance(self.model, PRMFeaturizer):
            with_log_probs = not isinstance(self.features, str) and "surprisal" in self.features
            return PRMFeaturizer(kind="states", model=self.model, pooling="mean_last", log_probs=with_log_probs)
        if self.model.kind != "states" or self.model.pooling == "tokens":
            raise ValueError(
                f"model is a PRMFeaturizer with kind={self.model.kind!r} and pooling={self.model.pooling!r}, which "
                "gives no row of states: pass PRMFeaturizer(kind='states', pooling='mean_last', model=…)"
            )
        own: PRMFeaturizer = clone(self.model)
        return own

    def _features_of(self, featurizer: PRMFeaturizer | None) -> PathFeatures:
        return PathFeatures(self.step_classifier, self.shift, featurizer)

    def _contents(self) -> Contents:
        check_is_fitted(self)
        parts = {"classifier": self._stack.classifier, "states": self._stack.states, "featurizer": self.featurizer_}
        models = {"step_classifier": self.step_classifier, "shift": self.shift}
        return Contents(
            settings={
                "features": self.features if isinstance(self.features, str) else list(self.features),
                "calibration": self.calibration,
                "default_classifier": self.classifier is None,
                "groups": self.features_,
                "left_out": self.left_out_,
                "feature_names": self.feature_names_,
                "n_unread": self.n_unread_,
            },
            arrays={"training_problems": self.training_problems_},
            parts=parts,
            models={name: model for name, model in models.items() if model is not None},
        )

    @classmethod
    def _from_contents(cls, contents: Contents) -> PathClassifier:
        settings, parts, models = contents.settings, contents.parts, contents.models
        classifier = parts["classifier"]
        unfitted = classifier.estimator if settings["calibration"] else classifier
        model = cls(
            None if settings["default_classifier"] else clone(unfitted),
            features=settings["features"],
            step_classifier=models.get("step_classifier"),
            shift=models.get("shift"),
            model=parts["featurizer"],
            calibration=settings["calibration"],
        )
        model.classes_ = np.array([False, True])
        model.features_, model.left_out_ = tuple(settings["groups"]), settings["left_out"]
        model.n_unread_, model.featurizer_ = settings["n_unread"], parts["featurizer"]
        model.training_problems_ = contents.arrays["training_problems"]
        model._stack = Stack(settings["feature_names"], classifier, parts["states"])
        return model


def _as_right(
    X: Candidates | Iterable[Solution], y: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which samples are right, and of which it is known, by y or by what Candidates know."""
    if y is None:
        if not isinstance(X, Candidates):
            raise ValueError("y is None, expected True for each right sample and False for each wrong one: fit(X, y)")
        y = X.correct
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"y has shape {values.shape}, expected one value per sample")
    known = np.array([not is_missing(one) for one in values.tolist()], dtype=bool)
    told = np.array(values[known].tolist())
    if len(told) and (told.dtype.kind not in "biuf" or not np.isin(told, (0, 1)).all()):
        raise ValueError(
            f"y holds {told.tolist()[:3]!r:.60}, expected True or 1 for right, False or 0 for wrong, NaN if unknown"
        )
    if n := len(known) - len(told):
        said = f"{n:,} of {len(known):,} samples are not known to be right or wrong (NaN)"
        if not len(told):
            raise ValueError(f"{said}, so nothing is left: {HOW_TO_KNOW}")
        warnings.warn(f"{said} and are left out: {HOW_TO_KNOW}", UserWarning, stacklevel=5)
    right = np.zeros(len(known), dtype=bool)
    right[known] = told.astype(bool)
    return right, known
