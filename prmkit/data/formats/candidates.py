"""Best-of-N files: several solutions of each problem, of which some are known to be correct; no step labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from prmkit.data.answers.extraction import extract_answer, normal_answer
from prmkit.data.formats.format import any_field, text_field, texts_field
from prmkit.data.formats.reading import warn_of_skipped
from prmkit.data.formats.sources import iter_records
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.solution import Solution


class Sampled(NamedTuple):
    """What a record says: texts of the candidates, and what is known of each; ``reference`` is a worked solution."""

    problem: str
    texts: list[str]
    is_correct: tuple[bool | None, ...]
    generators: tuple[str | None, ...]
    answer: str | None
    reference: str | None = None


def is_candidates(record: Any) -> bool:
    """Whether a record is of one of these layouts."""
    return isinstance(record, Mapping) and (
        isinstance(record.get("responses"), list)
        or {"prompt", "answers"} <= set(record)
        or ("question" in record and bool(_named_models(record)))
    )


def sampled(record: Any) -> Sampled:
    """Return what a record of any of the layouts says.

    Raises
    ------
    MalformedRecordError
        If it is of none of them, or breaks its own.
    """
    any_field(record, "", None)
    if "responses" in record:
        return _pqm(record)
    if "answers" in record:
        return _rlhflow(record)
    return _gsm8k(record)


def _pqm(record: Mapping[str, Any]) -> Sampled:
    responses = record["responses"]
    if not isinstance(responses, list) or not responses:
        raise MalformedRecordError("no candidates", f"responses is {responses!r:.60}, expected a list")
    texts = [text_field(response, "text") for response in responses]
    answer = any_field(record, "answer", None)
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float, type(None))):
        raise MalformedRecordError("answer is no text", f"answer is {answer!r:.60}")
    nothing = (None,) * len(texts)
    answer = None if answer is None else str(answer)
    return Sampled(text_field(record, "question"), texts, nothing, nothing, answer)


def _rlhflow(record: Mapping[str, Any]) -> Sampled:
    texts = texts_field(record, "answers")
    if not texts:
        raise MalformedRecordError("no candidates", "answers is empty")
    labels = record.get("label", record.get("labels"))
    if labels is None:
        labels = [None] * len(texts)
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise MalformedRecordError(
            "unequal lengths", f"label is {labels!r:.60}, expected one per answer: {len(texts)}"
        )
    correct = tuple(_correct(label, f"label[{i}]") for i, label in enumerate(labels))
    return Sampled(text_field(record, "prompt"), texts, correct, (None,) * len(texts), None)


def _gsm8k(record: Mapping[str, Any]) -> Sampled:
    models = _named_models(record)
    if not models:
        raise MalformedRecordError(
            "no candidates",
            f"the fields are {', '.join(map(str, record)) or 'none'}, expected responses, answers, or objects with "
            "is_correct and solution",
        )
    texts = [text_field(record[name], "solution") for name in models]
    correct = tuple(_correct(record[name].get("is_correct"), f"{name}.is_correct") for name in models)
    reference = text_field(record, "ground_truth", None)
    return Sampled(text_field(record, "question"), texts, correct, tuple(models), None, reference)


def _named_models(record: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, value in record.items()
        if isinstance(value, Mapping) and {"solution", "is_correct"} & set(value)
    ]


def _correct(value: Any, name: str) -> bool | None:
    if value is None or (isinstance(value, (bool, int, float)) and value in (0, 1)):
        return None if value is None else bool(value)
    raise MalformedRecordError(
        "unknown label", f"{name} is {value!r:.60}, expected true, false, 1, 0 or null"
    )


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
    candidates : list of Solution
        ``meta`` holds ``generator`` where the file names one.
    is_correct : tuple of (bool or None), one per candidate
        None where the file does not tell.
    answers : tuple of (str or None), one per candidate
        The final answer as written; None where none was found.
    answer_keys : tuple of (str or None), one per candidate
        Equal for equal answers: what votes are counted by.
    answer : str or None
        The reference answer.
    id : str
    """

    problem: str
    candidates: list[Solution]
    is_correct: tuple[bool | None, ...]
    answers: tuple[str | None, ...]
    answer_keys: tuple[str | None, ...]
    answer: str | None
    id: str


def load_candidates(
    path: Any,
    step_splitter: str = "line",
    *,
    keep_calculator_marks: bool = True,
    extract: Callable[[str], str | None] | None = None,
    answer_key: Callable[[str], str | None] | None = None,
    on_error: str = "raise",
    limit: int | None = None,
    split: str = "train",
    counts: Counter[str] | None = None,
) -> list[CandidateSet]:
    r"""Load sampled solutions to choose the best of.

    - PQM: ``{"question": "2 + 3 * 4?", "answer": "14", "responses": [{"text": "3 * 4 = 12.\n2 + 12 = 14."}]}``
    - RLHFlow: ``{"prompt": "2 + 3 * 4?", "answers": ["3 * 4 = 12.\n\nSo 14."], "label": [1]}`` (or ``labels``)
    - GSM8K's example solutions: ``{"question": "2 + 3 * 4?", "ground_truth": "3 * 4 = 12\nA: 14",``
      ``"6b_finetuning": {"is_correct": true, "solution": "3 * 4 = <<3*4=12>>12\nA: 14"}}``

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, Parquet; also gzipped) or a folder of such.
    step_splitter : {"line", "paragraph", "step"}, default="line"
        What a step is: a line, what stands between blank lines, or what begins with "Step 1:" at the start of a line.
        It decides what minimum and product of step scores mean. Blank steps that splitting leaves are dropped.
    keep_calculator_marks : bool, default=True
        Whether GSM8K's marks such as ``<<3*4=12>>`` stay in the steps.
    extract : callable, optional
        ``extract(text)`` gives the final answer of a solution, or None. By default what ``extract_answer`` finds
        marked as one: boxed, behind "####", "# Answer", "The answer is", "A:".
    answer_key : callable, optional
        ``answer_key(answer)`` gives what equal answers share. By default ``normal_answer``: 12.0, $12 and 12 apples are
        one.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.
    counts : Counter, optional
        Filled with what was read and left out.

    Returns
    -------
    list of CandidateSet

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For an unknown splitter, or a malformed record: no candidates, one without text, or not a label for each.

    Examples
    --------
    >>> row = {"prompt": "2 + 3 * 4?", "answers": ["3 * 4 = 12.\nA: 14", "2 + 3 = 5.\nA: 20"], "label": [1, 0]}
    >>> [one] = load_candidates([row])
    >>> one.candidates[1].steps, one.is_correct, one.answer_keys
    (('2 + 3 = 5.', 'A: 20'), (True, False), ('14', '20'))
    """
    if step_splitter not in _SPLITTERS:
        raise ValueError(
            f"step_splitter is {step_splitter!r}, expected one of {', '.join(map(repr, _SPLITTERS))}"
        )
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit is {limit!r}, expected a positive number of records, or None for all")
    counts = Counter() if counts is None else counts

    def steps_of(text: str) -> list[str]:
        shown = text if keep_calculator_marks else _CALCULATOR.sub("", text)
        steps = [step.strip() for step in _SPLITTERS[step_splitter].split(shown)]
        counts["blank steps dropped"] += sum(not step for step in steps)
        return [step for step in steps if step]

    found: list[CandidateSet] = []
    for record, place, record_id in iter_records(path, split=split, on_error=on_error, counts=counts):
        if limit is not None and counts["records"] == limit:
            break
        counts["records"] += 1
        try:
            one = sampled(record)
            found.append(
                _candidate_set(one, record_id, steps_of, extract or _marked, answer_key or normal_answer)
            )
        except MalformedRecordError as error:
            if on_error == "raise":
                raise ValueError(
                    f"{place}: {error}. Pass on_error='skip' to leave such records out."
                ) from None
            counts[f"malformed: {error.reason}"] += 1
    warn_of_skipped(counts, "on_error='raise' names")
    counts["candidates"] += sum(len(one.candidates) for one in found)
    counts["candidates without an answer"] += sum(one.answer_keys.count(None) for one in found)
    return found


def _candidate_set(
    one: Sampled,
    record_id: str,
    steps_of: Callable[[str], list[str]],
    extract: Callable[[str], str | None],
    answer_key: Callable[[str], str | None],
) -> CandidateSet:
    solutions = []
    for i, (text, generator) in enumerate(zip(one.texts, one.generators, strict=True)):
        steps = steps_of(text)
        if not steps:
            raise MalformedRecordError("blank candidate", f"candidate {i} is {text!r:.60}")
        meta: Mapping[str, Any] = {} if generator is None else {"generator": generator}
        solutions.append(Solution(one.problem, tuple(steps), id=f"{record_id}/{i}", meta=meta))
    answers = tuple(map(extract, one.texts))
    keys = tuple(None if answer is None else answer_key(answer) or None for answer in answers)
    reference = one.answer if one.reference is None else extract(one.reference) or one.answer
    return CandidateSet(one.problem, solutions, one.is_correct, answers, keys, reference, record_id)


def _marked(text: str) -> str | None:
    return extract_answer(text, last_number=False).answer
