"""The loader's account in words: a loader that cannot say what it dropped cannot be checked."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from prmkit.data._solution import Step

_WHOLE_RECORDS = ("quality control", "screening", "bad_problem", "other phase", "phase not recorded")
_FINISH_REASONS = ("solution", "found_error", "give_up", "None")


def report(counts: Counter[str], X: Sequence[Step], y: np.ndarray) -> str:
    """Return one line per counter, records first, then ratings, then rows."""
    malformed = _with_prefix(counts, "malformed: ")
    dropped = {reason: counts[f"dropped: {reason}"] for reason in _WHOLE_RECORDS}
    finish = dict.fromkeys(_FINISH_REASONS, 0) | _with_prefix(counts, "finish_reason ")
    # A line that is not JSON never became a record, but it was read.
    lines = [("records read", counts["records"] + malformed.get("not JSON", 0))]
    lines += [("records kept", sum(finish.values()))]
    lines += [(f"  finish_reason {reason}", n) for reason, n in finish.items()]
    lines += [("records dropped", sum(dropped.values()) + sum(malformed.values()))]
    lines += [(f"  {reason}", n) for reason, n in dropped.items()]
    lines += [("  malformed", sum(malformed.values()))]
    lines += [(f"    {reason}", n) for reason, n in malformed.items()]
    lines += [
        ("candidates without a rating", counts["unrated"]),
        ("candidates flagged, left out", counts["flagged"]),
        ("alternatives left out", counts["alternatives left out"]),
        ("steps after the end, left out", counts["steps after the end"]),
        ("human steps", counts["human steps"]),
        ("duplicates merged", counts["duplicates"]),
        ("steps rated differently (conflicts)", counts["conflicts"]),
        ("  of them dropped", counts["conflicts dropped"]),
        ("  ratings lost by it", counts["labellings lost to conflicts"]),
        ("neutral steps left out", counts["neutral left out"]),
        ("human steps left out", counts["human steps left out"]),
        ("rows", len(X)),
    ]
    lines += [(f"  rated {rating:+d}".replace("+0", "0"), int((y == rating).sum())) for rating in (1, 0, -1)]
    lines += [
        ("solutions", len({id(step.solution) for step in X})),
        ("problems", len({step.problem for step in X})),
    ]
    return "\n".join(f"{name}: {n}" for name, n in lines)


def warn_of_malformed(counts: Counter[str]) -> None:
    """Warn where records were skipped: the file may be damaged, or of another layout."""
    malformed = _with_prefix(counts, "malformed: ")
    if malformed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in malformed.items())
        warnings.warn(
            f"{sum(malformed.values())} malformed records were skipped ({reasons}); on_error='raise' names "
            "the first one's file and line",
            UserWarning,
            stacklevel=3,
        )


def _with_prefix(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {key.removeprefix(prefix): n for key, n in sorted(counts.items()) if key.startswith(prefix)}
