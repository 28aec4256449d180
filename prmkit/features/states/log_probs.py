"""How surely a language model wrote a step: statistics of token log-probabilities, and ``LogProbFeatures``."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from prmkit.data.solution import Solution, Step, as_steps, name_solutions
from prmkit.utils.ragged import row_starts
from prmkit.utils.sklearn import ReadsSteps, StrOptions, fit_context

POSITION_COLUMNS: dict[str, str] = {
    "step_index": "log(1 + 0-based index of the step)",
    "step_tokens": "log(1 + tokens of the step)",
}
"""Where a step stands and how long it is, in tokens of the language model."""

LOG_PROB_COLUMNS: dict[str, str] = {
    "logprob_mean": "mean log-probability of its tokens",
    "logprob_min": "lowest log-probability of its tokens",
    "logprob_lowest_tenth": "mean of the lowest tenth of them, of at least one token",
    "logprob_std": "standard deviation of them",
    "logprob_sum": "log-probability of the whole step",
    "logprob_mean_so_far": "mean over the tokens of this step and of the steps before",
    "logprob_min_so_far": "lowest over the tokens of this step and of the steps before",
    "logprob_mean_change": "logprob_mean minus the mean over the tokens of the steps before, 0 at the first step",
}
"""What the log-probabilities of the tokens say of a step. Nothing here looks at later steps."""

_KEY = "token_logprobs"
# Rounding in bfloat16 may put a sure token above 0, by no more than this.
_LARGEST = 1e-2


def log_prob_statistics(log_probs: npt.ArrayLike, lengths: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the statistics of the steps of one solution, one column per entry of ``LOG_PROB_COLUMNS``.

    ``log_probs`` holds the tokens of all steps end to end, ``lengths`` the number of tokens of each step. A step
    without tokens has 0 in the columns of its own tokens: nothing was said, with probability 1. NaN stays NaN, in this
    step and in the running columns of the later ones.

    >>> log_prob_statistics([-1.0, -3.0, -0.5], [2, 1])[:, :2]
    array([[-2. , -3. ],
           [-0.5, -0.5]])
    """
    tokens, sizes = np.asarray(log_probs, dtype=np.float64), np.asarray(lengths, dtype=np.int64)
    starts = row_starts(sizes)
    out = np.zeros((len(sizes), len(LOG_PROB_COLUMNS)))
    total, count, lowest = 0.0, 0, 0.0
    for row, start, size in zip(out, starts, sizes, strict=True):
        own = np.sort(tokens[start : start + size])  # NaN stands last
        before = total / count if count else None
        if size:
            mean = own.mean()
            least = own[0] if own[-1] == own[-1] else np.nan
            row[:5] = mean, least, own[: -(-size // 10)].mean() + 0 * mean, own.std(), own.sum()
            total, count, lowest = total + row[4], count + size, np.minimum(lowest, row[1])
        so_far = total / count if count else 0.0
        row[5:] = so_far, lowest, row[0] - (row[0] if before is None or not size else before)
    return out


class LogProbFeatures(ReadsSteps, TransformerMixin, BaseEstimator):
    """Statistics of the log-probabilities that the generator gave to the tokens of a step.

    It reads ``Solution.meta["token_logprobs"]``: a list per step, which holds a number per token. A generator that
    samples a solution knows them, and no model is run. Row t depends on the lists of the steps up to t alone. With any
    other language model, ``PRMFeaturizer(kind="states", log_probs=True)`` computes such columns from the text.

    Parameters
    ----------
    missing : {"error", "nan"}, default="error"
        What happens to a step whose list is missing or malformed. With ``"error"`` it is an error. With ``"nan"`` its
        columns are NaN, also the running columns of the steps after it, and one warning counts such steps.
        Classifiers such as ``HistGradientBoostingClassifier`` read NaN.

    Attributes
    ----------
    descriptions : dict of str to str
        The meaning of each column, under its name. It belongs to the class.

    See Also
    --------
    prmkit.features.StepStatistics : Counts and checks of the text of a step.

    Notes
    -----
    If a solution was cut after a step, ``token_logprobs`` may go on: the lists of later steps are not read. A plain
    string has no lists, so heads that read the problem as the first of a sequence do not read these columns.

    Examples
    --------
    >>> from prmkit import Solution, flatten
    >>> meta = {"token_logprobs": [[-0.1, -0.1], [-0.2, -2.0, -0.2]]}
    >>> X = flatten([Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."], meta=meta)])
    >>> features = LogProbFeatures()
    >>> rows = features.fit_transform(X)
    >>> rows[:, features.get_feature_names_out().tolist().index("logprob_min")]
    array([-0.1, -2. ])
    """

    descriptions = POSITION_COLUMNS | LOG_PROB_COLUMNS
    _parameter_constraints: Mapping[str, list[object]] = {"missing": [StrOptions({"error", "nan"})]}

    def __init__(self, missing: Literal["error", "nan"] = "error") -> None:
        self.missing = missing

    @fit_context
    def fit(self, X: Sequence[Step | str] | npt.NDArray[np.object_], y: object = None) -> LogProbFeatures:
        """Check X. Nothing is learnt.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string has no log-probabilities.
        y : object, default=None
            Ignored. It is there for scikit-learn's pipelines.

        Returns
        -------
        LogProbFeatures
            The transformer itself.
        """
        as_steps(X)
        return self

    def transform(self, X: Sequence[Step | str] | npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
        """Compute the statistics of each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps.

        Returns
        -------
        ndarray of shape (n_steps, n_columns), float64
            One row per step.

        Raises
        ------
        ValueError
            If lists are missing or malformed and ``missing`` is ``"error"``. The error names the solutions.
        """
        steps = as_steps(X)
        # Equal texts may have been sampled twice, with other log-probabilities: a solution is known by itself here.
        rows_of: dict[int, list[int]] = {}
        for row, step in enumerate(steps):
            rows_of.setdefault(id(step.solution), []).append(row)
        out = np.empty((len(steps), len(self.descriptions)))
        faults: dict[int, str] = {}  # by the first row of a solution
        for rows in rows_of.values():
            indices = [steps[row].index for row in rows]
            table, fault = _read(steps[rows[0]].solution, max(indices) + 1)
            out[rows] = table[indices]
            if fault:
                faults[rows[0]] = fault
        if faults:
            self._report(steps, [rows[0] for rows in rows_of.values()], faults, int(np.isnan(out).any(axis=1).sum()))
        return out

    def _report(self, steps: list[Step], firsts: list[int], faults: dict[int, str], n_rows: int) -> None:
        concerned = [i for i, row in enumerate(firsts) if row in faults]
        names = name_solutions([steps[row].solution for row in firsts], concerned, firsts)
        most_common = "; ".join(
            fault if n == 1 else f"{fault} ({n:,} times)" for fault, n in Counter(faults.values()).most_common(3)
        )
        found = (
            f'Solution.meta["{_KEY}"] cannot be read in {names}: {most_common}. Expected a list per step with the '
            f'log-probability of each token, as in Solution(problem, ["2 + 2 =", "4"], meta={{"{_KEY}": [[-0.1, -0.2, '
            "-0.1], [-0.3]]})"
        )
        if self.missing == "error":
            raise ValueError(f'{found}. LogProbFeatures(missing="nan") gives NaN for such steps')
        warnings.warn(f"{found}. {n_rows:,} of {len(steps):,} steps have NaN", UserWarning, stacklevel=4)

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : object, default=None
            Ignored. It is there for scikit-learn.

        Returns
        -------
        ndarray of str
            One name per column.
        """
        return np.array(list(self.descriptions), dtype=object)


def token_log_probs(solution: Solution, n_steps: int) -> tuple[list[npt.NDArray[np.float64]], str | None]:
    """Return the log-probabilities of the tokens of each of the first steps, and what the first faulty list is.

    They stand in ``Solution.meta["token_logprobs"]``. A step whose list is missing or malformed has one NaN.
    """
    lists = (solution.meta or {}).get(_KEY)
    fault = None
    if lists is None:
        lists, fault = [], "it is missing"
    elif isinstance(lists, (str, Mapping)) or not isinstance(lists, (Sequence, np.ndarray)):
        lists, fault = [], f"found {type(lists).__name__}"
    elif len(lists) < solution.n_steps:
        # Which steps the lists are of is not known.
        lists, fault = [], f"found {len(lists)} lists, the solution has {solution.n_steps} steps"
    parts: list[npt.NDArray[np.float64]] = []
    for index in range(n_steps):
        part: npt.NDArray[np.float64] | str = _numbers(lists[index]) if len(lists) else "missing"
        if isinstance(part, str):
            fault = fault or f"step {index} holds {part}"
            part = np.array([np.nan])
        parts.append(part)
    return parts, fault


def _read(solution: Solution, n_steps: int) -> tuple[npt.NDArray[np.float64], str | None]:
    """Return the columns of the first steps of a solution, and what the first list that cannot be read is."""
    parts, fault = token_log_probs(solution, n_steps)
    sizes = np.array([len(part) for part in parts])
    columns = log_prob_statistics(np.concatenate(parts), sizes)
    own_unknown = np.isnan(columns[:, 0])
    tokens = np.where(own_unknown, np.nan, np.log1p(sizes))
    return np.column_stack([np.log1p(np.arange(n_steps)), tokens, columns]), fault


def _numbers(values: object) -> npt.NDArray[np.float64] | str:
    """Return the log-probabilities of one step, or what stands there instead."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Sequence):
        return f"{type(values).__name__} instead of a list"
    if set(map(type, values)) <= {float}:  # by far the most frequent case, and the fastest
        numbers = np.array(values, dtype=np.float64)
        if ((numbers > -np.inf) & (numbers <= _LARGEST)).all():
            return numbers
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            return f"{value!r:.40} instead of a number"
        if not -np.inf < float(value) <= _LARGEST:
            return f"{float(value):g}, which is no log-probability (at most 0, finite)"
    return np.array(values, dtype=np.float64)
