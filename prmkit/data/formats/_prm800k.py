"""PRM800K's records among the other formats: recognised, streamed, and written as ``load_prm800k`` reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    Record,
    check_writable_ratings,
    from_ratings,
    has_fields,
)
from prmkit.data.formats.label_words import Rating
from prmkit.data.formats.reading import read
from prmkit.data.formats.sources import Source, several_addresses
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.prm800k._loader import load_prm800k
from prmkit.data.prm800k._records import Rules, parse_record, trajectory_rows, why_dropped

_FIELDS_OF_PHASE_2 = (
    "ground_truth_solution",
    "pre_generated_steps",
    "pre_generated_answer",
    "pre_generated_verifier_score",
)


def _parse(record: Record, solution_id: str, counts: Counter[str]) -> list[LabelledSolution]:
    rules = Rules(view="trajectories")
    if (reason := why_dropped(record.fields, rules)) is not None:
        counts[f"dropped: {reason}"] += 1
        return []
    rows = list(trajectory_rows(parse_record(record.fields, solution_id), rules, counts))
    if not rows:
        counts["dropped: no rated step"] += 1
        return []
    solution = rows[0][0].solution
    ratings: list[Rating] = [None] * solution.n_steps
    for step, rating, _ in rows:
        ratings[step.index] = rating
    rated = from_ratings(solution.problem, solution.steps, ratings, solution_id)
    # The record's own solution has an id and metadata.
    return [replace(rated, solution=solution)]


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    solution, ratings = labelled.solution, labelled.ratings
    check_writable_ratings(labelled, hard_only="PRM800K rates -1, 0, 1")
    if not solution.problem.strip() or not all(step.strip() for step in solution.steps):
        raise MalformedRecordError("blank text", "PRM800K has no blank problem and no blank step")
    meta = dict(solution.meta or {})
    # Phase 2 of the published files has more fields, and load_prm800k tells the phases apart by them.
    last = "found_error" if ratings[-1] == -1 else None if None in ratings else "solution"
    question = {
        "problem": solution.problem,
        "ground_truth_answer": meta.get("final_answer", meta.get("answer")),
        **dict.fromkeys(() if meta.get("phase") == 1 else _FIELDS_OF_PHASE_2),
    }
    steps = [
        {
            "completions": [{"text": text, "rating": rating, "flagged": False}],
            "human_completion": None,
            "chosen_completion": 0,
        }
        for text, rating in zip(solution.steps, ratings, strict=True)
    ]
    return {
        "labeler": meta.get("labeler"),
        "timestamp": None,
        "generation": meta.get("generation"),
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": question,
        "label": {"steps": steps, "total_time": None, "finish_reason": meta.get("finish_reason", last)},
    }


def load_trajectories(source: Source, **options: Any) -> StepDataset:
    """Load PRM800K as ``load_prm800k`` does, one solution per record unless ``view`` says otherwise.

    Records that are no files are read one by one, and equal solutions are not merged.
    """
    addresses = [source] if isinstance(source, (str, PathLike)) else several_addresses(source)
    if not addresses:
        return read(source, PRM800K, **options)
    view = {"view": "trajectories", **options}
    return load_prm800k(addresses[0] if len(addresses) == 1 else addresses, **view)


PRM800K = Format(
    name="prm800k",
    description="PRM800K's records: human ratings -1, 0, +1 of the solution that each record follows",
    recognises=has_fields({"question": Mapping, "label": Mapping}),
    parse=_parse,
    write=_write,
    reader=load_trajectories,
)
