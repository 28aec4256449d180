"""One PRM800K record: it is checked, then read as labelled prefixes or as one trajectory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.solution import Solution, Step

_ANSWER_LINE = re.compile(r"^[ \t]*# Answer[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rules:
    """Which records and ratings count. See ``load_prm800k``."""

    phase: int | None = None
    view: str = "prefixes"
    include_alternatives: bool = True
    drop_quality_control: bool = True
    drop_screening: bool = True
    drop_flagged: bool = True
    cut_answer: bool = False


class RowMeta(TypedDict):
    """Metadata of a row."""

    source: str
    chosen: bool
    flagged: bool
    labeler: str | None
    generation: int | None
    phase: int | None


class Candidate(NamedTuple):
    """One text for a position in a solution, and the labeller's rating of it."""

    text: str
    rating: int | None
    flagged: bool
    answer: str | None
    source: str = "model"


class Branch(NamedTuple):
    """One position in a solution. All candidates follow the same prefix, and one of them may continue it."""

    candidates: tuple[Candidate, ...]
    chosen: int | None
    human: Candidate | None

    @property
    def continuing(self) -> Candidate | None:
        """The candidate that the solution continues with, None at its end."""
        return self.human if self.chosen is None else self.candidates[self.chosen]


class Record(NamedTuple):
    """One labelled solution."""

    problem: str
    branches: tuple[Branch, ...]
    id: str
    meta: dict[str, Any]


def why_dropped(record: object, rules: Rules, file_phase: int | None = None) -> str | None:
    """Return the reason why a record is left out as a whole, or None if it stays."""
    if rules.drop_quality_control and _field(record, "is_quality_control_question", "record", None):
        return "quality control"
    if rules.drop_screening and _field(record, "is_initial_screening_question", "record", None):
        return "screening"
    if _field(_field(record, "label", "record"), "finish_reason", "label", None) == "bad_problem":
        return "bad_problem"
    if rules.phase is not None:
        phase = file_phase or phase_of(record)
        if phase is None:
            return "phase not recorded"
        if phase != rules.phase:
            return "other phase"
    return None


def phase_of(record: object) -> int | None:
    """Return 1 or 2, or None if the record does not tell its phase.

    Phase 2 numbers its generations. Phase 1 has ``generation: null`` *and* a question without pre-generated fields.
    If these fields are there but null, they were lost, and so was the phase.
    """
    question = _field(record, "question", "record")
    if _field(record, "generation", "record", None) is not None:
        return 2
    if _field(question, "pre_generated_steps", "question", None) is not None:
        return 2
    return None if "pre_generated_steps" in question else 1


def parse_record(record: object, record_id: str, *, cut_answer: bool = False, file_phase: int | None = None) -> Record:
    """Check a record against the schema. A MalformedRecordError names the field, its value and the expected one."""
    question, label = _field(record, "question", "record"), _field(record, "label", "record")
    problem = _text(question, "problem", "question")
    steps = _field(label, "steps", "label")
    if not isinstance(steps, list):
        raise _wrong_type("label.steps", steps, "a list")
    meta = {
        "final_answer": _field(question, "ground_truth_answer", "question", None),
        "finish_reason": _field(label, "finish_reason", "label", None),
        "labeler": _field(record, "labeler", "record", None),
        "generation": _field(record, "generation", "record", None),
        "phase": file_phase or phase_of(record),
    }
    branches = tuple(_parse_branch(step, f"label.steps[{i}]", cut_answer) for i, step in enumerate(steps))
    return Record(problem, branches, record_id, meta)


def prefix_rows(record: Record, rules: Rules, counts: Counter[str]) -> Iterator[tuple[Step, int, RowMeta]]:
    """Yield every rated step of a record after its own prefix, in the order of the record.

    Steps that the solution continues with share one solution. Each alternative gets its own, in which the
    other alternatives cannot be seen.
    """
    branches = _until_end(record, counts)
    chosen_steps = [branch.continuing for branch in branches if branch.continuing is not None]
    main = _solution(record, (), chosen_steps, record.id)
    for i, branch in enumerate(branches):
        ratings = [_target(candidate, rules, counts) for candidate in branch.candidates]
        leaf = _terminal_pick(ratings) if branch.continuing is None else None
        for j, (candidate, rating) in enumerate(zip(branch.candidates, ratings, strict=True)):
            if rating is None:
                continue
            if j == branch.chosen:
                yield Step(main, i), rating, _row_meta(record, candidate, chosen=True)
            elif rules.include_alternatives or j == leaf:
                alternative = _solution(record, main.steps[:i], [candidate], f"{record.id}/{i}.{j}")
                yield Step(alternative, i), rating, _row_meta(record, candidate, chosen=False)
            else:
                counts["alternatives left out"] += 1
        if branch.chosen is None and branch.human is not None:
            rating = _target(branch.human, rules, counts)
            if rating is not None:
                yield Step(main, i), rating, _row_meta(record, branch.human, chosen=True)


def trajectory_rows(record: Record, rules: Rules, counts: Counter[str]) -> Iterator[tuple[Step, int, RowMeta]]:
    """Yield the rated steps of the one solution that a record follows to its end."""
    path: list[tuple[Candidate, int | None, bool]] = []
    for branch in _until_end(record, counts):
        ratings = [_target(candidate, rules, counts) for candidate in branch.candidates]
        picked = branch.chosen
        if branch.continuing is None:
            picked = _terminal_pick(ratings)
        if picked is not None:
            path.append((branch.candidates[picked], ratings[picked], picked == branch.chosen))
        elif branch.human is not None:
            path.append((branch.human, _target(branch.human, rules, counts), True))
        rated = sum(rating is not None for rating in ratings)
        counts["alternatives left out"] += rated - (picked is not None and ratings[picked] is not None)
    solution = _solution(record, (), [candidate for candidate, _, _ in path], record.id)
    for i, (candidate, rating, chosen) in enumerate(path):
        if rating is not None:
            yield Step(solution, i), rating, _row_meta(record, candidate, chosen=chosen)


def _until_end(record: Record, counts: Counter[str]) -> tuple[Branch, ...]:
    """Return the branches up to the first that nothing continues. Those after it have no prefix."""
    for i, branch in enumerate(record.branches):
        if branch.continuing is None:
            counts["steps after the end"] += len(record.branches) - i - 1
            return record.branches[: i + 1]
    return record.branches


def _target(candidate: Candidate, rules: Rules, counts: Counter[str]) -> int | None:
    """Return the rating to learn from, None if the candidate was not rated, or its rating does not count."""
    if candidate.rating is None:
        counts["unrated"] += 1
        return None
    if candidate.flagged and rules.drop_flagged:
        counts["flagged"] += 1
        return None
    counts["human steps"] += candidate.source == "human"
    return candidate.rating


def _terminal_pick(ratings: list[int | None]) -> int | None:
    """Return the leaf that ends the trajectory: the first wrong one, else the first rated one."""
    rated = [j for j, rating in enumerate(ratings) if rating is not None]
    return next((j for j in rated if ratings[j] == -1), rated[0] if rated else None)


def _solution(record: Record, prefix: tuple[str, ...], candidates: list[Candidate], solution_id: str) -> Solution:
    meta = record.meta
    if candidates and candidates[-1].answer is not None:
        meta = {**meta, "answer": candidates[-1].answer}
    texts = (candidate.text for candidate in candidates)
    return Solution(record.problem, (*prefix, *texts), id=solution_id, meta=meta)


def _row_meta(record: Record, candidate: Candidate, *, chosen: bool) -> RowMeta:
    return {
        "source": candidate.source,
        "chosen": chosen,
        "flagged": candidate.flagged,
        "labeler": record.meta["labeler"],
        "generation": record.meta["generation"],
        "phase": record.meta["phase"],
    }


def _parse_branch(step: object, where: str, cut_answer: bool) -> Branch:
    """Check one step object. ``where`` names it in errors."""
    completions = _field(step, "completions", where)
    chosen = _field(step, "chosen_completion", where)
    human = _field(step, "human_completion", where, None)
    # The last step of a solution that was given up may have null.
    completions = [] if completions is None else completions
    if not isinstance(completions, list):
        raise _wrong_type(f"{where}.completions", completions, "a list or null")
    candidates = tuple(
        _parse_candidate(completion, f"{where}.completions[{j}]", cut_answer)
        for j, completion in enumerate(completions)
    )
    if chosen is not None:
        if isinstance(chosen, bool) or not isinstance(chosen, int):
            raise _wrong_type(f"{where}.chosen_completion", chosen, "an int or null")
        if not 0 <= chosen < len(candidates):
            detail = f"{where}.chosen_completion is {chosen} with {len(candidates)} completions"
            raise MalformedRecordError("index out of range", detail)
    if human is not None:
        text, answer = _cut(_text(human, "text", f"{where}.human_completion"), cut_answer)
        # The labeller wrote it because no candidate was right. Its own rating is null.
        human = Candidate(text, 1, bool(human.get("flagged")), answer, "human")
    return Branch(candidates, chosen, human)


def _parse_candidate(completion: Any, where: str, cut_answer: bool) -> Candidate:
    text, answer = _cut(_text(completion, "text", where), cut_answer)
    rating = _field(completion, "rating", where)
    if rating is not None and (isinstance(rating, bool) or rating not in (-1, 0, 1)):
        raise MalformedRecordError("unknown rating", f"{where}.rating is {rating!r:.40}, expected -1, 0, 1 or null")
    return Candidate(text, rating if rating is None else int(rating), bool(completion.get("flagged")), answer)


def _cut(text: str, cut_answer: bool) -> tuple[str, str | None]:
    """Split a step at its ``# Answer`` line. A step that is nothing else keeps its text."""
    line = _ANSWER_LINE.search(text) if cut_answer else None
    if line is None:
        return text, None
    return text[: line.start()].rstrip() or text, text[line.end() :].strip()


def _text(mapping: object, key: str, where: str) -> str:
    text = _field(mapping, key, where)
    if not isinstance(text, str):
        raise _wrong_type(f"{where}.{key}", text, "a string")
    if not text.strip():
        raise MalformedRecordError("empty text", f"{where}.{key} is {text!r:.40}")
    return text


_REQUIRED = object()


def _field(mapping: object, key: str, where: str, default: object = _REQUIRED) -> Any:
    """Return a field of an object in the record, or the default if it lacks the field."""
    if not isinstance(mapping, dict):
        raise _wrong_type(where, mapping, "an object")
    if key not in mapping and default is _REQUIRED:
        keys = ", ".join(map(repr, mapping)) or "nothing"
        raise MalformedRecordError("missing key", f"{where} has no {key!r}, only {keys}")
    return mapping.get(key, default)


def _wrong_type(where: str, value: object, expected: str) -> MalformedRecordError:
    detail = f"{where} is {type(value).__name__} ({value!r:.40}), expected {expected}"
    return MalformedRecordError("wrong type", detail)
