"""What the labels of a flat table mean: a map that has to say which class is worst, and never guesses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prmkit.data._labels import NAMES, RATINGS

Key = tuple[bool, bool, Any]
"""A label and whether it is a text or a boolean: 1, True and "1" are different labels."""

_KNOWN: dict[Any, int] = {**dict(zip(NAMES, RATINGS, strict=True)), "-": -1, "+": 1, False: -1, True: 1}


def ratings_of_labels(label_map: Mapping[Any, Any] | None, worst: Any = None) -> dict[Key, int]:
    """Return the rating of every label of a map, or of the labels that need none.

    Raises
    ------
    ValueError
        If the map leaves open which class is worst, or has other than two or three classes.
    """
    if label_map is None:
        if worst is not None:
            raise ValueError("worst is given without label_map: pass label_map={label: class number, …} too")
        return {_key(label): rating for label, rating in _KNOWN.items()}
    if not isinstance(label_map, Mapping) or not label_map:
        raise ValueError(f"label_map is {label_map!r:.60}, expected a mapping from labels to ratings")
    spelt = dict(zip(NAMES, RATINGS, strict=True))
    values = {
        label: spelt.get(value, value) if isinstance(value, str) else value
        for label, value in label_map.items()
    }
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values.values()):
        raise ValueError(
            f"label_map is {dict(label_map)}, expected ratings as its values: -1, 0, 1 or 'negative', 'neutral', "
            "'positive'"
        )
    if worst is not None:
        ratings = _ordered(values, worst)
    elif set(values.values()) <= set(RATINGS) and -1 in values.values():
        ratings = {label: int(value) for label, value in values.items()}
    else:
        raise ValueError(
            f"label_map is {dict(label_map)}, which leaves open which class is worst: map to ratings, -1 the worst, or "
            "pass worst=<label>"
        )
    keys = {_key(label): rating for label, rating in ratings.items()}
    for label, rating in ratings.items():
        keys.setdefault(_key(_otherwise(label)), rating)
    return keys


def _ordered(values: Mapping[Any, Any], worst: Any) -> dict[Any, int]:
    classes = sorted(set(values.values()))
    if worst not in values or values[worst] not in (classes[0], classes[-1]) or len(classes) not in (2, 3):
        raise ValueError(
            f"worst is {worst!r} in the classes {dict(values)}, expected a label at one end of two or three classes"
        )
    if values[worst] == classes[-1]:
        classes.reverse()
    rating_of = dict(zip(classes, (-1, 0, 1) if len(classes) == 3 else (-1, 1), strict=True))
    return {label: rating_of[value] for label, value in values.items()}


def _otherwise(label: Any) -> Any:
    """Return a number as text, as CSV has it, and such a text as a number, since JSON's keys are texts."""
    if not isinstance(label, str):
        return label if isinstance(label, bool) else str(label)
    return int(label) if re.fullmatch(r"\s*[-+]?\d{1,9}\s*", label) else label


def known_labels(ratings: Mapping[Key, int]) -> str:
    """Return the labels in words, for messages."""
    return (
        ", ".join(repr(label) for _, _, label in ratings) + " (label_map={label: rating, …} declares others)"
    )


def _key(label: Any) -> Key:
    return isinstance(label, str), isinstance(label, bool), label.strip() if isinstance(label, str) else label
