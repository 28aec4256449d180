"""What does searching with a reward model buy, and what does it cost?

**accuracy**: word problems, and a policy whose errors are known (``tests/decoding/toy_policy.py``).
``PRMClassifier()`` learns from ``make_arithmetic_solutions``, on other problems. Each search stands beside one sample
and beside the majority vote **at equal generated tokens**: for each problem, the vote has as many samples as it takes
to spend at least the tokens of the search. Intervals (95 %) resample problems, those of differences in pairs. Two
rows bound what can be had: ``pass@8``, which a perfect reward model reaches, and a constant reward model, which is
worth one sample. There are two policies. With one of them the errors of a problem repeat, as those of language models
do, so the vote is weak. With the other one they do not, which is the best that can happen to the vote.

**cost**: beam search over solutions of n steps, width 4, factor 4. Ours reads new steps alone. The peers' way scores
the whole text of every live candidate after each step, as its-hub does (``its_hub/algorithms/beam_search.py``,
``BeamSearch._search_one_level``, commit 005d903) and search-and-learn (``src/sal/search/beam_search.py``,
``_beam_search``: ``prm.score(prompts, completions)``). It is written anew here, over the same generator and the same
classifier, and it scores all candidates in one batch, in which prmkit computes shared beginnings once: kinder to the
seconds of the peers than their own code. Tokens are words, counted in the same way on both sides. Seconds are those of
one core, without waiting for others.

Required: the best of n by the trained model is above the vote at equal tokens, with intervals that part; pass@8 is
reached by the perfect model; at 12 steps the peers' way reads at least 3 times as many tokens.

    python benchmarks/bench_search.py
    python benchmarks/bench_search.py --tasks cost --lengths 4 12 --no-write
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from _common import ROOT, print_table, write_result

from prmkit import PRMClassifier, Solution
from prmkit.data import make_arithmetic_solutions
from prmkit.data.answers import answer_keys, extract_answer
from prmkit.decoding import (
    CallableGenerator,
    SearchResult,
    beam_search,
    best_of_n,
    diverse_beam_search,
    lookahead_search,
    particle_filter,
    rollout_search,
)
from prmkit.metrics import bootstrap_by_problem, select

sys.path.insert(0, str(ROOT / "tests" / "decoding"))
from toy_policy import ToyPolicy

STEPWISE = {"stop_condition": lambda _: False}
"""Solutions grow step by step, in every search, since the policy writes one step at a time."""
POOL = 64
WIDTH = FACTOR = 4
POLICIES = {
    "errors that repeat": {"error_rate": 0.15, "hard": 0.4, "favourite_rate": 0.6},
    "errors that do not repeat": {"error_rate": 0.25, "hard": 0.0},
}
"""Four problems in ten have a favourite error, which often wins the vote; or every error is drawn afresh."""


def constant(solutions: list[Solution]) -> list[np.ndarray]:
    """Score all steps alike."""
    return [np.full(one.n_steps, 0.5) for one in solutions]


def searches(policy: ToyPolicy, clf: Any) -> dict[str, Callable[[str, int], SearchResult]]:
    """Return the searches by name, each a function of problem and seed, all of about the same number of tokens."""
    generator = policy.generator
    common: dict[str, Any] = {"max_steps": 16, **STEPWISE}
    # The sentences of the policy are few, so draws are often equal: other texts get their places.
    trees = {"filter_duplicates": True}

    def make(search: Callable[..., SearchResult], scorer: Any, **settings: Any) -> Callable[[str, int], SearchResult]:
        return lambda problem, seed: search(generator, scorer, problem, random_state=seed, **common, **settings)

    return {
        "best_of_n, n=8": make(best_of_n, clf, n=8),
        "best_of_n, n=8, weighted vote": make(best_of_n, clf, n=8, choose="weighted"),
        "beam_search, 2 x 4": make(beam_search, clf, beam_width=2, beam_factor=4, **trees),
        "diverse_beam_search, 4 x 2": make(diverse_beam_search, clf, beam_width=4, beam_factor=2, **trees),
        "lookahead_search, 1 x 4": make(lookahead_search, clf, beam_width=1, beam_factor=4, **trees),
        "rollout_search, 1 x 4": make(rollout_search, clf, beam_width=1, beam_factor=4, **trees),
        "particle_filter, 8": make(particle_filter, clf, n_particles=8),
        "best_of_n, n=8, perfect model": make(best_of_n, policy.perfect, n=8),
        "beam_search, 2 x 4, perfect model": make(beam_search, policy.perfect, beam_width=2, beam_factor=4, **trees),
        "best_of_n, n=8, constant model": make(best_of_n, constant, n=8),
    }


def pools(policy: ToyPolicy) -> tuple[list[np.ndarray], list[list[str | None]], list[np.ndarray]]:
    """Return tokens, answers and truth of many single samples of each problem."""
    tokens, answers, truth = [], [], []
    for i, problem in enumerate(policy.problems):
        drawn = best_of_n(policy.generator, None, problem, n=POOL, choose="first", random_state=i, **STEPWISE)
        tokens.append(np.cumsum([one.n_tokens for one in drawn.candidates]))
        solutions = [one.solution for one in drawn.candidates]
        answers.append(answer_keys(extract_answer("\n\n".join(one.steps)).answer for one in solutions))
        truth.append(np.array([policy.is_right(problem, one) for one in solutions]))
    return tokens, answers, truth


def accuracy(n_problems: int, n_training: int) -> dict[str, list[dict[str, Any]]]:
    """Return a table per policy."""
    known = make_arithmetic_solutions(n_training, 3, error_rate=0.5, random_state=1)
    begin = time.perf_counter()
    clf = PRMClassifier(random_state=0).fit(known.X, known.y)
    print(f"PRMClassifier() learnt from {len(known.X)} steps in {time.perf_counter() - begin:.0f} s", flush=True)
    tables = {}
    for name, settings in POLICIES.items():
        policy = ToyPolicy(n_problems, random_state=7, **settings)
        assert not {one.problem for one in known.solutions} & set(policy.problems)
        print(f"\n{name}", flush=True)
        tables[name] = table_of(policy, clf)
    return tables


def table_of(policy: ToyPolicy, clf: Any) -> list[dict[str, Any]]:
    """Return a row per search."""
    tokens, answers, truth = pools(policy)
    # The accuracy of one sample, as exactly as the pool knows it.
    single = np.array([right.mean() for right in truth])
    rows = [row_of("one sample", single, [t[0] for t in tokens])]
    rows.append(row_of("pass@8", np.array([right[:8].any() for right in truth]), [t[7] for t in tokens]))
    pass_at_8 = rows[-1]["right"]
    for name, search in searches(policy, clf).items():
        begin = time.perf_counter()
        found = [search(problem, i) for i, problem in enumerate(policy.problems)]
        seconds = time.perf_counter() - begin
        right = np.array([policy.is_right(one.solution.problem, one.solution) for one in found])
        spent = [one.cost.generated_tokens for one in found]
        # The first number of samples that costs at least as much as the search did.
        sizes = [min(int(np.searchsorted(t, cost)) + 1, POOL) for t, cost in zip(tokens, spent, strict=True)]
        votes = np.array(
            [
                ok[select(keys[:n], rule="majority", missing="drop")]
                for keys, ok, n in zip(answers, truth, sizes, strict=True)
            ]
        )
        voted = [t[n - 1] for t, n in zip(tokens, sizes, strict=True)]
        rows.append(
            {
                **row_of(name, right, spent, votes),
                "vote's tokens": float(np.mean(voted)),
                "scored tokens": float(np.mean([one.cost.scored_tokens for one in found])),
                "ms per problem": 1e3 * seconds / len(found),
            }
        )
        print_table(rows[-1:])
        assert "n=8, perfect" not in name or rows[-1]["right"] == pass_at_8, rows[-1]
    # Rows of a table have the same columns.
    return [{column: row.get(column) for column in rows[-1]} for row in rows]


def row_of(name: str, right: np.ndarray, spent: Sequence[float], votes: np.ndarray | None = None) -> dict[str, Any]:
    """Return a row of the table: accuracy, that of the vote at equal tokens, and their difference."""

    def means(right: np.ndarray, votes: np.ndarray, sample_weight: np.ndarray) -> dict[str, float]:
        average = np.average(np.stack([right, votes]), axis=1, weights=sample_weight)
        return {"right": float(average[0]), "vote": float(average[1])}

    row: dict[str, Any] = {"search": name}
    found = bootstrap_by_problem(means, np.arange(len(right)), right, right if votes is None else votes)
    row["right"] = found.interval("right").to_text()
    if votes is not None:
        gain = found.difference("right", "vote")
        row |= {"vote at equal tokens": found.interval("vote").to_text(), "difference": gain.to_text()}
        row["better"] = "yes" if gain.low > 0 else "no" if gain.high < 0 else "unclear"
    return {**row, "tokens": float(np.mean(spent))}


def writer(n_steps: int) -> CallableGenerator:
    """Return a generator of solutions of n steps of 20 words each, no two alike."""

    def write(_: str, steps: tuple[str, ...], n: int, seed: int) -> list[tuple[str, str]]:
        rng = random.Random(f"{seed} {len(steps)}")
        finish = "eos" if len(steps) == n_steps - 1 else "stop"
        return [(" ".join(["so", *(str(rng.randrange(10, 99)) for _ in range(18)), "now."]), finish) for _ in range(n)]

    return CallableGenerator(write)


def whole_text_beam_search(generator: CallableGenerator, clf: Any, problem: str, seed: int) -> tuple[int, int]:
    """Search as the peers do. Return the tokens that were generated, and those that were scored."""
    live, generated, scored = [Solution(problem, ())] * (WIDTH * FACTOR), 0, 0
    rng = random.Random(seed)
    is_over = False
    while not is_over:
        grown = []
        for solution in live:
            [[one]] = generator.generate([solution], stop=("\n\n",), seed=rng.randrange(2**31))
            grown.append(Solution(problem, (*solution.steps, one.text)))
            generated += one.n_tokens
            is_over = one.finish == "eos"  # all solutions of this generator have the same number of steps
        found = clf.score_solutions(grown)
        scored += sum(len(text.split()) for one in grown for text in (problem, *one.steps))
        order = sorted(range(len(grown)), key=lambda i: -min(found[i].rewards))[:WIDTH]
        live = [grown[i] for _ in range(FACTOR) for i in order]
    return generated, scored


def cost(lengths: Sequence[int], models: Sequence[str], n_rounds: int) -> list[dict[str, Any]]:
    """Return a row per model and length: what both ways read, and how long they take."""
    from bench_incremental import PROBLEM, causal, default

    rows = []
    for name in models:
        clf = {"default": default, "causal": causal}[name]()
        for n_steps in lengths:
            generator = writer(n_steps)
            ours, peers = [], []
            for seed in range(n_rounds + (n_steps == lengths[0])):
                begin = time.process_time()
                found = beam_search(
                    generator, clf, PROBLEM, beam_width=WIDTH, beam_factor=FACTOR, max_steps=n_steps, random_state=seed
                )
                middle = time.process_time()
                generated, scored = whole_text_beam_search(generator, clf, PROBLEM, seed)
                ours.append(middle - begin)
                peers.append(time.process_time() - middle)
            # The very first round loads and compiles, which is nobody's running cost.
            ours, peers = ours[-n_rounds:], peers[-n_rounds:]
            rows.append(
                {
                    "model": name,
                    "steps": n_steps,
                    "generated": found.cost.generated_tokens,
                    "generated, peers": generated,
                    "scored": found.cost.scored_tokens,
                    "scored, peers": scored,
                    "times fewer": scored / found.cost.scored_tokens,
                    "CPU s": float(np.median(ours)),
                    "CPU s, peers": float(np.median(peers)),
                    "times less CPU": float(np.median(peers) / np.median(ours)),
                }
            )
            print_table(rows[-1:])
    return rows


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=("accuracy", "cost"), default=["accuracy", "cost"])
    parser.add_argument("--problems", type=int, default=80, help="of the table of accuracy (default: %(default)s)")
    parser.add_argument("--training-problems", type=int, default=200)
    parser.add_argument("--lengths", type=int, nargs="+", default=[3, 6, 12, 24], help="in steps, of the table of cost")
    parser.add_argument("--models", nargs="+", choices=("default", "causal"), default=["default", "causal"])
    parser.add_argument("--rounds", type=int, default=1, help="of the table of cost (default: %(default)s)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if "cost" in args.tasks:
        rows = cost(args.lengths, args.models, args.rounds)
        print()
        print_table(rows)
        if not args.no_write:
            print(
                f"written to {write_result('search_cost', {'beam': f'width {WIDTH}, factor {FACTOR}', 'rows': rows})}"
            )
        assert all(row["steps"] < 12 or row["times fewer"] >= 3 for row in rows)
    if "accuracy" in args.tasks:
        tables = accuracy(args.problems, args.training_problems)
        for title, rows in tables.items():
            print(f"\n{title}")
            print_table(rows)
        if not args.no_write:
            numbers = {"problems": args.problems, "training problems": args.training_problems}
            print(f"written to {write_result('search_accuracy', numbers | tables)}")
        better = {row["search"]: row["better"] for row in tables["errors that repeat"]}
        assert args.problems < 80 or better["best_of_n, n=8"] == "yes", better


if __name__ == "__main__":
    main()
