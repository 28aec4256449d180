"""The account of a reading: what was left out, which labels went with it, and how descriptions and warnings say so."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable

from prmkit.data.formats.sources import MERGED

MALFORMED, PUBLISHED, _LOST = "malformed: ", "left out, wrong as published: ", "labels left out: "
"""Beginnings of the names of counts."""
_N_NAMED = 20
"""Number of skipped records that a description names."""


class LabelAccount:
    """Which labels were read, and which of them a skipped record took along."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def add(self, labels: Iterable[object], *, lost: bool) -> None:
        """Add the labels of a record, as they are written."""
        names = Counter(_label_name(label) for label in labels if label is not None)
        self._read += names
        if lost:
            self._lost += names

    def report(self, counts: Counter[str]) -> None:
        """Add the number of labels that were lost to the counts, for each label."""
        for name, n in sorted(self._lost.items()):
            counts[f"{_LOST}{name}, of {self._read[name]} ({n / self._read[name]:.0%})"] += n


def lost_labels(counts: Counter[str]) -> str:
    """Return a sentence on the labels that skipped records took along. "" if there are none."""
    lost = ", ".join(f"{n} labels {key.removeprefix(_LOST)}" for key, n in counts.items() if key.startswith(_LOST))
    return f". With them went {lost}" if lost else ""


def _label_name(label: object) -> str:
    if isinstance(label, float) and label not in (0.0, 1.0, -1.0):
        return "a probability below 0.5" if label < 0.5 else "a probability from 0.5 on"
    return f"{label!r:.20}"


def check_reading(on_error: object, limit: object) -> None:
    """Raise ValueError for an unknown ``on_error`` or a ``limit`` that is no positive number."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit is {limit!r}, expected a positive number of records, or None for all")


def named_skips(skipped: list[str]) -> list[str]:
    """Return a line for each record that was left out, the first twenty."""
    rest = [f"skipped: {len(skipped) - _N_NAMED:,} more"] if len(skipped) > _N_NAMED else []
    return [f"skipped: {reason}" for reason in skipped[:_N_NAMED]] + rest


def warn_of_skipped(counts: Counter[str], named_by: str = "the description names", *, rows: bool = False) -> None:
    """Warn if records were skipped: the file may be damaged, or of another format. Warn if splits were merged."""
    if counts[MERGED]:
        warnings.warn(
            f"{counts[MERGED]} records of several splits were read as one: pass split='train' or another for one of "
            "them",
            UserWarning,
            stacklevel=4,
        )
    with_labels, whats = lost_labels(counts), "them" if rows else "their files and lines"
    for prefix, what in (
        (MALFORMED, "rows were left out or lost their label" if rows else "malformed records were skipped"),
        (PUBLISHED, "rows that contradict themselves, as published, were left out"),
    ):
        skipped = {key.removeprefix(prefix): n for key, n in counts.items() if key.startswith(prefix)}
        if skipped:
            reasons = ", ".join(f"{n} {reason}" for reason, n in skipped.items())
            warnings.warn(
                f"{sum(skipped.values())} {what} ({reasons}); {named_by} {whats}{with_labels}",
                UserWarning,
                stacklevel=4,
            )
