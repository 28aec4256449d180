"""ReasonEval's three files: human labels of invalid and of redundant steps, and edits made by a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    Record,
    error_at,
    from_first_error,
    from_ratings,
    labels_at,
)
from prmkit.data.formats.label_words import Rating, wrong_value
from prmkit.data.formats.reading import read, reads_benchmark
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import ContradictoryRecordError, MalformedRecordError

_BLOCKS = "model_output_step_format"
_INDEX = "model_output_solution_first_error_step"
_VERDICT = "model_output_solution_correctness"
_FIELDS = {
    "invalid": {"question", _BLOCKS, _INDEX},
    "redundant": {"question", _BLOCKS, "rating"},
    "perturbation": {"question", "reference_steps", "hypothesis_steps", "error_type", "tags"},
}
_MAPPED = ("random number", "random operation")
_EDITS = (*_MAPPED, "swap steps", "remove step", "repeat step", "swap solutions")


def _kinds(value: object) -> list[str]:
    fields = set(value) if isinstance(value, Mapping) else set()
    return [kind for kind, names in _FIELDS.items() if names <= fields]


def _recognises(value: object) -> bool:
    return len(_kinds(value)) == 1


def _parse(record: Record, solution_id: str, counts: Counter[str], *, blocks: str = "join") -> list[LabelledSolution]:
    if blocks not in ("join", "split"):
        raise ValueError(f"blocks is {blocks!r}, expected 'join' or 'split'")
    kinds = _kinds(record.fields)
    if len(kinds) != 1:
        raise MalformedRecordError(
            "several of ReasonEval's formats" if kinds else "none of ReasonEval's formats",
            f"the fields are {', '.join(map(str, record.fields)) or 'none'}",
        )
    meta: dict[str, Any] = {
        "kind": kinds[0],
        "record_id": record.note("id"),
        "answer": record.note("ground_truth_answer"),
        "generator": record.note("generator"),
        "final_answer_correct": record.flag("model_output_answer_correctness", counts),
    }
    problem = record.text("question")
    if kinds[0] == "perturbation":
        return [_perturbation(record, problem, solution_id, meta, counts)]
    groups = _groups_of_steps(record)
    if kinds[0] == "invalid":
        of_blocks, of_all_parts = _invalid(record, len(groups)), 1
    else:
        of_blocks, of_all_parts = _redundant(record), 0
    if blocks == "join":
        steps, ratings = ["\n".join(group) for group in groups], of_blocks
    else:
        steps, ratings = _split(groups, of_blocks, of_all_parts, counts)
        meta["block_of_step"] = [i for i, group in enumerate(groups) for _ in group]
        meta["block_ratings"] = of_blocks
    labelled = from_ratings(problem, steps, ratings, solution_id, meta)
    # Without a wrong block, a part that has no rating is no error either.
    first_error = labelled.first_error if -1 in of_blocks else -1
    return [replace(labelled, first_error=first_error)]


def _groups_of_steps(record: Record) -> list[list[str]]:
    groups = record.value(_BLOCKS)
    if not isinstance(groups, list) or not all(groups):
        raise MalformedRecordError("no blocks", f"{_BLOCKS} is {groups!r:.60}, expected lists of steps, none empty")
    block = f"a block of {_BLOCKS}"
    return [Record({block: group}).texts(block) for group in groups]


def _invalid(record: Record, n_blocks: int) -> list[Rating]:
    first_error = record.first_error(_INDEX, _VERDICT)
    return list(from_first_error("", [""] * n_blocks, first_error, "").ratings)


def _redundant(record: Record) -> list[Rating]:
    ratings = record.array("rating")
    if not all(type(rating) is int and rating in (0, 1) for rating in ratings):
        raise MalformedRecordError(
            "unknown rating", f"rating is {ratings!r:.60}, expected a list of 0 (redundant) and 1 (useful)"
        )
    return list(ratings)


def _split(
    groups: list[list[str]], of_blocks: list[Rating], of_all_parts: int, counts: Counter[str]
) -> tuple[list[str], list[Rating]]:
    """Return every part as a step. It has the rating of its block if that must hold for each part, else none."""
    if len(of_blocks) != len(groups):
        raise ContradictoryRecordError("unequal lengths", f"{len(of_blocks)} labels for {len(groups)} blocks")
    ratings: list[Rating] = []
    for group, rating in zip(groups, of_blocks, strict=True):
        holds = len(group) == 1 or rating == of_all_parts
        ratings += [rating if holds else None] * len(group)
        if not holds and rating is not None:
            counts["doubtful: parts of a rated block, not rated themselves"] += len(group)
    return [step for group in groups for step in group], ratings


def _perturbation(
    record: Record, problem: str, solution_id: str, meta: dict[str, Any], counts: Counter[str]
) -> LabelledSolution:
    reference, steps = record.texts("reference_steps"), record.texts("hypothesis_steps")
    edit, tags = record.text("error_type").strip(), record.value("tags")
    tags = tags if isinstance(tags, list) else [tags]
    if edit not in _EDITS:
        raise wrong_value("unknown error_type", "error_type", edit, f"one of {', '.join(_EDITS)}")
    if not tags or not all(type(tag) is int and tag >= 0 for tag in tags):
        raise wrong_value("tags is no index", "tags", tags, "0, 1, …")
    meta = {**meta, "error_type": edit, "tags": tags, "rid": record.note("rid")}
    # Steps that were swapped, removed or repeated are right in themselves: nothing tells which one is wrong.
    if edit not in _MAPPED:
        labelled = from_ratings(problem, steps, [None] * len(steps), solution_id, meta)
        counts[f"without labels: {edit}"] += 1
        return labelled
    changed = [i for i, (before, after) in enumerate(zip(reference, steps, strict=False)) if before != after]
    if len(reference) != len(steps) or changed != tags:
        raise ContradictoryRecordError(
            "tags is not what was edited",
            f"tags is {tags!r:.60}; of {len(reference)} and {len(steps)} steps {changed!r:.60} differ",
        )
    return from_first_error(problem, steps, tags[0], solution_id, meta)


def _labels_of(record: Mapping[str, Any]) -> Sequence[object]:
    return labels_at("rating")(record) or error_at(_INDEX)(record)


REASONEVAL = Format(
    name="reasoneval",
    description="ReasonEval's files: first invalid block, redundant (0) or useful (+1) blocks, or edited steps",
    recognises=_recognises,
    parse=_parse,
    labels_of=_labels_of,
    benchmark=True,
    unlabelled="right",
)


@reads_benchmark
def load_reasoneval(
    source: Source,
    *,
    blocks: Literal["join", "split"] = "join",
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    """Load ReasonEval's files (Xia et al. 2024, arXiv:2404.05692), which have three formats.

    - invalid: ``{"id": 4, "question": "2 + 3 * 4?", "model_output_step_format": [["3 * 4 = 12."], ["2 + 12 = 15.",``
      ``"So 15."]], "model_output_solution_correctness": "wrong", "model_output_solution_first_error_step": "2"}``
    - redundant: ``{"id": 5, "question": "2 + 3 * 4?", "model_output_step_format": [["Let us begin."], ["3 * 4 + 2 =``
      ``14."]], "rating": [0, 1]}``
    - perturbation: ``{"id": 6, "rid": 9, "question": "2 + 3 * 4?", "reference_steps": ["3 * 4 = 12.", "So 14."],``
      ``"hypothesis_steps": ["3 * 4 = 17.", "So 14."], "error_type": "random number", "tags": 0}``

    Parameters
    ----------
    blocks : {"join", "split"}, default="join"
        What becomes of a block. A block is a list of parts, and labels belong to blocks. "join" makes a block one step
        of several lines. "split" makes every part a step. A part has the label of its block if that must hold for each
        part: parts of a valid block are valid, parts of a redundant one redundant. Other parts have no label and are
        counted. ``Solution.meta`` then holds ``block_of_step`` and ``block_ratings``, for scores that take the minimum
        over a block.

    Returns
    -------
    StepDataset
        - invalid: +1 before the first error and -1 there. Nobody judged later blocks, so they are no rows.
        - redundant: 0 or +1 for each block. None is wrong.
        - perturbation: a script's edit of a number or an operation is -1, and the steps before it +1, although such an
          edit need not make a step false. Other edits tell of no wrong step. Their solutions are in ``solutions``
          without rows, and counted.

        ``Solution.meta`` holds ``kind`` ("invalid", "redundant" or "perturbation") and, where the file has them,
        ``record_id``, ``answer``, ``generator``, ``final_answer_correct``, ``error_type``, ``tags`` and ``rid``.

    Examples
    --------
    >>> steps = [["We begin."], ["3 * 4 = 12.", "So 14."]]
    >>> row = {"question": "2 + 3 * 4?", "model_output_step_format": steps, "rating": [0, 1]}
    >>> load_reasoneval([row]).y
    array([0, 1])
    >>> dataset = load_reasoneval([row], blocks="split")
    >>> dataset.y, dataset.solutions[0].n_steps
    (array([0]), 3)
    """
    return read(source, REASONEVAL, on_error=on_error, limit=limit, split=split, published=True, blocks=blocks)
