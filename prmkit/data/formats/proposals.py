"""What to type: guesses at the calls that read records of no known format, and what only their author knows."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from prmkit.data.formats._rlhf import KNOWN_PLACEHOLDERS
from prmkit.data.formats.fields import cut_at, flat_labels, value_at
from prmkit.data.formats.format import from_cell
from prmkit.data.formats.label_words import Meaning, rating_of
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.labels import is_blank

_DEPTH = 5
"""Number of names in a path that is looked at."""
_OF_ANOTHER = re.compile(r"(^|_)(id|idx|uuid|type|source|index_of|length|count|n|num)($|_)")
"""Parts of names that tell something about a problem or a solution, and are none."""
_SHORT = 20
"""Longest text, in characters, that may be a label."""
_PROBLEM = ("problem", "question", "prompt", "query", "instruction", "input", "src", "task")
_STEPS = (
    *("step", "process", "solution", "response", "completion", "thought", "content", "chain", "prefix", "text"),
    *("reasoning", "rationale", "reply", "output", "generation", "trace", "trajectory", "answer"),
)
_LABELS = ("label", "rating", "score", "value", "correct", "reward", "judg", "good", "mark", "verdict", "annotation")
_ERROR = ("first_error", "error_step", "error_index", "mistake", "error", "incorrect", "wrong", "label")
_NUMBERS = ("step", "number", "index", "idx", "order", "position")
_TEXTS = ("step", "text", "sentence", "line")
_CANDIDATES = ("completion", "generation", "response", "candidate", "sample", "output", "code", "pred", "answers")
_ANSWER = ("answer", "ground_truth", "gt", "target", "reference", "solution")
N_PEEKED = 20
"""Number of records that are searched for a field that is not read."""
_CORRECT = ("correct", "right", "passed", "label", "score", "verified", "reward")


def proposal(records: Sequence[object]) -> str:
    """Return the call that probably reads step labels of such records, and what only their author knows.

    A part that is not seen is "…".
    """
    fields: dict[str, Any] = {}
    for path, value in (leaf for record in records for leaf in _leaves(record)):
        fields[path] = value if fields.get(path) is None else fields[path]
    problem = _first(fields, _PROBLEM, _is_text)
    if problem == "…":
        problem = _only(fields, lambda value: isinstance(value, str) and " " in value)
    # Whoever speaks in a chat is no label.
    fields = {path: value for path, value in fields.items() if path.rpartition(".")[2] not in ("role", "from")}
    labels = _first(fields, _LABELS, lambda value: _is_labels(value, None), problem)
    n_labels = len(flat_labels(fields.get(labels)))
    # A name such as step_scores is that of labels, unless nothing else holds texts.
    of_labels = [path for path in fields if any(word in path.rpartition(".")[2].casefold() for word in _LABELS)]
    for taken in (of_labels, []):
        steps = _first(fields, _STEPS, lambda value: _are_steps(value, n_labels), problem, *taken)
        if steps != "…":
            break
    steps = _only(fields, _are_sentences, problem) if steps == "…" else steps
    shape = _shape(fields.get(steps), n_labels)
    first_error = _first(fields, _ERROR, _is_index, problem, steps)
    first_error = _first(fields, _ERROR[:4], lambda value: value is None) if first_error == "…" else first_error
    labels = _first(fields, _LABELS, lambda value: _is_labels(value, shape), problem, steps)
    if labels == "…" and first_error == "…" and shape:
        labels = _only(fields, lambda value: _is_labels(value, shape), problem, steps)
    named = {"problem": problem, "steps": steps}
    if labels == "…" and first_error != "…":
        named["first_error"] = first_error
        options, hints = _of_errors(records, steps, first_error)
    else:
        named["labels"] = labels
        options, hints = _of_labels(records, labels)
    if isinstance(text := fields.get(steps), str) and (separator := _separator(text, n_labels)):
        options.append(f"step_separator={separator!r}")
    if named["problem"] == "…":
        del named["problem"]
        hints.append("Add problem='…', the field of the problem, if there is one")
    if unseen := [name for name, path in named.items() if path == "…"]:
        hints.append(f"Put the field of {' and '.join(unseen)} in place of '…'")
    if named.get("labels") == "…" and (table := table_proposal(records)):
        return f"{table}. This is right if each record is one step"
    if named.get("labels") == "…" and re.search(r"(correct|reference)=", samples := samples_proposal(records[0])):
        hints.append(f"If these are sampled solutions without step labels, {samples} reads them")
    return _call(named, options, hints)


def _call(named: Mapping[str, str], options: Sequence[str], hints: Sequence[str]) -> str:
    shown = ", ".join(f"{name}={path!r}" for name, path in named.items())
    return ". ".join([f"{', '.join([f'load(…, fields=dict({shown})', *options])})", *hints])


def table_proposal(records: Sequence[object]) -> str:
    """Return the call that reads a table with one step per record. "" if the records are no such rows."""
    first = records[0]
    if not isinstance(first, Mapping) or any(isinstance(value, (list, Mapping)) for value in first.values()):
        return ""
    cells = {
        str(name): next((r.get(name) for r in records if isinstance(r, Mapping) and r.get(name) is not None), None)
        for name in first
    }
    problem = _first(cells, _PROBLEM, _is_text)
    numbers = [name for name, cell in cells.items() if _is_index(cell) and any(x in name.casefold() for x in _NUMBERS)]
    order = numbers[0] if numbers else "…"
    step = _first(cells, _TEXTS, lambda value: isinstance(value, str), problem, order)
    label = _first(cells, _LABELS, lambda value: isinstance(value, (str, int, float)), problem, order, step)
    if "…" in (problem, step, label):
        return ""
    named = {"problem": problem, "step": step, "order": order, "label": label}
    labels = [cell for r in records if isinstance(r, Mapping) and (cell := r.get(label)) not in (None, "")]
    return _call({part: name for part, name in named.items() if name != "…"}, *_of_labels([{label: labels}], label))


def _of_labels(records: Sequence[object], path: str) -> tuple[list[str], list[str]]:
    """Return the options that tell what labels mean, and what the records leave open."""
    seen = [label for value in _seen(records, path) for label in flat_labels(value) if label is not None]
    numbers = [label for label in seen if isinstance(label, (int, float)) and not isinstance(label, bool)]
    meaning: Meaning | None = None
    options, hints = [], []
    if numbers and (-1 in numbers or not any(isinstance(label, float) for label in numbers)):
        meaning = "rating" if -1 in numbers else "binary"
    try:
        for label in seen:
            rating_of(label, path, meaning)
    except MalformedRecordError:
        known = ", ".join(f"{label!r}: …" for label in list(dict.fromkeys(seen))[:6])
        return [f"label_map={{{known}}}"], ["Put -1 (wrong), 0 (neutral) or 1 (right) in place of each …"]
    if meaning:
        options.append(f"labels={meaning!r}")
    if meaning == "binary":
        hints.append("If 0 is neutral, pass labels='rating'; if the numbers are probabilities, labels='soft'")
    return options, hints


def _of_errors(records: Sequence[object], steps: str, path: str) -> tuple[list[str], list[str]]:
    """Return the options that tell how first errors are counted, and what the records leave open."""
    seen = [(value, _seen([record], steps)) for record in records for value in _seen([record], path)]
    texts = {str(value).strip() for value, _ in seen}
    is_last = any(
        isinstance(value, int) and [len(one) for one in lists if isinstance(one, list)] == [value]
        for value, lists in seen
    )
    is_last = is_last and "0" not in texts
    options = [f"base={int(is_last)}"]
    hints = [] if is_last or "0" in texts else ["If the first step of the file is 1, pass base=1"]
    if not any(word in path.rpartition(".")[2].casefold() for word in _ERROR[:-1]):
        hints.insert(0, f"This is right if {path} is the number of the first wrong step")
    if "None" in texts:
        hints.append("If null means that no step is wrong, pass no_error=None")
    return options, hints


def _seen(records: Sequence[object], path: str) -> list[Any]:
    found = []
    for record in records:
        with contextlib.suppress(MalformedRecordError):
            found.append(value_at(record, path, optional=True))
    return found


def candidates_proposal(record: object) -> str:
    """Return the call that probably reads sampled solutions of such records: a list of them each, or one each."""
    fields = dict(_leaves(record))
    problem = _first(fields, _PROBLEM, _is_text)
    texts = _first(fields, _CANDIDATES, lambda value: isinstance(value, list) and _has_texts(value), problem)
    if texts == "…":
        return samples_proposal(record)
    answer = _first(fields, _ANSWER, _is_scalar, problem, texts)
    shape = _shape(fields.get(texts))
    correct = _first(fields, _CORRECT, lambda value: _is_labels(value, shape), problem, texts, answer)
    return (
        f"load_candidates(…, fields=dict({_named(problem=problem, candidates=texts, answer=answer, correct=correct)}))"
    )


def samples_proposal(record: object) -> str:
    """Return the call by which `load_samples` probably reads such records."""
    fields = dict(_leaves(record))
    problem = _first(fields, _PROBLEM, _is_text)
    steps = _first(fields, ("step",), lambda value: isinstance(value, list) and _has_texts(value), problem)
    several = _first(fields, _CANDIDATES, lambda value: isinstance(value, list) and _has_texts(value), problem)
    one = _first(fields, (*_CANDIDATES, *_STEPS), lambda value: isinstance(value, str), problem)
    text = several if several != "…" else one
    named = {"steps": steps} if steps != "…" else {"text": text}
    content = next(iter(named.values()))
    is_nested = isinstance(fields.get(content), list) and (steps == "…" or isinstance(fields[steps][0], list))
    taken = problem, content
    reference = _first(
        fields, ("reference", "ground_truth", "gold", "correct_answer", "expected", "target", "gt"), _is_scalar, *taken
    )
    fits: Callable[[Any], bool] = (lambda value: isinstance(value, list)) if is_nested else _is_scalar
    answer = _first(fields, ("answer", "pred"), fits, *taken, reference)
    if is_nested and reference == "…":
        reference = _first(fields, ("answer",), _is_scalar, *taken)
    correct = _first(fields, _CORRECT, lambda value: fits(value) and _is_verdict(value), *taken, answer, reference)
    shown = _named(problem=problem, **named, answer=answer, correct=correct, reference=reference)
    hint = f" (reference={answer!r} if it is the right answer)" if answer != "…" == reference else ""
    unseen = [name for name, path in (("problem", problem), *named.items()) if path == "…"]
    hint += f". Put the field of {' and '.join(unseen)} in place of '…'" if unseen else ""
    return f"load_samples(…, {shown}){hint}"


def unread_correctness(records: Sequence[tuple[object, int]], taken: Collection[str]) -> str:
    """Return the field that seems to say which samples of records are right, "" if none does.

    Each record comes with its number of samples: a field of several holds a list of so many. ``taken`` are the fields
    that are read.
    """
    seen: dict[str, list[Any]] = {}
    for record, n in records:
        for path, value in _leaves(record):
            if not is_blank(value):
                fits = path not in taken and (len(value) == n > 1 if isinstance(value, list) else n == 1)
                seen.setdefault(path, []).append(value if fits else "")
    found = _first(seen, _CORRECT, lambda values: all(map(_is_verdict, values)))
    return "" if found == "…" else found


def _named(problem: str, **paths: str) -> str:
    """Return paths as arguments of a call, without those that were not seen, except the first two."""
    first = next(iter(paths))
    shown = {"problem": problem, **{name: path for name, path in paths.items() if path != "…" or name == first}}
    return ", ".join(f"{name}={path!r}" for name, path in shown.items())


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _is_verdict(value: Any) -> bool:
    """Return whether a value, or each of a list, says right or wrong."""
    for one in value if isinstance(value, list) else [value]:
        try:
            rating_of(one, "", "binary")
        except MalformedRecordError:  # noqa: PERF203 (each may say something else)
            return False
    return True


def _leaves(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the dotted paths of a record and what stands there."""
    value = from_cell(value)
    if path:
        yield path, value
    if isinstance(value, list) and _are_objects(value):
        names = dict.fromkeys(str(name) for one in value for name in one)
        inner = {name: [one.get(name) for one in value] for name in names}
    elif isinstance(value, list) and value and all(_are_objects(row) for row in value):
        names = dict.fromkeys(str(name) for row in value for one in row for name in one)
        inner = {name: [[one.get(name) for one in row] for row in value] for name in names}
    elif isinstance(value, Mapping):
        inner = {str(name): one for name, one in value.items()}
    else:
        return
    if depth < _DEPTH:
        for name, one in inner.items():
            yield from _leaves(one, f"{path}.{name}" if path else name, depth + 1)


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _first(fields: Mapping[str, Any], words: Sequence[str], fits: Callable[[Any], bool], *taken: str) -> str:
    """Return the path that fits and whose last name, or else any name, holds the first of these words."""
    paths = [path for path, value in fields.items() if path not in taken and fits(value)]
    last = [(path.rpartition(".")[2].casefold(), path) for path in paths]
    whole = [(path.casefold(), path) for path in paths]
    for names, is_exact in ((last, True), (last, False), (whole, False)):
        for word in words:
            for name, path in names:
                if name == word or (not is_exact and word in name and not _OF_ANOTHER.search(name)):
                    return path
    return "…"


def _only(fields: Mapping[str, Any], fits: Callable[[Any], bool], *taken: str) -> str:
    """Return the path that fits, if it is the only one."""
    paths = [path for path, value in fields.items() if path not in taken and fits(value)]
    return paths[0] if len(paths) == 1 else "…"


def _are_steps(value: Any, n_labels: int) -> bool:
    if _shape(value, n_labels) is None or not _has_texts(value):
        return False
    try:
        return any(rating_of(text, "", None) is None for text in flat_labels(value) or [value])
    except MalformedRecordError:
        return True  # a text that is no label


def _are_sentences(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and _has_texts(value) and any(" " in str(one) for one in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and len(value) == 1 and isinstance(value[0], str))


def _is_index(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and bool(re.fullmatch(r"\s*(-?\d{1,4}|N/A)\s*", value))
    )


def _has_texts(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_has_texts, value))
    return isinstance(value, str) and bool(value)


def _shape(value: Any, n_labels: int = 0) -> tuple[int, ...] | None:
    """Return the number of steps, of each solution if there are several. None if the value holds no steps."""
    if isinstance(value, str):
        tags = [value.count(tag) for tag in KNOWN_PLACEHOLDERS if tag in value]
        return (tags[0],) if tags else (n_labels,) if _separator(value, n_labels) else None
    if isinstance(value, list) and value and all(isinstance(one, list) for one in value):
        return tuple(map(len, value))
    return (len(value),) if isinstance(value, list) else None


def _separator(text: str, n_labels: int) -> str | None:
    """Return what cuts a text into as many steps as there are labels. None if tags do, or nothing."""
    if n_labels < 2 or any(tag in text for tag in KNOWN_PLACEHOLDERS):
        return None
    return next((mark for mark in ("\n\n", "\n") if len(cut_at(text, "", mark)) == n_labels), None)


def _is_labels(value: Any, shape: tuple[int, ...] | None) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(map(_is_index, map(str, value)))
    labels = flat_labels(value)
    is_short = all(label is None or isinstance(label, (int, float)) or len(label) < _SHORT for label in labels)
    return bool(labels) and is_short and (shape is None or _shape(value) == shape)
