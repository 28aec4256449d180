"""Rows of many records become one row per judged step. Duplicates are counted, disagreements settled."""

from __future__ import annotations

import warnings
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.data.formats.sources import lost_labels
from prmkit.data.labels import ratings_to_first_error
from prmkit.data.prm800k._records import RowMeta
from prmkit.data.solution import Solution, Step

_WHOLE_RECORDS = ("quality control", "screening", "bad_problem", "other phase", "phase not recorded")
_FINISH_REASONS = ("solution", "found_error", "give_up", "None")


def report(counts: Counter[str], X: Sequence[Step], y: np.ndarray) -> str:
    """Return one line per counter, records first, then ratings, then rows."""
    malformed = _with_prefix(counts, "malformed: ")
    dropped = {reason: counts[f"dropped: {reason}"] for reason in _WHOLE_RECORDS}
    finish = dict.fromkeys(_FINISH_REASONS, 0) | _with_prefix(counts, "finish_reason ")
    # A line that is not JSON, or nested too deeply, was read, although it is no record.
    no_records = malformed.get("not JSON", 0) + malformed.get("nested too deeply", 0)
    lines = [("records read", counts["records"] + no_records)]
    lines += [("records kept", sum(finish.values()))]
    lines += [(f"  finish_reason {reason}", n) for reason, n in finish.items()]
    lines += [("records dropped", sum(dropped.values()) + sum(malformed.values()))]
    lines += [(f"  {reason}", n) for reason, n in dropped.items()]
    lines += [("  malformed", sum(malformed.values()))]
    lines += [(f"    {reason}", n) for reason, n in malformed.items()]
    lines += [(f"    labels left out: {label}", n) for label, n in _with_prefix(counts, "labels left out: ").items()]
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
    lines += [("solutions", len({id(step.solution) for step in X})), ("problems", len({step.problem for step in X}))]
    return "\n".join(f"{name}: {n}" for name, n in lines)


def warn_of_malformed(counts: Counter[str]) -> None:
    """Warn if records were skipped. The file may be damaged, or have another format."""
    malformed = _with_prefix(counts, "malformed: ")
    if malformed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in malformed.items())
        warnings.warn(
            f"{sum(malformed.values())} malformed records were skipped ({reasons}); on_error='raise' names "
            f"the first one's file and line{lost_labels(counts)}",
            UserWarning,
            stacklevel=3,
        )


def _with_prefix(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {key.removeprefix(prefix): n for key, n in sorted(counts.items()) if key.startswith(prefix)}


class MergedRows:
    """Collector of labelled steps. Equal steps become one, with a vote for each rating that it got.

    Steps are equal if problem, prefix and text are. With ``whole_solutions``, as in trajectories, their solutions
    must be equal too.
    """

    def __init__(self, *, whole_solutions: bool) -> None:
        self.whole_solutions = whole_solutions
        self.steps: list[Step] = []
        self.columns: dict[str, list[Any]] = {}
        self._number: dict[Any, int] = {}
        # Three numbers per row: the votes for -1, 0 and +1.
        self._votes = array("i")
        self._solutions: dict[Solution, Solution] = {}
        self._ratings: list[int | None] = []

    def add(self, step: Step, rating: int, meta: RowMeta) -> None:
        """Count one labelling of a step."""
        row = self._number.setdefault(self._key(step.solution, step.index), len(self.steps))
        if row == len(self.steps):
            self.steps.append(self._shared(step))
            self._votes.extend((0, 0, 0))
            for name, value in meta.items():
                self.columns.setdefault(name, []).append(value)
        else:
            self._merge(row, step, meta)
        self._votes[3 * row + rating + 1] += 1

    def _merge(self, row: int, step: Step, meta: RowMeta) -> None:
        """Add the metadata of another labelling of a row."""
        by_model = "model" in (meta["source"], self.columns["source"][row])
        if meta["chosen"] and not self.columns["chosen"][row]:
            # A candidate may occur twice, and one be chosen. The row then belongs to the long solution.
            self.steps[row] = self._shared(step)
            for name, value in meta.items():
                self.columns[name][row] = value
        # A text that a model wrote too is not left out with the human steps.
        self.columns["source"][row] = "model" if by_model else "human"

    def settle(
        self, *, neutral: str, conflicts: str, include_human: bool, counts: Counter[str]
    ) -> tuple[list[Step], np.ndarray, dict[str, np.ndarray]]:
        """Apply the options, and return steps, ratings and metadata columns."""
        votes = np.array(self._votes, dtype=np.int64).reshape(-1, 3)
        if neutral in ("positive", "negative"):
            votes[:, 2 if neutral == "positive" else 0] += votes[:, 1]
            votes[:, 1] = 0
        wins = self._winners(votes, conflicts, counts)
        # 2 stands for a step without one rating, because none or several of its ratings stay.
        single = np.where(wins.sum(axis=1) == 1, wins.argmax(axis=1) - 1, 2)
        self._ratings = [None if rating == 2 else rating for rating in single.tolist()]

        if neutral == "drop":
            counts["neutral left out"] += int(wins[:, 1].sum())
            wins[:, 1] = False
        if not include_human:
            human = np.array([source == "human" for source in self.columns.get("source", ())], dtype=bool)
            counts["human steps left out"] += int(wins[human].sum())
            wins[human] = False

        rows, ratings = np.nonzero(wins)
        columns = {name: _column(values)[rows] for name, values in self.columns.items()}
        columns["count"] = votes[rows, ratings]
        return [self.steps[row] for row in rows], ratings - 1, columns

    def first_error(self, solution: Solution) -> int | None:
        """Return the first error by the settled ratings, including those that are no rows."""
        numbers = [self._number.get(self._key(solution, i)) for i in range(solution.n_steps)]
        return ratings_to_first_error([None if row is None else self._ratings[row] for row in numbers])

    def _winners(self, votes: np.ndarray, conflicts: str, counts: Counter[str]) -> np.ndarray:
        """Return which ratings of each row stay, as booleans of shape (n_rows, 3)."""
        has_vote = votes > 0
        is_conflict = has_vote.sum(axis=1) > 1
        is_most = has_vote & (votes == votes.max(axis=1, keepdims=True, initial=0))
        is_tie = is_most.sum(axis=1) > 1
        wins: npt.NDArray[np.bool_] = {
            "majority": is_most & ~is_tie[:, None],
            "drop": has_vote & ~is_conflict[:, None],
            "keep": has_vote,
        }[conflicts]
        counts["duplicates"] += int((votes - has_vote)[wins].sum())
        counts["conflicts"] += int(is_conflict.sum())
        counts["conflicts dropped"] += int((~wins.any(axis=1)).sum())
        counts["labellings lost to conflicts"] += int(votes[has_vote & ~wins].sum())
        return wins.copy()

    def _key(self, solution: Solution, index: int) -> tuple[Any, ...]:
        """Return a key that equal steps share."""
        if self.whole_solutions:
            return solution.problem, solution.steps, index
        return solution.problem, solution.steps[: index + 1]

    def _shared(self, step: Step) -> Step:
        """Return a step of the first solution that equals its own, so that rows share one object."""
        solution = self._solutions.setdefault(step.solution, step.solution)
        return step if solution is step.solution else Step(solution, step.index)


def _column(values: list[Any]) -> np.ndarray:
    """Return a column of booleans if all values are, of objects otherwise."""
    if all(isinstance(value, bool) for value in values):
        return np.array(values, dtype=bool)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
