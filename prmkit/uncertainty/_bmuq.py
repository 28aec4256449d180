"""A prmkit classifier behind the methods that BMUq expects, without BMUq, and without its silent errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from sklearn.exceptions import NotFittedError

from prmkit.data.labels import NAMES
from prmkit.data.solution import Solution, Step, flatten
from prmkit.fitted import FittedClassifier, label_order
from prmkit.metrics.calibration.calibration import check_class_probabilities, check_probabilities
from prmkit.metrics.solutions.aggregation import AGGREGATION_RULES, aggregate, entropy


class HasContent(Protocol):
    """BMUq's ``ReasoningStep``."""

    content: str


class HasSteps(Protocol):
    """BMUq's ``ReasoningPath``."""

    steps: Sequence[HasContent]


BMUqStep: TypeAlias = str | Step | HasContent
BMUqPath: TypeAlias = Iterable[BMUqStep] | Solution | HasSteps
_LOG_RULES = ("sum_log", "length_normalized")
_INTERVAL = (5, 95)


@dataclass(frozen=True)
class UncertaintyScore:
    """A number from 0 to 1 about a step, with facts about it. The fields are BMUq's.

    ``metadata["higher_is"]`` says what a high value means. Without an interval nothing tells how sure the value is.
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
                raise ValueError(f"confidence_interval is {(low, high)!r}, expected (low, high) from 0 to 1")


# Per scoring method: the column of its class, counted from the worst, the rule for paths, and what a high value means.
_SCORINGS = {
    "validity": (0, "min", "more confident"),
    "redundancy": (1, "max", "more redundant"),
    "positive_only": (2, "mean", "more confident"),
}


class PRMUncertainty:
    """Use a fitted classifier of steps where BMUq's ``UncertaintyMethod`` is expected.

    The methods have BMUq's names and arguments, so BMUq's search algorithms and benchmarks take an instance. Where
    BMUq asks ``isinstance``, call once ``bmuq.core.interfaces.UncertaintyMethod.register(PRMUncertainty)``.

    Parameters
    ----------
    classifier : fitted classifier over steps
        Such as :class:`~prmkit.PRMClassifier`. If it has ``member_proba``, as :class:`StepEnsemble` and
        :class:`MCDropout` have, step scores get an interval.
    scoring_method : {"validity", "redundancy", "positive_only"}, default="validity"
        Value of a step. ``"validity"``: 1 - P(negative). ``"redundancy"``: P(neutral). ``"positive_only"``:
        P(positive). The last two need three classes.
    path_aggregate : str or None, default=None
        Rule of :func:`~prmkit.metrics.aggregate` for the value of a path, with results from 0 to 1. If ``None``, it is
        min for validity, max for redundancy, and mean for positive_only.
    name : str or None, default=None
        Name under which BMUq stores the scores. If ``None``, it is ``"prm_"`` and the scoring method.

    Attributes
    ----------
    higher_is : {"more confident", "more redundant"}
        Meaning of a high value. BMUq's searches prefer high values: with redundancy they would look for detours.

    Notes
    -----
    A step is a string, a :class:`~prmkit.Step`, or an object with its text as ``content`` (BMUq's ``ReasoningStep``).
    A path is a list of steps, a :class:`~prmkit.Solution`, or an object with ``steps`` (BMUq's ``ReasoningPath``).
    As in BMUq, a step to evaluate is the next one **after** the path. A path is not searched for a step of equal text,
    so a step that repeats an earlier one is scored as a repetition.

    Unlike BMUq's own PRM, an error raises and never becomes 0.5, a step depends on no later one, a path takes one pass,
    risk and entropy stand in the metadata under their own names, and nothing is written into the path.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(60, 2, random_state=0)
    >>> method = PRMUncertainty(PRMClassifier(StepStatistics()).fit(data.X, data.y))
    >>> path = ["3 * 4 = 12.", "2 + 12 = 15."]
    >>> scores = method.batch_evaluate_steps("What is 2 + 3 * 4?", path)
    >>> scores[0].value > scores[1].value
    True
    """

    def __init__(
        self,
        classifier: FittedClassifier,
        scoring_method: str = "validity",
        *,
        path_aggregate: str | None = None,
        name: str | None = None,
    ) -> None:
        if scoring_method not in _SCORINGS:
            raise ValueError(f"scoring_method is {scoring_method!r}, expected one of {', '.join(_SCORINGS)}")
        # The logarithmic rules give no numbers from 0 to 1.
        allowed = [rule for rule in AGGREGATION_RULES if rule not in _LOG_RULES]
        if path_aggregate is not None and path_aggregate not in allowed:
            raise ValueError(f"path_aggregate is {path_aggregate!r}, expected one of {', '.join(allowed)}")
        self._column, default_aggregate, self.higher_is = _SCORINGS[scoring_method]
        self._columns = _columns_from_worst(classifier, scoring_method)
        self.classifier = classifier
        self.scoring_method = scoring_method
        self.path_aggregate = path_aggregate or default_aggregate
        self.name = f"prm_{scoring_method}" if name is None else name

    def evaluate_step(self, question: str, reasoning_path: BMUqPath, step_to_evaluate: BMUqStep) -> UncertaintyScore:
        """Score one step.

        Parameters
        ----------
        question : str
            Text of the problem.
        reasoning_path : list of steps, Solution or object with ``steps``
            The steps before. May be empty.
        step_to_evaluate : str, Step or object with ``content``
            The next step.

        Returns
        -------
        UncertaintyScore
            The value. Its ``metadata`` holds ``higher_is``, ``scoring_method``, ``step_index`` (0-based),
            ``probabilities`` by class, ``risk`` (P(negative)) and ``entropy`` (in nats, higher is more uncertain). Its
            ``confidence_interval`` is the 5th to 95th percentile over members, if the classifier has members.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another kind, or the classifier answers with NaN or with no probabilities. Errors of
            the classifier are not caught.
        """
        return self.batch_evaluate_steps(question, reasoning_path, [step_to_evaluate])[0]

    def batch_evaluate_steps(
        self, question: str, reasoning_path: BMUqPath, steps_to_evaluate: BMUqPath | None = None
    ) -> list[UncertaintyScore]:
        """Score several steps in one pass.

        Parameters
        ----------
        question : str
            Text of the problem.
        reasoning_path : list of steps, Solution or object with ``steps``
            The steps before.
        steps_to_evaluate : list of steps, Solution or object with ``steps``, optional
            Candidates for the same place: each is scored as the next step after the path, as by ``evaluate_step``. If
            ``None``, all steps of the path are scored, each after those before it.

        Returns
        -------
        list of UncertaintyScore
            The score of each step. Errors are those of ``evaluate_step``.
        """
        texts = _texts(reasoning_path, "reasoning_path")
        if steps_to_evaluate is None:
            steps = flatten([Solution(question, tuple(texts))])
        else:
            candidates = _texts(steps_to_evaluate, "steps_to_evaluate")
            steps = [Step(Solution(question, (*texts, text)), len(texts)) for text in candidates]
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

    def evaluate_path(self, question: str, reasoning_path: BMUqPath) -> float:
        """Score a path by aggregating the values of its steps.

        Parameters
        ----------
        question : str
            Text of the problem.
        reasoning_path : list of steps, Solution or object with ``steps``
            The path, with at least one step.

        Returns
        -------
        float
            Value in [0, 1]. ``higher_is`` says what a high value means.

        Raises
        ------
        TypeError, ValueError
            If the path is empty, and as ``evaluate_step``.
        """
        texts = _texts(reasoning_path, "reasoning_path")
        if not texts:
            raise ValueError("reasoning_path is empty, expected at least 1 step")
        steps = flatten([Solution(question, tuple(texts))])
        values = self._values(self._member_probabilities(steps).mean(axis=0))
        return float(check_probabilities(aggregate([values], self.path_aggregate), "the path's value")[0])

    def get_method_info(self) -> dict[str, str | list[Any]]:
        """Describe this method.

        Returns
        -------
        dict
            Name, type, description, classifier, classes, scoring method, path aggregate and direction.
        """
        return {
            "name": self.name,
            "type": type(self).__name__,
            "description": (type(self).__doc__ or "").split("\n", 1)[0],
            "classifier": type(self.classifier).__name__,
            "classes": self._labels(),
            "scoring_method": self.scoring_method,
            "path_aggregate": self.path_aggregate,
            "higher_is": self.higher_is,
        }

    def _labels(self) -> list[Any]:
        """Return the labels from worst to best."""
        return list(np.asarray(self.classifier.classes_)[self._columns].tolist())

    @property
    def _has_members(self) -> bool:
        return hasattr(self.classifier, "member_proba")

    def _member_probabilities(self, steps: list[Step]) -> np.ndarray:
        """Return P(class) by each member (or by the only classifier), the worst class first."""
        members = getattr(self.classifier, "member_proba", None)
        answer = members(steps) if members else [self.classifier.predict_proba(steps)]
        proba = np.asarray(answer, dtype=np.float64)
        lost = np.flatnonzero(np.isnan(proba).any(axis=(0, 2)))
        if len(lost):
            raise ValueError(
                f"{len(lost)} of {len(steps)} steps have no probabilities (NaN), first the one at index "
                f"{steps[lost[0]].index}: the solution is longer than the model reads. Shorten it, or use a larger "
                "max_length"
            )
        shape = (len(proba) * len(steps), len(self._columns))
        rows = check_class_probabilities(proba.reshape(-1, proba.shape[-1]), shape)
        return rows[:, self._columns].reshape(proba.shape)

    def _values(self, proba: np.ndarray) -> np.ndarray:
        """Return the value of each row of probabilities."""
        column = proba[..., self._column]
        return 1.0 - column if self.scoring_method == "validity" else column


def _texts(path: BMUqPath, name: str) -> list[str]:
    """Return the texts of a list of steps."""
    steps = getattr(path, "steps", path)
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise TypeError(f"{name} is one {type(steps).__name__}, expected a list of steps: [step, …]")
    texts = []
    for i, step in enumerate(steps):
        readings = (step, getattr(step, "content", None), getattr(step, "text", None))
        text = next((reading for reading in readings if isinstance(reading, str)), None)
        if text is None:
            raise TypeError(
                f"{name}[{i}] is {type(step).__name__}, expected str or an object with its text as content or text"
            )
        texts.append(text)
    return texts


def _columns_from_worst(classifier: FittedClassifier, scoring_method: str) -> list[int]:
    """Return the columns of ``predict_proba`` from the worst class to the best."""
    name = type(classifier).__name__
    if not hasattr(classifier, "classes_"):
        raise NotFittedError(f"{name} has no classes_: pass a fitted classifier, PRMClassifier().fit(X, y)")
    classes = np.asarray(classifier.classes_).tolist()
    order = label_order(classifier)
    if scoring_method != "validity" and len(classes) != 3:
        raise ValueError(
            f"scoring_method={scoring_method!r} needs the classes negative, neutral and positive, but the classifier "
            f'has {classes}: use "validity"'
        )
    return [classes.index(label) for label in order]
