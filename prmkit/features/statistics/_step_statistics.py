"""``StepStatistics``: position, length, novelty, repetition, arithmetic and wording of each step.

Row ``t`` of :func:`step_statistics` depends on the problem and the steps up to ``t``. Each class here reads the steps
one by one and remembers the earlier ones, so the time grows in proportion to the text of a solution.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, TransformerMixin

from prmkit.data.growing import Growing
from prmkit.data.solution import Step, as_steps, iter_solutions
from prmkit.features.statistics._equations import EquationStatistics, NumberStatistics, log_ratio, share
from prmkit.utils.sklearn import ReadsSteps

MARKERS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "conclusion": "therefore thus hence so finally conclude consequently overall",
        "answer": "answer answers boxed solution choice option final",
        "hedge": ("wait however but actually hmm although though maybe perhaps might instead unless oops mistakenly"),
        "assumption": "assume assuming assumed suppose supposing let if imagine consider hypothetically say",
        "agreement": "right correct correctly yes ok okay good indeed exactly sure great",
        "negation": "not no cannot never none neither nor isn doesn don can won incorrect wrong false impossible",
        "certainty": "clearly obviously always must certainly definitely only all every any undoubtedly naturally",
        "reason": "because since as due given means implies follows",
        "review": (
            "check verify confirm recall recheck reconfirm again already previously earlier reiterate "
            "repeat notice remember"
        ),
        "plan": "need want try first next start begin now will should find compute calculate determine",
    }.items()
}
"""Words that are counted, under the name of the thing that they signal."""

OPENINGS = ("conclusion", "hedge", "agreement", "plan")

STATISTICS: dict[str, str] = {
    # position
    "index": "0-based index of the step",
    "prefix_words": "log(1 + words of the steps before)",
    "problem_words": "log(1 + words of the problem)",
    "problem_numbers": "distinct numbers in the problem",
    "problem_options": "1 if the problem lists answer options",
    # length and make-up
    "words": "log(1 + words of the step)",
    "characters": "log(1 + characters of the step)",
    "words_to_mean": "log ratio of its words to the mean of the steps before",
    "words_to_previous": "log ratio of its words to those of the step before",
    "words_to_problem": "log ratio of its words to those of the problem",
    "word_length": "mean length of its words",
    "lines": "line breaks in the step",
    "digit_share": "share of digits among its characters",
    "symbol_share": "share of characters that are neither letters, digits nor spaces",
    "capital_share": "share of capital letters",
    "latex_commands": "LaTeX commands in the step",
    "latex_to_mean": "LaTeX commands minus their mean over the steps before",
    "digits_to_mean": "digit_share minus its mean over the steps before",
    "symbols_to_mean": "symbol_share minus its mean over the steps before",
    "question_marks": "question marks in the step",
    # numbers
    "numbers": "numbers in the step",
    "numbers_new": "distinct numbers that occur neither in the problem nor before",
    "numbers_new_share": "share of its distinct numbers that are new",
    "numbers_problem_share": "share of its distinct numbers that the problem holds",
    "numbers_underived": "new numbers that neither one operation on known numbers nor an equation of the step gives",
    "numbers_used": "share of the problem's numbers used up to and including this step",
    "last_number_seen": "1 if its last number occurred before, 0 if not, -1 without a number",
    "last_number_problem": "1 if its last number occurs in the problem, 0 if not, -1 without a number",
    "largest_number": "log(1 + largest number), 0 without one",
    "largest_to_known": "log ratio of its largest number to the largest known one",
    "decimals": "numbers that are not whole",
    "first_number_recent": "1 if its first number was the last one of the step before",
    # words
    "words_in_problem": "share of its distinct longer words that the problem holds",
    "words_in_prefix": "share of its distinct longer words that the steps before hold",
    "words_new": "share of its distinct longer words that occur neither in the problem nor before",
    "words_new_to_mean": "words_new minus its mean over the steps before",
    "problem_covered": "share of the problem's longer words that the step repeats",
    "symbols_new": "distinct one-letter words that are new",
    # repetition
    "triples_in_problem": "share of its word triples that occur in the problem",
    "triples_in_prefix": "share of its word triples that occurred before",
    "previous_overlap": "Jaccard overlap of its words with those of the step before",
    "repeats": "1 if an earlier step is the same but for case, spaces and brackets",
    "same_opening": "earlier steps that begin with the same two words",
    # equations
    "equalities": "equal signs read",
    "equations_right": "comparisons of numbers that hold",
    "equations_wrong": "comparisons of numbers that fail",
    "equations_error": "log(1 + 100 * largest relative error)",
    "equations_bound_right": "comparisons that hold with the symbol values stated before",
    "equations_bound_wrong": "comparisons that fail with the symbol values stated before",
    "equations_identities": "comparisons in unknown symbols that hold as identities",
    "equations_differing": "comparisons in unknown symbols that do not",
    "equations_differing_later": "the same, beyond the first sign of a = b = c",
    "equations_unread": "comparisons with a side that has no value",
    "symbols_rebound": "symbols given another value than before",
    "solutions_right": "values of a symbol that satisfy an equation stated before",
    "solutions_wrong": "values of a symbol that violate an equation stated before",
    "results_seen": "equation results that were known numbers",
    "wrong_before": "failed comparisons in the steps before",
    "right_before": "comparisons that held in the steps before",
    # state, as in "Alice: black, Bob: blue"
    "assignments": "pairs 'name: value' in the step",
    "assignments_changed": "of these, those with another value than before",
    "assignments_repeated": "values that two names of the step share",
    "options_named": "answer options named in the step",
    # wording
    **{f"marker_{name}": f"words of {name} in the step" for name in MARKERS},
    **{f"opens_{name}": f"1 if one of its first two words is of {name}" for name in OPENINGS},
    "hedges_before": "words of hedge in the steps before",
    "answers_before": "steps before with a word of answer",
}  # fmt: skip


_WORD = re.compile(r"\\?[^\W\d_]+")
_CAPITAL = re.compile(r"[A-Z]")
_ASSIGNMENT = re.compile(r"\b([^\W\d_]{1,20}): ([^\W\d_]{1,20}(?: [^\W\d_]{1,20}){0,2})")
_OPTION = re.compile(r"\bchoice[_ ][a-j]\b|\([a-j]\)(?!\w)|\boption [a-j]\b")
_ENUMERATION = re.compile(r"\s*(?:step\s+\d{1,3}\s*[:.)]|\d{1,3}[.):]\s)\s*", re.IGNORECASE)
_TRANSPARENT = str.maketrans("", "", "$\\{}() ,.\n")
_MARKED = {word: [name for name in MARKERS if word in MARKERS[name]] for words in MARKERS.values() for word in words}
_Triple = tuple[str, str, str]
# From so many steps on, processes may share them, so many solutions at a time.
_WORTH_SHARING, _PART = 10_000, 200


def step_statistics(problem: str, steps: Sequence[str]) -> np.ndarray:
    """Return the statistics of every step of a solution, one column per entry of ``STATISTICS``.

    A leading number such as ``Step 3:`` is not part of a step. The problem may be empty.
    """
    return _Reading(problem).read(steps)


def _tables(solutions: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
    return [step_statistics(problem, steps) for problem, steps in solutions]


class _Reading:
    """All readers of one solution, as far as they have read it."""

    def __init__(self, problem: str) -> None:
        self._numbers, self._equations = NumberStatistics(problem), EquationStatistics(problem)
        asked = _Text.of(problem)
        self._readers = [kind(asked) for kind in (_MakeUp, _Vocabulary, _Repetition, _Assignments, _Wording)]

    def read(self, steps: Sequence[str]) -> np.ndarray:
        """Return a row per step. Each of the steps follows the ones before it."""
        out = np.empty((len(steps), len(STATISTICS)))
        for i, step in enumerate(steps):
            text = _Text.of(without_enumeration(step))
            row, results = self._equations.read(text.raw)
            row |= self._numbers.read(text.raw, results)
            for reader in self._readers:
                row |= reader.read(text)
            out[i] = [row[name] for name in STATISTICS]
        return out


class _GrowingStatistics:
    """A solution whose reading goes on where it stopped. A fork reads it again, once."""

    def __init__(self, problem: str) -> None:
        self._problem = problem
        self._steps: tuple[str, ...] = ()
        self._reading: _Reading | None = None

    def extend(self, steps: Sequence[str]) -> np.ndarray:
        """Return the statistics of the new steps."""
        if self._reading is None:
            self._reading = _Reading(self._problem)
            self._reading.read(self._steps)
        self._steps = (*self._steps, *steps)
        return self._reading.read(steps)

    def fork(self) -> _GrowingStatistics:
        """Return a copy that grows by itself."""
        other = copy.copy(self)
        other._reading = None
        return other


def without_enumeration(step: str) -> str:
    """Return a step without a leading number such as ``Step 3:``."""
    enumeration = _ENUMERATION.match(step)
    return step[enumeration.end() :] if enumeration else step


@dataclass(frozen=True, slots=True)
class _Text:
    """A text, the same in lower case, and the words of the latter. A LaTeX command is a word."""

    raw: str
    lower: str
    words: list[str]

    @classmethod
    def of(cls, raw: str) -> _Text:
        lower = raw.lower()
        return cls(raw, lower, _WORD.findall(lower))


def _long(words: Iterable[str]) -> set[str]:
    return {word for word in words if len(word) > 3}


def _triples(words: list[str]) -> set[_Triple]:
    return set(zip(words, words[1:], words[2:], strict=False))


class _Mean:
    """The mean of the values of the steps so far."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def value(self) -> float:
        return share(self._total, self._count)

    def excess(self, value: float) -> float:
        """Return ``value`` minus the mean, 0 at the first step. Then add the value to the mean."""
        excess = value - self.value() if self._count else 0.0
        self._total += value
        self._count += 1
        return excess


class _MakeUp:
    """Position and length of a step, and the kinds of its characters."""

    def __init__(self, problem: _Text) -> None:
        self._problem_words = len(problem.words)
        self._index = self._words = self._previous_words = 0
        self._latex, self._digits, self._symbols = _Mean(), _Mean(), _Mean()

    def read(self, step: _Text) -> dict[str, float]:
        row = {**self._lengths(len(step.words), len(step.raw)), **self._characters(step)}
        self._index += 1
        self._words += len(step.words)
        self._previous_words = len(step.words)
        return row

    def _lengths(self, count: int, size: int) -> dict[str, float]:
        mean = share(self._words, self._index)
        return {
            "index": self._index,
            "prefix_words": math.log1p(self._words),
            "problem_words": math.log1p(self._problem_words),
            "words": math.log1p(count),
            "characters": math.log1p(size),
            "words_to_mean": log_ratio(count, mean) if self._index else 0.0,
            "words_to_previous": log_ratio(count, self._previous_words) if self._index else 0.0,
            "words_to_problem": log_ratio(count, self._problem_words),
        }

    def _characters(self, step: _Text) -> dict[str, float]:
        text, size = step.raw, len(step.raw)
        # The backslash of a LaTeX command counts as a letter here.
        letters = sum(map(len, step.words))
        commands = sum(word[0] == "\\" for word in step.words)
        digits = sum(map(text.count, "0123456789"))
        spaces = text.count(" ") + text.count("\n")
        # Lower case may be longer than the text (as for a dotted capital I), hence the bound.
        symbols = max(0, size - letters + commands - digits - spaces)
        digit_share, symbol_share = share(digits, size), share(symbols, size)
        return {
            "word_length": share(letters, len(step.words)),
            "lines": text.count("\n"),
            "digit_share": digit_share,
            "symbol_share": symbol_share,
            "capital_share": share(len(_CAPITAL.findall(text)), size),
            "latex_commands": commands,
            "latex_to_mean": self._latex.excess(commands),
            "digits_to_mean": self._digits.excess(digit_share),
            "symbols_to_mean": self._symbols.excess(symbol_share),
            "question_marks": text.count("?"),
        }


class _Vocabulary:
    """The share of new words. Longer words, of more than three letters, carry the content."""

    def __init__(self, problem: _Text) -> None:
        self._problem = set(problem.words)
        self._problem_long = _long(self._problem)
        self._before: set[str] = set()
        self._novelty = _Mean()

    def read(self, step: _Text) -> dict[str, float]:
        distinct = set(step.words)
        long = _long(distinct)
        in_problem = len(long & self._problem_long)
        new = share(len(long - self._problem_long - self._before), len(long))
        symbols = {word for word in distinct if len(word) == 1}
        row = {
            "words_in_problem": share(in_problem, len(long)),
            "words_in_prefix": share(len(long & self._before), len(long)),
            "words_new": new,
            "words_new_to_mean": self._novelty.excess(new),
            "problem_covered": share(in_problem, len(self._problem_long)),
            "symbols_new": len(symbols - self._before - self._problem),
        }
        self._before |= distinct
        return row


class _Repetition:
    """The share of a step that repeats the problem or an earlier step."""

    def __init__(self, problem: _Text) -> None:
        self._problem_triples = _triples(problem.words)
        self._triples: set[_Triple] = set()
        self._texts: set[str] = set()
        self._openings: dict[tuple[str, ...], int] = {}
        self._previous: set[str] = set()

    def read(self, step: _Text) -> dict[str, float]:
        distinct, triples = set(step.words), _triples(step.words)
        text, opening = step.lower.translate(_TRANSPARENT), tuple(step.words[:2])
        same_opening = self._openings.get(opening, 0)
        row = {
            "triples_in_problem": share(len(triples & self._problem_triples), len(triples)),
            "triples_in_prefix": share(len(triples & self._triples), len(triples)),
            "previous_overlap": share(len(distinct & self._previous), len(distinct | self._previous)),
            "repeats": float(text in self._texts),
            "same_opening": same_opening,
        }
        self._triples |= triples
        self._texts.add(text)
        self._openings[opening] = same_opening + 1
        self._previous = distinct
        return row


class _Assignments:
    """Pairs "name: value", as in puzzles about states, and named answer options."""

    def __init__(self, problem: _Text) -> None:
        self._state: dict[str, str] = {}
        self._options = float(len(_OPTION.findall(problem.lower)) > 1 or "\nB: " in problem.raw)

    def read(self, step: _Text) -> dict[str, float]:
        pairs = dict(_ASSIGNMENT.findall(step.raw)) if ": " in step.raw else {}
        row = {
            "problem_options": self._options,
            "assignments": len(pairs),
            "assignments_changed": sum(self._state.get(name, value) != value for name, value in pairs.items()),
            "assignments_repeated": len(pairs) - len(set(pairs.values())),
            "options_named": len(set(_OPTION.findall(step.lower))),
        }
        self._state.update(pairs)
        return row


class _Wording:
    """Words that signal a conclusion, a doubt or an assumption, among others."""

    def __init__(self, _problem: _Text) -> None:
        self._hedges = self._answers = 0

    def read(self, step: _Text) -> dict[str, float]:
        counts = dict.fromkeys(MARKERS, 0)
        for word in step.words:
            for name in _MARKED.get(word, ()):
                counts[name] += 1
        opening = {name for word in step.words[:2] for name in _MARKED.get(word, ())}
        row = {
            **{f"marker_{name}": count for name, count in counts.items()},
            **{f"opens_{name}": float(name in opening) for name in OPENINGS},
            "hedges_before": self._hedges,
            "answers_before": self._answers,
        }
        self._hedges += counts["hedge"]
        self._answers += counts["answer"] > 0
        return row


class StepStatistics(ReadsSteps, TransformerMixin, BaseEstimator):
    """Count position, length, novelty, repetition, arithmetic and wording of each step.

    Row t reads the problem and the steps 0..t. A solution is read once, in time proportional to its text. From 10,000
    steps on, ``with joblib.parallel_config(n_jobs=4):`` shares the solutions among four processes.

    Attributes
    ----------
    descriptions : dict of str to str
        The meaning of each column, under its name. It belongs to the class.

    See Also
    --------
    prmkit.features.PRMFeaturizer : Sentence embeddings of a step.

    Examples
    --------
    >>> from prmkit import Solution, flatten
    >>> X = flatten([Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])
    >>> statistics = StepStatistics()
    >>> rows = statistics.fit_transform(X)
    >>> wrong = statistics.get_feature_names_out().tolist().index("equations_wrong")
    >>> rows[:, wrong]
    array([0., 1.])
    """

    descriptions = STATISTICS

    def fit(self, X: Sequence[Step | str] | npt.NDArray[np.object_], y: object = None) -> StepStatistics:
        """Check X. Nothing is learnt.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string is a step without problem and prefix.
        y : object, default=None
            Ignored. It is there for scikit-learn's pipelines.

        Returns
        -------
        StepStatistics
            The transformer itself.
        """
        as_steps(X)
        return self

    def transform(self, X: Sequence[Step | str] | npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
        """Compute the statistics of each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string is a step without problem and prefix.

        Returns
        -------
        ndarray of shape (n_steps, n_statistics), float64
            One row per step.
        """
        steps = as_steps(X)
        out = np.empty((len(steps), len(STATISTICS)))
        solutions = list(iter_solutions(steps))
        texts = [(solution.problem, solution.steps[: max(indices) + 1]) for solution, _, indices in solutions]
        if len(steps) < _WORTH_SHARING:
            tables = [_tables(texts)]
        else:
            # One process, unless joblib.parallel_config says more.
            parts = (texts[start : start + _PART] for start in range(0, len(texts), _PART))
            tables = Parallel()(delayed(_tables)(part) for part in parts)
        for (_, rows, indices), table in zip(solutions, chain.from_iterable(tables), strict=True):
            out[rows] = table[indices]
        return out

    def grow(self, problem: str) -> Growing:
        """Return a solution of a problem that grows: the way of :class:`~prmkit.scoring.IncrementalScorer`.

        Parameters
        ----------
        problem : str
            Text of the problem.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the rows of the new steps, and reads them alone. A fork reads all steps again
            when it is first extended.
        """
        return _GrowingStatistics(problem)

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
        return np.array(list(STATISTICS), dtype=object)
