"""Particle filter: solutions grow as a population, and after each step good ones are doubled and bad ones are lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import logit, logsumexp

from prmkit.decoding.generation import RandomState, Request, TextGenerator, check_counts
from prmkit.decoding.search._tree import SearchTree
from prmkit.decoding.search.results import Candidate, SearchProgress
from prmkit.decoding.search.running import SearchRun, StopCondition, searches
from prmkit.decoding.search.scoring import Scorer

Resampling: TypeAlias = Literal["systematic", "multinomial"]
FloatArray: TypeAlias = npt.NDArray[np.float64]
# A score of 0 or 1 has no finite odds. its-hub takes the same bound.
_SMALLEST = 1e-7


@searches
def particle_filter(
    generator: TextGenerator,
    scorer: Scorer,
    problem: Request,
    *,
    n_particles: int,
    max_steps: int = 64,
    resampling: Resampling = "systematic",
    weight_temperature: float = 1.0,
    ess_threshold: float = 1.0,
    choose: Literal["best", "sample"] = "best",
    rule: str = "min",
    final_scorer: Scorer | None = None,
    final_rule: str | None = None,
    max_tokens: int = 512,
    temperature: float = 1.0,
    stop: Sequence[str] | None = None,
    stop_condition: StopCondition | None = None,
    budget: int | None = None,
    random_state: RandomState = None,
    log: str | Path | None = None,
) -> Iterator[SearchProgress]:
    """Let a population of solutions grow, and draw it anew after each step by weights from the scores.

    ``particle_filter.iterate(…)`` takes the same arguments, and yields the progress after each round.

    Parameters
    ----------
    generator : TextGenerator
        Generator of the steps.
    scorer : fitted classifier, object with ``score_solutions`` or callable
        What scores the steps, in [0, 1]. A callable takes a list of Solution, and returns the step rewards of each.
    problem : str or Solution
        Problem to solve, or a solution to continue.
    n_particles : int
        Number of solutions that grow side by side.
    max_steps : int, default=64
        Largest number of rounds. Each adds a step.
    resampling : {"systematic", "multinomial"}, default="systematic"
        How particles are drawn. Both give each its weight on average. ``"systematic"`` gives a candidate of weight w
        ``w * n_particles`` copies, rounded down or up, ``"multinomial"`` draws each copy alone.
    weight_temperature : float, default=1.0
        Temperature of the weights. A lower one prefers high scores more, a higher one keeps more particles.
    ess_threshold : float, default=1.0
        Share of ``n_particles``, in (0, 1]. Particles are drawn anew if the effective sample size is not above it, so
        with 1 after each step. Until then their weights are multiplied.
    choose : {"best", "sample"}, default="best"
        Whether the best complete particle is chosen by its score, or one is drawn by the weights.
    rule : str, default="min"
        How the rewards of its steps become the score of a particle, see :func:`prmkit.metrics.aggregate`.
    final_scorer : scorer or None, default=None
        Scorer that chooses among the candidates at the end, in place of ``scorer``.
    final_rule : str, optional
        Rule of the scores by which one is chosen at the end. If None, ``rule``.
    max_tokens : int, default=512
        Largest number of tokens of a step. A particle with a step that reaches it goes no further.
    temperature : float, default=1.0
        Temperature of the draws.
    stop : sequence of str, optional
        Texts that end a step. If None, the generator's separator.
    stop_condition : callable, optional
        ``stop_condition(solution)`` is True if a solution is complete.
    budget : int, optional
        Largest number of tokens to generate in all.
    random_state : int, Generator or None, default=None
        Seed. With an int, and a generator that keeps its seeds, the result can be had again.
    log : str or Path, optional
        File for all that is generated, see :class:`LoggedGenerator`. A search that was killed goes on where it was if
        it is called again with the same file and seed. It needs an int as ``random_state``.

    Returns
    -------
    SearchResult
        All candidates with the numbers of their parents, the chosen one, and the cost. ``weight`` of a candidate is its
        share of the particles at the end.

    Raises
    ------
    TypeError, ValueError
        If a setting is out of range, a score is not in [0, 1], or generator or scorer give something else than their
        protocols say.
    RuntimeError
        If no candidate has a step.

    Notes
    -----
    The particle filter of Puri et al. ("A probabilistic inference approach to inference-time scaling of LLMs using
    particle-based Monte Carlo methods", 2025), with the weights of its-hub: after each step a particle of score r has
    the weight ``exp(logit(r) / weight_temperature)``, which are the odds ``r / (1 - r)`` at temperature 1. Scores are
    kept from 0 and 1 by 1e-7. A complete particle waits with its last score, and takes part in each draw.

    So if all solutions have T steps, the weighted particles stand for the distribution in which a solution has the
    probability that the generator gives it, times the product of its T weights. The more particles, the closer. The
    effective sample size of each round, ``1 / sum(weight ** 2)``, is in ``SearchProgress.effective_sample_size``. If it
    comes near 1, all particles descend from one.

    A particle that failed, gave no text or has no score has the weight 0, unless no other has a score. There is no draw
    after the last step. Equal particles are one candidate, which is scored once.

    *Cost.* A round asks for ``n_particles`` steps at most. A scorer that keeps what it has read reads each of them
    once, any other reads whole particles in one batch per round.

    Examples
    --------
    >>> from prmkit.decoding import CallableGenerator
    >>> def digits(problem, steps, n, seed):
    ...     return [(f"digit {(seed + k) % 5}", "eos" if len(steps) == 2 else "stop") for k in range(n)]
    >>> def small_is_good(solutions):
    ...     return [[1 - int(step[-1]) / 5 for step in one.steps] for one in solutions]
    >>> found = particle_filter(CallableGenerator(digits), small_is_good, "Count.", n_particles=8, random_state=0)
    >>> found.stopped, found.cost.n_requests, round(sum(one.weight for one in found.candidates), 6)
    ('eos', 24, 1.0)
    """
    check_counts(n_particles=n_particles, max_steps=max_steps)
    for name, value, known in (
        ("resampling", resampling, get_args(Resampling)),
        ("choose", choose, ("best", "sample")),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")
    if not 0 < weight_temperature < np.inf:
        raise ValueError(f"weight_temperature is {weight_temperature!r}, expected a number above 0")
    if not 0 < ess_threshold <= 1:
        raise ValueError(f"ess_threshold is {ess_threshold!r}, expected a number in (0, 1]")
    if choose == "sample" and (final_scorer is not None or final_rule is not None):
        raise ValueError('choose="sample" draws by the weights: leave final_scorer and final_rule out')
    run = SearchRun(
        generator,
        scorer,
        problem,
        rule=rule,
        final_scorer=final_scorer,
        final_rule=final_rule,
        max_tokens=max_tokens,
        temperature=temperature,
        stop=stop,
        stop_condition=stop_condition,
        budget=budget,
        random_state=random_state,
        log=log,
    )
    tree = SearchTree(run)
    particles: list[int] = []
    log_weights = np.zeros(n_particles)
    size, why = float(n_particles), "max_steps"
    with run:
        for step in range(max_steps):
            moved = _moved(tree, particles, n_particles)
            if moved is None:
                why = "budget"
                break
            particles = moved
            log_weights = log_weights + _log_weights(tree, particles) / weight_temperature
            weights = _normalised(log_weights)
            size = float(1 / (weights**2).sum()) if weights.any() else 0.0
            goes_on = step < max_steps - 1 and any(tree.candidates[i].stopped is None for i in particles)
            if goes_on and weights.any() and size <= ess_threshold * n_particles * (1 + 1e-9):
                order = np.argsort(particles, kind="stable")  # equal particles lie side by side, and draw as one
                drawn = _drawn(weights[order], np.random.default_rng(run.seed("resampling", step)), resampling)
                particles = [particles[j] for j in order[drawn]]
                log_weights, weights = np.zeros(n_particles), np.full(n_particles, 1 / n_particles)
            _tell_weights(tree, particles, weights)
            if not tree.live:
                break
            if step < max_steps - 1:
                yield tree.progress(size)
        chosen = partial(_sampled, seed=run.seed("choose")) if choose == "sample" else None
        yield tree.finish(why, choose=chosen, size=size)


def _moved(tree: SearchTree, particles: list[int], n_particles: int) -> list[int] | None:
    """Return the particles after one more step, scored. None if the budget does not allow it."""
    slots = [j for j, i in enumerate(particles) if tree.candidates[i].stopped is None] or range(n_particles)
    parents: list[int | None] = [particles[j] if particles else None for j in slots]
    grown = tree.run.grow([tree.run.first if i is None else tree.candidates[i] for i in parents], 1, score=False)
    if grown is None:
        return None
    paths = [(0, j) if i is None else (*tree.paths[i], j) for j, i in zip(slots, parents, strict=True)]
    for i in {i for i in parents if i is not None}:
        tree.candidates[i] = tree.candidates[i].ended("expanded")
    new = tree.add([(i, path, row[0]) for i, path, row in zip(parents, paths, grown, strict=True)])
    tree.score(new)
    moved = particles or [0] * n_particles
    for j, number in zip(slots, new, strict=True):
        moved[j] = number
    return moved


def _log_weights(tree: SearchTree, particles: Sequence[int]) -> FloatArray:
    """Return the logit of each score. It is -inf for particles that failed or have no score while others have one."""
    scores = np.array([tree.candidates[i].score for i in particles])
    if ((scores < 0) | (scores > 1)).any():
        raise ValueError(
            f"a score is {scores[(scores < 0) | (scores > 1)][0]:.3g}, and weights of particles need scores in [0, 1]: "
            f"take a scorer that gives probabilities, and a rule that keeps them, found {tree.run.rule!r}"
        )
    failed = np.array(
        [tree.candidates[i].stopped in ("error", "empty") or not tree.candidates[i].solution.steps for i in particles]
    )
    unscored = np.isnan(scores)
    logits: FloatArray = logit(np.clip(np.where(unscored, 0.5, scores), _SMALLEST, 1 - _SMALLEST))
    return np.where(failed | unscored & (~unscored & ~failed).any(), -np.inf, logits)


def _normalised(log_weights: FloatArray) -> FloatArray:
    """Return weights that sum to 1, or zeros if all are lost."""
    if not np.isfinite(log_weights).any():
        return np.zeros(len(log_weights))
    weights: FloatArray = np.exp(log_weights - logsumexp(log_weights))
    return weights


def _drawn(weights: FloatArray, rng: np.random.Generator, resampling: Resampling) -> npt.NDArray[np.intp]:
    """Return which particles are drawn by their weights, in their order."""
    n = len(weights)
    points = np.sort(rng.random(n)) if resampling == "multinomial" else (rng.random() + np.arange(n)) / n
    ends = np.cumsum(weights)
    return np.searchsorted(ends / ends[-1], points, side="right").clip(max=n - 1)


def _tell_weights(tree: SearchTree, particles: Sequence[int], weights: FloatArray) -> None:
    """Write the weights to the candidates. Those that are not drawn go no further."""
    shares = np.bincount(particles, weights=weights, minlength=len(tree.candidates))
    for i, one in enumerate(tree.candidates):
        lost = one.stopped is None and i not in particles
        tree.candidates[i] = replace(one.ended("pruned") if lost else one, weight=float(shares[i]))
    tree.live = [i for i in dict.fromkeys(particles) if tree.candidates[i].stopped is None]
    tree.forget_all_but(tree.live)


def _sampled(candidates: list[Candidate], seed: int) -> int:
    """Return the number of a candidate that is drawn by the weights, of complete ones if there are any."""
    has_steps = np.array([bool(one.solution.steps) for one in candidates], dtype=float)
    weights = has_steps * [one.weight or 0.0 for one in candidates]
    complete = weights * [one.is_complete for one in candidates]
    weights = next(some for some in (complete, weights, has_steps) if some.any())
    return int(np.random.default_rng(seed).choice(len(candidates), p=weights / weights.sum()))
