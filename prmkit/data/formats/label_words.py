"""Labels as files write them: words, signs, booleans, numbers whose meaning is declared, and maps of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.labels import NAMES, RATINGS

Rating: TypeAlias = int | float | None
"""-1, 0 or +1. A float in [0, 1] where the format gives P(right). None where nobody judged the step."""
Meaning: TypeAlias = Literal["rating", "binary", "soft"]
"""Declared meaning of the labels of a file, as in ``StepDataset(vocabulary=…)``."""

_RATING_OF_WORD = {
    **dict.fromkeys(("+", "right", "correct", "good", "positive", "true", "yes"), 1),
    "neutral": 0,
    **dict.fromkeys(("-", "wrong", "incorrect", "bad", "negative", "false", "no"), -1),
}

Label: TypeAlias = str | float | bool
_WHOLE = re.compile(r"\s*[-+]?[0-9]\s*")
_NUMBER = re.compile(r"\s*[-+]?([0-9](\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]{1,3})?\s*", re.IGNORECASE)
_SPELLINGS_OF_TRUE: dict[Label, int] = {"true": 1, "True": 1, "TRUE": 1, "false": -1, "False": -1, "FALSE": -1}
"""How a table writes booleans."""
_Key: TypeAlias = tuple[bool, bool, Label]
# A label with two flags, whether it is a text and whether a boolean: 1, True and "1" are different labels.

_RATING_OF: dict[Label, int] = {**dict(zip(NAMES, RATINGS, strict=True)), "-": -1, "+": 1, False: -1, True: 1}
_RATING_OF |= _SPELLINGS_OF_TRUE


def wrong_value(reason: str, name: str, value: object, expected: str) -> MalformedRecordError:
    """Return the error of a field that holds something else than expected."""
    return MalformedRecordError(reason, f"{name} is {value!r:.60}, expected {expected}")


def wrong_type(reason: str, name: str, value: object) -> MalformedRecordError:
    """Return the error of a field that has a value of another type."""
    return MalformedRecordError(reason, f"{name} is {type(value).__name__} ({value!r:.60})")


def probability(value: object, name: str) -> float:
    """Return a number in [0, 1] as float. Refuse any other value, NaN and booleans included."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise wrong_value("no probability", name, value, "a number from 0 to 1: P(the step is right)")


def meaning_of(labels: Sequence[object], name: str) -> Meaning | None:
    """Return "soft" for the labels of a record among which is a float, else None.

    JSON may write 1.0 as 1, so whole numbers beside floats are probabilities too. Booleans and words are not: they
    raise MalformedRecordError.
    """
    if not any(isinstance(label, float) for label in labels):
        return None
    if any(isinstance(label, (bool, str)) for label in labels):
        raise MalformedRecordError(
            "mixed labels", f"{name} mix floats with others ({labels!r:.60}): write 1.0, not true"
        )
    return "soft"


def meaning_of_column(labels: Sequence[object], name: str) -> Meaning | None:
    """Return what the numbers in a whole column of labels mean, or None if it has none.

    Numbers may be cells of text. -1 tells ratings, and a number between 0 and 1 tells probabilities.

    Raises
    ------
    ValueError
        If the numbers are 0 and 1 alone: nothing tells whether 0 is wrong or neutral.
    """
    labels = [_with_plain_minus(label) for label in labels]
    numbers = {
        float(label)
        for label in labels
        if (isinstance(label, (int, float)) and not isinstance(label, bool))
        or (isinstance(label, str) and _NUMBER.fullmatch(label))
    }
    if not numbers or -1 in numbers:
        return "rating" if numbers else None
    if any(0 < number < 1 for number in numbers):
        return "soft"
    if 0 in numbers:
        raise ValueError(
            f"{name} holds 0, and nothing says what it means: pass labels='binary' if 0 is wrong and 1 right, "
            "labels='rating' if 0 is neutral and -1 wrong, or labels='soft' for probabilities"
        )
    return "rating"


def check_meaning(labels: object) -> None:
    """Raise ValueError for an unknown declared meaning of labels."""
    if labels not in (None, "rating", "binary", "soft"):
        raise ValueError(f"labels is {labels!r}, expected 'rating', 'binary', 'soft', or None")


def rating_of(label: object, name: str, meaning: Meaning | None, *, whole: Meaning = "rating") -> Rating:
    """Return the rating that one label stands for, in whatever way it is spelled.

    Booleans, and words such as "correct", "-" or "neutral", say by themselves what they mean. A float is P(right), and
    a whole number has the meaning ``whole``, unless ``meaning`` declares something else.

    Raises
    ------
    MalformedRecordError
        If the label is none of these, or contradicts the declared meaning.

    Examples
    --------
    >>> rating_of("incorrect", "label", None), rating_of(0, "label", "binary"), rating_of(0, "label", "rating")
    (-1, -1, 0)
    >>> rating_of(1, "label", "soft")
    1.0
    """
    if label is None:
        return None
    label, declared = _with_plain_minus(label), meaning
    if isinstance(label, str) and not _NUMBER.fullmatch(label):
        if (rating := _RATING_OF_WORD.get(label.strip().casefold())) is None or meaning == "soft":
            raise wrong_value("unknown label", name, label, _expected(meaning))
        return rating
    if isinstance(label, bool):
        if meaning in ("rating", "soft"):
            raise wrong_value("unknown label", name, label, _expected(meaning))
        return 1 if label else -1
    if isinstance(label, str):  # a cell of a table
        label = int(label) if _WHOLE.fullmatch(label) else float(label)
    is_float = isinstance(label, float)
    meaning = meaning or ("soft" if is_float else whole)
    if meaning == "soft" and label == -1:
        raise wrong_value("no probability", name, label, "0 to 1; if the labels are -1, 0 and 1, pass labels='rating'")
    if meaning == "soft":
        return probability(label, name)
    if isinstance(label, (int, float)) and label in ((0, 1) if meaning == "binary" else (-1, 0, 1)):
        return int(label) if meaning == "rating" else (1 if label else -1)
    raise wrong_value("unknown label", name, label, _expected(declared))


def _with_plain_minus(label: object) -> object:
    """Return a label with the minus of typography written as that of a keyboard."""
    return label.replace("\u2212", "-") if isinstance(label, str) else label


def _expected(meaning: Meaning | None) -> str:
    """Return the labels that a meaning allows, for an error message."""
    allowed = {
        "rating": "-1, 0, 1 or a name such as 'neutral' (labels='rating')",
        "binary": "0, 1, a boolean or a name such as 'wrong' (labels='binary')",
        "soft": "a number from 0 to 1 (labels='soft')",
    }
    words = ", ".join(map(repr, _RATING_OF_WORD))
    return allowed[meaning] if meaning else f"a number, a boolean, null, or one of {words}"


def rating_of_sign(label: object, name: str) -> int:
    """Return +1 for "+" and -1 for "-", white space stripped. Refuse any other label."""
    sign = label.strip() if isinstance(label, str) else None
    if sign not in ("+", "-"):
        raise wrong_value("unknown label", name, label, "'+' or '-'")
    return 1 if sign == "+" else -1


def map_of_labels(
    label_map: Mapping[Any, Any] | None, worst: Label | None = None
) -> Callable[[object, str], int | None]:
    """Return a function of a label and its name that gives the rating by a map, or that of a label that needs none.

    A map may hold None for a label that says nothing of the step. The map is checked at once. The function raises
    MalformedRecordError for a label that the map lacks.
    """
    ratings = _ratings_of_labels(label_map, worst)

    def rating_of(label: object, name: str) -> int | None:
        # A column of whole numbers with empty cells is written with 1.0 for 1.
        whole = label.strip().removesuffix(".0").replace("\u2212", "-") if isinstance(label, str) else label
        for spelling in (label, whole):
            if isinstance(spelling, (str, int, float)) and _key(spelling) in ratings:
                return ratings[_key(spelling)]
        expected = ", ".join(repr(one) for _, _, one in ratings if one not in _SPELLINGS_OF_TRUE)
        expected += " (label_map={label: rating, …} declares others)"
        if label_map is None and str(whole).strip() in ("-1", "0", "1"):
            expected += ", such as label_map={0: -1, 1: 1} if 0 is wrong, or {-1: -1, 0: 0, 1: 1} if it is neutral"
        raise wrong_value("unknown label", name, label, expected)

    return rating_of


def _ratings_of_labels(label_map: Mapping[Any, Any] | None, worst: Label | None) -> dict[_Key, int | None]:
    """Return the rating of every label of a map, or of the labels that need none.

    Raises
    ------
    ValueError
        If the map leaves open which class is worst, or has other than two or three classes.
    """
    if label_map is None:
        if worst is not None:
            raise ValueError("worst is given without label_map: pass label_map={label: class number, …} too")
        return {_key(label): rating for label, rating in _RATING_OF.items()}
    if not isinstance(label_map, Mapping) or not label_map:
        raise ValueError(f"label_map is {label_map!r:.60}, expected a mapping from labels to ratings")
    rating_of_name = dict(zip(NAMES, RATINGS, strict=True))
    values = {
        label: rating_of_name.get(value, value) if isinstance(value, str) else value
        for label, value in ((_plain(label), _plain(value)) for label, value in label_map.items())
    }
    silent = [label for label, value in values.items() if value is None]
    values = {label: value for label, value in values.items() if value is not None}
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values.values()):
        raise ValueError(
            f"label_map is {dict(label_map)}, expected ratings as its values: -1, 0, 1 or 'negative', 'neutral', "
            "'positive', or None for a label that says nothing"
        )
    if worst is not None:
        ratings: dict[Any, int | None] = dict(_ordered(values, worst))
    elif set(values.values()) <= set(RATINGS) and -1 in values.values():
        ratings = {label: int(value) for label, value in values.items()}
    else:
        raise ValueError(
            f"label_map is {dict(label_map)}, which leaves open which class is worst: map to -1 (wrong), 0 (neutral) "
            f"and 1 (right){_as_ratings(values, silent)}"
        )
    ratings |= dict.fromkeys(silent)
    keys = {_key(label): rating for label, rating in ratings.items()}
    # CSV writes numbers as texts, and the keys of JSON are texts.
    for label, rating in ratings.items():
        keys.setdefault(_key(_otherwise(label)), rating)
    return keys


def _as_ratings(values: Mapping[Any, Any], silent: Sequence[Label]) -> str:
    """Return what to type for a map to class numbers, of which the smallest is probably the worst."""
    if len(set(values.values())) not in (2, 3):
        return ""
    worst = min(values, key=values.__getitem__)
    return f". If {worst!r} is the worst, pass label_map={_ordered(values, worst) | dict.fromkeys(silent)}"


def _ordered(values: Mapping[Any, Any], worst: Label) -> dict[Any, int]:
    """Return ratings for two or three class numbers, of which ``worst`` stands at one end."""
    classes = sorted(set(values.values()))
    if worst not in values or values[worst] not in (classes[0], classes[-1]) or len(classes) not in (2, 3):
        raise ValueError(
            f"worst is {worst!r} in the classes {dict(values)}, expected a label at one end of two or three classes"
        )
    if values[worst] == classes[-1]:
        classes.reverse()
    rating_of = dict(zip(classes, (-1, 0, 1) if len(classes) == 3 else (-1, 1), strict=True))
    return {label: rating_of[value] for label, value in values.items()}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _otherwise(label: Label) -> Label:
    """Return a number as text, as CSV has it, and such a text as a number, because the keys of JSON are texts."""
    if not isinstance(label, str):
        return str(label)
    return int(label) if re.fullmatch(r"\s*[-+]?\d{1,9}\s*", label) else label


def _key(label: Label) -> _Key:
    # 1 == True to Python, so the key holds the type too.
    return isinstance(label, str), isinstance(label, bool), label.strip() if isinstance(label, str) else label
