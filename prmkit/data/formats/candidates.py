"""Best-of-N files: several solutions of each problem, of which some are known to be correct; no step labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from prmkit.data.answers.extraction import extract_answer, normal_answer
from prmkit.data.formats.format import Record, has_fields, wrong_value
from prmkit.data.formats.reading import check_reading, reads, warn_of_skipped
from prmkit.data.formats.sources import OnError, Source, iter_records
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.solution import Solution


class _Sampled(NamedTuple):
    """The content of a record: the texts of the candidates, and all that it tells of each."""

    problem: str
    texts: list[str]
    is_correct: tuple[bool | None, ...]
    generators: tuple[str | None, ...]
    answer: str | None
    # A worked solution, in which the reference answer is marked.
    reference: str | None = None


_is_pqm = has_fields({"responses": list})
_is_rlhflow = has_fields({"prompt": object, "answers": object})
_has_question = has_fields({"question": object})


def is_candidates(value: object) -> bool:
    """Return whether a JSON value is a record of one of these formats."""
    return _is_pqm(value) or _is_rlhflow(value) or (_has_question(value) and bool(_named_models(Record(value))))


def _sampled(record: Record) -> _Sampled:
    """Return the content of a record of any of the formats."""
    if "responses" in record:
        return _pqm(record)
    return _rlhflow(record) if "answers" in record else _gsm8k(record)


def _pqm(record: Record) -> _Sampled:
    responses = record.value("responses")
    if not isinstance(responses, list) or not responses:
        raise wrong_value("no candidates", "responses", responses, "a list")
    texts = [Record(response).text("text") for response in responses]
    unknown = (None,) * len(texts)
    return _Sampled(record.text("question"), texts, unknown, unknown, record.scalar("answer"))


def _rlhflow(record: Record) -> _Sampled:
    texts = record.texts("answers")
    if not texts:
        raise MalformedRecordError("no candidates", "answers is empty")
    labels = record.value("label", record.value("labels", None))
    if labels is None:
        labels = [None] * len(texts)
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise wrong_value("unequal lengths", "label", labels, f"one per answer: {len(texts)}")
    correct = tuple(_correct(label, f"label[{i}]") for i, label in enumerate(labels))
    return _Sampled(record.text("prompt"), texts, correct, (None,) * len(texts), None)


def _gsm8k(record: Record) -> _Sampled:
    models = _named_models(record)
    if not models:
        raise MalformedRecordError(
            "no candidates",
            f"the fields are {', '.join(map(str, record.fields)) or 'none'}, expected responses, answers, or objects "
            "with is_correct and solution",
        )
    texts = [model.text("solution") for model in models.values()]
    correct = tuple(_correct(model.value("is_correct", None), f"{name}.is_correct") for name, model in models.items())
    reference = record.text("ground_truth", None)
    return _Sampled(record.text("question"), texts, correct, tuple(models), None, reference)


def _named_models(record: Record) -> dict[str, Record]:
    """Return the fields that hold the solution of a model, by the name of the model."""
    objects = {name: Record(value) for name, value in record.fields.items() if isinstance(value, dict)}
    return {name: model for name, model in objects.items() if "solution" in model or "is_correct" in model}


def _correct(value: object, name: str) -> bool | None:
    if value is None or (isinstance(value, (bool, int, float)) and value in (0, 1)):
        return None if value is None else bool(value)
    raise wrong_value("unknown label", name, value, "true, false, 1, 0 or null")


_SPLITTERS = {
    "line": re.compile(r"\n"),
    "paragraph": re.compile(r"\n[ \t]*\n\s*"),
    "step": re.compile(r"(?=^[Ss]tep \d+[:.])", re.MULTILINE),
}
_CALCULATOR = re.compile(r"<<[^<>\n]*=[^<>\n]*>>")


@dataclass(frozen=True)
class CandidateSet:
    """The sampled solutions of one problem, in the order of the file, which "the first N" depends on.

    Parameters
    ----------
    problem : str
        Text of the problem.
    candidates : list of Solution
        Sampled solutions. ``meta`` holds ``generator`` if the file names one.
    is_correct : tuple of (bool or None)
        Whether each candidate is correct, None if the file does not tell.
    answers : tuple of (str or None)
        Final answer of each candidate as written, None if none was found.
    answer_keys : tuple of (str or None)
        Key of each answer. Votes count answers with equal keys as one.
    answer : str or None
        Reference answer.
    id : str
        Id of the record.
    """

    problem: str
    candidates: list[Solution]
    is_correct: tuple[bool | None, ...]
    answers: tuple[str | None, ...]
    answer_keys: tuple[str | None, ...]
    answer: str | None
    id: str


@reads
def load_candidates(
    source: Source,
    step_splitter: Literal["line", "paragraph", "step"] = "line",
    *,
    keep_calculator_marks: bool = True,
    extract: Callable[[str], str | None] | None = None,
    answer_key: Callable[[str], str | None] | None = None,
    counts: Counter[str] | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str = "train",
) -> list[CandidateSet]:
    r"""Load sampled solutions to choose the best of.

    - PQM: ``{"question": "2 + 3 * 4?", "answer": "14", "responses": [{"text": "3 * 4 = 12.\n2 + 12 = 14."}]}``
    - RLHFlow: ``{"prompt": "2 + 3 * 4?", "answers": ["3 * 4 = 12.\n\nSo 14."], "label": [1]}`` (or ``labels``)
    - GSM8K's example solutions: ``{"question": "2 + 3 * 4?", "ground_truth": "3 * 4 = 12\nA: 14",``
      ``"6b_finetuning": {"is_correct": true, "solution": "3 * 4 = <<3*4=12>>12\nA: 14"}}``

    Parameters
    ----------
    step_splitter : {"line", "paragraph", "step"}, default="line"
        Unit that becomes a step: a line, the text between blank lines, or the text from one "Step 1:" at the start of
        a line to the next. The meaning of minimum and product of step scores depends on it. Blank steps are dropped.
    keep_calculator_marks : bool, default=True
        Whether GSM8K's marks such as ``<<3*4=12>>`` stay in the steps.
    extract : callable, optional
        ``extract(text)`` returns the final answer of a solution, or None. If None, an answer is taken if
        `extract_answer` finds a mark: boxed, or behind "####", "# Answer", "The answer is", "A:".
    answer_key : callable, optional
        ``answer_key(answer)`` returns a key that equal answers share. If None, `normal_answer`, for which 12.0, $12
        and 12 apples are equal.
    counts : Counter, optional
        Filled with the numbers of records and candidates that were read and left out.

    Returns
    -------
    list of CandidateSet
        One set per record.

    Examples
    --------
    >>> row = {"prompt": "2 + 3 * 4?", "answers": ["3 * 4 = 12.\nA: 14", "2 + 3 = 5.\nA: 20"], "label": [1, 0]}
    >>> [candidates] = load_candidates([row])
    >>> candidates.candidates[1].steps, candidates.is_correct, candidates.answer_keys
    (('2 + 3 = 5.', 'A: 20'), (True, False), ('14', '20'))
    """
    if step_splitter not in _SPLITTERS:
        raise ValueError(f"step_splitter is {step_splitter!r}, expected one of {', '.join(map(repr, _SPLITTERS))}")
    check_reading(on_error, limit)
    counts = Counter() if counts is None else counts

    def steps_of(text: str) -> list[str]:
        text = text if keep_calculator_marks else _CALCULATOR.sub("", text)
        steps = [step.strip() for step in _SPLITTERS[step_splitter].split(text)]
        counts["blank steps dropped"] += sum(not step for step in steps)
        return [step for step in steps if step]

    sets: list[CandidateSet] = []
    for value, place, record_id in iter_records(source, split=split, on_error=on_error, counts=counts):
        if limit is not None and counts["records"] == limit:
            break
        counts["records"] += 1
        try:
            sampled = _sampled(Record(value))
            sets.append(_candidate_set(sampled, record_id, steps_of, extract or _marked, answer_key or normal_answer))
        except MalformedRecordError as error:
            if on_error == "raise":
                raise ValueError(f"{place}: {error}. Pass on_error='skip' to leave such records out.") from None
            counts[f"malformed: {error.reason}"] += 1
    warn_of_skipped(counts, "on_error='raise' names")
    counts["candidates"] += sum(len(candidate_set.candidates) for candidate_set in sets)
    counts["candidates without an answer"] += sum(candidate_set.answer_keys.count(None) for candidate_set in sets)
    return sets


def _candidate_set(
    sampled: _Sampled,
    record_id: str,
    steps_of: Callable[[str], list[str]],
    extract: Callable[[str], str | None],
    answer_key: Callable[[str], str | None],
) -> CandidateSet:
    solutions = []
    for i, (text, generator) in enumerate(zip(sampled.texts, sampled.generators, strict=True)):
        steps = steps_of(text)
        if not steps:
            raise MalformedRecordError("blank candidate", f"candidate {i} is {text!r:.60}")
        meta: dict[str, Any] = {} if generator is None else {"generator": generator}
        solutions.append(Solution(sampled.problem, tuple(steps), id=f"{record_id}/{i}", meta=meta))
    answers = tuple(map(extract, sampled.texts))
    # An answer that is nothing but marks has the key "", which would count as a vote.
    keys = tuple(None if answer is None else answer_key(answer) or None for answer in answers)
    answer = sampled.answer
    if sampled.reference is not None:
        answer = extract(sampled.reference) or answer
    return CandidateSet(sampled.problem, solutions, sampled.is_correct, answers, keys, answer, record_id)


def _marked(text: str) -> str | None:
    return extract_answer(text, last_number=False).answer
