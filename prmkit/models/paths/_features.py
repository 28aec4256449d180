"""Numbers about whole solutions: agreement, length, scores of steps, log-probabilities, states of a language model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.data.problem_keys import problem_groups, problem_keys
from prmkit.data.sampled import Candidates
from prmkit.data.solution import Solution, flatten, name_solutions, solutions_with_steps
from prmkit.features import LogProbFeatures, PRMFeaturizer
from prmkit.features.agreement.answers import answer_agreement, keys_of_texts
from prmkit.fitted import FittedClassifier, GivesPValues, with_setting, worst_column
from prmkit.metrics import aggregate
from prmkit.models.paths._stack import Columns, Floats, complete
from prmkit.utils.environment import UnscoredWarning
from prmkit.utils.ragged import Ragged

GROUPS: dict[str, str] = {
    "agreement": "the only sample of its problem",
    "length": "no text",
    "risks": "a step without a score",
    "log_probs": 'no meta["token_logprobs"] that can be read',
    "shift": "no p-value",
    "states": "longer than the language model reads",
    "surprisal": "longer than the language model reads",
}
"""The groups of features, and why a sample may have none of a group."""

_AGREEMENT = ("agreement", "entropy", "margin", "n_classes", "largest_share")
_SCORES = "step_scores"
_RULES = {"min": "min", "mean": "mean", "last": "last", "p_no_error": "product", "log_p_no_error": "sum_log"}
_LOG_PROBS = {"logprob_mean": "logprob_mean_so_far", "logprob_min": "logprob_min_so_far"}
# Columns of a solution that is read as one step. The others repeat these.
_SURPRISAL = (
    "step_tokens",
    "logprob_mean",
    "logprob_min",
    "logprob_lowest_tenth",
    "logprob_sum",
    "entropy_mean",
    "surprisal_minus_entropy",
    "number_logprob_mean",
    "number_logprob_min",
)


@dataclass(frozen=True, eq=False)
class Samples:
    """Solutions with the number of the problem of each, from 0, and the keys of their answers if they are known."""

    solutions: list[Solution]
    problems: npt.NDArray[np.int64]
    known_answers: list[str | None] | None

    @cached_property
    def problem_keys(self) -> npt.NDArray[np.uint64]:
        """The keys by which the problems are recognised elsewhere, one per sample."""
        return problem_keys(self.solutions)

    @cached_property
    def fixed_problems(self) -> npt.NDArray[np.int64]:
        """The problems, numbered by their keys, so that folds of them do not depend on the order of the samples."""
        first: dict[int, int] = {}
        for problem, key in zip(self.problems.tolist(), self.problem_keys.tolist(), strict=True):
            first[problem] = min(key, first.get(problem, key))
        place = {problem: i for i, problem in enumerate(sorted(first, key=first.__getitem__))}
        return np.array([place[problem] for problem in self.problems.tolist()], dtype=np.int64)

    @cached_property
    def answer_keys(self) -> list[str | None]:
        """The key of each answer. Where nobody has read the answers, they are read from the texts."""
        if self.known_answers is not None:
            return self.known_answers
        return keys_of_texts(self.solutions, self.problems)


def read_samples(X: Candidates | Iterable[Solution], groups: npt.ArrayLike | None = None) -> Samples:
    """Return the samples of X, and check that ``groups`` leaves those of a problem together."""
    if isinstance(X, Candidates):
        if groups is not None:
            raise ValueError("groups is for lists of solutions: Candidates know their problems. Leave groups out")
        found = Samples(solutions_with_steps(X.solutions), X.groups.astype(np.int64), X.answer_keys)
    else:
        solutions = solutions_with_steps(X)
        found = Samples(solutions, problem_groups(solutions) if solutions else np.empty(0, np.int64), None)
    if not found.solutions:
        raise ValueError("X is empty: found array with 0 sample(s), at least 1 solution is required")
    if groups is None:
        return found
    names = np.asarray(groups)
    if names.shape != (len(found.solutions),):
        raise ValueError(f"groups has shape {names.shape}, expected one problem per solution: {len(found.solutions)}")
    _, numbers = np.unique(names, return_inverse=True)
    if len(np.unique(np.column_stack([found.problems, numbers]), axis=0)) > len(np.unique(found.problems)):
        raise ValueError(
            "groups puts solutions of one problem into several groups, so that folds would share the problem: give "
            "every problem one group, or leave groups out"
        )
    return Samples(found.solutions, numbers.astype(np.int64), None)


@dataclass(frozen=True, eq=False)
class PathFeatures:
    """What makes features of whole solutions: the fitted models that a user gives.

    ``featurizer`` reads a solution as one step of its whole text, so that its states are pooled over the solution.
    """

    step_classifier: FittedClassifier | None
    shift: GivesPValues | None
    featurizer: PRMFeaturizer | None

    def missing(self, samples: Samples) -> dict[str, str]:
        """Return the groups that cannot be had for some samples, and what to pass to have them."""
        metas = [solution.meta or {} for solution in samples.solutions]
        pass_model = "pass model= with the folder or hub name of a language model"
        needed = {
            "agreement": (
                len(np.unique(samples.problems)) < len(metas),
                "every problem has one sample: pass several samples of each problem",
            ),
            "risks": (
                self.step_classifier is not None or any(_SCORES in meta for meta in metas),
                f'pass step_classifier=, or the scores of the steps in Solution.meta["{_SCORES}"]',
            ),
            "log_probs": (
                any("token_logprobs" in meta for meta in metas),
                'put the log-probabilities into Solution.meta["token_logprobs"]',
            ),
            "shift": (self.shift is not None, "pass shift= with a calibrated detector"),
            "states": (self.featurizer is not None, pass_model),
            "surprisal": (
                self.featurizer is not None and self.featurizer.log_probs,
                pass_model if self.featurizer is None else "pass a featurizer with log_probs=True",
            ),
        }
        return {name: hint for name, (is_there, hint) in needed.items() if not is_there}

    def chosen(self, samples: Samples, features: Sequence[str] | str) -> tuple[Columns, dict[str, str]]:
        """Return the columns of the groups that are asked for, and why each other group is left out."""
        missing = self.missing(samples)
        if isinstance(features, str):
            # Surprisal takes the whole model and its head, which costs about twice the pass for the states.
            names = [name for name in GROUPS if name not in missing and name != "surprisal"]
            columns = self.read(samples, names)
            left_out = {name: hint for name, hint in missing.items() if name != "surprisal"}
            left_out |= {"surprisal": missing.get("surprisal", "costs a longer pass: name it to have it")}
            for name in names:
                if (n := int((~complete({name: columns[name]})).sum())) > len(samples.solutions) / 2:
                    left_out[name] = f"{n:,} of {len(samples.solutions):,} samples have none: {GROUPS[name]}"
            return {name: columns[name] for name in names if name not in left_out}, left_out
        names = list(features)
        if unknown := [name for name in names if name not in GROUPS]:
            raise ValueError(f"features holds {unknown[0]!r}, expected some of {', '.join(GROUPS)}")
        if not names or len(set(names)) < len(names):
            raise ValueError(f"features is {names}, expected some of {', '.join(GROUPS)}, each once")
        for name in names:
            if name in missing:
                raise ValueError(f"features holds {name!r}, which no sample has: {missing[name]}")
        return self.read(samples, names), {name: "not asked for" for name in GROUPS if name not in names}

    def read(self, samples: Samples, names: Sequence[str]) -> Columns:
        """Return the columns of each group: their names, and a row per sample. NaN stands for what is not known."""
        readers: Mapping[str, Callable[[Samples], tuple[list[str], Floats]]] = {
            "agreement": _agreement,
            "length": _length,
            "risks": self._risks,
            "log_probs": _log_probs,
            "shift": self._shift,
        }
        of_model = {} if readers.keys() >= set(names) else self._states(samples)
        return {name: readers[name](samples) if name in readers else of_model[name] for name in names}

    def _risks(self, samples: Samples) -> tuple[list[str], Floats]:
        if self.step_classifier is None:
            rewards = [_given_scores(solution) for solution in samples.solutions]
        else:
            classifier = with_setting(self.step_classifier, "too_long", "nan")
            steps = flatten(samples.solutions)
            values = 1 - np.asarray(classifier.predict_proba(steps))[:, worst_column(classifier)]
            rewards = Ragged(values, np.array([one.n_steps for one in samples.solutions])).split()
        columns = [aggregate(rewards, rule, unscored=np.nan) for rule in _RULES.values()]
        return [f"reward_{name}" if len(name) < 5 else name for name in _RULES], np.column_stack(columns)

    def _shift(self, samples: Samples) -> tuple[list[str], Floats]:
        assert self.shift is not None
        return ["log_p_value"], np.log(np.asarray(self.shift.p_value(samples.solutions), dtype=np.float64))[:, None]

    def _states(self, samples: Samples) -> dict[str, tuple[list[str], Floats]]:
        assert self.featurizer is not None
        whole = [Solution(one.problem, ["\n".join(one.steps)]) for one in samples.solutions]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnscoredWarning)  # counted with the samples that lack other features
            rows: Any = self.featurizer.transform(flatten(whole))
        names = self.featurizer.get_feature_names_out().tolist()
        of_layers = [i for i, name in enumerate(names) if name.startswith("layer")]
        found: dict[str, tuple[list[str], Any]] = {"states": ([names[i] for i in of_layers], rows[:, of_layers])}
        if self.featurizer.log_probs:
            places = [names.index(name) for name in _SURPRISAL]
            found["surprisal"] = [f"model_{name.removeprefix('step_')}" for name in _SURPRISAL], rows[:, places]
        return found


def _agreement(samples: Samples) -> tuple[list[str], Floats]:
    found = answer_agreement(samples.answer_keys, samples.problems)
    return list(_AGREEMENT), np.column_stack([getattr(found, name) for name in _AGREEMENT]).astype(np.float64)


def _length(samples: Samples) -> tuple[list[str], Floats]:
    sizes = [(one.n_steps, sum(map(len, one.steps))) for one in samples.solutions]
    return ["log_steps", "log_characters"], np.log1p(np.array(sizes, dtype=np.float64))


def _log_probs(samples: Samples) -> tuple[list[str], Floats]:
    """Return the log-probability of the whole solution, and mean and minimum over its tokens."""
    features = LogProbFeatures(missing="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # samples without them are counted with those of all groups
        rows = features.transform(flatten(samples.solutions))
    names = features.get_feature_names_out().tolist()
    lengths = np.array([one.n_steps for one in samples.solutions])
    ends = np.cumsum(lengths)
    sums = np.add.reduceat(rows[:, names.index("logprob_sum")], ends - lengths)
    of_last = rows[ends - 1][:, [names.index(name) for name in _LOG_PROBS.values()]]
    return ["logprob_sum", *_LOG_PROBS], np.column_stack([sums, of_last]).astype(np.float64)


def _given_scores(solution: Solution) -> Floats:
    """Return the rewards that stand with a solution, NaN for each step if they cannot be read."""
    unknown = np.full(solution.n_steps, np.nan)
    scores = (solution.meta or {}).get(_SCORES)
    if scores is None or isinstance(scores, (str, Mapping)) or not isinstance(scores, (Sequence, np.ndarray)):
        return unknown
    values = [float(one) if isinstance(one, Real) else np.nan for one in scores]
    if len(values) != solution.n_steps:
        return unknown
    wrong = [one for one in values if not np.isnan(one) and not 0 <= one <= 1]
    if wrong:
        raise ValueError(
            f'Solution.meta["{_SCORES}"] holds {wrong[0]:g}, expected the probability that each step is right, in '
            "[0, 1]: give raw rewards their sigmoid, and risks p as 1 - p"
        )
    return np.array(values)


def warn_of_missing(samples: Samples, columns: Columns, what: str) -> None:
    """Warn of samples that lack a column."""
    lacking = {name: ~complete({name: of_group}) for name, of_group in columns.items()}
    rows = np.flatnonzero(np.logical_or.reduce(list(lacking.values())))
    if not len(rows):
        return
    reasons = [f"{int(lost.sum()):,} lack {name} ({GROUPS[name]})" for name, lost in lacking.items() if lost.any()]
    names = name_solutions(samples.solutions, rows.tolist())
    warnings.warn(f"{names} {what}: {'; '.join(reasons)}", UnscoredWarning, stacklevel=4)
