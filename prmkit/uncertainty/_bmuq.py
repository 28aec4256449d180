"""A prmkit classifier behind the methods that BMUq expects, without BMUq, and without its silent errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from prmkit.data.labels import NAMES, resolve_label_order
from prmkit.data.solution import Solution, Step, flatten
from prmkit.metrics.calibration.calibration import check_class_probabilities, check_probabilities
from prmkit.metrics.solutions.aggregation import AGGREGATION_RULES, aggregate, entropy


@dataclass(frozen=True)
class UncertaintyScore:
    """A number from 0 to 1 about a step, and what is known beside it; the fields are BMUq's.

    Parameters
    ----------
    value : float
        In [0, 1]. What a high value means, ``metadata["higher_is"]`` says.
    method : str
        Name of the method that gave it.
    metadata : mapping
    confidence_interval : (float, float), optional
        In [0, 1], the lower end first. None: nothing tells how sure the value is.

    Raises
    ------
    ValueError
        If a number is NaN or outside [0, 1], or the interval ends before it begins.

    Examples
    --------
    >>> UncertaintyScore(0.9, "prm_validity", confidence_interval=(0.8, 0.95)).value
    0.9
    """

    value: float
    method: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    confidence_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise ValueError(f"value is {self.value!r}, expected a number from 0 to 1")
        if self.confidence_interval is not None:
            low, high = self.confidence_interval
            if not 0.0 <= low <= high <= 1.0:
                raise ValueError(
                    f"confidence_interval is {self.confidence_interval!r}, expected (low, high) from 0 to 1"
                )


def path_texts(path: Any) -> tuple[list[Any], list[str]]:
    """Return the steps of a path as they are, and their texts.

    Parameters
    ----------
    path : iterable of str or objects with a text, or an object with these as ``steps``

    Raises
    ------
    TypeError
        For one string, what cannot be iterated, or a step without a text.

    Examples
    --------
    >>> path_texts(Solution("2 + 3 * 4?", ["3 * 4 = 12."]))[1]
    ['3 * 4 = 12.']
    """
    path = getattr(path, "steps", path)
    if isinstance(path, str) or not isinstance(path, Iterable):
        raise TypeError(f"reasoning_path is one {type(path).__name__}, expected a list of steps: [step, …]")
    steps = list(path)
    return steps, [_text(step, f"reasoning_path[{i}]") for i, step in enumerate(steps)]


def place_steps(question: str, path: Any, wanted: Iterable[Any] | None) -> list[Step]:
    """Return the steps that are asked for, each in its path.

    Parameters
    ----------
    question : str
    path : as in :func:`path_texts`
    wanted : iterable of int, str or object with a text, or None
        See the notes of :class:`~prmkit.uncertainty.PRMUncertainty`. None: all steps of the path.

    Raises
    ------
    TypeError, ValueError, IndexError
        If a step has no text, equals several of the path, or is an index that the path does not have.

    Examples
    --------
    >>> [(step.index, step.text) for step in place_steps("2 + 3 * 4?", ["3 * 4 = 12."], [0, "So 14."])]
    [(0, '3 * 4 = 12.'), (1, 'So 14.')]
    """
    steps, texts = path_texts(path)
    whole = Solution(question, tuple(texts))
    if isinstance(wanted, str):
        raise TypeError("steps_to_evaluate is one str, expected a list of steps: [step]")
    wanted = wanted if wanted is None else list(getattr(wanted, "steps", wanted))
    if wanted is None or (
        wanted == texts and steps == texts
    ):  # strings: each in its place, even if two are equal
        return [Step(whole, index) for index in range(len(texts))]
    placed = []
    for step in wanted:
        index = _index_in(step, steps, texts)
        if index is None:
            following = Solution(question, (*texts, _text(step, "step_to_evaluate")))
            placed.append(Step(following, len(texts)))
        else:
            placed.append(Step(whole, index))
    return placed


def _index_in(step: Any, steps: list[Any], texts: list[str]) -> int | None:
    """Return where in the path a step is, None where it is not."""
    if isinstance(step, Integral) and not isinstance(step, bool):
        index = int(step)
        if not 0 <= index < len(texts):
            raise IndexError(f"step {index} of a path with {len(texts)} steps (0-based)")
        return index
    if isinstance(step, str):
        found = [i for i, text in enumerate(texts) if text == step]
    else:  # equal objects may stand in two places: a search repeats a step
        found = [i for i, other in enumerate(steps) if other is step]
    if len(found) > 1:
        raise ValueError(
            f"the steps at {found} of the path are all {step!r:.60}: pass the index of the one you mean"
        )
    return found[0] if found else None


def _text(step: Any, name: str) -> str:
    for text in (step, getattr(step, "content", None), getattr(step, "text", None)):
        if isinstance(text, str):
            return text
    raise TypeError(
        f"{name} is {type(step).__name__}, expected str or an object with its text as content or text"
    )


__all__ = ["PRMUncertainty", "UncertaintyScore"]

_LOG_RULES = ("sum_log", "length_normalized")  # their results are no numbers from 0 to 1
_INTERVAL = (5, 95)


@dataclass(frozen=True)
class _Scoring:
    """How class probabilities become a value: P(class), counted from the worst, or one minus it."""

    column: int
    complement: bool
    path_aggregate: str
    higher_is: str


_SCORINGS = {
    "validity": _Scoring(0, True, "min", "more confident"),
    "redundancy": _Scoring(1, False, "max", "more redundant"),
    "positive_only": _Scoring(2, False, "mean", "more confident"),
}


class PRMUncertainty:
    """Use a fitted classifier of steps where BMUq's ``UncertaintyMethod`` is expected.

    The names and arguments of the methods are BMUq's, so an instance can be handed to its search algorithms and
    benchmarks as it is; BMUq need not be installed here. Where it asks ``isinstance``, say once
    ``bmuq.core.interfaces.UncertaintyMethod.register(PRMUncertainty)``.

    Parameters
    ----------
    classifier : fitted classifier over steps
        :class:`~prmkit.PRMClassifier`, or one that calibrates or combines such. With ``member_proba`` (as
        :class:`StepEnsemble` and :class:`MCDropout` have) step scores get an interval.
    scoring_method : {"validity", "redundancy", "positive_only"}, default="validity"
        ``"validity"``: 1 - P(negative). ``"redundancy"``: P(neutral). ``"positive_only"``: P(positive).
        The last two need three classes.
    path_aggregate : str or None, default=None
        A rule of :func:`~prmkit.metrics.aggregate` that gives numbers from 0 to 1. None: min for validity, max
        for redundancy, mean for positive_only.
    name : str or None, default=None
        What BMUq stores scores under. None: ``"prm_"`` and the scoring method.

    Attributes
    ----------
    name : str
    higher_is : {"more confident", "more redundant"}
        What a high value means. BMUq's searches prefer high values: with redundancy they would look for detours.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the classifier is not fitted.
    ValueError
        For another scoring method or aggregate, classes of unknown order, or too few classes.

    Notes
    -----
    **Which step.** In all methods a step is a string, or an object with its text as ``content`` or ``text``; a path
    is a sequence of steps, or an object that holds it as ``steps``. A step to evaluate is

    - an integer: the step of the path at this 0-based index;
    - an object that *is* one of the path's (the same, not an equal one), or a string that one step of the path equals:
      that step;
    - anything else: the next step, after the whole path, as in BMUq.

    To score a string that repeats an earlier step as the next one, append it to the path and pass its index.

    **What differs from BMUq's own PRM.** An error raises, and never becomes 0.5. A step depends on no later one. A path
    is one pass. Risk and uncertainty stand in the metadata under their own names. Nothing is written into the path.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(60, 2, random_state=0)
    >>> method = PRMUncertainty(PRMClassifier(StepStatistics()).fit(data.X, data.y))
    >>> path = ["3 * 4 = 12.", "2 + 12 = 15."]
    >>> scores = method.batch_evaluate_steps("What is 2 + 3 * 4?", path, path)
    >>> scores[0].value > scores[1].value
    True
    >>> method.evaluate_path("What is 2 + 3 * 4?", path) == scores[1].value
    True
    """

    def __init__(
        self,
        classifier: Any,
        scoring_method: str = "validity",
        *,
        path_aggregate: str | None = None,
        name: str | None = None,
    ) -> None:
        if scoring_method not in _SCORINGS:
            raise ValueError(f"scoring_method is {scoring_method!r}, expected one of {', '.join(_SCORINGS)}")
        allowed = [rule for rule in AGGREGATION_RULES if rule not in _LOG_RULES]
        if path_aggregate is not None and path_aggregate not in allowed:
            raise ValueError(f"path_aggregate is {path_aggregate!r}, expected one of {', '.join(allowed)}")
        self._scoring = _SCORINGS[scoring_method]
        self._columns = _columns_from_worst(classifier, scoring_method)
        self.classifier = classifier
        self.scoring_method = scoring_method
        self.path_aggregate = path_aggregate or self._scoring.path_aggregate
        self.name = f"prm_{scoring_method}" if name is None else name
        self.higher_is = self._scoring.higher_is

    def evaluate_step(self, question: str, reasoning_path: Any, step_to_evaluate: Any) -> UncertaintyScore:
        """Score one step.

        Parameters
        ----------
        question : str
        reasoning_path : sequence of steps
            The steps before; or a path that the step is part of (see *Notes* of the class). May be empty.
        step_to_evaluate : int, str or object with a text

        Returns
        -------
        UncertaintyScore
            ``metadata`` holds ``higher_is``, ``scoring_method``, ``step_index`` (0-based, in its path),
            ``probabilities`` by class, ``risk`` (P(negative)) and ``entropy`` (in nats, higher is more uncertain).
            ``confidence_interval``: 5th to 95th percentile over members, if the classifier has any.

        Raises
        ------
        TypeError, ValueError, IndexError
            If the arguments are none of this, the step cannot be told from another, or the classifier's answer is NaN
            or no probability. What the classifier raises comes through.
        """
        return self.batch_evaluate_steps(question, reasoning_path, [step_to_evaluate])[0]

    def batch_evaluate_steps(
        self, question: str, reasoning_path: Any, steps_to_evaluate: Iterable[Any] | None = None
    ) -> list[UncertaintyScore]:
        """Score several steps in one pass; the result is that of ``evaluate_step`` for each.

        Parameters
        ----------
        question : str
        reasoning_path : sequence of steps
        steps_to_evaluate : iterable of int, str or object with a text, optional
            Steps that are not in the path are candidates for the same place, next in it, as in BMUq's interface.
            None, or the path itself: all steps of the path.

        Returns
        -------
        list of UncertaintyScore
            In the order of ``steps_to_evaluate``.

        Raises
        ------
        TypeError, ValueError, IndexError
            As ``evaluate_step``.
        """
        steps = place_steps(question, reasoning_path, steps_to_evaluate)
        if not steps:
            return []
        members = self._member_probabilities(steps)
        proba = members.mean(axis=0)
        values, entropies = self._values(proba), entropy(proba)
        ends = np.percentile(self._values(members), _INTERVAL, axis=0).T.tolist()
        names = {3: NAMES, 2: (NAMES[0], NAMES[2])}.get(proba.shape[1], self._labels())
        return [
            UncertaintyScore(
                value=float(values[row]),
                method=self.name,
                metadata={
                    "higher_is": self.higher_is,
                    "scoring_method": self.scoring_method,
                    "step_index": step.index,
                    "probabilities": dict(zip(names, proba[row].tolist(), strict=True)),
                    "risk": float(proba[row, 0]),
                    "entropy": float(entropies[row]),
                },
                confidence_interval=tuple(ends[row]) if self._has_members else None,
            )
            for row, step in enumerate(steps)
        ]

    def evaluate_path(self, question: str, reasoning_path: Any) -> float:
        """Score a path: its steps' values, aggregated.

        Parameters
        ----------
        question : str
        reasoning_path : sequence of steps, at least one

        Returns
        -------
        float
            In [0, 1]; ``higher_is`` says what a high value means.

        Raises
        ------
        TypeError, ValueError
            If the path is empty; else as ``evaluate_step``.
        """
        texts = path_texts(reasoning_path)[1]
        if not texts:
            raise ValueError("reasoning_path is empty, and nothing can be said of it: pass at least 1 step")
        steps = flatten([Solution(question, tuple(texts))])
        values = self._values(self._member_probabilities(steps).mean(axis=0))
        return float(check_probabilities(aggregate([values], self.path_aggregate), "the path's value")[0])

    def get_method_info(self) -> dict[str, Any]:
        """Say what this method is: name, type, description, scoring, aggregate and direction."""
        return {
            "name": self.name,
            "type": type(self).__name__,
            "description": (type(self).__doc__ or "").split("\n", 1)[0],
            "classifier": type(self.classifier).__name__,
            "classes": list(self._labels()),
            "scoring_method": self.scoring_method,
            "path_aggregate": self.path_aggregate,
            "higher_is": self.higher_is,
        }

    def __repr__(self) -> str:
        return f"PRMUncertainty({self.classifier!r}, {self.scoring_method!r}, path_aggregate={self.path_aggregate!r})"

    def _labels(self) -> list[Any]:
        return np.asarray(self.classifier.classes_)[self._columns].tolist()

    def _member_probabilities(self, steps: list[Step]) -> np.ndarray:
        """P(class) of each step by each member, the worst class first; a classifier without members is one."""
        answer = (
            self.classifier.member_proba(steps)
            if self._has_members
            else [self.classifier.predict_proba(steps)]
        )
        proba = np.asarray(answer, dtype=np.float64)
        if proba.ndim != 3 or proba.shape[1:] != (len(steps), len(self._columns)):
            raise ValueError(
                f"the classifier answered with shape {proba.shape[1 - self._has_members :]}, expected one row for each "
                f"of {len(steps)} steps, and {len(self._columns)} classes"
            )
        lost = np.flatnonzero(np.isnan(proba).any(axis=(0, 2)))
        if len(lost):
            raise ValueError(
                f"{len(lost)} of {len(steps)} steps have no probabilities (NaN), first the one at index "
                f"{steps[lost[0]].index}: a model answers so where a solution is longer than it reads; shorten it, or "
                "use a larger max_length"
            )
        rows = proba.reshape(-1, proba.shape[2])
        return check_class_probabilities(rows, rows.shape)[:, self._columns].reshape(proba.shape)

    @property
    def _has_members(self) -> bool:
        return hasattr(self.classifier, "member_proba")

    def _values(self, proba: np.ndarray) -> np.ndarray:
        chosen = proba[..., self._scoring.column]
        return 1.0 - chosen if self._scoring.complement else chosen


def _columns_from_worst(classifier: Any, scoring_method: str) -> list[int]:
    """Return the columns of ``predict_proba`` from the worst class to the best."""
    classes = getattr(classifier, "classes_", None)
    if classes is None:
        raise NotFittedError(
            f"{type(classifier).__name__} has no classes_: pass a fitted classifier, PRMClassifier().fit(X, y)"
        )
    classes = np.asarray(classes).tolist()
    order = getattr(classifier, "label_order_", None) or resolve_label_order(classes)
    if order is None:
        raise ValueError(
            f"nothing tells which of {classes} is worst: pass label_order=[worst, …, best] to PRMClassifier"
        )
    if scoring_method != "validity" and len(classes) != 3:
        raise ValueError(
            f"scoring_method={scoring_method!r} needs the classes negative, neutral and positive, but the classifier "
            f'has {classes}: use "validity"'
        )
    return [classes.index(label) for label in order]
