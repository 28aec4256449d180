"""``load_samples``: sampled solutions from files and tables whose fields a user names, one per line or nested."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from prmkit.data.answers.equivalence import AnswerComparison
from prmkit.data.answers.extraction import extract_answer, normal_answer
from prmkit.data.contradictions import (
    ANSWERS,
    CORRECT,
    CUT,
    LEFT_OUT,
    Contradiction,
    Contradictions,
    check_mode,
    contradiction_of,
    count_contradiction,
    found_in,
)
from prmkit.data.formats.candidates import correct_of, is_candidates, other_units, sampled_in
from prmkit.data.formats.fields import value_at
from prmkit.data.formats.format import Record
from prmkit.data.formats.label_words import wrong_type
from prmkit.data.formats.proposals import N_PEEKED, samples_proposal, unread_correctness
from prmkit.data.formats.reading import reads
from prmkit.data.formats.sources import (
    LabelAccount,
    OnError,
    Source,
    check_reading,
    iter_records,
    name_of,
    named_skips,
    warn_of_skipped,
)
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.labels import is_blank
from prmkit.data.problem_keys import problem_keys
from prmkit.data.sampled import Candidates, CandidateSet, with_keys
from prmkit.data.solution import Solution
from prmkit.data.step_splitting import By, Think, split_steps

_BLANK = "blank samples left out"
_ONE_STEP = "samples of one step"


class _Sample(NamedTuple):
    """What a record tells of one sample. ``content`` is a text to cut, or the steps as they are."""

    problem: str
    content: str | list[str] | None
    answer: str | None
    correct: bool | None
    reference: str | None
    problem_id: str | None
    generator: str | None
    token_logprobs: object = None


@reads
def load_samples(
    source: Source,
    *,
    problem: str = "problem",
    answer: str | None = None,
    steps: str | None = None,
    text: str | None = None,
    correct: str | None = None,
    by: By = "paragraph",
    reference: str | None = None,
    id: str | None = None,  # noqa: A002 (the name of a field)
    generator: str | None = None,
    token_logprobs: str | None = None,
    contradictions: Contradictions = "keep",
    think: Think = "keep",
    extract: Callable[[str], str | None] | None = None,
    answer_key: Callable[[str], str | None] | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> Candidates:
    r"""Load sampled solutions whose fields you name: one sample per line, or all samples of a problem in a record.

    Lines of one problem need not stand side by side. Each of ``problem``, ``answer`` and so on is the name of a field
    or column, or a path with dots, which goes on in each entry of a list: ``text="outputs.text"``. A record whose
    ``text`` is a list of texts, or whose ``steps`` is a list of lists, holds several samples.

    Parameters
    ----------
    problem : str, default="problem"
        Field of the problem. Lines whose problems differ only in case, white space or LaTeX spacing belong together.
    answer : str, optional
        Field of the final answer that the sample gives. If None, or where it is missing, the answer is read from the
        text. One answer in a record of several samples is the reference answer, unless ``reference`` is named.
    steps : str, optional
        Field of the steps, a list of texts, which stay as they are. Name either ``steps`` or ``text``. Without both,
        the records must have a layout that `load_candidates` knows.
    text : str, optional
        Field of the whole solution, a text that is cut into steps.
    correct : str, optional
        Field that tells whether the sample is right: true or false, 1 or 0, or a word such as "wrong". It may be
        missing in some rows.
    by : {"paragraph", "line", "enumeration", "sentence"} or callable, default="paragraph"
        Unit of a text that becomes a step, as in `split_steps`.
    reference : str, optional
        Field of the right answer to the problem, or of a worked solution in which it is marked. Where ``correct`` tells
        nothing, a sample is right if `same_answer` says that its answer is the reference answer.
    id : str, optional
        Field of the problem's id. If named, lines with the same id belong together, instead of those with the same
        text.
    generator : str, optional
        Field of the model that made the sample. It becomes ``meta["generator"]``.
    token_logprobs : str, optional
        Field of the log-probabilities that the model gave to its tokens: a list per step, so it needs ``steps``. It
        becomes ``meta["token_logprobs"]``, which :class:`~prmkit.features.LogProbFeatures` reads.
    contradictions : {"keep", "text", "drop"}, default="keep"
        What to do with a sample whose recorded answer is not the answer in its text, or whose record of right or wrong
        contradicts the reference answer. "keep" believes the record. "text" believes the text: its answer counts, and
        correctness follows from the reference answer, or is unknown without one. "drop" leaves the sample out. All
        are counted, warned about, and listed by `Candidates.contradictions_frame`. `Candidates.checked` does it later.
    think : {"keep", "drop", "only"}, default="keep"
        What happens to thoughts between ``<think>`` and ``</think>`` in a text, as in `split_steps`.
    extract : callable, optional
        ``extract(text)`` returns the final answer in a text, or None. If None, `extract_answer` finds it.
    answer_key : callable, optional
        ``answer_key(answer)`` returns a key that equal answers share. If None, `answer_keys` finds those that
        `same_answer` calls equal.

    Returns
    -------
    Candidates
        The samples of each problem. Problems are in the order of their first samples, and so are the samples of one
        problem. A blank sample is left out and counted. A sample without an answer is wrong if there is a reference
        answer.

    Warns
    -----
    UserWarning
        If samples are blank, if most texts have one step only, if records contradict texts, or if nothing tells which
        samples are right, and a field that seems to is not read.

    Examples
    --------
    >>> rows = [
    ...     {"q": "2 + 3 * 4?", "output": "3 * 4 = 12.\n\n2 + 12 = 14.", "gold": 14},
    ...     {"q": "6 / 2?", "output": "Half of 6.\n\nSo 3.", "gold": 3},
    ...     {"q": "2 + 3 * 4?", "output": "2 + 3 = 5.\n\n5 * 4 = 20.", "gold": 14},
    ... ]
    >>> candidates = load_samples(rows, problem="q", text="output", reference="gold")
    >>> candidates
    <Candidates: 3 samples of 2 problems, 2 correct, 1 wrong>
    >>> candidates.solutions[1].steps, candidates.answers, candidates.correct
    (('2 + 3 = 5.', '5 * 4 = 20.'), ['14', '20', '3'], array([ True, False,  True]))
    >>> nested = [{"q": "6 / 2?", "runs": [{"out": "Half.\nSo 3.", "ok": True}, {"out": "Ah.\nSo 4.", "ok": False}]}]
    >>> load_samples(nested, problem="q", text="runs.out", correct="runs.ok", by="line").correct
    array([ True, False])
    """
    check_reading(on_error, limit)
    if steps is not None and text is not None:
        raise ValueError(
            f"steps={steps!r} and text={text!r} exclude each other: name the field of the steps, or of the text"
        )
    if token_logprobs is not None and steps is None:
        raise ValueError(f"token_logprobs={token_logprobs!r} holds a list per step: name the field of the steps too")
    check_mode(contradictions)
    split_steps("", by, think=think)  # raises for an unknown unit, whatever the source holds
    paths = {"problem": problem, "steps": steps, "text": text, "answer": answer, "correct": correct}
    paths |= {"reference": reference, "id": id, "generator": generator, "token_logprobs": token_logprobs}
    fields = SampleFields({name: path for name, path in paths.items() if path is not None})
    counts: Counter[str] = Counter()
    account = LabelAccount()
    by_problem: dict[str | int, list[tuple[_Sample, str]]] = {}
    skipped: list[str] = []
    peeked: list[tuple[object, int]] = []
    for value, place, record_id in iter_records(source, split=split, on_error=on_error, counts=counts):
        if limit is not None and counts["records"] == limit:
            break
        counts["records"] += 1
        try:
            samples = fields.samples_of(Record(value))
        except MalformedRecordError as error:
            skipped.append(f"{place}: {error}")
            if on_error == "raise":
                proposed = f". Perhaps {samples_proposal(value)}" if error.reason.startswith("without ") else ""
                raise ValueError(f"{skipped[0]}{proposed}. Pass on_error='skip' to leave such records out.") from None
            counts[f"malformed: {error.reason}"] += 1
            continue
        account.add([sample.correct for sample in samples], lost=False)
        if correct is None and len(peeked) < N_PEEKED and all(sample.correct is None for sample in samples):
            peeked.append((value, len(samples)))
        for sample in samples:
            key = int(problem_keys([sample.problem])[0]) if sample.problem_id is None else sample.problem_id
            by_problem.setdefault(key, []).append((sample, record_id))
    fields.check_found()
    account.report(counts)
    warn_of_skipped(counts)
    with AnswerComparison() as comparison:
        reader = _Reader(by, think, extract, contradictions, comparison, counts)
        sets = [one for samples in by_problem.values() if (one := reader.set_of(samples)) is not None]
        sets = with_keys(sets, comparison, answer_key)
    if not sets:
        raise ValueError(": ".join([f"{name_of(source)} holds no sample that can be read", *skipped[-1:]]))
    counts["problems"], counts["samples"] = len(sets), sum(len(one.candidates) for one in sets)
    counts["samples without an answer"] = sum(one.answer_keys.count(None) for one in sets)
    reader.warn()
    unread = unread_correctness(peeked, [path for path in paths.values() if path is not None])
    call = f"pass correct={unread!r}" if steps or text else samples_proposal(peeked[0][0]) if unread else ""
    said = f"the field {unread!r} is not read. If it says which samples are right, {call}"
    if unread and all(right is None for one in sets for right in one.is_correct):
        _warn(f"no sample is known to be right or wrong, and {said}", stacklevel=3)
    lines = [f"samples from {name_of(source)}", *(f"{what}: {n}" for what, n in counts.items() if n)]
    lines += [said] * bool(unread) + named_skips(skipped)
    return Candidates(tuple(sets), "\n".join(lines), {what: n for what, n in counts.items() if n})


class SampleFields:
    """The fields that a user names, and which of them a record had."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        for name, path in paths.items():
            if not isinstance(path, str) or not path:
                raise ValueError(f"{name} is {path!r}, expected the name of a field or a path with dots")
        self._paths = paths
        self._missing = {name for name in paths if name not in ("problem", "steps", "text")}
        self._seen: list[str] = []

    def samples_of(self, record: Record) -> list[_Sample]:
        """Return the samples of a record."""
        row, paths = record.fields, self._paths
        if "steps" not in paths and "text" not in paths:
            return self._samples_of_known(record)
        self._seen = self._seen or list(map(str, row))
        problem = _text_at(row, paths["problem"])
        if isinstance(problem, list) and len(problem) == 1:
            problem = problem[0]
        problem = Record({paths["problem"]: problem}).text(paths["problem"])
        problem_id = self._note(row, "id")
        if not problem.strip() and problem_id is None:
            raise MalformedRecordError("no problem", f"{paths['problem']} is blank, and no id tells the problem")
        name = "steps" if "steps" in paths else "text"
        found = _text_at(row, paths[name])
        contents, are_several = (_steps if name == "steps" else _texts)(found, name, paths[name])
        reference, n = self._note(row, "reference"), len(contents)
        answer = self._value(row, "answer")
        if are_several and "reference" not in paths and not isinstance(answer, list):
            # One answer beside several samples is none that each of them gave.
            reference, answers = _note(answer), [None] * n
        else:
            answers = self._values(answer, "answer", n, are_several)
        right, generators, log_probs = (
            self._values(self._value(row, part), part, n, are_several)
            for part in ("correct", "generator", "token_logprobs")
        )
        return [
            _Sample(
                problem,
                content,
                _note(answer),
                _correct(is_right, paths.get("correct", "")),
                reference,
                problem_id,
                _note(made_by),
                of_tokens,
            )
            for content, answer, is_right, made_by, of_tokens in zip(
                contents, answers, right, generators, log_probs, strict=True
            )
        ]

    def _samples_of_known(self, record: Record) -> list[_Sample]:
        extra = [name for name in ("answer", "correct", "reference", "generator") if name in self._paths]
        if extra or not is_candidates(record.fields):
            names = ", ".join(map(str, record.fields)) or "none"
            reason = f"{extra[0]} without steps or text" if extra else "no known layout"
            proposed = samples_proposal(record.fields)
            raise MalformedRecordError(reason, f"the fields are {names}. Say which field is what: {proposed}")
        one = sampled_in(record)
        problem_id = self._note(record.fields, "id")
        reference = one.answer if one.reference is None else one.reference
        return [
            _Sample(one.problem, content, None, is_right, reference, problem_id, made_by)
            for content, is_right, made_by in zip(one.candidates, one.is_correct, one.generators, strict=True)
        ]

    def _value(self, row: Mapping[str, Any], name: str) -> Any:
        """Return what stands in a field that a record may lack."""
        if name not in self._paths:
            return None
        try:
            value = value_at(row, self._paths[name], optional=True)
        except MalformedRecordError:
            return None
        self._missing.discard(name)
        return value

    def _note(self, row: Mapping[str, Any], name: str) -> str | None:
        return _note(self._value(row, name))

    def _values(self, value: Any, name: str, n: int, are_several: bool) -> list[Any]:
        """Return a value per sample."""
        if value is None or (name == "generator" and not isinstance(value, list)):
            return [value] * n
        if not are_several:
            return [value]
        if not isinstance(value, list) or len(value) != n:
            raise MalformedRecordError(
                "unequal lengths", f"{self._paths[name]} is {value!r:.60}, expected one per sample: {n}"
            )
        return value

    def check_found(self) -> None:
        """Raise if no record has a field that was named: it is misspelt."""
        if self._seen and self._missing:
            lost = ", ".join(f"{name}={self._paths[name]!r}" for name in sorted(self._missing))
            raise ValueError(f"no record has the field of {lost}; the fields are {', '.join(self._seen)}")


def _text_at(row: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a path, where a text that looks like JSON stays a text."""
    if isinstance(cell := row.get(path), str):
        value = value_at(cell, "")
        return value if isinstance(value, list) and len(value) > 1 and not any(map(_is_scalar, value)) else cell
    above, _, name = path.rpartition(".")
    holder = value_at(row, above) if above else None
    if (
        isinstance(holder, list)
        and all(isinstance(one, Mapping) for one in holder)
        and any(name in one for one in holder)
    ):
        if any("role" in one or "from" in one for one in holder):
            turn = f"'{above}.{len(holder) - 1}.{name}'"
            raise MalformedRecordError("a chat", f"{above} holds {len(holder)} turns: name one of them, such as {turn}")
        return [one.get(name) for one in holder]
    if isinstance(holder, Mapping) and isinstance(holder.get(name), str):
        return holder[name]
    return value_at(row, path)


def _is_scalar(value: object) -> bool:
    return isinstance(value, (bool, int, float))


def _texts(found: Any, name: str, path: str) -> tuple[list[str | None], bool]:
    """Return the text of each sample, None where there is none, and whether the record holds several."""
    are_several = isinstance(found, list)
    texts = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in (found if are_several else [found])]
    texts = [None if is_blank(one) else one for one in texts]
    for i, one in enumerate(texts):
        if isinstance(one, Mapping):
            raise _holds_objects(name, path, one)
        if not isinstance(one, str | None):
            raise wrong_type(f"{path} is no text", f"{path}[{i}]" if are_several else path, one)
    return texts, are_several


def _steps(found: Any, name: str, path: str) -> tuple[list[list[str] | None], bool]:
    """Return the steps of each sample, None where there are none, and whether the record holds several."""
    if isinstance(found, str) and found.strip():
        raise MalformedRecordError(
            f"{path} is one text", f"{found!r:.60}: pass text={path!r} in place of steps={path!r}"
        )
    are_several = isinstance(found, list) and any(isinstance(one, list) for one in found)
    samples = found if are_several else [found]
    for i, one in enumerate(samples):
        if is_blank(one):
            continue
        if not isinstance(one, list):
            raise wrong_type(f"{path} is no list", f"{path}[{i}]" if are_several else path, one)
        for step in one:
            if isinstance(step, Mapping):
                raise _holds_objects(name, path, step)
        Record({path: one}).texts(path)
    return [None if is_blank(one) else one for one in samples], are_several


def _holds_objects(name: str, path: str, one: Mapping[Any, Any]) -> MalformedRecordError:
    lengths = {f"{path}.{key}": len(value) for key, value in one.items() if isinstance(value, (str, list))}
    inside = max(lengths, key=lengths.__getitem__, default=None)
    hint = "they hold no text" if inside is None else f"name the field in them: {name}={inside!r}"
    return MalformedRecordError(f"{path} holds objects", f"{one!r:.60}: {hint}")


def _note(value: object) -> str | None:
    return None if is_blank(value) else Record({"value": value}).note("value")


def _correct(value: object, name: str) -> bool | None:
    return None if is_blank(value) else correct_of(value, name)


class _Reader:
    """From what records tell to sets of candidates. It counts what is left out and what is doubtful."""

    def __init__(
        self,
        by: By,
        think: Think,
        extract: Callable[[str], str | None] | None,
        contradictions: Contradictions,
        comparison: AnswerComparison,
        counts: Counter[str],
    ) -> None:
        self._by, self._think, self._extract = by, think, extract
        self._contradictions, self._comparison, self._counts = contradictions, comparison, counts
        self._first = ""
        self._one_step: list[str | list[str]] = []

    def set_of(self, samples: Sequence[tuple[_Sample, str]]) -> CandidateSet | None:
        """Return the candidates of one problem, None if all are blank."""
        first, record_id = samples[0]
        set_id = record_id if first.problem_id is None else first.problem_id
        references = [_reference(one.reference) for one, _ in samples if one.reference is not None]
        reference = references[0] if references else None
        if len(set(map(normal_answer, references))) > 1:
            self._counts["problems with several reference answers, of which the first counts"] += 1
        kept = []
        for number, (sample, _) in enumerate(samples):
            steps = self._steps_of(sample.content)
            if not steps:
                self._counts[_BLANK] += 1
                continue
            solution_id = f"{set_id}/{number}"
            answer, is_right, told = self._checked(sample, steps, reference, solution_id)
            if told and self._contradictions == "drop":
                self._counts[LEFT_OUT] += 1
                continue
            meta = {"generator": sample.generator, "contradiction": told, "token_logprobs": sample.token_logprobs}
            meta = {name: value for name, value in meta.items() if value is not None}
            kept.append((Solution(sample.problem, steps, id=solution_id, meta=meta), is_right, answer))
        if not kept:
            self._counts["problems without a sample that is left, left out"] += 1
            return None
        solutions, right, answers = zip(*kept, strict=True)
        return CandidateSet(first.problem, solutions, right, answers, (), reference, set_id)

    def _steps_of(self, content: str | list[str] | None) -> list[str]:
        if isinstance(content, list):
            return content if any(step.strip() for step in content) else []
        steps = split_steps(content or "", self._by, think=self._think)
        if len(steps) == 1 and content:
            self._counts[_ONE_STEP] += 1
            self._one_step.append(content)
        return steps

    def _checked(
        self, sample: _Sample, steps: list[str], reference: str | None, solution_id: str
    ) -> tuple[str | None, bool | None, Contradiction | None]:
        """Return answer and correctness of a sample, and what contradicts its text."""
        text = sample.content if isinstance(sample.content, str) else "\n\n".join(steps)
        found, answer, is_right = found_in(text, self._extract), sample.answer, sample.correct
        believed, told = contradiction_of(found, steps[-1], answer, is_right, reference, self._comparison)
        if told:
            count_contradiction(told, self._counts)
        answer = believed if answer is None else answer
        if told and self._contradictions == "text":
            answer, is_right = believed, None
        if is_right is None and reference is not None:
            self._counts["samples compared with the reference answer"] += 1
            is_right = self._comparison.same(answer, reference)
        self._first = self._first or (f"{solution_id}: {told['said']}" if told else "")
        return answer, is_right, told

    def warn(self) -> None:
        """Warn of blank samples, of texts that were not cut, and of records that contradict texts."""
        counts = self._counts
        n = counts["samples"]
        if counts[_BLANK]:
            _warn(f"{counts[_BLANK]} of {n + counts[_BLANK]} samples are blank and were left out")
        if 2 * counts[_ONE_STEP] > n:
            _warn(f"{counts[_ONE_STEP]} of {n} samples have one step only{other_units(self._one_step, self._by)}")
        if counts[ANSWERS] or counts[CORRECT]:
            done = {
                "keep": "The records are kept: pass contradictions='text' to believe the texts, or 'drop'"
                ". candidates.contradictions lists them",
                "text": "The texts are believed. candidates.contradictions lists them",
                "drop": "These samples are left out",
            }[self._contradictions]
            cut = f" ({counts[CUT]} {CUT})" if counts[CUT] else ""
            said = {ANSWERS: f"{counts[ANSWERS]} {ANSWERS}{cut}", CORRECT: f"{counts[CORRECT]} {CORRECT}"}
            found = ", and ".join(text for kind, text in said.items() if counts[kind])
            _warn(f"{found}. The first is {self._first}. {done}")


def _reference(text: str) -> str:
    """Return a reference answer, also if it is marked in a worked solution."""
    return extract_answer(text, last_number=False).answer or text


def _warn(message: str, stacklevel: int = 4) -> None:
    warnings.warn(message, UserWarning, stacklevel=stacklevel)
