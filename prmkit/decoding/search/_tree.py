"""The tree of candidates that grow step by step: the children of a round, equal ones joined, places in the beam."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from prmkit.decoding.generation import check_counts
from prmkit.decoding.search.results import Candidate, SearchProgress, best_candidate
from prmkit.decoding.search.running import SearchRun

Value = Callable[["SearchTree", list[int], int], None]
"""Sets the scores by which new candidates are ranked. It takes the tree, their numbers and how many rounds are left."""


class SearchTree:
    """All candidates of one search. Each has a number, that of its place among the candidates of the result.

    A candidate also has a path: at each step, which of its siblings it is. Among equal scores the first path goes
    first. So a scorer that says the same of everything chooses what the generator would have written alone.
    """

    def __init__(self, run: SearchRun) -> None:
        if run.scoring is None:
            raise TypeError("scorer is None, and this search ranks candidates by scores: pass a scorer")
        self.run = run
        self.candidates: list[Candidate] = []
        self.paths: list[tuple[int, ...]] = []
        self._copies: list[list[tuple[int, ...]]] = []
        self.live: list[int] = []
        self.n_in_beam = 0
        self._finished: list[int] = []

    def add(self, made: Sequence[tuple[int | None, tuple[int, ...], Candidate]]) -> list[int]:
        """Add children, each with the number of its parent and its path, and return a number for each.

        Equal children of one parent, and equal ones in one subtree, are one candidate. Failures stay apart.
        """
        known: dict[object, int] = {}
        numbers = []
        for parent, path, child in made:
            key: object = (path[0], child.solution.steps, child.stopped) if child.stopped != "error" else path
            number = known.setdefault(key, len(self.candidates))
            if number == len(self.candidates):
                self.candidates.append(replace(child, parent=parent, n_copies=1, weight=None))
                self.paths.append(path)
                self._copies.append([path])
            else:
                one = self.candidates[number]
                self.candidates[number] = replace(one, n_copies=one.n_copies + 1)
                self._copies[number].append(path)
            numbers.append(number)
        return numbers

    def score(self, numbers: Sequence[int]) -> None:
        """Score candidates that are longer than their parents, in one batch."""
        new = [i for i in dict.fromkeys(numbers) if self.candidates[i].stopped not in ("error", "empty")]
        for i, one in zip(new, self.run.scored([self.candidates[i] for i in new], go_on=True), strict=True):
            self.candidates[i] = one

    def grow(self, n: int, *, n_first: int, n_trees: int = 1, score: bool = True) -> list[int] | None:
        """Add n children of each candidate in the beam, or the first ones. None if the budget does not allow them.

        The first ones are dealt out to the subtrees.
        """
        parents: list[int | None] = list(self.live) if self.candidates else [None]
        first = [self.run.first if i is None else self.candidates[i] for i in parents]
        grown = self.run.grow(first, n if self.candidates else n_first, score=False)
        if grown is None:
            return None
        made: list[tuple[int | None, tuple[int, ...], Candidate]] = []
        for place, (i, row) in enumerate(zip(parents, grown, strict=True)):
            if i is not None:
                self.candidates[i] = self.candidates[i].ended("expanded")
            for k, child in enumerate(row):
                path = divmod(k, n_first // n_trees) if i is None else (*self.paths[i], place * n + k)
                made.append((i, path, child))
        new = list(dict.fromkeys(self.add(made)))
        if score:
            self.score(new)
        self._finished += [i for i in new if self.candidates[i].is_complete and self.candidates[i].solution.steps]
        return new

    def select(self, new: Sequence[int], *, width: int, n_trees: int = 1, filter_duplicates: bool = False) -> None:
        """Let new candidates and finished ones compete for the places of each subtree. The live ones go on.

        Each copy of a candidate competes for a place of its own, or the first one alone.
        """
        open_ones = [i for i in new if self.candidates[i].stopped is None]
        kept: list[int] = []
        for tree in range(n_trees):
            places = [
                (*self._rank(i), path, i)
                for i in (*self._finished, *open_ones)
                if self.paths[i][0] == tree
                for path in (self._copies[i][:1] if filter_duplicates else self._copies[i])
            ]
            kept += [i for *_, i in sorted(places)[:width]]
        self.live = [i for i in kept if self.candidates[i].stopped is None]  # one entry per place
        self.n_in_beam = len(set(kept) - set(self.live))
        for i in open_ones:
            if i not in self.live:
                self.candidates[i] = self.candidates[i].ended("pruned")
        self.forget_all_but(self.live)

    def forget_all_but(self, numbers: Sequence[int]) -> None:
        """Free what the scorer keeps of other candidates."""
        if self.run.scoring is not None:
            self.run.scoring.keep(self.candidates[i].solution for i in numbers)

    def progress(self, size: float | None = None) -> SearchProgress:
        """Return where the search stands."""
        self.run.ended = [one for one in self.candidates if one.stopped is not None]
        return self.run.progress([one for one in self.candidates if one.stopped is None], size=size)

    def finish(
        self, why: str, choose: Callable[[list[Candidate]], int] | None = None, size: float | None = None
    ) -> SearchProgress:
        """Return the last progress, with the result."""
        self.run.ended = [one.ended(why) for one in self.candidates] or [self.run.first.ended(why)]
        order = sorted(range(len(self.candidates)), key=self.paths.__getitem__) or [0]
        return self.run.finish(choose=choose or (lambda candidates: best_candidate(candidates, order)), size=size)

    def _rank(self, number: int) -> tuple[bool, float]:
        score = self.candidates[number].score
        return bool(np.isnan(score)), -score


def beam_rounds(
    run: SearchRun,
    *,
    beam_width: int,
    beam_factor: int,
    max_steps: int,
    n_complete: int | None,
    filter_duplicates: bool,
    n_trees: int = 1,
    value: Value | None = None,
) -> Iterator[SearchProgress]:
    """Yield the progress of a beam search. ``value`` ranks new candidates, and else the scores of their steps do."""
    check_counts(
        beam_width=beam_width,
        beam_factor=beam_factor,
        max_steps=max_steps,
        n_complete=1 if n_complete is None else n_complete,
    )
    tree = SearchTree(run)
    why = "max_steps"
    with run:
        for n_left in reversed(range(max_steps)):
            new = tree.grow(beam_factor, n_first=beam_width * beam_factor, n_trees=n_trees, score=value is None)
            if new is None:
                why = "budget"
                break
            if value is not None:
                value(tree, new, n_left)
            tree.select(new, width=beam_width // n_trees, n_trees=n_trees, filter_duplicates=filter_duplicates)
            if not tree.live:
                break
            if n_complete is not None and tree.n_in_beam >= n_complete:
                why = "pruned"
                break
            if n_left:
                yield tree.progress()
        yield tree.finish(why)
