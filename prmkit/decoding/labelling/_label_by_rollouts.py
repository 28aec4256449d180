"""Label steps by rollouts: a step is worth what its completions reach (Math-Shepherd, OmegaPRM)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from prmkit.data.dataset import StepDataset
from prmkit.data.labels import ratings_to_first_error
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution, Step
from prmkit.decoding.generation import (
    RandomState,
    TextGenerator,
    as_solution,
    check_counts,
    check_generator,
    check_request_settings,
    root_seed,
)
from prmkit.decoding.generators._logged import LoggedGenerator, check_seed_for_log
from prmkit.decoding.labelling._noise import RolloutNoise, precision_of_share, wilson_interval
from prmkit.decoding.labelling._rollouts import Rollout, Rollouts
from prmkit.decoding.search.scoring import Scorer, StepScoring
from prmkit.decoding.verifiers.references import Verifier
from prmkit.metrics.selection.best_of_n import check_option

Problem: TypeAlias = str | Mapping[str, Any] | Solution
Labels: TypeAlias = Literal["hard", "soft"]
Search: TypeAlias = Literal["all", "binary"]
Agreement: TypeAlias = Literal["solution", "step"]


def label_by_rollouts(
    generator: TextGenerator,
    verifier: Verifier,
    problems: Iterable[Problem],
    n_solutions: int = 15,
    n_completions: int = 16,
    *,
    labels: Labels = "hard",
    search: Search = "all",
    stop_early: bool = True,
    max_width: float | None = None,
    judge: Scorer | None = None,
    judge_threshold: float = 0.5,
    agreement: Agreement = "solution",
    max_tokens: int = 2048,
    max_steps: int = 64,
    temperature: float = 1.0,
    budget: int | None = None,
    n_open: int = 32,
    log: str | Path | None = None,
    random_state: RandomState = None,
    show_progress: bool = True,
) -> StepDataset:
    r"""Sample solutions, complete them from each of their steps, and label a step by what its completions reach.

    No person labels anything: a verifier that knows right final answers is enough. ``n_solutions`` solutions are
    sampled for each problem, and ``n_completions`` completions from each of their steps (Math-Shepherd,
    arXiv:2312.08935).

    Parameters
    ----------
    generator : TextGenerator
        Generator of solutions and completions.
    verifier : callable
        ``verifier(problem, solution)`` is True if the final answer of a complete solution is right, such as
        :class:`AnswerVerifier`. ``solution.meta`` is that of the problem. One that raises costs one completion. One
        that may hang goes into a :class:`LimitedVerifier`.
    problems : iterable of str, mapping or Solution
        Problems. A mapping holds ``problem``, perhaps ``id``, and what the verifier needs, such as ``answer``, which
        becomes ``meta`` of its solutions. So does a Solution without steps. A problem that comes twice is taken once.
    n_solutions : int, default=15
        Number of solutions of a problem. Equal ones are labelled once.
    n_completions : int, default=16
        Largest number of completions of a step. Solutions that begin with the same steps share them.
    labels : {"hard", "soft"}, default="hard"
        ``"hard"``: 1 (right) if any completion is right, else -1, as load_math_shepherd reads them. ``"soft"``: the
        share of right completions.
    search : {"all", "binary"}, default="all"
        ``"all"`` labels every step. ``"binary"`` looks for the first error of a wrong solution by halving (OmegaPRM,
        arXiv:2406.06592), in about log2(n_steps) steps. Later steps, and with soft labels those that were not tried,
        have no label then.
    stop_early : bool, default=True
        Whether to ask for completions in growing parts, until the label is decided. A hard label is decided by the
        first success, also from a later step: who gets from there to the answer gets there from here. So no step of
        a right solution is tried. If False, all completions of all steps are asked for at once.
    max_width : float, optional
        A soft label is decided when its interval is no wider. If None, all completions are made.
    judge : scorer, optional
        What scores the steps of all solutions too, see ``scorer`` of :func:`best_of_n`. Only what it agrees with is
        kept. Judges and rollouts err in different ways (arXiv:2501.07301).
    judge_threshold : float, default=0.5
        A step is wrong to the judge if its reward is below.
    agreement : {"solution", "step"}, default="solution"
        ``"solution"`` keeps solutions where judge and rollouts find the same first error. ``"step"`` also keeps, of
        the other ones, the steps before both first errors.
    max_tokens : int, default=2048
        Largest number of tokens of one request. A completion that is cut counts as one that failed.
    max_steps : int, default=64
        Largest number of requests for one completion, if the generator gives it step by step.
    temperature : float, default=1.0
        Temperature of the draws.
    budget : int, optional
        Largest number of tokens to generate in all. It is spent when it cuts a completion, which then does not count.
        Steps that are not decided have no label. What is labelled then depends on the order of the problems and on
        ``n_open``.
    n_open : int, default=32
        Problems that are worked on at a time. All their completions of a round are asked for in one call.
    log : str or Path, optional
        File for all that is generated, see :class:`LoggedGenerator`. After a kill, the same call with the same file and
        seed goes on. It needs an int as ``random_state``.
    random_state : int, Generator or None, default=None
        Seed. Each request has its own, of problem, steps and number. So the labels do not depend on the order of the
        problems, on what else is asked, or on kills.
    show_progress : bool, default=True
        Whether a terminal shows a progress bar.

    Returns
    -------
    StepDataset
        Steps with a label. ``solutions`` have ``meta["is_right"]`` (what the verifier says of the solution itself, or
        None if it was cut), ``meta["finish"]``, ``meta["n_right"]`` and ``meta["n_tried"]`` (one number per step).
        ``rows`` holds per step ``n_right`` and ``n_tried`` (right completions, and all), ``low`` and ``high`` (their
        95 % Wilson interval, NaN if none was made), ``p_alive`` and ``sample_weight``, see Notes. ``first_errors`` are
        those of the rollouts.
        ``description`` and ``counts`` say what was made and lost.

    Raises
    ------
    TypeError, ValueError
        If a setting is out of range, or verifier or judge give something else than their protocols say. A generator
        that does so loses the problem for which it does.
    RuntimeError
        If no step has a label. The error says what went wrong first.

    Warns
    -----
    UserWarning
        If problems gave no labels, requests or verifications failed, or the budget was spent.

    Notes
    -----
    A label says whether the right answer can still be reached, not whether the step is right. Two kinds of errors
    remain.

    *A step looks wrong, and all its completions failed by chance.* ``p_alive`` is the probability that the step can
    succeed, and its mean over the steps labelled -1 estimates the share of these labels that are in error. It is
    (1 - d) q / ((1 - d) q + d), where d is the share of the steps that never succeed, and q the probability that all
    completions of another step fail. Both come from the counts of all steps, with the sampled solution itself as one
    more completion, under the assumption that completions of a step are independent, and that the chances of those
    that can succeed follow a beta distribution that does not pile up at 0. More completions make the estimate sharper.

    *A step looks right, and its completions reach the answer in spite of it.* No count shows this. A judge may.

    ``sample_weight`` goes into ``fit``. For a hard label it is the probability that the label is what the definition
    says: 1 for a step that can succeed, ``1 - p_alive`` for another one. For a soft label it is
    1 - 12 v, where v is the variance of the beta distribution of the share after ``n_right`` of ``n_tried``, and 1/12
    the variance before. The last step of a complete solution is known: its weight is 1, its label that of its answer.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> def guess(problem, steps, n, seed):
    ...     if not steps:
    ...         return [(f"We add.\n\nSo {4 + (seed + i) % 2}.", "eos") for i in range(n)]
    ...     return [(f"So {4 + (seed + i) % 2}.", "eos") for i in range(n)]
    >>> data = label_by_rollouts(
    ...     CallableGenerator(guess), lambda problem, solution: "4" in solution.steps[-1], ["2 + 2?"], random_state=0
    ... )
    >>> [(step.text, int(label)) for step, label in zip(data.X, data.y)]
    [('We add.', 1), ('So 4.', 1), ('We add.', 1), ('So 5.', -1)]
    >>> data.first_errors, [solution.meta["is_right"] for solution in data.solutions]
    ([-1, 1], [True, False])
    """
    check_counts(n_solutions=n_solutions, n_completions=n_completions, n_open=n_open, max_steps=max_steps)
    check_generator(generator)
    check_request_settings(1, max_tokens, temperature)
    check_option(labels, Labels, "labels")
    check_option(search, Search, "search")
    check_option(agreement, Agreement, "agreement")
    if not callable(verifier):
        raise TypeError(f"verifier is {type(verifier).__name__}, expected a callable of a problem and a Solution")
    if not isinstance(judge_threshold, Real) or not np.isfinite(float(judge_threshold)):
        raise ValueError(f"judge_threshold is {judge_threshold!r}, expected a number that rewards are compared with")
    if budget is not None:
        check_counts(budget=budget)
    if max_width is not None and (labels != "soft" or not 0 < max_width <= 1):
        raise ValueError(f"max_width is {max_width!r}, expected None, or with labels='soft' a number up to 1")
    judging = None if judge is None else StepScoring(judge, len)
    begun, lost, n_repeated = _read_problems(problems)
    with ExitStack() as held:
        if log is not None:
            check_seed_for_log(random_state)
            generator = held.enter_context(LoggedGenerator(generator, log))
        rollouts = Rollouts(generator, verifier, max_tokens, max_steps, temperature, budget, root_seed(random_state))
        settings = _Settings(n_solutions, n_completions, labels, search, stop_early, max_width)
        found = _labelled(rollouts, begun, settings, n_open, show_progress)
    for one in found:
        nodes = one.beginnings.values()
        is_labelled = any(node.rating(n_completions) is not None or node.n_tried for node in nodes)
        if not is_labelled and not (rollouts.is_spent and one.start.problem not in rollouts.errors):
            lost[one.start.problem] = rollouts.errors.get(one.start.problem, "no solution has a step")
    rollouts.counts.update({"problems left out or in doubt": len(lost), "repeated problems": n_repeated})
    _warn(rollouts, lost)
    return _dataset(found, rollouts, settings, judging, judge_threshold, agreement)


@dataclass(frozen=True)
class _Settings:
    n_solutions: int
    n_completions: int
    labels: Labels
    search: Search
    stop_early: bool
    max_width: float | None

    @property
    def parts(self) -> list[int]:
        """Numbers of completions that are asked for one after the other: 2, 4 and 10 of 16."""
        if not self.stop_early or (self.labels == "soft" and self.max_width is None):
            return [self.n_completions]
        left, size, parts = self.n_completions, max(1, self.n_completions // 8), []
        while left:
            size = left if left < 3 * size else size
            parts.append(size)
            left, size = left - size, 2 * size
        return parts


@dataclass(eq=False)
class _Beginning:
    """A problem and its first steps, of one or more solutions, and what its completions have reached."""

    start: Solution
    n_right: int = 0
    n_tried: int = 0
    n_lost: int = 0
    n_ends: int = 0
    n_right_ends: int = 0
    """Sampled solutions that go through here, and the right ones: they are completions too."""
    is_alive: bool = False
    """Whether something that was sampled gets from here to the right answer."""
    is_end: bool = False
    """Whether these are all steps of a solution that the model has ended."""
    verdict: bool | None = None
    """Whether the answer of such a solution is right."""

    def rating(self, n_completions: int) -> int | None:
        if self.is_alive or self.verdict is not None:
            return 1 if self.is_alive or self.verdict else -1
        return -1 if self.n_tried and self.n_tried + self.n_lost >= n_completions else None

    def share(self) -> float | None:
        if self.verdict is not None:
            return float(self.verdict)
        return self.n_right / self.n_tried if self.n_tried else None


@dataclass(eq=False)
class _Labelled:
    """A problem with its sampled solutions, and the beginnings of each of them, one per step."""

    start: Solution
    solutions: list[Rollout] = field(default_factory=list)
    paths: list[list[_Beginning]] = field(default_factory=list)
    beginnings: dict[tuple[tuple[str, ...], bool], _Beginning] = field(default_factory=dict)

    def add(self, rollout: Rollout) -> None:
        """Add a sampled solution. The last step of one that ran out of tokens is torn, so it is no step."""
        steps = rollout.solution.steps[:-1] if rollout.finish == "length" else rollout.solution.steps
        path = []
        for t in range(len(steps)):
            is_end = rollout.finish == "eos" and t + 1 == len(steps)
            start = Solution(self.start.problem, steps[: t + 1], id=self.start.id, meta=self.start.meta)
            path.append(self.beginnings.setdefault((start.steps, is_end), _Beginning(start, is_end=is_end)))
        if rollout.finish == "eos":
            path[-1].verdict = rollout.is_right
            path[-1].n_lost = int(rollout.is_right is None)
        for node in path:
            node.n_ends += rollout.counts
            node.n_right_ends += bool(rollout.is_right)
        self.solutions.append(Rollout(path[-1].start, rollout.finish, rollout.is_right))
        self.paths.append(path)
        if rollout.is_right:
            self.reached(path[-1].start)

    def reached(self, start: Solution) -> None:
        """Note that the right answer can be reached from here, and so from each of its beginnings."""
        for t in range(1, start.n_steps + 1):
            if (start.steps[:t], False) in self.beginnings:
                self.beginnings[start.steps[:t], False].is_alive = True


def _read_problems(problems: Iterable[Problem]) -> tuple[list[Solution], dict[str, str], int]:
    """Return problems as solutions without steps, each once, what is wrong with others, and how many came again."""
    if isinstance(problems, (str, Mapping, Solution)) or not isinstance(problems, Iterable):
        raise TypeError(f"problems is one {type(problems).__name__}, expected a list of problems")
    begun: dict[int, Solution] = {}
    lost: dict[str, str] = {}
    n_repeated = 0
    for i, problem in enumerate(problems):
        one, fault = _start_of(problem)
        if one is None:
            lost[f"number {i}"] = fault
            continue
        first = begun.setdefault(int(problem_keys([one])[0]), one)
        n_repeated += first is not one
        # As texts: arrays and NaN have no plain "not equal".
        if repr(sorted((first.meta or {}).items())) != repr(sorted((one.meta or {}).items())):
            lost[f"number {i}"] = "it comes twice, with different fields: the first ones are taken"
    if not begun:
        told = next(iter(lost.values()), "the list is empty")
        raise ValueError(f"problems holds no problem: {told}")
    return list(begun.values()), lost, n_repeated


def _start_of(problem: Problem) -> tuple[Solution | None, str]:
    """Return a problem as a solution without steps, or None and what is wrong with it."""
    if isinstance(problem, Mapping):
        meta = {str(name): value for name, value in problem.items() if name not in ("problem", "id")}
        name, text = problem.get("id"), problem.get("problem")
        if not isinstance(text, str):
            return None, f"its fields are {', '.join(map(str, problem))}, expected problem, a text, and what else"
        return Solution(text, (), id=None if name is None else str(name), meta=meta or None), ""
    if not isinstance(problem, (str, Solution)):
        return None, f"it is {type(problem).__name__}, expected a str, a mapping or a Solution"
    start = as_solution(problem)
    return (None, f"it has {start.n_steps} steps, expected a problem without steps") if start.steps else (start, "")


def _labelled(
    rollouts: Rollouts, begun: Sequence[Solution], settings: _Settings, n_open: int, show_progress: bool
) -> list[_Labelled]:
    from tqdm.auto import tqdm

    found = []
    # tqdm takes None for "show it on a terminal only".
    with tqdm(
        total=len(begun), unit="problem", desc="label", delay=1.0, disable=None if show_progress else True
    ) as bar:
        for first in range(0, len(begun), n_open):
            open_now = [_Labelled(start) for start in begun[first : first + n_open]]
            _sample(rollouts, open_now, settings.n_solutions)
            # Where no solution could be verified, no completion could either.
            told = [one for one in open_now if any(rollout.counts for rollout in one.solutions)]
            if settings.search == "all":
                _try(rollouts, [(one, node) for one in told for node in one.beginnings.values()], settings)
            else:
                _halve(rollouts, told, settings)
            found += open_now
            bar.update(len(open_now))
            bar.set_postfix(tokens=rollouts.n_tokens)
    return found


def _sample(rollouts: Rollouts, problems: Sequence[_Labelled], n_solutions: int) -> None:
    """Sample the solutions of some problems."""
    counts = rollouts.counts
    for one, row in zip(
        problems, rollouts.complete([one.start for one in problems], n_solutions, "solution"), strict=True
    ):
        seen = set()
        for rollout in row:
            n_steps = rollout.solution.n_steps - (rollout.finish == "length")
            counts["sampled solutions"] += rollout.finish not in ("error", "budget")
            if rollout.finish in ("error", "budget") or n_steps < 1:
                cut = "solutions cut in their first step" if rollout.finish == "length" else "solutions without a step"
                counts[cut] += rollout.finish not in ("error", "budget")
                if rollout.finish == "length":
                    why = (
                        f"no solution has a step: they were cut in it, pass more than max_tokens={rollouts.max_tokens}"
                    )
                    rollouts.errors.setdefault(one.start.problem, f"no solution has a step: {why}")
            elif rollout.solution.steps in seen:
                counts["repeated solutions"] += 1
            else:
                seen.add(rollout.solution.steps)
                counts["cut solutions"] += rollout.finish != "eos"
                one.add(rollout)


def _try(rollouts: Rollouts, pairs: Sequence[tuple[_Labelled, _Beginning]], settings: _Settings) -> None:
    """Complete some beginnings until each of them is decided."""

    def is_open(node: _Beginning) -> bool:
        if node.is_end or node.n_lost + node.n_tried >= settings.n_completions:
            return False
        if settings.labels == "hard":
            return not (node.is_alive and settings.stop_early)
        low, high = wilson_interval(node.n_right, node.n_tried)
        return settings.max_width is None or not high - low <= settings.max_width

    done = 0
    for size in settings.parts:
        some = [(one, node) for one, node in pairs if is_open(node)]
        for (one, node), row in zip(
            some, rollouts.complete([node.start for _, node in some], size, ("step", done)), strict=True
        ):
            node.n_tried += sum(rollout.counts for rollout in row)
            node.n_right += sum(bool(rollout.is_right) for rollout in row)
            node.n_lost += sum(not rollout.counts and rollout.finish != "budget" for rollout in row)
            rollouts.counts["cut completions"] += sum(rollout.finish in ("length", "max_steps") for rollout in row)
            rollouts.counts["completions"] += sum(rollout.finish != "budget" for rollout in row)
            if node.n_right:
                one.reached(node.start)
        done += size


def _halve(rollouts: Rollouts, problems: Sequence[_Labelled], settings: _Settings) -> None:
    """Look for the first error of each solution that is not right by halving."""
    # Of each solution: problem, path, the first step that may be the error, and the one before which it must be.
    open_now = []
    for one in problems:
        for rollout, path in zip(one.solutions, one.paths, strict=True):
            if not rollout.is_right:
                open_now.append((one, path, 0, len(path) - path[-1].is_end))
    while open_now := [entry for entry in open_now if entry[2] < entry[3]]:
        middles = {id(path[(low + high) // 2]): (one, path[(low + high) // 2]) for one, path, low, high in open_now}
        _try(rollouts, list(middles.values()), settings)
        halved = []
        for one, path, low, high in open_now:
            middle = (low + high) // 2
            rating = path[middle].rating(settings.n_completions)
            if rating is not None:  # else nothing is known of it: the search ends here
                halved.append((one, path, middle + 1, high) if rating == 1 else (one, path, low, middle))
        open_now = halved


def _warn(rollouts: Rollouts, lost: Mapping[str, str]) -> None:
    told = []
    if lost:
        names = ", ".join(f"{name!r:.60} ({why:.120})" for name, why in list(lost.items())[:3])
        told.append(f"{len(lost)} problems gave no labels or are in doubt: {names}{', …' if len(lost) > 3 else ''}")
    told += [f"{rollouts.counts[kind]} {kind}, the first: {first}" for kind, first in rollouts.first_of.items()]
    if rollouts.is_spent:
        n = rollouts.counts["requests beyond the budget"]
        told += [f"the budget of {rollouts.budget} tokens was spent, and {n} requests were not made"]
    if told:
        warnings.warn("; ".join(told), stacklevel=3)


def _dataset(
    found: Sequence[_Labelled],
    rollouts: Rollouts,
    settings: _Settings,
    judging: StepScoring | None,
    judge_threshold: float,
    agreement: Agreement,
) -> StepDataset:
    """Return the labelled steps of all problems."""
    is_soft = settings.labels == "soft"
    counts = rollouts.counts
    solutions, paths, errors = [], [], []
    for i, one in enumerate(found):
        for k, (rollout, path) in enumerate(zip(one.solutions, one.paths, strict=True)):
            meta = {
                **(one.start.meta or {}),
                "is_right": rollout.is_right,
                "finish": rollout.finish,
                "n_right": [node.n_right for node in path],
                "n_tried": [node.n_tried for node in path],
            }
            name = f"{i if one.start.id is None else one.start.id}-{k}"
            solutions.append(Solution(one.start.problem, path[-1].start.steps, id=name, meta=meta))
            paths.append(path)
            errors.append(ratings_to_first_error([node.rating(settings.n_completions) for node in path]))
    n_kept = _agreed(solutions, errors, judging, judge_threshold, agreement, counts)
    X, y, nodes = [], [], []
    kept = []
    for i, (solution, path) in enumerate(zip(solutions, paths, strict=True)):
        marks = [node.share() if is_soft else node.rating(settings.n_completions) for node in path[: n_kept[i]]]
        counts["steps without a label"] += sum(mark is None for mark in marks)
        if any(mark is not None for mark in marks):
            kept.append(i)
        for t, mark in enumerate(marks):
            if mark is not None:
                X.append(Step(solution, t))
                y.append(mark)
                nodes.append(path[t])
    if not X:
        told = next(iter(rollouts.errors.values()), "no solution has a step that could be tried")
        if counts["solutions cut in their first step"]:
            told = f"solutions were cut in their first step: pass more than max_tokens={rollouts.max_tokens}"
        if rollouts.is_spent:
            told = f"the budget of {rollouts.budget} tokens was spent before"
        if judging is not None and solutions:
            told = "the judge agrees with none of them"
        raise RuntimeError(f"no step has a label: {told}. {_told(counts)}")
    rows = _columns(nodes, is_soft)
    counts["problems"], counts["solutions"], counts["labelled steps"] = len(found), len(kept), len(X)
    counts["generated tokens"] = rollouts.n_tokens
    wrong = [row for row, mark in enumerate(y) if mark == -1]
    lines = [
        f"steps labelled by rollouts: {settings.labels} labels, {settings.n_solutions} solutions of each problem, "
        f"up to {settings.n_completions} completions of each step, search={settings.search!r}",
        *(f"{name}: {n}" for name, n in counts.items() if n),
    ]
    if not is_soft and wrong:
        share = float(np.mean(rows["p_alive"][wrong]))
        lines.append(f"estimated share of the labels -1 whose step can still reach the answer: {share:.3f}")
    return StepDataset(
        X,
        np.array(y),
        solutions=[solutions[i] for i in kept],
        description="\n".join(lines),
        first_errors=[errors[i] if n_kept[i] == len(paths[i]) else None for i in kept],
        rows=rows,
        counts={name: n for name, n in counts.items() if n},
        vocabulary="soft" if is_soft else "rating",
    )


def _agreed(
    solutions: Sequence[Solution],
    errors: Sequence[int | None],
    judging: StepScoring | None,
    threshold: float,
    agreement: Agreement,
    counts: Counter[str],
) -> list[int]:
    """Return how many steps of each solution are kept: all where judge and rollouts find the same first error."""
    if judging is None:
        return [solution.n_steps for solution in solutions]
    kept = []
    for solution, error, rewards in zip(solutions, errors, judging.rewards(solutions, go_on=False), strict=True):
        wrong = np.flatnonzero(rewards < threshold)
        judged = int(wrong[0]) if len(wrong) else -1
        before = solution.n_steps if judged < 0 else judged
        n_steps = 0
        if np.isnan(rewards[: before + 1]).any():
            counts["solutions that the judge cannot read"] += 1
        elif error is None:
            counts["solutions whose first error is not known, left out"] += 1
        elif error == judged:
            counts["solutions that the judge agrees with"] += 1
            n_steps = solution.n_steps
        else:
            counts["solutions that the judge contradicts"] += 1
            if agreement == "step":
                n_steps = min(before, solution.n_steps if error < 0 else error)
        kept.append(n_steps)
    return kept


def _columns(nodes: Sequence[_Beginning], is_soft: bool) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return the columns of the labelled steps: counts, interval, probability and weight."""
    n_right, n_tried = (np.array([getattr(node, name) for node in nodes]) for name in ("n_right", "n_tried"))
    known = np.array([node.verdict is not None for node in nodes])
    verdict = np.array([float(bool(node.verdict)) for node in nodes])
    alive = np.array([node.is_alive for node in nodes])
    low, high = wilson_interval(n_right, n_tried)
    low, high = np.where(known, verdict, low), np.where(known, verdict, high)
    p_alive = np.where(known, verdict, 1.0)
    # Steps that solutions share are one observation.
    distinct = np.unique([id(node) for node in nodes], return_index=True)[1]
    successes = n_right + [node.n_right_ends for node in nodes]
    draws = n_tried + [node.n_ends for node in nodes]
    # What is known from later steps alone tells nothing of the chance to succeed.
    seen = np.sort(distinct[((successes > 0) | ~alive)[distinct] & ~known[distinct]])
    doubtful = ~known & ~alive
    if doubtful.any():
        noise = RolloutNoise(successes[seen], draws[seen])
        p_alive[doubtful] = noise.p_alive_if_all_fail(draws[doubtful])
    weight = np.where(known, 1.0, precision_of_share(n_right, n_tried)) if is_soft else np.ones(len(nodes))
    if not is_soft:
        weight[doubtful] = 1 - p_alive[doubtful]
    return {
        "n_right": n_right,
        "n_tried": n_tried,
        "low": low,
        "high": high,
        "p_alive": p_alive,
        "sample_weight": weight,
    }


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in counts.items() if n)
