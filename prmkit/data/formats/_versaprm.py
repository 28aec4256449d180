"""VersaPRM: several solutions of each question of many domains, labelled up to the first wrong step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prmkit.data.formats.format import Format, LabelledSolution, Record, from_ratings, has_fields
from prmkit.data.formats.label_words import Rating, wrong_value

_SOLUTIONS = "chain_of_thoughts"


def _parse(record: Record, solution_id: str, counts: Counter[str]) -> list[LabelledSolution]:
    """Return the solutions of a question.

    The layout is that of the training data of github.com/UW-Madison-Lee-Lab/VersaPRM (arXiv:2502.06737). The class
    ``TokenizedPRMDataset``, with which ``model_train/utils.py`` reads it, takes ``label = 1 if labels[i] == 1 else 0``
    and stops after the first incorrect step. The labeller names that step alone, and ``[1] * label + [-1] * (cot_len -
    label)`` fills in the rest. So 1 is right, -1 and 0 are wrong, and nobody judged the steps after the first wrong
    one. ``labels`` is null where the labeller failed.
    """
    question = record.text("question")
    meta = {name: record.note(name) for name in ("answer", "domain", "category")}
    meta["record_id"] = record.note("id")
    parsed = []
    for number, value in enumerate(record.array(_SOLUTIONS)):
        solution = Record(value)
        steps = solution.texts("steps")
        if solution.value("labels", None) is None:
            counts["solutions without labels"] += 1
            ratings: list[Rating] = [None] * len(steps)
        else:
            ratings = _ratings(solution.array("labels"), f"{_SOLUTIONS}[{number}].labels")
        if -1 in ratings:
            judged = ratings.index(-1) + 1
            counts["labels after the first wrong step, filled in by the file, left out"] += len(ratings) - judged
            ratings = [*ratings[:judged], *([None] * (len(ratings) - judged))]
        parsed.append(from_ratings(question, steps, ratings, f"{solution_id}/{number}", meta))
    return parsed


def _ratings(labels: Sequence[object], name: str) -> list[Rating]:
    for i, label in enumerate(labels):
        if not isinstance(label, (int, float)) or label not in (-1, 0, 1):
            raise wrong_value("unknown label", f"{name}[{i}]", label, "1 (right), -1 or 0 (wrong)")
    return [1 if label == 1 else -1 for label in labels]


def _labels_of(record: Mapping[str, Any]) -> Sequence[object]:
    solutions = record.get(_SOLUTIONS)
    inside = [one.get("labels") for one in solutions if isinstance(one, Mapping)] if isinstance(solutions, list) else []
    return [label for labels in inside if isinstance(labels, list) for label in labels]


VERSAPRM = Format(
    name="versaprm",
    description="VersaPRM's question, chain_of_thoughts: 1 is right, -1 or 0 wrong; later steps are not judged",
    recognises=has_fields({"question": str, _SOLUTIONS: list}),
    parse=_parse,
    labels_of=_labels_of,
)
