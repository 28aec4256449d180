"""Verify-then-generate: wrong solutions of pupils to word problems, with the first error that a teacher marked."""

from __future__ import annotations

from collections import Counter

from prmkit.data.formats.format import Format, LabelledSolution, Record, error_at, from_first_error, has_fields
from prmkit.data.formats.label_words import wrong_value
from prmkit.data.jsonlines import ContradictoryRecordError

_STEPS, _INDEX, _QUOTED = "student_incorrect_solution", "incorrect_index", "incorrect_step"


def _parse(record: Record, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    """Return the wrong solution of a record.

    The layout is that of ``dataset/dataset.json`` in github.com/eth-lre/verify-then-generate (arXiv:2407.09136). Its
    README calls ``incorrect_step`` "The first step with a student mistake as annotated by a teacher". It is the text at
    ``incorrect_index``, counted from 0. The last step is the bare answer.
    """
    problem, steps, index = record.text("problem"), record.texts(_STEPS), record.value(_INDEX)
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise wrong_value(f"{_INDEX} is no index", _INDEX, index, "the 0-based first error")
    meta = {
        "error_type": record.note("error_category"),
        "error_description": record.note("error_description"),
        "topic": record.note("topic"),
    }
    labelled = from_first_error(problem, steps, index, solution_id, meta)
    quoted = record.value(_QUOTED, None)
    if isinstance(quoted, str) and quoted.strip() != steps[index].strip():
        raise ContradictoryRecordError(
            "first error is another step", f"{_INDEX} is {index}, {steps[index]!r:.40}; {_QUOTED} is {quoted!r:.40}"
        )
    return [labelled]


VERIFY_THEN_GENERATE = Format(
    name="verify_then_generate",
    description="verify-then-generate's student_incorrect_solution, 0-based first error; later steps are not judged",
    recognises=has_fields({"problem": str, _STEPS: list, _INDEX: object}),
    parse=_parse,
    labels_of=error_at(_INDEX),
    benchmark=True,
    unlabelled="right",
)
