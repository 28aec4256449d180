"""Rows of OpenRLHF (a text with a placeholder behind each step) and RLHFlow (chats that judge each step)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Record, from_ratings, has_fields, labels_at
from prmkit.data.formats.label_words import Rating, probability, rating_of_sign, wrong_value
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import MalformedRecordError

Separator: TypeAlias = str | re.Pattern[str] | None

# The first is that of OpenRLHF's examples, the second that of Math-Shepherd.
KNOWN_PLACEHOLDERS = ("[P]", "ки")
_RATINGS = {2: (1, -1), 3: (1, 0, -1)}
_ROLES = ("user", "assistant")
_STEP_1 = re.compile(r"(?<=[\s?.!:])Step\s+1\s*[:.)]")
_STEP_2 = re.compile(r"\s*Step\s+2\s*[:.)]")


def _split_problem(
    text: str, step_separator: Separator, counts: Counter[str], steps: Sequence[str] = ()
) -> tuple[str, str]:
    """Cut "problem step 1" at the first separator, or where the steps are numbered, in front of "Step 1:".

    Otherwise the problem is "" and the row doubtful.
    """
    if step_separator is None:
        marks = list(_STEP_1.finditer(text))
        if len(marks) == 1 and all(map(_STEP_2.match, steps[:1])):
            return text[: marks[0].start()].strip(), text[marks[0].start() :].strip()
        counts["doubtful: problem not separated from step 1"] += 1
        return "", text.strip()
    if isinstance(step_separator, str) and step_separator:
        pattern = re.compile(re.escape(step_separator))
    elif isinstance(step_separator, re.Pattern):
        pattern = step_separator
    else:
        raise TypeError(f"step_separator is {step_separator!r}, expected a text, re.compile(…) or None")
    match = pattern.search(text)
    if match is None:
        raise MalformedRecordError(
            "no separator", f"{pattern.pattern!r} does not occur between problem and step 1: {text!r:.60}"
        )
    return text[: match.start()].strip(), text[match.end() :].strip()


_has_input_and_value = has_fields({"input": str, "value": list})
_has_labels = has_fields({"label": list})


def _recognises_openrlhf(value: object) -> bool:
    return _has_input_and_value(value) and not _has_labels(value)


def _parse_openrlhf(
    record: Record,
    solution_id: str,
    counts: Counter[str],
    *,
    input_key: str = "input",
    label_key: str = "value",
    placeholder: str | None = None,
    step_separator: Separator = None,
    reward_tokens: Sequence[str] = ("+", "-"),
) -> list[LabelledSolution]:
    rating_of = _rating_of_token(reward_tokens)
    text, values = record.text(input_key), record.array(label_key)
    first, *others = text.split(_placeholder(text, placeholder))
    if len(values) != len(others):
        raise MalformedRecordError(
            "unequal counts", f"{len(values)} values for {len(others)} placeholders, expected one for each"
        )
    # The number 1 is a probability, and the token "1" may be a class.
    if len({isinstance(value, str) for value in values}) > 1:
        raise MalformedRecordError("mixed labels", f"{label_key} mixes tokens and numbers ({values!r:.60})")
    problem, step_1 = _split_problem(first, step_separator, counts, [other for other in others if other.strip()])
    steps = [step_1, *(other.strip() for other in others)]
    ratings: list[Rating] = [_rating(value, f"{label_key}[{i}]", rating_of) for i, value in enumerate(values)]
    # A text behind the last placeholder was not judged, but it is part of the solution.
    if steps[-1]:
        counts["texts after the last placeholder, kept without a label"] += 1
        ratings.append(None)
    else:
        steps.pop()
    return [from_ratings(problem, steps, ratings, solution_id)]


def _rating_of_token(reward_tokens: Sequence[str]) -> dict[str, int]:
    tokens = [reward_tokens] if isinstance(reward_tokens, str) else [str(token) for token in reward_tokens]
    if len(set(tokens)) != len(tokens) or len(tokens) not in _RATINGS:
        raise ValueError(f"reward_tokens is {reward_tokens!r}, expected two or three, the best first: ('+', '-')")
    return dict(zip(tokens, _RATINGS[len(tokens)], strict=True))


def _placeholder(text: str, placeholder: str | None) -> str:
    candidates = KNOWN_PLACEHOLDERS if placeholder is None else (placeholder,)
    present = [name for name in candidates if name in text]
    if len(present) == 1:
        return present[0]
    raise MalformedRecordError(
        "no placeholder" if not present else "several placeholders",
        f"the text holds {' and '.join(present) or 'none of ' + ', '.join(candidates)}: pass placeholder=…, the token "
        "behind each step",
    )


def _rating(value: object, name: str, rating_of: Mapping[str, int]) -> int | float:
    if not isinstance(value, str):
        return probability(value, name)
    if value.strip() not in rating_of:
        raise wrong_value("unknown label", name, value, f"one of {', '.join(map(repr, rating_of))}")
    return rating_of[value.strip()]


OPENRLHF = Format(
    name="openrlhf",
    description="OpenRLHF's texts with placeholders: a reward token, or P(right), behind each step",
    recognises=_recognises_openrlhf,
    parse=_parse_openrlhf,
    labels_of=labels_at("value"),
)


@reads
def load_openrlhf(
    source: Source,
    *,
    input_key: str = "input",
    label_key: str = "value",
    placeholder: str | None = None,
    step_separator: str | re.Pattern[str] | None = None,
    reward_tokens: Sequence[str] = ("+", "-"),
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    r"""Load process-reward rows of OpenRLHF.

    ``{"input": "2 + 3 * 4? 3 * 4 = 12. [P] 2 + 12 = 15. [P]", "value": ["+", "-"]}``

    Parameters
    ----------
    input_key : str, default="input"
        Field of the text.
    label_key : str, default="value"
        Field of the values.
    placeholder : str, optional
        Token behind each step. If None, whichever of "[P]" and "ки" the text holds.
    step_separator : str or compiled regular expression, optional
        Text between problem and step 1, which belongs to neither. If None, steps that are numbered ("Step 1:", "Step
        2:") tell where the first begins. In other rows the problem stays within step 1 and is "" itself. They are
        counted as doubtful, and cannot be split by problem.
    reward_tokens : sequence of str, default=("+", "-")
        Tokens of the labels, the best first. Two stand for +1 and -1, three for +1, 0 and -1. Numbers in place of
        tokens are the probability of the first.

    Returns
    -------
    StepDataset
        ``y`` holds ratings, or floats in [0, 1]. White space around a step is no part of it.

    Examples
    --------
    >>> row = {"input": "2 + 3 * 4?\n3 * 4 = 12. [P] 2 + 12 = 15. [P]", "value": ["+", "-"]}
    >>> X, y = load_openrlhf([row], step_separator="\n")
    >>> X[0].problem, X[1].text, y
    ('2 + 3 * 4?', '2 + 12 = 15.', array([ 1, -1]))
    """
    keys = {"input_key": input_key, "label_key": label_key, "placeholder": placeholder}
    marks = {"step_separator": step_separator, "reward_tokens": reward_tokens}
    return read(source, OPENRLHF, on_error=on_error, limit=limit, split=split, **keys, **marks)


def _parse_rlhflow(
    record: Record, solution_id: str, counts: Counter[str], *, step_separator: Separator = None
) -> list[LabelledSolution]:
    turns = [Record(_turn(turn)) for turn in record.array(_chat(record.fields))]
    # Instructions to the judge are no part of the solution.
    n_before = next((i for i, turn in enumerate(turns) if turn.value("role", None) != "system"), len(turns))
    counts["system turns, left out"] += n_before
    turns = turns[n_before:]
    if not turns or len(turns) % 2:
        raise MalformedRecordError("turns do not alternate", f"{len(turns)} turns, expected a label after every step")
    for i, turn in enumerate(turns):
        if (role := turn.text("role")) != _ROLES[i % 2]:
            raise MalformedRecordError(
                "turns do not alternate", f"turn {i} is of {role!r:.40}, expected {_ROLES[i % 2]!r}"
            )
    texts = [turn.text("content") for turn in turns]
    problem, step_1 = _split_problem(texts[0], step_separator, counts, texts[2::2])
    for i, text in enumerate(texts[1::2]):
        if text.strip() not in ("+", "-"):
            raise wrong_value(
                "unknown label", f"turn {2 * i + 1}", text, "'+' or '-': a chat without them holds no step labels"
            )
    ratings = [rating_of_sign(text, "a turn") for text in texts[1::2]]
    return [from_ratings(problem, [step_1, *texts[2::2]], ratings, solution_id)]


def _turn(value: object) -> object:
    """Return a turn by the names of RLHFlow, also if it has those of ShareGPT."""
    if not isinstance(value, Mapping) or "role" in value or not {"from", "value"} <= set(value):
        return value
    roles = {"human": "user", "gpt": "assistant"}
    return {
        "role": roles.get(value["from"], value["from"]) if isinstance(value["from"], str) else value["from"],
        "content": value["value"],
    }


def _chat(record: Mapping[str, Any]) -> str:
    return "messages" if "messages" in record and "conversations" not in record else "conversations"


def _judgements(record: Mapping[str, Any]) -> list[str]:
    """Return what the assistant says in a chat."""
    turns = record.get(_chat(record))
    turns = [_turn(turn) for turn in turns] if isinstance(turns, list) else []
    said = [turn.get("content") for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "assistant"]
    return [text.strip() if isinstance(text, str) else "" for text in said]


_has_chat = has_fields({"conversations": list})
_has_messages = has_fields({"messages": list})


def _recognises_rlhflow(value: object) -> bool:
    if _has_chat(value):
        return True
    said = _judgements(value) if isinstance(value, Mapping) and _has_messages(value) else []
    return bool(said) and set(said) <= {"+", "-"}


RLHFLOW = Format(
    name="rlhflow",
    description="RLHFlow's chats: + or - as the assistant's answer to each step",
    recognises=_recognises_rlhflow,
    parse=_parse_rlhflow,
    labels_of=_judgements,
)


@reads
def load_rlhflow(
    source: Source,
    *,
    step_separator: str | re.Pattern[str] | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    """Load RLHFlow's multi-turn chats (Dong et al. 2024, arXiv:2405.07863).

    ``{"conversations": [{"role": "user", "content": "2 + 3 * 4? 3 * 4 = 12."}, {"role": "assistant", "content": "+"},``
    ``{"role": "user", "content": "2 + 12 = 15."}, {"role": "assistant", "content": "-"}]}``

    The field may be called ``messages`` too, and turns may have ShareGPT's fields ``from`` (human, gpt) and ``value``.
    Turns of the system at the beginning are left out and counted.

    Parameters
    ----------
    step_separator : str or compiled regular expression, optional
        Text between problem and step 1 in the first turn, which belongs to neither. If None, steps that are numbered
        ("Step 1:", "Step 2:") tell where the first begins. In other rows the problem stays within step 1 and is ""
        itself. They are counted as doubtful, and cannot be split by problem.

    Returns
    -------
    StepDataset
        ``y`` holds -1 and +1.

    Examples
    --------
    >>> import re
    >>> turns = [("user", "2 + 3 * 4? 3 * 4 = 12."), ("assistant", "+"), ("user", "2 + 12 = 15."), ("assistant", "-")]
    >>> row = {"conversations": [{"role": role, "content": text} for role, text in turns]}
    >>> X, y = load_rlhflow([row], step_separator=re.compile(r"(?<=[?]) "))
    >>> X[0].problem, X[1].text, y
    ('2 + 3 * 4?', '2 + 12 = 15.', array([ 1, -1]))
    """
    return read(source, RLHFLOW, on_error=on_error, limit=limit, split=split, step_separator=step_separator)
