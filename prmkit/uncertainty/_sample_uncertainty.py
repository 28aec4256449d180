"""How uncertain a sampled answer is: agreement with the other samples, a verifier's scores, log-probabilities."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from prmkit.data.sampled import Candidates
from prmkit.data.solution import Solution
from prmkit.features.agreement.answers import answer_agreement, sampled_answers
from prmkit.features.states.log_probs import token_log_probs
from prmkit.scoring.scored_solution import shown

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_OF_PROBLEM = ("n_samples", "n_classes", "entropy", "margin", "largest_share")


@dataclass(frozen=True, eq=False, repr=False)
class SampleUncertainty:
    """Uncertainty of sampled answers, made by :func:`sample_uncertainty`: arrays with one value per sample.

    A value is NaN where nothing tells it, and ``counts`` says how many and why. Nothing here reads whether a sample is
    right. ``higher_is_more_uncertain`` states the direction of each score, and `uncertainties` turns them all.

    Parameters
    ----------
    solutions : list of Solution
        The samples, in the order in which they were given.
    groups : ndarray of int of shape (n_samples,)
        Number of the problem of each sample.
    answer_keys : list of (str or None)
        Key of the answer of each sample, which equal answers share. None if there is no answer.
    disagreement : ndarray of shape (n_samples,)
        Share of the other samples of the problem that have another answer. Higher is more uncertain.
    entropy : ndarray of shape (n_samples,)
        Entropy of the answers to the problem in nats, corrected for the number of samples. Higher is more uncertain.
    n_classes : ndarray of int of shape (n_samples,)
        Number of different answers to the problem. Higher is more uncertain.
    margin : ndarray of shape (n_samples,)
        Share of the most frequent answer to the problem, minus that of the second. Lower is more uncertain.
    largest_share : ndarray of shape (n_samples,)
        Share of the most frequent answer to the problem. Lower is more uncertain.
    n_samples : ndarray of int of shape (n_samples,)
        Number of samples of the problem. It is no score.
    score : ndarray of shape (n_samples,) or None
        The scores that were passed. Lower is more uncertain.
    weighted_disagreement : ndarray of shape (n_samples,) or None
        Share of the problem's scores that stand behind other answers. Higher is more uncertain.
    surprisal_sum : ndarray of shape (n_samples,) or None
        Minus the log-probability of the whole sample. Higher is more uncertain.
    surprisal_mean : ndarray of shape (n_samples,) or None
        Minus the mean log-probability of its tokens. Higher is more uncertain.
    surprisal_max : ndarray of shape (n_samples,) or None
        Minus the lowest log-probability of its tokens. Higher is more uncertain.
    correct : ndarray of shape (n_samples,) or None
        Whether each sample is correct, as `Candidates.correct` says it. None for a list of solutions.
    problem_ids : list of str, optional
        Id of the problem of each sample. None for a list of solutions.
    counts : mapping of str to int
        Numbers of samples and problems, and of what could not be told.

    Attributes
    ----------
    descriptions : dict of str to str
        What each score says, with its direction. It belongs to the class.
    higher_is_more_uncertain : dict of str to bool
        The direction of each score. It belongs to the class.
    """

    descriptions: ClassVar[dict[str, str]] = {
        "disagreement": "share of the other samples with another answer, higher is more uncertain",
        "entropy": "entropy of the answers in nats, corrected for their number, higher is more uncertain",
        "n_classes": "number of different answers, higher is more uncertain",
        "margin": "share of the most frequent answer minus that of the second, lower is more uncertain",
        "largest_share": "share of the most frequent answer, lower is more uncertain",
        "score": "the score that was passed, lower is more uncertain",
        "weighted_disagreement": "share of the scores behind other answers, higher is more uncertain",
        "surprisal_sum": "minus the log-probability of the sample, higher is more uncertain",
        "surprisal_mean": "minus the mean log-probability of its tokens, higher is more uncertain",
        "surprisal_max": "minus the lowest log-probability of its tokens, higher is more uncertain",
    }
    higher_is_more_uncertain: ClassVar[dict[str, bool]] = {
        name: said.endswith("higher is more uncertain") for name, said in descriptions.items()
    }

    solutions: list[Solution]
    groups: Integers
    answer_keys: list[str | None]
    disagreement: Floats
    entropy: Floats
    n_classes: Integers
    margin: Floats
    largest_share: Floats
    n_samples: Integers
    score: Floats | None = None
    weighted_disagreement: Floats | None = None
    surprisal_sum: Floats | None = None
    surprisal_mean: Floats | None = None
    surprisal_max: Floats | None = None
    correct: npt.NDArray[np.bool_] | Floats | None = None
    problem_ids: list[str] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        n, n_problems, known = len(self.groups), len(np.unique(self.groups)), ~np.isnan(self.disagreement)
        mean = shown(self.disagreement[known].mean() if known.any() else np.nan)
        return (
            f"<SampleUncertainty: {n:,} sample{'s' * (n != 1)} of {n_problems:,} problem{'s' * (n_problems != 1)}, "
            f"mean disagreement {mean}>"
        )

    def _scores(self) -> dict[str, Floats]:
        given = {name: getattr(self, name) for name in self.descriptions}
        return {name: np.asarray(values, dtype=np.float64) for name, values in given.items() if values is not None}

    def uncertainties(self) -> dict[str, Floats]:
        """Return every score that there is, turned so that higher is more uncertain.

        Returns
        -------
        dict of str to ndarray of shape (n_samples,)
            The scores by name. ``margin``, ``largest_share`` and ``score`` have changed their sign.

        Examples
        --------
        >>> found = sample_uncertainty([Solution("2 + 3?", [f"So {n}."]) for n in (5, 5, 6)])
        >>> found.uncertainties()["largest_share"].round(2)
        array([-0.67, -0.67, -0.67])
        """
        return {
            name: values if self.higher_is_more_uncertain[name] else -values for name, values in self._scores().items()
        }

    def to_frame(self, by: Literal["sample", "problem"] = "sample") -> pd.DataFrame:
        """Return a pandas frame with one line per sample, or per problem.

        Parameters
        ----------
        by : {"sample", "problem"}, default="sample"
            What a line is. With "problem", ``disagreement`` and every score that differs between the samples of a
            problem is their mean, without NaN.

        Returns
        -------
        DataFrame
            ``problem_id`` if there are ids, ``group`` and ``problem``. For samples ``id``, ``answer_key``, and
            ``correct`` if it may be known. ``n_samples``. Then the scores that there are, as they are named here.
            ``attrs["higher_is_more_uncertain"]`` states their directions.

        Raises
        ------
        ValueError
            If ``by`` is neither.

        Examples
        --------
        >>> samples = [Solution("2 + 3?", ["So 5."]), Solution("2 + 3?", ["It is 5."]), Solution("2 + 3?", ["So 6."])]
        >>> sample_uncertainty(samples).to_frame()[["answer_key", "disagreement", "n_classes"]]
          answer_key  disagreement  n_classes
        0          5           0.5          2
        1          5           0.5          2
        2          6           1.0          2
        """
        import pandas as pd

        if by not in ("sample", "problem"):
            raise ValueError(f"by is {by!r}, expected 'sample' or 'problem'")
        scores = self._scores() | {"n_classes": self.n_classes}
        names = [name for name in self.descriptions if name in scores]
        columns: dict[str, object] = {} if self.problem_ids is None else {"problem_id": self.problem_ids}
        columns |= {"group": self.groups, "problem": [one.problem for one in self.solutions]}
        if by == "sample":
            columns["id"] = [one.id for one in self.solutions]
            columns["answer_key"] = pd.array(self.answer_keys, dtype="string")
            if self.correct is not None:
                right = [None if value != value else bool(value) for value in self.correct.tolist()]
                columns["correct"] = pd.array(right, dtype="boolean")
        frame = pd.DataFrame(columns | {"n_samples": self.n_samples} | {name: scores[name] for name in names})
        if by == "problem":
            rules = {name: "mean" if name in names and name not in _OF_PROBLEM else "first" for name in frame}
            frame = frame.groupby("group", sort=False).agg(rules).reset_index(drop=True)
        frame.attrs["higher_is_more_uncertain"] = {name: self.higher_is_more_uncertain[name] for name in names}
        return frame


def sample_uncertainty(
    candidates: Candidates | Iterable[Solution], scores: npt.ArrayLike | None = None
) -> SampleUncertainty:
    r"""Say how uncertain each sampled answer is, by the other samples of its problem and by what is given with it.

    Agreement of the samples needs no model: it is the first baseline of every such table. Where scores are given, they
    weight it. Where a solution has ``meta["token_logprobs"]``, as :class:`~prmkit.features.LogProbFeatures` reads them,
    the log-probability of the sequence is there too.

    Parameters
    ----------
    candidates : Candidates or iterable of Solution
        The samples. In a list of solutions, samples belong together if their problems have the same text, and the
        answers are read from the texts by :func:`~prmkit.data.extract_answer`.
    scores : array-like of shape (n_samples,), optional
        A score per sample, at least 0, higher is better, such as the rewards of a process reward model. NaN stands for
        no score, and has no weight.

    Returns
    -------
    SampleUncertainty
        The numbers, in the order of the samples.

    Raises
    ------
    ValueError
        If there are no samples, or if scores have another length, are negative or infinite.

    Warns
    -----
    UserWarning
        Once, with the counts of what could not be told: problems with one sample, samples without an answer, without a
        score or without log-probabilities.

    Notes
    -----
    A sample without an answer agrees with no other, and is a class of its own. With one sample of a problem, nothing
    can agree: ``disagreement``, ``entropy``, ``margin`` and ``weighted_disagreement`` are NaN.

    The mean of ``disagreement`` does not depend on how many samples there are. A plain entropy of shares grows with
    them. Here it is the estimator of Chao and Shen [1]_: shares are multiplied by the estimated coverage of the sample,
    and weighted by the probability that a class is seen. So problems with 4 and with 8 samples compare. ``n_classes``,
    ``margin`` and ``largest_share`` are not corrected.

    These are uncertainties and no risks: they need not lie between 0 and 1, and say nothing about how often a sample is
    wrong. A guarantee, or a classifier that is trained on right and wrong, turns them into such a statement.

    References
    ----------
    .. [1] A. Chao and T.-J. Shen, "Nonparametric estimation of Shannon's index of diversity when there are unseen
       species in sample", Environmental and Ecological Statistics 10 (2003), 429-443.

    Examples
    --------
    >>> from prmkit.data import load_candidates
    >>> texts = ["3 * 4 = 12.\nThe answer is 14.", "So 20.\nThe answer is 20.", "It is so.\nThe answer is 14."]
    >>> candidates = load_candidates([{"problem": "2 + 3 * 4?", "completions": texts}])
    >>> found = sample_uncertainty(candidates, scores=[0.9, 0.3, 0.3])
    >>> found
    <SampleUncertainty: 3 samples of 1 problem, mean disagreement 0.67>
    >>> found.disagreement, found.weighted_disagreement
    (array([0.5, 1. , 0.5]), array([0.2, 0.8, 0.2]))
    """
    samples = sampled_answers(candidates)
    n = len(samples.solutions)
    if not n:
        raise ValueError("candidates hold no sample, expected at least one solution of one problem")
    agreement = answer_agreement(samples.keys, samples.groups, scores)
    counts = Counter(samples=n, problems=len(np.unique(samples.groups)))
    counts["the only samples of their problems, with which nothing can agree"] = int((agreement.n_samples == 1).sum())
    counts["without an answer, which agree with no other"] = samples.keys.count(None)
    score = weighted = None
    if scores is not None and agreement.weighted_share is not None:
        score, weighted = np.array(scores, dtype=np.float64), 1 - agreement.weighted_share
        counts["without a score, which have no weight"] = int(np.isnan(score).sum())
        counts["of problems whose scores are all 0 or missing"] = int(
            (np.isnan(weighted) & (agreement.n_samples > 1)).sum()
        )
    (total, mean, largest), faults = _surprisals(samples.solutions)
    counts["without log-probabilities"] = sum(faults.values())
    doubtful = {what: number for what, number in counts.items() if number and what not in ("samples", "problems")}
    if doubtful:
        said = ", ".join(f"{number:,} {what}" for what, number in doubtful.items())
        why = "".join(f'. meta["token_logprobs"]: {fault}, {times:,} times' for fault, times in faults.most_common(2))
        warnings.warn(f"of {n:,} samples, {said}{why}", UserWarning, stacklevel=2)
    known = candidates if isinstance(candidates, Candidates) else None
    return SampleUncertainty(
        solutions=samples.solutions,
        groups=samples.groups,
        answer_keys=samples.keys,
        disagreement=agreement.disagreement,
        entropy=agreement.entropy,
        n_classes=agreement.n_classes,
        margin=agreement.margin,
        largest_share=agreement.largest_share,
        n_samples=agreement.n_samples,
        score=score,
        weighted_disagreement=weighted,
        surprisal_sum=total,
        surprisal_mean=mean,
        surprisal_max=largest,
        correct=None if known is None else known.correct,
        problem_ids=None if known is None else [one.id for one in known for _ in one.candidates],
        counts={what: number for what, number in counts.items() if number},
    )


def _surprisals(solutions: list[Solution]) -> tuple[list[Floats | None], Counter[str]]:
    """Return sum, mean and largest of minus the log-probabilities of the tokens, None if no sample has any."""
    if not any("token_logprobs" in (one.meta or {}) for one in solutions):
        return [None] * 3, Counter()
    table, faults = np.full((3, len(solutions)), np.nan), Counter[str]()
    for i, one in enumerate(solutions):
        parts, fault = token_log_probs(one, one.n_steps)
        tokens = np.concatenate([*parts, np.empty(0)])
        if fault or not tokens.size:
            faults[fault or "it holds no token"] += 1
        else:
            table[:, i] = -tokens.sum(), -tokens.mean(), -tokens.min()
    return list(table), faults
