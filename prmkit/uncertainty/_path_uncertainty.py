"""Everything about a reasoning path at once: how likely it is wrong, and how sure the model is of that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any

import numpy as np

from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution, as_solutions, flatten
from prmkit.fitted import FittedClassifier, GivesPValues, Label
from prmkit.metrics import credible_set, decompose_uncertainty
from prmkit.metrics.solutions.aggregation import entropy, ragged_first_error_distribution
from prmkit.metrics.solutions.members import MemberUncertainty
from prmkit.scoring import ScoredSolution, score_solutions
from prmkit.scoring.scored_solution import ScoredList, nulled, shown
from prmkit.uncertainty._solutions_input import Paths, units_and_keys
from prmkit.uncertainty.calibration._path_calibrator import PathCalibrator
from prmkit.utils.environment import as_printed
from prmkit.utils.ragged import Ragged
from prmkit.utils.sklearn import thawed


@dataclass(frozen=True, eq=False, repr=False)
class PathUncertainty:
    """Risk and uncertainty of one path, made by :func:`path_uncertainty`.

    **Risk** says how likely the path is wrong. Its target is "the path has an error". **Uncertainty** says how unsure
    the model is of its verdicts. Its target is "the verdict is wrong". They answer different questions: a step that is
    surely wrong has a high risk and no uncertainty.

    Parameters
    ----------
    scored : ScoredSolution
        The solution and the probabilities of its steps: the mean over members, if the classifier has members.
    p_no_error : float
        P(no step is wrong), calibrated if ``calibrated``. Higher is better. It is NaN if a step has no score, and so
        is every number that needs it.
    first_error_distribution : ndarray of shape (n_steps + 1,)
        P(step t is the first wrong one) of each step, then ``p_no_error``.
    credible_set : set of int
        The most likely first errors, with probability ``level`` together. -1 stands for "no error". The set trusts the
        model: :class:`FirstErrorSet` gives one with a guarantee. If a step has no score, all outcomes are in it.
    level : float
        Probability of the credible set.
    calibrated : bool
        Whether ``p_no_error`` comes from a path calibrator.
    members : MemberUncertainty or None
        Total, aleatoric and epistemic uncertainty of each step in nats. Higher is more uncertain. ``None`` if the
        classifier has no members.
    p_value : float or None
        Share of calibration paths that look at least as unusual. **Lower** is more unusual. ``None`` without a shift
        detector.
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
        """P(some step is wrong). Higher is worse."""
        return 1.0 - self.p_no_error

    @property
    def verdict_entropy(self) -> float:
        """Entropy of "the path has an error" in nats, at most 0.693. Higher is more uncertain of the verdict."""
        return np.nan if np.isnan(self.risk) else float(entropy([self.p_no_error, self.risk]))

    @property
    def total(self) -> float | None:
        """Mean total uncertainty of the steps in nats. Higher is more uncertain."""
        return None if self.members is None else float(self.members.total.mean())

    @property
    def aleatoric(self) -> float | None:
        """Mean over steps of the uncertainty within the members, in nats. Higher is more uncertain."""
        return None if self.members is None else float(self.members.aleatoric.mean())

    @property
    def epistemic(self) -> float | None:
        """Mean over steps of the disagreement between the members, in nats. Higher is more uncertain."""
        return None if self.members is None else float(self.members.epistemic.mean())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON.

        Returns
        -------
        dict
            The parameters and properties by name. ``scored`` is the result of its own ``to_dict``.
        """
        return {
            "risk": nulled(self.risk),
            "p_no_error": nulled(self.p_no_error),
            "calibrated": self.calibrated,
            "first_error_distribution": nulled(self.first_error_distribution),
            "credible_set": self._outcomes(),
            "level": self.level,
            "verdict_entropy": nulled(self.verdict_entropy),
            "total": None if self.total is None else nulled(self.total),
            "aleatoric": None if self.aleatoric is None else nulled(self.aleatoric),
            "epistemic": None if self.epistemic is None else nulled(self.epistemic),
            "members": None if self.members is None else _per_step(self.members),
            "p_value": self.p_value,
            "scored": self.scored.to_dict(),
        }

    def __str__(self) -> str:
        return as_printed("\n".join([str(self.scored), "", *self._summary()]))

    def __repr__(self) -> str:
        return f"<PathUncertainty: risk {shown(self.risk)}, verdict entropy {shown(self.verdict_entropy)}>"

    def _repr_html_(self) -> str:
        foot = "<br>".join(map(escape, self._summary()))
        return f'<div>{self.scored._repr_html_()}<div style="margin-top:.6em">{foot}</div></div>'

    def _outcomes(self) -> list[int]:
        """The credible set in order, "no error" last."""
        return sorted(self.credible_set, key=lambda outcome: (outcome < 0, outcome))

    def _summary(self) -> list[str]:
        """Return the lines below the steps."""
        names = ["no error" if outcome < 0 else f"step {outcome}" for outcome in self._outcomes()]
        lines = [
            f"risk, P(the path has an error): {shown(self.risk)}{', calibrated' if self.calibrated else ''}",
            f"{self.level:.0%} credible first errors: {', '.join(names)}",
            f"entropy of the verdict on the path: {shown(self.verdict_entropy)} nats, at most 0.69",
        ]
        if self.members is not None and not self.scored.unscored:
            lines.append(
                f"uncertainty of a step, mean: total {self.total:.3f} = aleatoric {self.aleatoric:.3f} + epistemic "
                f"{self.epistemic:.3f} nats"
            )
        if self.p_value is not None:
            lines.append(f"p-value of looking like the calibration paths: {self.p_value:.3g}")
        return lines


def path_uncertainty(
    classifier: FittedClassifier,
    solutions: Iterable[Solution],
    label_order: Sequence[Label] | None = None,
    *,
    level: float = 0.9,
    path_calibrator: PathCalibrator | None = None,
    shift: GivesPValues | None = None,
) -> list[PathUncertainty]:
    """Score solutions once and sum up the risk and the uncertainty of each.

    Parameters
    ----------
    classifier : fitted classifier over steps
        Classifier that scores the steps. If it has ``member_proba`` (:class:`StepEnsemble`, :class:`MCDropout`), the
        score is the mean over its members, and their disagreement is reported, all from one pass. A calibrated ensemble
        has no members to ask. An ensemble of calibrated classifiers has:
        ``StepEnsemble(CalibratedStepClassifier(PRMClassifier()))``.
    solutions : list of Solution
        Solutions of new problems. On problems of the training all numbers are too good.
    label_order : sequence of labels, default=None
        Labels from worst to best, as in :func:`~prmkit.score_solutions`.
    level : float, default=0.9
        Probability of the credible sets, in (0, 1].
    path_calibrator : PathCalibrator, optional
        Calibrator of P(no error), fitted on the same classifier or on its risks. The first-error distribution is scaled
        to its result. If all risks of a path are 0, the steps share the remaining probability equally.
    shift : fitted and calibrated shift detector, optional
        Detector that gives p-values, such as :class:`MahalanobisShift`, or anything with ``p_value(solutions)``.

    Returns
    -------
    list of PathUncertainty
        One per solution.

    Raises
    ------
    TypeError, ValueError
        If ``solutions`` is no list of solutions, a solution has no steps, the level is out of range, or the calibrator
        or the detector was fitted on a problem.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data, new = (make_arithmetic_solutions(30, 2, random_state=seed) for seed in (0, 1))
    >>> clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    >>> paths = path_uncertainty(clf, new.solutions[:3])
    >>> [0 <= path.risk <= 1 for path in paths], paths[0].epistemic
    ([True, True, True], None)
    """
    solutions = as_solutions(solutions)
    for name, estimator, method in (("path_calibrator", path_calibrator, "p_no_error"), ("shift", shift, "p_value")):
        if estimator is not None and not hasattr(estimator, method):
            raise TypeError(f"{name} is {type(estimator).__name__}, expected an estimator with {method}")
    ask_members = getattr(classifier, "member_proba", None)
    member_proba = ask_members(flatten(solutions)) if ask_members and solutions else None
    proba = None if member_proba is None else member_proba.mean(axis=0)
    scored = score_solutions(classifier, solutions, label_order, proba=proba)
    if not scored:
        return ScoredList()
    risks = Ragged.from_arrays([path.risks for path in scored])
    distributions = ragged_first_error_distribution(risks)
    if path_calibrator is not None:
        distributions = _scaled(distributions, _calibrated(path_calibrator, classifier, scored, risks))
    members: list[MemberUncertainty | None] = [None] * len(scored)
    if member_proba is not None:
        of_all = _decomposed(member_proba, scored[0].ordered_columns[0])
        members = [_part(of_all, start, end) for start, end in zip(risks.starts, risks.ends, strict=True)]
    p_values = [None] * len(scored) if shift is None else shift.p_value(solutions).tolist()
    first_errors = distributions.split()
    # A path with a step without a score has no distribution, and nothing is left out of its set.
    of_known = iter(credible_set([one for one in first_errors if np.isfinite(one).all()], level))
    sets = [next(of_known) if np.isfinite(one).all() else {*range(len(one) - 1), -1} for one in first_errors]
    return ScoredList(
        PathUncertainty(
            scored=path,
            p_no_error=float(distribution[-1]),
            first_error_distribution=distribution,
            credible_set=outcomes,
            level=level,
            calibrated=path_calibrator is not None,
            members=of_steps,
            p_value=p_value,
        )
        for path, distribution, outcomes, of_steps, p_value in zip(
            scored, first_errors, sets, members, p_values, strict=True
        )
    )


def _calibrated(
    path_calibrator: PathCalibrator, classifier: FittedClassifier, scored: list[ScoredSolution], risks: Ragged
) -> np.ndarray:
    """Return the calibrated P(no error) of each path."""
    own = getattr(path_calibrator, "classifier", None)
    if own is None:
        return path_calibrator.of_paths(Paths(risks, *units_and_keys(len(scored), None, None, "path")))
    solutions = [path.solution for path in scored]
    if thawed(own) is not thawed(classifier):
        return path_calibrator.p_no_error(solutions)
    # The calibrator has the same classifier: its steps need not be scored again.
    units, keys = units_and_keys(len(scored), problem_keys(solutions), None, "path")
    return path_calibrator.of_paths(Paths(risks, units, keys))


def _scaled(distributions: Ragged, p_no_error: np.ndarray) -> Ragged:
    """Return first-error distributions whose last entries are ``p_no_error``."""
    lengths, no_error = distributions.lengths - 1, distributions.ends - 1
    scaled = distributions.values.copy()
    scaled[no_error] = 0.0
    sums = distributions.with_values(scaled).reduce(np.add)
    # If there is no risk anywhere, nothing says where an error would be: all steps are equal.
    unknown = distributions.spread(sums == 0)
    scaled[unknown] = 1.0 / distributions.spread(lengths)[unknown]
    scaled *= distributions.spread((1 - p_no_error) / np.where(sums == 0, 1.0, sums))
    scaled[no_error] = p_no_error
    return distributions.with_values(scaled)


def _decomposed(member_proba: np.ndarray, worst_column: int) -> MemberUncertainty:
    """Return the uncertainty of all steps, NaN for a step that a member gave no score."""
    scored = np.isfinite(member_proba).all(axis=(0, 2))
    if scored.all():
        return decompose_uncertainty(member_proba, worst_column)
    arrays = dict.fromkeys((field.name for field in fields(MemberUncertainty)), np.full(len(scored), np.nan))
    if scored.any():
        found = decompose_uncertainty(member_proba[:, scored], worst_column)
        for name, array in arrays.items():
            arrays[name] = array.copy()
            arrays[name][scored] = getattr(found, name)
    return MemberUncertainty(**arrays)


def _part(members: MemberUncertainty, start: int, end: int) -> MemberUncertainty:
    """Return the uncertainty of some steps."""
    arrays: dict[str, Any] = {field.name: getattr(members, field.name) for field in fields(members)}
    parts: dict[str, Any] = {name: None if array is None else array[start:end] for name, array in arrays.items()}
    return MemberUncertainty(**parts)


def _per_step(members: MemberUncertainty) -> dict[str, list[float | None] | None]:
    """Return the arrays as lists."""
    arrays: dict[str, Any] = {field.name: getattr(members, field.name) for field in fields(members)}
    return {name: None if array is None else nulled(array) for name, array in arrays.items()}
