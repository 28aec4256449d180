"""``Candidates``: the sampled solutions of many problems, with what is known of each of them."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from prmkit.data.answers.equivalence import AnswerComparison, answer_keys
from prmkit.data.contradictions import (
    LEFT_OUT,
    Contradiction,
    Contradictions,
    check_mode,
    contradiction_of,
    count_contradiction,
    found_in,
)
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution
from prmkit.utils.environment import as_printed

if TYPE_CHECKING:
    import pandas as pd

_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
_N_SHOWN = 5
"""Number of problems that a notebook shows."""


@dataclass(frozen=True, repr=False)
class CandidateSet:
    """The sampled solutions of one problem, in the order of the file, which "the first N" depends on.

    Two sets are equal if their problems, solutions, correctness and keys of answers are. How an answer is written, the
    reference answer and ids do not count.

    Parameters
    ----------
    problem : str
        Text of the problem.
    candidates : tuple of Solution
        Sampled solutions. ``meta`` holds ``generator`` if the file names one, and ``contradiction``, a
        mapping, if what the file records of the sample contradicts its text: `Candidates.contradictions` lists them.
    is_correct : tuple of (bool or None)
        Whether each candidate is correct, None if it is not known.
    answers : tuple of (str or None)
        Final answer of each candidate as written, None if there is none.
    answer_keys : tuple of (str or None)
        Key of each answer. Votes count answers with equal keys as one.
    answer : str or None
        Reference answer.
    id : str
        Id of the problem: that of the file, or that of its first record.

    Examples
    --------
    >>> solutions = (Solution("2 + 3 * 4?", ["3 * 4 = 12.", "So 14."]), Solution("2 + 3 * 4?", ["So 20."]))
    >>> one = CandidateSet("2 + 3 * 4?", solutions, (True, False), ("14", "20"), ("14", "20"), "14", "0")
    >>> one
    <CandidateSet: '2 + 3 * 4?', 2 samples, 1 correct, 1 wrong>
    """

    problem: str
    candidates: tuple[Solution, ...]
    is_correct: tuple[bool | None, ...]
    answers: tuple[str | None, ...] = field(compare=False)
    answer_keys: tuple[str | None, ...]
    answer: str | None = field(compare=False)
    id: str = field(compare=False)

    def __repr__(self) -> str:
        return as_printed(f"<CandidateSet: {_SHORT.repr(self.problem)}, {_numbers(self.is_correct)}>")


HOW_TO_KNOW = (
    "load_samples(…, correct='…') names the field that tells it, and candidates.judged() compares answers with the "
    "reference answers"
)
"""What to type where samples are not known to be right or wrong."""


@dataclass(frozen=True, eq=False, repr=False)
class Candidates(Sequence[CandidateSet]):
    r"""The sampled solutions of many problems.

    It is a sequence of one `CandidateSet` per problem: ``candidates[0]`` is the first, and ``candidates[:10]``, a mask
    or a list of numbers gives the `Candidates` of some problems. Its attributes are flat, one value per sample, and in
    the same order, so a classifier scores ``candidates.solutions``. `by_problem` arranges such values in rows.
    ``a + b`` joins the samples of problems that occur in both. Problems without a text are told apart by their ids.

    Parameters
    ----------
    sets : iterable of CandidateSet
        The samples of each problem.
    description : str, default=""
        Text that says where the samples come from, and which were left out.
    counts : mapping of str to int, optional
        Number of records and samples that a loader read, kept and left out, by reason.

    Raises
    ------
    TypeError
        If one of ``sets`` is no CandidateSet.

    Examples
    --------
    >>> from prmkit.data import load_candidates
    >>> from prmkit.metrics import best_of_n_accuracy
    >>> texts = ["3 * 4 = 12.\nThe answer is 14.", "So 20.\nThe answer is 20."]
    >>> candidates = load_candidates([{"problem": "2 + 3 * 4?", "completions": texts, "answer": "14"}]).judged()
    >>> candidates
    <Candidates: 2 samples of 1 problem, 1 correct, 1 wrong>
    >>> candidates.answers, candidates.groups, candidates.correct
    (['14', '20'], array([0, 0]), array([ True, False]))
    >>> shortest = [-solution.n_steps for solution in candidates.solutions]
    >>> best_of_n_accuracy(candidates.by_problem(shortest), candidates.by_problem(candidates.correct), n=2)
    1.0
    """

    sets: tuple[CandidateSet, ...]
    description: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sets", tuple(self.sets))
        for i, one in enumerate(self.sets):
            if not isinstance(one, CandidateSet):
                raise TypeError(
                    f"sets[{i}] is {type(one).__name__}, expected a CandidateSet, as load_samples reads them"
                )

    def __len__(self) -> int:
        return len(self.sets)

    def __iter__(self) -> Iterator[CandidateSet]:
        return iter(self.sets)

    @overload
    def __getitem__(self, problems: int) -> CandidateSet: ...
    @overload
    def __getitem__(self, problems: slice | Sequence[int] | npt.NDArray[Any]) -> Candidates: ...
    def __getitem__(self, problems: int | slice | Sequence[int] | npt.NDArray[Any]) -> CandidateSet | Candidates:
        if isinstance(problems, Integral):
            return self.sets[int(problems)]
        if isinstance(problems, slice):
            return replace(self, sets=self.sets[problems], counts={})
        if isinstance(problems, (str, tuple)):
            raise TypeError(
                f"candidates[{problems!r}] is not defined, expected a number, a slice, a mask or a list of numbers. "
                "candidates[0].problem is the first problem"
            )
        numbers = np.arange(len(self.sets))[np.asarray(problems, dtype=None if len(problems) else np.intp)]  # type: ignore[arg-type]
        return replace(self, sets=tuple(self.sets[i] for i in numbers.tolist()), counts={})

    def __eq__(self, other: object) -> bool:
        return self.sets == other.sets if isinstance(other, Candidates) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: object) -> Candidates:
        if not isinstance(other, Candidates):
            return NotImplemented
        description = "\n".join(filter(None, (self.description, other.description)))
        counts = {
            name: self.counts.get(name, 0) + other.counts.get(name, 0) for name in {**self.counts, **other.counts}
        }
        sets = (*self.sets, *other.sets)
        joined: dict[int | str, CandidateSet] = {}
        for text_key, one in zip(problem_keys(one.problem for one in sets).tolist(), sets, strict=True):
            key = text_key if one.problem.strip() else one.id
            joined[key] = _joined(joined[key], one) if key in joined else one
        return Candidates(tuple(joined.values()), description, counts)

    def __repr__(self) -> str:
        return f"<Candidates: {self._numbers()}>"

    def _numbers(self) -> str:
        flat = list(chain.from_iterable(one.is_correct for one in self.sets))
        samples, *rest = _numbers(flat).split(", ")
        return ", ".join([f"{samples} of {len(self):,} problem{'s' * (len(self) != 1)}", *rest])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: numbers, the first problems, and where the samples come from."""
        import pandas as pd

        first = pd.DataFrame(
            {
                "problem": one.problem,
                "samples": len(one.candidates),
                "correct": one.is_correct.count(True),
                "distinct answers": len(set(one.answer_keys) - {None}),
                "reference": one.answer,
            }
            for one in self.sets[:_N_SHOWN]
        )
        return (
            f"<div><p><b>Candidates</b>: {self._numbers()}</p>{first.to_html()}<details><summary>Where the samples "
            f"come from</summary><pre>{escape(self.description)}</pre></details></div>"
        )

    @property
    def solutions(self) -> list[Solution]:
        """Every sample."""
        return [solution for one in self.sets for solution in one.candidates]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of samples of each problem."""
        return np.array([len(one.candidates) for one in self.sets], dtype=np.int64)

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """Number of the problem of each sample, from 0."""
        return np.repeat(np.arange(len(self.sets)), self.sizes)

    @property
    def correct(self) -> npt.NDArray[np.bool_] | npt.NDArray[np.float64]:
        """Whether each sample is correct: booleans if all are known, else 1.0, 0.0, and NaN where it is not known."""
        flat = list(chain.from_iterable(one.is_correct for one in self.sets))
        if None in flat:
            return np.array([np.nan if one is None else float(one) for one in flat])
        return np.array(flat, dtype=np.bool_)

    @property
    def answers(self) -> list[str | None]:
        """Final answer of each sample as written, None if there is none."""
        return [answer for one in self.sets for answer in one.answers]

    @property
    def answer_keys(self) -> list[str | None]:
        """Key of each answer, which equal answers to a problem share. None if there is no answer."""
        return [key for one in self.sets for key in one.answer_keys]

    @property
    def contradictions(self) -> dict[int, str]:
        """What contradicts the text of a sample in what the file records of it, by the number of the sample."""
        return {i: told["said"] for i, told in self._contradictions().items()}

    def _contradictions(self) -> dict[int, Contradiction]:
        metas = ((solution.meta or {}).get("contradiction") for solution in self.solutions)
        return {i: told for i, told in enumerate(metas) if told}

    def by_problem(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Arrange one number per sample as one row per problem, as `prmkit.metrics.best_of_n_accuracy` takes them.

        Parameters
        ----------
        values : array-like of shape (n_samples,)
            A number per sample, such as the scores of ``solutions``, or ``correct``.

        Returns
        -------
        ndarray of shape (n_problems, largest number of samples)
            The numbers. Rows of problems with fewer samples end with NaN.

        Raises
        ------
        ValueError
            If there is another number of values than of samples.
        """
        flat, sizes = np.asarray(values, dtype=np.float64), self.sizes
        if flat.shape != (sizes.sum(),):
            raise ValueError(f"values has shape {flat.shape}, expected ({sizes.sum()},): one number per sample")
        rows = np.full((len(sizes), sizes.max(initial=0)), np.nan)
        rows[np.arange(rows.shape[1]) < sizes[:, None]] = flat
        return rows

    def judged(self, comparison: AnswerComparison | None = None) -> Candidates:
        r"""Return the candidates with correctness by the reference answer, where nothing else tells it.

        Parameters
        ----------
        comparison : AnswerComparison, optional
            Comparison to use. It counts its results.

        Returns
        -------
        Candidates
            The same candidates. A sample without an answer is wrong if there is a reference answer. Without a reference
            answer, correctness stays unknown.

        Examples
        --------
        >>> from prmkit.data import load_candidates
        >>> texts = ["2 + 3 = 5.\nThe answer is 5.0", "Let us see.\nThe answer is 6"]
        >>> row = {"question": "2 + 3?", "answer": "5", "responses": texts}
        >>> raw = load_candidates([row])
        >>> raw.correct, raw.judged().correct
        (array([nan, nan]), array([ True, False]))
        """
        if comparison is None:
            with AnswerComparison() as temporary:
                return self.judged(temporary)
        sets = []
        for one in self.sets:
            if None in one.is_correct and one.answer is not None:
                judged = (
                    comparison.same(answer, one.answer) if correct is None else correct
                    for answer, correct in zip(one.answers, one.is_correct, strict=True)
                )
                one = replace(one, is_correct=tuple(judged))
            sets.append(one)
        return replace(self, sets=tuple(sets))

    def to_frame(self) -> pd.DataFrame:
        r"""Return a pandas frame with one line per sample.

        Returns
        -------
        DataFrame
            Columns ``problem``, ``problem_id``, ``group`` (number of the problem), ``id`` (of the solution), ``steps``
            (list of str), ``correct`` (boolean or missing), ``answer``, ``answer_key``, ``reference`` and
            ``contradiction``. `load_samples` reads it back.

        Examples
        --------
        >>> from prmkit.data import load_candidates
        >>> row = {"prompt": "2 + 3?", "answers": ["2 + 3 = 5.\nA: 5", "Let us see.\nA: 6"], "label": [1, 0]}
        >>> load_candidates([row]).to_frame()[["problem", "steps", "correct", "answer"]]
          problem                steps  correct answer
        0  2 + 3?   [2 + 3 = 5., A: 5]     True      5
        1  2 + 3?  [Let us see., A: 6]    False      6
        """
        import pandas as pd

        solutions, said = self.solutions, self.contradictions
        return pd.DataFrame(
            {
                "problem": [solution.problem for solution in solutions],
                "problem_id": [one.id for one in self.sets for _ in one.candidates],
                "group": self.groups,
                "id": [solution.id for solution in solutions],
                "steps": [list(solution.steps) for solution in solutions],
                "correct": pd.array([right for one in self.sets for right in one.is_correct], dtype="boolean"),
                "answer": pd.array(self.answers, dtype="string"),
                "answer_key": pd.array(self.answer_keys, dtype="string"),
                "reference": pd.array([one.answer for one in self.sets for _ in one.candidates], dtype="string"),
                "contradiction": pd.array([said.get(i) for i in range(len(solutions))], dtype="string"),
            }
        )

    def checked(
        self,
        contradictions: Contradictions = "keep",
        *,
        extract: Callable[[str], str | None] | None = None,
        answer_key: Callable[[str], str | None] | None = None,
    ) -> Candidates:
        r"""Return the candidates after a check of what is recorded of them against their texts.

        `load_samples` checks what it reads. This is for candidates from elsewhere, or for another choice afterwards.

        Parameters
        ----------
        contradictions : {"keep", "text", "drop"}, default="keep"
            What to do with a sample whose recorded answer is not the answer in its text, or whose record of right or
            wrong contradicts the reference answer. "keep" believes the record. "text" believes the text: its answer
            counts, and correctness follows from the reference answer, or is unknown without one. "drop" leaves the
            sample out, and a problem of which none is left.
        extract : callable, optional
            ``extract(text)`` returns the final answer in a text, or None. If None, `extract_answer` finds it. The text
            is the steps with an empty line between them.
        answer_key : callable, optional
            ``answer_key(answer)`` returns a key that equal answers share, for answers that changed. If None,
            `answer_keys` finds those that `same_answer` calls equal.

        Returns
        -------
        Candidates
            The same candidates, or what is left of them. ``contradictions`` and `contradictions_frame` list what was
            found, ``counts`` counts it.

        Raises
        ------
        ValueError
            If ``contradictions`` is another word.

        Examples
        --------
        >>> from prmkit.data import load_candidates
        >>> texts = ["60 * 40 = 2400.\nThe answer is 2,400", "60 + 40 = 100.\nThe answer is 100"]
        >>> row = {"prompt": "60 books of $40?", "gt": "2400", "answers": texts, "label": [0, 0]}
        >>> raw = load_candidates([row])
        >>> raw.correct, raw.checked("text").correct, raw.checked("drop").correct
        (array([False, False]), array([ True, False]), array([False]))
        """
        check_mode(contradictions)
        found: Counter[str] = Counter()
        sets = []
        with AnswerComparison() as comparison:
            for one in self.sets:
                sets += _checked(one, contradictions, extract, answer_key, comparison, found)
        if contradictions == "drop":
            found["problems without a sample that is left, left out"] = len(self.sets) - len(sets)
        # What reading counted already is not counted twice.
        counts = {what: max(n, self.counts.get(what, 0)) for what, n in found.items() if n}
        lines = [f"{what}: {n}" for what, n in counts.items() if f"{what}: {n}" not in self.description.splitlines()]
        description = "\n".join(filter(None, [self.description, *lines]))
        return Candidates(tuple(sets), description, {**self.counts, **counts})

    def contradictions_frame(self) -> pd.DataFrame:
        r"""Return a pandas frame with one line per sample whose record contradicts its text.

        Returns
        -------
        DataFrame
            Columns ``sample`` (its number), ``problem_id``, ``id``, ``kind``, ``recorded`` (the answer), ``in_text``,
            ``recorded_correct``, ``correct_by_text`` (missing if nothing tells it), ``reference`` and ``said``, a
            sentence. The kind is "cut" if the answer lost a part at a thousands separator, "answer" if the text gives
            another one, and "correct" if only the record of right or wrong is contradicted.

        Examples
        --------
        >>> import warnings
        >>> from prmkit.data import load_samples
        >>> row = {"problem": "60 books of $40?", "steps": ["60 * 40 = 2400.", "So $2,400."], "answer": "400"}
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", UserWarning)
        ...     candidates = load_samples([row], steps="steps", answer="answer")
        >>> candidates.contradictions_frame()[["sample", "kind", "recorded", "in_text"]]
           sample kind recorded in_text
        0       0  cut      400   2,400
        """
        import pandas as pd

        told = self._contradictions()
        solutions, rows = self.solutions, list(told)
        of_problem = [self.sets[i] for i in self.groups[rows].tolist()]
        types = {"kind": "string", "recorded": "string", "in_text": "string"}
        types |= {"recorded_correct": "boolean", "correct_by_text": "boolean", "reference": "string", "said": "string"}
        frame = pd.DataFrame([dict(one) for one in told.values()], columns=list(types))
        frame["reference"] = [one.answer for one in of_problem]
        frame.insert(0, "sample", rows)
        frame.insert(1, "problem_id", [one.id for one in of_problem])
        frame.insert(2, "id", [solutions[i].id for i in rows])
        return frame.astype(types)


def _numbers(correct: Sequence[bool | None]) -> str:
    """Return how many samples there are, and how many of them are correct, wrong or neither as far as is known."""
    parts = [f"{len(correct):,} sample{'s' * (len(correct) != 1)}", f"{correct.count(True):,} correct"]
    parts.append(f"{correct.count(False):,} wrong")
    return ", ".join(parts + [f"{n:,} not known to be either" for n in [correct.count(None)] if n])


def _joined(one: CandidateSet, other: CandidateSet) -> CandidateSet:
    return replace(
        one,
        candidates=one.candidates + other.candidates,
        is_correct=one.is_correct + other.is_correct,
        answers=one.answers + other.answers,
        answer_keys=one.answer_keys + other.answer_keys,
        answer=other.answer if one.answer is None else one.answer,
    )


def _checked(
    one: CandidateSet,
    contradictions: Contradictions,
    extract: Callable[[str], str | None] | None,
    answer_key: Callable[[str], str | None] | None,
    comparison: AnswerComparison,
    counts: Counter[str],
) -> list[CandidateSet]:
    """Return one set after its check, or none if no sample is left."""
    kept, has_changed = [], False
    for solution, is_right, answer, key in zip(
        one.candidates, one.is_correct, one.answers, one.answer_keys, strict=True
    ):
        told: Contradiction | None = (solution.meta or {}).get("contradiction")
        if told is None:
            found = found_in("\n\n".join(solution.steps), extract)
            last = solution.steps[-1] if solution.steps else ""
            _, told = contradiction_of(found, last, answer, is_right, one.answer, comparison)
        if told is not None:
            count_contradiction(told, counts)
            if contradictions == "drop":
                counts[LEFT_OUT] += 1
                continue
            solution = replace(solution, meta={**(solution.meta or {}), "contradiction": told})
            if contradictions == "text":
                has_changed = has_changed or answer != told["in_text"]
                answer = told["in_text"]
                is_right = None if one.answer is None else comparison.same(answer, one.answer)
        kept.append((solution, is_right, answer, key))
    if not kept:
        return []
    candidates, right, answers, keys = zip(*kept, strict=True)
    new = replace(one, candidates=candidates, is_correct=right, answers=answers, answer_keys=keys)
    return with_keys([new], comparison, answer_key) if has_changed else [new]


def with_keys(
    sets: Iterable[CandidateSet], comparison: AnswerComparison, answer_key: Callable[[str], str | None] | None = None
) -> list[CandidateSet]:
    """Return sets with a key for each answer, by a function of the answer or else by `answer_keys`."""

    def keys_of(answers: Sequence[str | None]) -> list[str | None]:
        if answer_key is None:
            return answer_keys(answers, comparison=comparison)
        # An answer that is nothing but marks has the key "", which would count as a vote.
        return [None if answer is None else answer_key(answer) or None for answer in answers]

    return [replace(one, answer_keys=tuple(keys_of(one.answers))) for one in sets]
