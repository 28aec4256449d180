"""Best-of-N files: several solutions of each problem, of which some are known to be correct; no step labels."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from prmkit.data.answers.equivalence import AnswerComparison
from prmkit.data.answers.extraction import extract_answer
from prmkit.data.formats.fields import check_fields, value_at
from prmkit.data.formats.format import Record, has_fields
from prmkit.data.formats.label_words import rating_of, wrong_value
from prmkit.data.formats.proposals import N_PEEKED, candidates_proposal, unread_correctness
from prmkit.data.formats.reading import reads
from prmkit.data.formats.sources import (
    LabelAccount,
    OnError,
    Source,
    check_reading,
    iter_records,
    name_of,
    warn_of_skipped,
)
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.sampled import Candidates, CandidateSet, with_keys
from prmkit.data.solution import Solution
from prmkit.data.step_splitting import BY, By, Think, check_by, split_steps


class _Sampled(NamedTuple):
    """The content of a record: the candidates as texts or as steps, and all that it tells of each."""

    problem: str
    candidates: Sequence[str | list[str]]
    is_correct: tuple[bool | None, ...]
    generators: tuple[str | None, ...]
    answer: str | None
    # A worked solution, in which the reference answer is marked.
    reference: str | None = None
    own_id: str | None = None


_PROBLEMS = ("question", "prompt", "problem")
_ANSWERS = ("answer", "gt")
_IDS = ("id", "unique_id", "uuid", "idx", "problem_id", "question_id")
_LISTS: dict[str, tuple[str, ...]] = {
    "responses": (),
    "answers": ("label", "labels"),
    "completions": (),
    "generations": ("correctness_math_verify",),
    "code": ("score",),
    "pred": (),
}
"""Published names of the list of candidates, and of the list that tells which of them are correct."""
_has_question = has_fields({"question": object})


def is_candidates(value: object) -> bool:
    """Return whether a JSON value is a record of one of these formats."""
    if not isinstance(value, Mapping):
        return False
    return bool(_known_fields(value)) or (_has_question(value) and bool(_named_models(Record(value))))


def _known_fields(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a record in one of the published layouts. Nothing if it is none."""
    problem = next((name for name in _PROBLEMS if name in record), None)
    candidates = next((name for name in _LISTS if isinstance(record.get(name), list)), None)
    # Labels beside completions or responses are those of steps.
    if problem is None or candidates is None or ("labels" in record and "labels" not in _LISTS[candidates]):
        return {}
    if (problem, candidates) == ("prompt", "completions"):  # TRL writes steps so
        return {}
    parts = {"problem": (problem,), "candidates": (candidates,), "answer": _ANSWERS, "correct": _LISTS[candidates]}
    parts["id"] = _IDS
    present = {part: [name for name in names if name in record] for part, names in parts.items()}
    return {part: names[0] for part, names in present.items() if names}


def sampled_in(record: Record, fields: Mapping[str, str] | None = None) -> _Sampled:
    """Return the content of a record, by the names of its fields or in any of the formats."""
    if fields is None and not (fields := _known_fields(record.fields)):
        return _gsm8k(record)
    found = {name: value_at(record.fields, path) for name, path in fields.items()}
    name = fields["candidates"]
    candidates = found["candidates"]
    if not isinstance(candidates, list) or not candidates:
        raise wrong_value("no candidates", name, candidates, "a list that is not empty")
    # PQM writes a candidate as an object.
    plain = [one["text"] if isinstance(one, Mapping) and "text" in one else one for one in candidates]
    if are_steps := all(isinstance(one, list) for one in plain):
        for i, steps in enumerate(plain):
            Record({f"{name}[{i}]": steps}).texts(f"{name}[{i}]")
    labels = found.get("correct")
    if labels is not None and (not isinstance(labels, list) or len(labels) != len(plain)):
        raise wrong_value("unequal lengths", fields["correct"], labels, f"one per candidate: {len(plain)}")
    labels = [None] * len(plain) if labels is None else labels
    correct = tuple(correct_of(label, f"{fields.get('correct')}[{i}]") for i, label in enumerate(labels))
    answer = Record({fields.get("answer", "answer"): found.get("answer")}).scalar(fields.get("answer", "answer"))
    problem = Record({fields["problem"]: found["problem"]}).text(fields["problem"])
    texts = plain if are_steps else Record({name: plain}).texts(name)
    return _Sampled(problem, texts, correct, (None,) * len(plain), answer, own_id=_own_id(found.get("id")))


def _own_id(value: object) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _gsm8k(record: Record) -> _Sampled:
    models = _named_models(record)
    if not models:
        raise MalformedRecordError(
            "no candidates",
            f"the fields are {', '.join(map(str, record.fields)) or 'none'}, expected responses, answers, or objects "
            f"with is_correct and solution. Say which field is what: {candidates_proposal(record.fields)}",
        )
    texts = [model.text("solution") for model in models.values()]
    correct = tuple(correct_of(model.value("is_correct", None), f"{name}.is_correct") for name, model in models.items())
    reference = record.text("ground_truth", None)
    own_id = next((one for name in _IDS if (one := _own_id(record.fields.get(name))) is not None), None)
    return _Sampled(record.text("question"), texts, correct, tuple(models), None, reference, own_id)


def _named_models(record: Record) -> dict[str, Record]:
    """Return the fields that hold the solution of a model, by the name of the model."""
    objects = {name: Record(value) for name, value in record.fields.items() if isinstance(value, dict)}
    return {
        name: model
        for name, model in objects.items()
        if "solution" in model or ("is_correct" in model and not isinstance(model.value("is_correct"), list))
    }


def correct_of(value: object, name: str) -> bool | None:
    """Return whether a label says that a candidate is correct, None for null."""
    try:
        rating = rating_of(value, name, "binary")
    except MalformedRecordError:
        rating = 0
    if rating == 0:
        raise wrong_value("unknown label", name, value, "true, false, 1, 0, null, or a word such as 'correct'")
    return None if rating is None else rating == 1


# Neither part of a mark can be read in two ways, so the time grows with the text alone.
_CALCULATOR = re.compile(r"<<[^<>\n=]*=[^<>\n]*>>")
_N_NAMED = 5
"""Number of blank candidates that a warning names."""
_N_TRIED = 200
"""Number of candidates of one step that a warning tries to cut in another way."""


@reads
def load_candidates(
    source: Source,
    by: By | Literal["step"] = "line",
    *,
    fields: Mapping[str, str] | None = None,
    keep_calculator_marks: bool = True,
    think: Think = "keep",
    extract: Callable[[str], str | None] | None = None,
    answer_key: Callable[[str], str | None] | None = None,
    counts: Counter[str] | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> Candidates:
    r"""Load sampled solutions to choose the best of.

    - PQM: ``{"question": "2 + 3 * 4?", "answer": "14", "responses": [{"text": "3 * 4 = 12.\n2 + 12 = 14."}]}``
    - RLHFlow: ``{"prompt": "2 + 3 * 4?", "answers": ["3 * 4 = 12.\n\nSo 14."], "label": [1]}`` (or ``labels``)
    - GSM8K's example solutions: ``{"question": "2 + 3 * 4?", "ground_truth": "3 * 4 = 12\nA: 14",``
      ``"6b_finetuning": {"is_correct": true, "solution": "3 * 4 = <<3*4=12>>12\nA: 14"}}``

    Parameters
    ----------
    by : {"paragraph", "line", "enumeration", "sentence"} or callable, default="line"
        Unit that becomes a step, or a function of a text that returns its steps: see `split_steps`. The meaning of
        minimum and product of step scores depends on it. A warning says if most candidates have one step only. The
        older word "step" stands for "enumeration".
    fields : mapping of str to str, optional
        The field of each part, for records of other formats: ``dict(problem="question", candidates="outputs.text",
        answer="gold", correct="outputs.passed")``. A path has dots, and goes on in each entry of a list. ``candidates``
        are texts, or lists of steps, which stay as they are. ``answer``, ``correct`` and ``id`` may be left out.
    keep_calculator_marks : bool, default=True
        Whether GSM8K's marks such as ``<<3*4=12>>`` stay in the steps.
    think : {"keep", "drop", "only"}, default="keep"
        What happens to thoughts between ``<think>`` and ``</think>`` in a text, as in `split_steps`.
    extract : callable, optional
        ``extract(text)`` returns the final answer of a solution, or None. If None, an answer is taken if
        `extract_answer` finds a mark: boxed, or behind "####", "# Answer", "The answer is", "A:".
    answer_key : callable, optional
        ``answer_key(answer)`` returns a key that equal answers share. If None, `answer_keys` finds those that
        `same_answer` calls equal, such as 12.0, $12 and 12 apples.
    counts : Counter, optional
        Filled with the numbers of records and candidates that were read and left out.

    Returns
    -------
    Candidates
        A sequence of one `CandidateSet` per record, with flat views. A blank candidate is left out alone, counted, and
        named by a warning. The ids of the others still count it.

    Examples
    --------
    >>> row = {"prompt": "2 + 3 * 4?", "answers": ["3 * 4 = 12.\nA: 14", "2 + 3 = 5.\nA: 20"], "label": [1, 0]}
    >>> [candidates] = load_candidates([row])
    >>> candidates.candidates[1].steps, candidates.is_correct, candidates.answer_keys
    (('2 + 3 = 5.', 'A: 20'), (True, False), ('14', '20'))
    """
    by = "enumeration" if by == "step" else by
    check_by(by)
    check_reading(on_error, limit)
    if fields is not None:
        fields = check_fields(fields, ("problem", "candidates", "answer", "correct", "id"), ("problem", "candidates"))
    counts = Counter() if counts is None else counts
    blank: list[str] = []
    one_step: list[str | list[str]] = []

    def steps_of(candidate: str | list[str]) -> list[str]:
        parts = candidate if isinstance(candidate, list) else split_steps(candidate, by, think=think)
        steps = [(part if keep_calculator_marks else _CALCULATOR.sub("", part)).strip() for part in parts]
        counts["blank steps dropped"] += sum(not step for step in steps)
        steps = [step for step in steps if step]
        if len(steps) == 1:
            one_step.append(candidate)
        return steps

    sets: list[CandidateSet] = []
    peeked: list[tuple[Mapping[str, Any], int]] = []
    account = LabelAccount()
    for value, place, record_id in iter_records(source, split=split, on_error=on_error, counts=counts):
        if limit is not None and counts["records"] == limit:
            break
        counts["records"] += 1
        try:
            sampled = sampled_in(Record(value), fields)
            one = _candidate_set(sampled, record_id, steps_of, extract or _marked)
            kept = {candidate.id for candidate in one.candidates}
            n = len(sampled.candidates)
            if len(peeked) < N_PEEKED and set(sampled.is_correct) == {None}:
                peeked.append((Record(value).fields, n))
            left_out = [i for i in range(n) if f"{record_id}/{i}" not in kept]
            blank += [f"{place}, candidate {i}" for i in left_out]
            account.add([sampled.is_correct[i] for i in left_out], lost=True)
            account.add(one.is_correct, lost=False)
            sets.append(one)
        except MalformedRecordError as error:
            if on_error == "raise":
                raise ValueError(f"{place}: {error}. Pass on_error='skip' to leave such records out.") from None
            counts[f"malformed: {error.reason}"] += 1
            account.add(_labels_of(value, fields), lost=True)
    account.report(counts)
    warn_of_skipped(counts, "on_error='raise' names")
    n_candidates = sum(len(candidate_set.candidates) for candidate_set in sets)
    counts["candidates"] += n_candidates
    if blank:
        counts["blank candidates left out"] += len(blank)
        named = "; ".join(blank[:_N_NAMED]) + ("; …" if len(blank) > _N_NAMED else "")
        _warn(f"{len(blank)} of {n_candidates + len(blank)} candidates are blank and were left out: {named}")
    counts["candidates of one step"] += len(one_step)
    if 2 * len(one_step) > n_candidates:
        _warn(f"{len(one_step)} of {n_candidates} candidates have one step only{other_units(one_step, by)}")
    with AnswerComparison() as comparison:
        sets = with_keys(sets, comparison, answer_key)
    known: Mapping[str, str] = fields or (_known_fields(peeked[0][0]) if peeked else {})
    is_nothing_known = all({None}.issuperset(one.is_correct) for one in sets)
    if known and is_nothing_known and (unread := unread_correctness(peeked, [*known.values()])):
        named = ", ".join(f"{part}={path!r}" for part, path in known.items() if part != "correct")
        _warn(
            f"no candidate is known to be right or wrong, and the field {unread!r} is not read. If it says which are "
            f"right, pass fields=dict({named}, correct={unread!r})"
        )
    counts["candidates without an answer"] += sum(candidate_set.answer_keys.count(None) for candidate_set in sets)
    description = "\n".join(
        [f"sampled solutions from {name_of(source)}", *(f"{what}: {n}" for what, n in counts.items() if n)]
    )
    return Candidates(tuple(sets), description, dict(counts))


def _labels_of(value: object, fields: Mapping[str, str] | None) -> list[bool]:
    """Return what a record that cannot be read tells of its candidates."""
    found: object = None
    if isinstance(value, Mapping):
        with contextlib.suppress(MalformedRecordError):
            found = value_at(value, (fields or _known_fields(value)).get("correct", "label"))
    return [label in (1, "correct") for label in found if label is not None] if isinstance(found, list) else []


def other_units(candidates: Sequence[str | list[str]], by: By) -> str:
    """Say how many of some candidates of one step have several by another unit, and what to pass."""
    texts = [candidate for candidate in candidates if isinstance(candidate, str)][:_N_TRIED]
    if not texts:
        return ": they are lists of one step in the file"
    others = [unit for unit in BY if unit != by]
    several = {unit: sum(len(split_steps(text, unit)) > 1 for text in texts) for unit in others}
    said = ", ".join(f"{n} with by={unit!r}" for unit, n in several.items() if n) or "none with another unit"
    # Sentences find most, but the larger unit is what the author of a text meant.
    best = next((unit for unit, n in several.items() if 2 * n >= len(texts)), max(several, key=several.__getitem__))
    advice = f"Pass by={best!r}" if several[best] else "Pass a function of a text that returns its steps as by"
    return f" with by={by!r}. Of {len(texts)} such texts, several steps are found in {said}. {advice}"


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)


def _candidate_set(
    sampled: _Sampled,
    record_id: str,
    steps_of: Callable[[str | list[str]], list[str]],
    extract: Callable[[str], str | None],
) -> CandidateSet:
    """Return the candidates that are not blank."""
    solutions, correct, answers = [], [], []
    for i, (candidate, generator) in enumerate(zip(sampled.candidates, sampled.generators, strict=True)):
        steps = steps_of(candidate)
        if not steps:
            continue
        known = {"generator": generator, "record_id": sampled.own_id}
        meta = {name: value for name, value in known.items() if value is not None}
        solutions.append(Solution(sampled.problem, tuple(steps), id=f"{record_id}/{i}", meta=meta))
        correct.append(sampled.is_correct[i])
        answers.append(extract(candidate if isinstance(candidate, str) else "\n".join(candidate)))
    if not solutions:
        raise MalformedRecordError("blank candidates", f"all of {len(sampled.candidates)} candidates are blank")
    answer = sampled.answer
    if sampled.reference is not None:
        answer = extract(sampled.reference) or answer
    return CandidateSet(sampled.problem, tuple(solutions), tuple(correct), tuple(answers), (), answer, record_id)


def _marked(text: str) -> str | None:
    return extract_answer(text, last_number=False).answer
