"""All that can be said of a reasoning path at once: how likely it is wrong, and how sure the model is of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from html import escape
from typing import Any

import numpy as np

from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution, as_solutions, flatten
from prmkit.metrics import MemberUncertainty, credible_set, decompose_uncertainty
from prmkit.metrics.solutions.aggregation import entropy, flat_first_error_distribution
from prmkit.scoring import ScoredSolution, score_solutions
from prmkit.uncertainty._saving import thawed
from prmkit.uncertainty._solutions_input import Paths, units_and_keys


@dataclass(frozen=True, eq=False, repr=False)
class PathUncertainty:
    """Risk and uncertainty of one path; made by :func:`path_uncertainty`.

    **Risk** says how likely the path is wrong; its target is "the path has an error". **Uncertainty** says how unsure
    the model is of its verdicts; its target is "the verdict is wrong". They answer different questions: a step that is
    surely wrong has a high risk and no uncertainty.

    Parameters
    ----------
    scored : ScoredSolution
        The solution and its steps' probabilities, the mean over members where there are some.
    p_no_error : float
        P(no step is wrong), calibrated where ``calibrated``; higher is better.
    first_error_distribution : ndarray of shape (n_steps + 1,)
        P(step t is the first wrong one), then ``p_no_error``.
    credible_set : set of int
        The likeliest first errors, of probability ``level`` together; -1 stands for "no error". It trusts the model:
        :class:`FirstErrorSet` gives one with a guarantee.
    level : float
    calibrated : bool
        Whether a path calibrator gave ``p_no_error``.
    members : MemberUncertainty or None
        Total, aleatoric and epistemic uncertainty of each step in nats, higher is more uncertain. None where the
        classifier has no members.
    p_value : float or None
        How often calibration paths look at least this strange; **lower** is stranger. None without a shift detector.
    """

    scored: ScoredSolution
    p_no_error: float
    first_error_distribution: np.ndarray
    credible_set: set[int]
    level: float
    calibrated: bool
    members: MemberUncertainty | None = None
    p_value: float | None = None

    @property
    def risk(self) -> float:
        """P(some step is wrong); higher is worse."""
        return 1.0 - self.p_no_error

    @property
    def verdict_entropy(self) -> float:
        """Entropy of "the path has an error" in nats, at most 0.693; higher is more uncertain of the verdict."""
        return float(entropy([self.p_no_error, self.risk]))

    @property
    def total(self) -> float | None:
        """Mean total uncertainty of the steps in nats; higher is more uncertain."""
        return None if self.members is None else float(self.members.total.mean())

    @property
    def aleatoric(self) -> float | None:
        """Mean over steps of what each member is unsure of, in nats; higher is more uncertain."""
        return None if self.members is None else float(self.members.aleatoric.mean())

    @property
    def epistemic(self) -> float | None:
        """Mean over steps of what members disagree on, in nats; higher is more uncertain."""
        return None if self.members is None else float(self.members.epistemic.mean())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON; ``scored`` as its own ``to_dict`` does."""
        return {
            "risk": self.risk,
            "p_no_error": self.p_no_error,
            "calibrated": self.calibrated,
            "first_error_distribution": self.first_error_distribution.tolist(),
            "credible_set": self._outcomes(),
            "level": self.level,
            "verdict_entropy": self.verdict_entropy,
            "total": self.total,
            "aleatoric": self.aleatoric,
            "epistemic": self.epistemic,
            "members": None if self.members is None else _per_step(self.members),
            "p_value": self.p_value,
            "scored": self.scored.to_dict(),
        }

    def __str__(self) -> str:
        return "\n".join([str(self.scored), "", *self._summary()])

    def __repr__(self) -> str:
        return f"<PathUncertainty: risk {self.risk:.2f}, verdict entropy {self.verdict_entropy:.2f}>"

    def _repr_html_(self) -> str:
        foot = "<br>".join(map(escape, self._summary()))
        return f'<div>{self.scored._repr_html_()}<div style="margin-top:.6em">{foot}</div></div>'

    def _outcomes(self) -> list[int]:
        """The credible set in order, "no error" last."""
        return sorted(self.credible_set, key=lambda outcome: (outcome < 0, outcome))

    def _summary(self) -> list[str]:
        names = ["no error" if outcome < 0 else f"step {outcome}" for outcome in self._outcomes()]
        lines = [
            f"risk, P(the path has an error): {self.risk:.2f}{', calibrated' if self.calibrated else ''}",
            f"{self.level:.0%} credible first errors: {', '.join(names)}",
            f"entropy of the verdict on the path: {self.verdict_entropy:.2f} nats, at most 0.69",
        ]
        if self.members is not None:
            lines.append(
                f"uncertainty of a step, mean: total {self.total:.3f} = aleatoric {self.aleatoric:.3f} + epistemic "
                f"{self.epistemic:.3f} nats"
            )
        if self.p_value is not None:
            lines.append(f"p-value of looking like the calibration paths: {self.p_value:.3g}")
        return lines


def path_uncertainty(
    classifier: Any,
    solutions: Iterable[Solution],
    *,
    level: float = 0.9,
    path_calibrator: Any = None,
    shift: Any = None,
) -> list[PathUncertainty]:
    """Score solutions once and sum up the risk and the uncertainty of each.

    Parameters
    ----------
    classifier : fitted classifier over steps
        Where it has ``member_proba`` (:class:`StepEnsemble`, :class:`MCDropout`), its members' mean is the score, and
        their disagreement is reported; all from one pass. (A calibrated ensemble has no members to ask; an ensemble of
        calibrated classifiers has: ``StepEnsemble(CalibratedStepClassifier(PRMClassifier()))``.)
    solutions : list of Solution
        Of new problems: on those that the classifier learnt from, all numbers flatter.
    level : float, default=0.9
        Of the credible sets, in (0, 1].
    path_calibrator : PathCalibrator, optional
        Fitted on the same classifier, or on its risks. The first-error distribution is scaled to its P(no error);
        where all risks are 0, the rest is shared equally by the steps.
    shift : fitted and calibrated shift detector, optional
        Such as :class:`MahalanobisShift`: anything with ``p_value(solutions)``.

    Returns
    -------
    list of PathUncertainty

    Raises
    ------
    TypeError, ValueError
        For no list of solutions, one without steps, a level out of range, or a problem on which the calibrator or the
        detector was fitted.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data, new = (make_arithmetic_solutions(30, 2, random_state=seed) for seed in (0, 1))
    >>> clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    >>> found = path_uncertainty(clf, new.solutions[:3])
    >>> [0 <= one.risk <= 1 for one in found], found[0].epistemic
    ([True, True, True], None)
    """
    solutions = as_solutions(solutions)
    for name, given, method in (
        ("path_calibrator", path_calibrator, "p_no_error"),
        ("shift", shift, "p_value"),
    ):
        if given is not None and not hasattr(given, method):
            raise TypeError(f"{name} is {type(given).__name__}, expected an estimator with {method}")
    has_members = hasattr(classifier, "member_proba") and len(solutions) > 0
    member_proba = classifier.member_proba(flatten(solutions)) if has_members else None
    scored = score_solutions(
        classifier, solutions, proba=None if member_proba is None else member_proba.mean(axis=0)
    )
    if not scored:
        return []
    lengths = np.array([one.solution.n_steps for one in scored])
    first_error = flat_first_error_distribution(np.concatenate([one.risks for one in scored]), lengths)
    if path_calibrator is not None:
        first_error = _scaled(first_error, lengths, _calibrated(path_calibrator, classifier, scored, lengths))
    ends = np.cumsum(lengths)
    distributions = np.split(first_error, (ends + np.arange(1, len(ends) + 1))[:-1])
    members = None if member_proba is None else decompose_uncertainty(member_proba, _worst_column(scored[0]))
    p_values = None if shift is None else shift.p_value(solutions)
    return [
        PathUncertainty(
            scored=one,
            p_no_error=float(distribution[-1]),
            first_error_distribution=distribution,
            credible_set=kept,
            level=level,
            calibrated=path_calibrator is not None,
            members=None if members is None else _part(members, end - one.solution.n_steps, end),
            p_value=None if p_values is None else float(p_values[i]),
        )
        for i, (one, distribution, kept, end) in enumerate(
            zip(scored, distributions, credible_set(distributions, level), ends.tolist(), strict=True)
        )
    ]


def _calibrated(
    path_calibrator: Any, classifier: Any, scored: list[ScoredSolution], lengths: np.ndarray
) -> np.ndarray:
    """Return the calibrated P(no error) of each path; steps are scored again only by another classifier."""
    own = getattr(path_calibrator, "classifier", None)
    if own is None:
        return path_calibrator.p_no_error([one.risks for one in scored])
    solutions = [one.solution for one in scored]
    if thawed(own) is not thawed(classifier):
        return path_calibrator.p_no_error(solutions)
    units, keys = units_and_keys(len(scored), problem_keys(solutions), None, "path")
    risks = np.concatenate([one.risks for one in scored])
    return path_calibrator.of_paths(Paths(risks, lengths, units, keys))


def _scaled(first_error: np.ndarray, lengths: np.ndarray, p_no_error: np.ndarray) -> np.ndarray:
    """Return first-error distributions, end to end, whose last entries are ``p_no_error``."""
    sizes = lengths + 1
    ends = np.cumsum(sizes)
    scaled = first_error.copy()
    scaled[ends - 1] = 0.0
    sums = np.add.reduceat(scaled, ends - sizes)
    unknown = np.repeat(sums == 0, sizes)  # no risk anywhere, so nothing says where an error would be
    scaled[unknown] = 1.0 / np.repeat(lengths, sizes)[unknown]
    scaled *= np.repeat((1 - p_no_error) / np.where(sums == 0, 1.0, sums), sizes)
    scaled[ends - 1] = p_no_error
    return scaled


def _worst_column(scored: ScoredSolution) -> int:
    assert scored.label_order is not None  # a scored solution knows
    return scored.classes.index(scored.label_order[0])


def _part(members: MemberUncertainty, start: int, end: int) -> MemberUncertainty:
    arrays = {field.name: getattr(members, field.name) for field in fields(members)}
    return type(members)(**{name: None if a is None else a[start:end] for name, a in arrays.items()})


def _per_step(members: MemberUncertainty) -> dict[str, Any]:
    arrays = {field.name: getattr(members, field.name) for field in fields(members)}
    return {name: None if a is None else a.tolist() for name, a in arrays.items()}
