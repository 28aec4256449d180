"""Scores of a solution while it grows, for search and guided decoding."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from prmkit.data.growing import Growing, extend_together, growing
from prmkit.data.solution import Solution
from prmkit.fitted import FittedClassifier, Label, fitted_parts, with_setting
from prmkit.scoring.scored_solution import ScoredSolution
from prmkit.scoring.scoring import checked, step_proba
from prmkit.utils.environment import UnscoredWarning


class IncrementalScorer:
    """Score a solution while it grows, step by step, as search and guided decoding do.

    ``clf.incremental(problem)`` makes one. The scores are those of :func:`~prmkit.score_solutions` for the same
    solution, up to rounding.

    Parameters
    ----------
    classifier : fitted classifier of steps
        Any that :func:`~prmkit.score_solutions` takes.
    problem : str
        Text of the problem.
    label_order : sequence of labels, default=None
        Labels from worst to best. If ``None``, those that the classifier knows.
    too_long : {"raise", "nan"}, default=None
        What to do with steps that the model cannot read, as in :func:`~prmkit.score_solutions`.

    Attributes
    ----------
    classifier : fitted classifier of steps
        Classifier that gives the scores.
    problem : str
        Text of the problem.
    steps : tuple of str
        Texts of the steps so far.
    classes : tuple
        Labels of the columns of ``proba``.
    label_order : tuple
        Labels from worst to best.

    Raises
    ------
    TypeError
        If the problem is no text, or the classifier reads numbers.
    ValueError
        If nothing tells which label is the worst.

    Notes
    -----
    What a new step costs beside its own text depends on the model:

    - A causal language model keeps the keys and values of the tokens so far, and reads the new step's tokens alone.
      So do encoders that attend in blocks where transformers' code can take keys and values, as BERT's and RoBERTa's
      can, and ``StepTransformer``, to which a step is one position. Only attention looks back.
    - Models over features encode the text of the new step alone. Its context comes from sums of the earlier steps and
      from products with their embeddings.
    - Every other classifier is asked for the new step in its context, which may cost as much as the whole solution: a
      scheme ``"prefix"``, a ``Pipeline``, :class:`~prmkit.uncertainty.MCDropout`, a language model without keys and
      values (state-space models), or with positions that depend on the length of the text.

    Forks share what was computed: a language model keeps the keys and values of each piece of text once, however many
    forks have read it, and frees them with the last of these forks. Forks of a scorer without steps read the problem
    once. After an error a scorer stands where it stood before the call. A scorer notices that its classifier was fitted
    again, and refuses. It cannot notice that somebody has changed the weights in place.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(20, 2, random_state=0)
    >>> clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    >>> scorer = clf.incremental("What is 2 + 3 * 4?")
    >>> scorer.extend(["3 * 4 = 12."]).shape
    (1,)
    >>> other = scorer.fork()
    >>> rewards = scorer.extend(["2 + 12 = 14."]), other.extend(["2 + 12 = 15."])
    >>> scorer.n_steps, other.steps
    (2, ('3 * 4 = 12.', '2 + 12 = 15.'))
    """

    def __init__(
        self,
        classifier: FittedClassifier,
        problem: str,
        label_order: Sequence[Label] | None = None,
        *,
        too_long: Literal["raise", "nan"] | None = None,
    ) -> None:
        if too_long not in (None, "raise", "nan"):
            raise ValueError(f"too_long is {too_long!r}, expected 'raise', 'nan' or None")
        self._solution = Solution(problem, ())
        self._given = classifier
        _, self.label_order = checked(classifier, [], label_order)
        self.classes = tuple(classifier.classes_.tolist())
        self._classifier = classifier if too_long is None else with_setting(classifier, "too_long", too_long)
        self._fitted = _fitted_attributes(classifier)
        self._proba = np.empty((0, len(self.classes)))
        self._growing: Growing | None = growing(self._classifier, problem)

    @property
    def classifier(self) -> FittedClassifier:
        """Classifier that gives the scores."""
        return self._given

    @property
    def problem(self) -> str:
        """Text of the problem."""
        return self._solution.problem

    @property
    def steps(self) -> tuple[str, ...]:
        """Texts of the steps so far."""
        return self._solution.steps

    @property
    def n_steps(self) -> int:
        """Number of steps so far."""
        return self._solution.n_steps

    @property
    def proba(self) -> np.ndarray:
        """Class probabilities of all steps so far, of shape (n_steps, n_classes). NaN for steps without a score."""
        return self._proba.copy()

    @property
    def risks(self) -> np.ndarray:
        """P(worst class) of all steps so far, of shape (n_steps,)."""
        return self._proba[:, self.classes.index(self.label_order[0])].copy()

    @property
    def rewards(self) -> np.ndarray:
        """``1 - risk`` of all steps so far, of shape (n_steps,)."""
        return 1.0 - self.risks

    def extend(self, steps: Iterable[str]) -> np.ndarray:
        """Add steps at the end, and return their rewards.

        Parameters
        ----------
        steps : iterable of str
            Texts of the new steps, in their order. There may be none.

        Returns
        -------
        ndarray of shape (n_new_steps,)
            ``1 - risk`` of each new step. NaN for a step that the model cannot read, with ``too_long="nan"``.
            ``risks`` and ``proba`` hold the numbers of all steps.

        Raises
        ------
        TypeError
            If ``steps`` is one string, or holds anything but strings.
        ValueError
            If a step does not fit into the model, or the classifier was fitted again since the scorer was made.

        Warns
        -----
        UserWarning
            If a new step has no score.
        """
        (rewards,) = self.extend_together([self], [steps])
        return rewards

    @staticmethod
    def extend_together(scorers: Sequence[IncrementalScorer], steps: Sequence[Iterable[str]]) -> list[np.ndarray]:
        """Add steps to several solutions of one classifier, as one step of a search does, and return their rewards.

        The scores are those of ``extend`` on each, up to rounding. Models over features read all new steps in one
        batch. Language models read them in turn.

        Parameters
        ----------
        scorers : sequence of IncrementalScorer
            Different scorers of one classifier, such as forks.
        steps : sequence of iterable of str
            Texts of the new steps of each.

        Returns
        -------
        list of ndarray of shape (n_new_steps,)
            For each scorer, what ``extend`` returns.

        Raises
        ------
        TypeError, ValueError
            As in ``extend``, and if scorers are repeated or belong to different classifiers. All of them stand then
            where they stood before.

        Warns
        -----
        UserWarning
            If a new step has no score.
        """
        if len(scorers) != len(steps):
            raise ValueError(f"{len(scorers)} scorers and {len(steps)} lists of steps, expected one list for each")
        if len({id(one) for one in scorers}) < len(scorers) or len({id(one._given) for one in scorers}) > 1:
            raise ValueError("scorers are repeated or of different classifiers, expected different ones of one: fork()")
        grown = [one._with(new) for one, new in zip(scorers, steps, strict=True)]
        which = [i for i, one in enumerate(scorers) if grown[i].n_steps > one.n_steps]
        rewards: list[np.ndarray] = [np.empty(0)] * len(scorers)
        # An error may leave them half grown. Then the next call begins anew.
        read: list[Growing] = []
        unread: list[Sequence[str]] = []
        for i in which:
            one = scorers[i]
            known, one._growing = one._growing, None
            read.append(growing(one._classifier, one.problem) if known is None else known)
            unread.append(grown[i].steps[0 if known is None else one.n_steps :])
        with warnings.catch_warnings():
            # The warning of step_proba says the same.
            warnings.simplefilter("ignore", UnscoredWarning)
            # Settings such as too_long, which one reading of all could not keep apart, make copies of the classifier.
            is_one = len({id(scorers[i]._classifier) for i in which}) == 1
            found = (
                extend_together(read, unread) if is_one else [a.extend(b) for a, b in zip(read, unread, strict=True)]
            )
        new = [Solution(scorers[i].problem, grown[i].steps[scorers[i].n_steps :]) for i in which]
        if new:
            rows = np.concatenate([proba[-one.n_steps :] for proba, one in zip(found, new, strict=True)])
            proba = step_proba(scorers[which[0]]._classifier, new, rows)
            ends = np.cumsum([one.n_steps for one in new])[:-1]
            for i, part, known in zip(which, np.split(proba, ends), read, strict=True):
                scorers[i]._keep(grown[i], part, known)
                rewards[i] = scorers[i].rewards[-len(part) :]
        return rewards

    def _with(self, steps: Iterable[str]) -> Solution:
        """Return the solution with new steps, after a look at the classifier."""
        grown = Solution(self.problem, (*self.steps, *Solution(self.problem, steps).steps))
        now = _fitted_attributes(self._given)
        if len(now) != len(self._fitted) or any(one is not other for one, other in zip(now, self._fitted, strict=True)):
            raise ValueError(
                f"{type(self._given).__name__} was fitted again since this scorer was made, and the scores of two "
                "models would mix: make a new one, clf.incremental(problem)"
            )
        return grown

    def _keep(self, grown: Solution, proba: np.ndarray, read: Growing) -> None:
        self._solution, self._growing = grown, read
        self._proba = np.concatenate([self._proba, proba])

    def fork(self) -> IncrementalScorer:
        """Return a scorer that stands where this one stands, and grows by itself.

        Returns
        -------
        IncrementalScorer
            It shares with this one what was computed of the steps so far.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._growing = None if self._growing is None else self._growing.fork()
        return other

    def scored(self) -> ScoredSolution:
        """Return the solution so far with all that follows from its probabilities, such as ``aggregates``.

        Returns
        -------
        ScoredSolution
            As :func:`~prmkit.score_solutions` gives it.

        Raises
        ------
        ValueError
            If there are no steps yet.
        """
        return ScoredSolution(self._solution, self._proba, self.classes, self.label_order)

    def __repr__(self) -> str:
        return f"<IncrementalScorer of {type(self._given).__name__}: {self._solution!r}>"

    def __getstate__(self) -> dict[str, Any]:
        # What was computed is computed again: hooks and caches of models cannot be pickled.
        return {**self.__dict__, "_growing": None, "_fitted": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._fitted = _fitted_attributes(self._given)


def _fitted_attributes(classifier: FittedClassifier) -> list[Any]:
    """Return what ``fit`` has left in a classifier and in those inside: other objects, if it is fitted again."""
    return [
        value
        for part in fitted_parts(classifier)
        for name, value in sorted(getattr(part, "__dict__", {}).items())
        if name.endswith("_") and not name.endswith("__")
    ]
