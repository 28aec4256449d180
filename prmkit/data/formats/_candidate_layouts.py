"""How best-of-N files are laid out: objects with a text, parallel lists, or one object per named model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from prmkit.data._malformed import MalformedRecordError
from prmkit.data.formats._format import any_field, text_field, texts_field


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
