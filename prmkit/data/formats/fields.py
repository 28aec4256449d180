"""Fields by name: records of any layout are read once somebody says which field is what."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from prmkit.data.formats._flat import table_format
from prmkit.data.formats._rlhf import KNOWN_PLACEHOLDERS, Separator
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    Record,
    error_at,
    from_cell,
    from_first_error,
    from_ratings,
)
from prmkit.data.formats.label_words import (
    Meaning,
    Rating,
    check_meaning,
    map_of_labels,
    meaning_of,
    rating_of,
    wrong_type,
    wrong_value,
)
from prmkit.data.jsonlines import MalformedRecordError

_OWN = ("problem", "steps", "labels", "first_error", "id")
_OF_TABLE = ("problem", "step", "order", "label", "solution")
"""Names of the columns of a table with one step per row, as in ``StepDataset.from_frame``."""
_FROM_0, _AT_0 = "first errors counted from 0", "first errors at 0"
_N_SUSPICIOUS = 10
"""Number of first errors among which one of 0 is to be expected, where the first step is 0."""


def value_at(value: Any, path: str, *, optional: bool = False) -> Any:
    """Return what stands at a dotted path. In a list, the path goes on in each entry, or in the one that it numbers.

    With ``optional``, an entry of a list that lacks the field gives None, unless all lack it.

    Raises
    ------
    MalformedRecordError
        If nothing stands there.

    Examples
    --------
    >>> value_at({"answer": {"steps": [{"text": "a"}, {"text": "b"}]}}, "answer.steps.text")
    ['a', 'b']
    """
    value = from_cell(value)
    if not path:
        return value
    names = path.split(".")
    if isinstance(value, list):
        if names[0].isascii() and names[0].isdigit() and int(names[0][:9]) < len(value):
            return value_at(value[int(names[0])], ".".join(names[1:]), optional=optional)
        return _values_in(value, path, optional)
    if isinstance(value, Mapping):
        # A name may hold dots itself.
        for n in range(len(names), 0, -1):
            if (name := ".".join(names[:n])) in value:
                return value_at(value[name], ".".join(names[n:]), optional=optional)
    has = f"the fields are {', '.join(map(str, value)) or 'none'}" if isinstance(value, Mapping) else f"{value!r:.60}"
    raise MalformedRecordError(f"without {path}", has)


def _values_in(entries: list[Any], path: str, optional: bool) -> list[Any]:
    found, n_missing = [], 0
    for entry in entries:
        try:
            found.append(value_at(entry, path, optional=optional))
        except MalformedRecordError:  # noqa: PERF203 (each entry may lack it)
            if not optional or (n_missing := n_missing + 1) == len(entries):
                raise
            found.append(None)
    return found


def check_fields(fields: object, known: Sequence[str] | None, required: Sequence[str]) -> dict[str, str]:
    """Return a mapping of names to dotted paths. Raise ValueError if it is none, or lacks one of the required names."""
    is_mapping = isinstance(fields, Mapping) and all(isinstance(path, str) and path for path in fields.values())
    names = list(fields) if isinstance(fields, Mapping) else []
    unknown = [name for name in names if known is not None and name not in known]
    if not is_mapping or unknown or not set(required) <= set(names):
        expected = ", ".join(f"{name!r}: '…'" for name in known or _OWN)
        raise ValueError(
            f"fields is {fields!r:.200}, expected the field of each part, such as {{{expected}}}, and at least "
            f"{' and '.join(required)}"
        )
    return {str(name): path for name, path in fields.items()}  # type: ignore[attr-defined]


def by_fields(fields: Mapping[str, str], *, labelled: bool = True) -> Format:
    """Return the format of records whose fields are named one by one.

    Parameters
    ----------
    fields : mapping of str to str
        The field of ``problem``, ``steps``, and ``labels`` or ``first_error``, each a dotted path. ``id`` is the id of
        the solution. Any other name becomes ``Solution.meta``. With ``step``, each record is a row of a table of steps,
        and the names are those of ``StepDataset.from_frame``.
    labelled : bool, default=True
        Whether labels are needed. If not, as for scores, they are not read either: no step has a label.

    Returns
    -------
    Format
        A format with the options ``base``, ``labels``, ``label_map``, ``step_separator`` and ``no_error`` of ``load``.

    Raises
    ------
    ValueError
        If the mapping lacks a part.
    """
    if isinstance(fields, Mapping) and "step" in fields and not fields.keys() & {"steps", "labels", "first_error"}:
        columns = check_fields(fields, _OF_TABLE, ("problem", "step", "label")[: 3 if labelled else 2])
        return table_format({part: name for part, name in columns.items() if labelled or part != "label"})
    paths = check_fields(fields, None, ("steps",))
    if not labelled:
        paths = {part: name for part, name in paths.items() if part not in ("labels", "first_error")}
    elif ("labels" in paths) == ("first_error" in paths):
        raise ValueError(f"fields is {dict(fields)}, expected one of labels and first_error")

    def parse(
        record: Record,
        solution_id: str,
        counts: Counter[str],
        *,
        base: Literal[0, 1] = 0,
        labels: Meaning | None = None,
        label_map: Mapping[Any, Any] | None = None,
        step_separator: Separator = None,
        no_error: Any = -1,
    ) -> list[LabelledSolution]:
        if base not in (0, 1) or isinstance(base, bool):
            raise ValueError(f"base is {base!r}, expected 0 or 1, the number of the first step")
        check_meaning(labels)
        row = record.fields
        problem = _problem(row, paths["problem"]) if "problem" in paths else ""
        solutions, are_several = _solutions(value_at(row, paths["steps"]), paths["steps"], step_separator)
        name = paths.get("labels", paths.get("first_error", ""))
        judged = value_at(row, name, optional=True) if labelled else [None] * len(solutions)
        verdicts = judged if are_several or not labelled else [judged]
        if not isinstance(verdicts, list) or len(verdicts) != len(solutions):
            detail = f"{paths['steps']} holds {len(solutions)} solutions, {name} is {judged!r:.60}"
            raise MalformedRecordError("unequal lengths", detail)
        notes = {key: _note(row, path, counts) for key, path in paths.items() if key == "id" or key not in _OWN}
        meta = {key: value for key, value in notes.items() if key != "id"}
        if (own := notes.get("id")) is not None:
            solution_id = own if isinstance(own, str) else json.dumps(own)
        parsed = []
        for number, (steps, verdict) in enumerate(zip(solutions, verdicts, strict=True)):
            one_id = f"{solution_id}/{number}" if are_several else solution_id
            steps = _without_prefixes(problem, steps, counts)
            if not labelled:
                parsed.append(from_ratings(problem, steps, [None] * len(steps), one_id, meta))
            elif "first_error" in paths:
                first_error = -1 if _is_one_of(verdict, no_error) else _index(verdict, name, base)
                parsed.append(_by_first_error(problem, steps, first_error, verdict, name, base, one_id, meta, counts))
            else:
                values = _values(verdict, len(steps), name, base)
                ratings = _ratings(values, name, labels, label_map)
                parsed.append(from_ratings(problem, steps, ratings, one_id, meta))
        return parsed

    named = ", ".join(f"{name}={path!r}" for name, path in paths.items())
    return Format(
        name="fields",
        description=f"by the names of its fields: {named}",
        recognises=lambda _: False,
        parse=parse,
        unlabelled="right" if "first_error" in paths else "unknown",
        across=_warn_of_base,
        labels_of=_labels_of(paths) if labelled else None,
    )


def _labels_of(paths: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Sequence[object]]:
    def labels_of(row: Mapping[str, Any]) -> Sequence[object]:
        name = paths.get("labels", paths.get("first_error", ""))
        value = value_at(row, name, optional=True)
        if "labels" in paths:
            return flat_labels(value)
        return [label for one in flat_labels([value]) for label in error_at(name)({name: one})]

    return labels_of


def _note(row: Mapping[str, Any], path: str, counts: Counter[str]) -> Any:
    """Return a field that carries no label. A record without it is counted, and has None there."""
    try:
        return value_at(row, path, optional=True)
    except MalformedRecordError:
        counts[f"records without {path}, which is no label"] += 1
        return None


def _problem(row: Mapping[str, Any], path: str) -> str:
    value = row[path] if isinstance(row.get(path), str) else value_at(row, path)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return Record({path: value}).text(path)


def _solutions(value: Any, path: str, separator: Separator) -> tuple[list[list[str]], bool]:
    """Return the steps of each solution, and whether the record holds a list of solutions."""
    if isinstance(value, str):
        return [cut_at(value, path, separator)], False
    if not isinstance(value, list):
        raise wrong_type(f"{path} is no list", path, value)
    if value and all(isinstance(one, list) for one in value):
        return [_texts(one, path) for one in value], True
    return [_texts(value, path)], False


def _texts(steps: list[Any], path: str) -> list[str]:
    for i, step in enumerate(steps):
        if isinstance(step, Mapping):
            inside = [f"{path}.{key}" for key, text in step.items() if isinstance(text, str)]
            named = f"name the field in them: steps={inside[0]!r}" if inside else "they hold no text"
            raise MalformedRecordError(f"{path} holds objects", f"{path}[{i}] is {step!r:.60}: {named}")
    return Record({path: steps}).texts(path)


def cut_at(text: str, path: str, separator: Separator) -> list[str]:
    """Return the steps of a text, without white space around them and without blank ones."""
    present = [tag for tag in KNOWN_PLACEHOLDERS if tag in text]
    if separator is None and len(present) != 1:
        raise MalformedRecordError(
            f"{path} is one text",
            f"{text!r:.60}: pass step_separator='…', the text between its steps, such as '\\n\\n'",
        )
    separator = present[0] if separator is None else separator
    if not isinstance(separator, (str, re.Pattern)) or separator == "":
        raise TypeError(f"step_separator is {separator!r}, expected a text, re.compile(…) or None")
    steps = text.split(separator) if isinstance(separator, str) else separator.split(text)
    return [step.strip() for step in steps if step and step.strip()]


def _without_prefixes(problem: str, steps: list[str], counts: Counter[str]) -> list[str]:
    """Return what each step adds, where each of them repeats all that stood before it."""
    grows = len(steps) > 1 and all(
        before and after.startswith(before) and after != before for before, after in pairwise(steps)
    )
    if not grows:
        return steps
    counts["solutions whose steps repeat all before them, cut to what each adds"] += 1
    first = steps[0].removeprefix(problem) or steps[0]
    rest = [after.removeprefix(before) for before, after in pairwise(steps)]
    return [step.strip() for step in (first, *rest)]


def _values(judged: Any, n_steps: int, name: str, base: int) -> list[Any]:
    """Return one label per step, from a list or from an object that maps numbers of steps to labels."""
    if isinstance(judged, Mapping):
        values: list[Any] = [None] * n_steps
        for key, label in judged.items():
            index = _index(key, f"a key of {name}", base)
            if not 0 <= index < n_steps:
                raise MalformedRecordError("label beyond the steps", f"{name} labels {key!r} of {n_steps} steps")
            values[index] = label
        return values
    return Record({name: judged}).array(name)


def _ratings(
    values: list[Any], name: str, meaning: Meaning | None, label_map: Mapping[Any, Any] | None
) -> list[Rating]:
    if label_map is not None:
        look_up = map_of_labels(label_map)
        return [None if value is None else look_up(value, f"{name}[{i}]") for i, value in enumerate(values)]
    meaning = meaning or meaning_of(values, name)
    ratings = [rating_of(value, f"{name}[{i}]", meaning) for i, value in enumerate(values)]
    zeros = [value for value, rating in zip(values, ratings, strict=True) if rating == 0]
    if meaning is None and any(str(value).strip().casefold() != "neutral" for value in zeros):
        # Not one row's slip: nothing in the file tells what 0 means.
        raise ValueError(
            f"{name} holds 0, and nothing says what it means: pass labels='binary' if 0 is wrong and 1 right, "
            "labels='rating' if 0 is neutral and -1 wrong, or labels='soft' for probabilities"
        )
    return ratings


def _by_first_error(
    problem: str,
    steps: list[str],
    first_error: int,
    value: Any,
    name: str,
    base: int,
    solution_id: str,
    meta: Mapping[str, Any],
    counts: Counter[str],
) -> LabelledSolution:
    if first_error >= len(steps) > 0:
        detail = f"{name} is {value!r:.40} of {len(steps)} steps, the first of which is {base} (base={base})"
        raise MalformedRecordError("first error beyond the steps", detail)
    if base == 0 and first_error >= 0:
        counts[_FROM_0 if first_error else _AT_0] += 1
    return from_first_error(problem, steps, first_error, solution_id, meta)


def _is_one_of(value: Any, no_error: Any) -> bool:
    """Return whether a value is what a file writes for "no step is wrong"."""
    said = no_error if isinstance(no_error, (list, tuple)) and no_error else [no_error]
    value = value.strip() if isinstance(value, str) else value
    return any(type(value) is type(one) and value == one for one in said)


def _index(value: Any, name: str, base: int) -> int:
    """Return a number of a step as 0-based, -1 for -1 and "N/A"."""
    number = value
    if isinstance(value, str):
        text = value.strip()
        number = -1 if text == "N/A" else int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else None
        number = int(text[:-2]) if re.fullmatch(r"-?[0-9]{1,9}\.0", text) else number
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or (number < base and number != -1):
        expected = f"{base}, {base + 1}, … (base={base}), or -1 where no step is wrong"
        if value is None or value == [] or isinstance(value, (str, bool)) or number == 0:
            expected += f". If it means that no step is wrong, pass no_error={value!r:.40}"
        raise wrong_value(f"{name} is no index", name, value, expected)
    return -1 if number == -1 else number - base


def _warn_of_base(solutions: Iterator[LabelledSolution], counts: Counter[str]) -> Iterator[LabelledSolution]:
    yield from solutions
    later, at_0 = counts.pop(_FROM_0, 0), counts.pop(_AT_0, 0)
    if later >= _N_SUSPICIOUS and not at_0:
        warnings.warn(
            f"none of {later} first errors is 0: if the first step of this file is 1, pass base=1",
            UserWarning,
            stacklevel=2,
        )


def flat_labels(value: Any) -> list[Any]:
    """Return the labels in a list, an object or a list of lists. Nothing if it holds something else."""
    values = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    labels = [label for one in values for label in (one if isinstance(one, list) else [one])]
    return labels if all(label is None or isinstance(label, (str, int, float)) for label in labels) else []
