"""What does one more step of a growing solution cost, and what is read for it?

A solution grows to 5, 10, 20, 40 and 80 steps by ``clf.incremental(problem)``. At each length the time of one more
step, by a fork, stands beside scoring the whole solution afresh, as a search without memory does. The ways take turns,
round by round, and the median counts. ``read`` is the work itself: tokens of a language model, positions of a
``StepTransformer``, texts that the default encodes.

- causal: a language model with random weights (Llama layout), see ``_token_models.py``;
- encoder: MiniLM with a random head, block-causal. Its 512 positions end the longest solutions;
- transformer: ``StepTransformer`` on embeddings;
- default: ``PRMClassifier()``, with every text new to the cache.

Required: the scores of both ways are equal to 1e-4, and from 5 to 80 steps what is read for one more step does not
grow. Its time may grow by attention and by features that look back: the growth is printed.

One thread by default: the work of one step is so small that a second thread mostly waits by spinning, beside any busy
process for most of the time.

    python benchmarks/bench_incremental.py
    python benchmarks/bench_incremental.py --models causal --rounds 3
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from _common import load_steps_table, print_table, write_result

from prmkit import PRMClassifier, Solution
from prmkit.data import make_arithmetic_solutions
from prmkit.features import PRMFeaturizer
from prmkit.features.encoding.encoder import TextEncoder
from prmkit.marking import MarkingScheme
from prmkit.models import StepTransformer

LENGTHS = (5, 10, 20, 40, 80)
PROBLEM = "A shop sells pens at 3 for 2 euros. Ann buys 18 pens and pays with 20 euros. How much change does she get?"


def token_model(make: Callable[..., tuple[Any, Any]]) -> PRMClassifier:
    """Save a model and its tokenizer, and read them as a classifier."""
    from _token_models import save_for_prmkit

    model, tokenizer = make()
    with tempfile.TemporaryDirectory() as folder:
        save_for_prmkit(model, tokenizer, MarkingScheme(), folder)
        return PRMClassifier.from_pretrained(folder, device="cpu")


def causal() -> PRMClassifier:
    """Draw a language model of 6 layers."""
    from _token_models import language_model, learn_tokenizer

    solutions, _ = load_steps_table(["processbench"])

    def make() -> tuple[Any, Any]:
        tokenizer = learn_tokenizer(text for one in solutions for text in (one.problem, *one.steps))
        return language_model(tokenizer), tokenizer

    return token_model(make)


def encoder() -> PRMClassifier:
    """Draw a head for MiniLM."""
    from _token_models import encoder as make

    return token_model(make)


def transformer() -> PRMClassifier:
    """Fit a StepTransformer."""
    X, y = make_arithmetic_solutions(60, 2, random_state=0)
    return PRMClassifier(PRMFeaturizer(cache=False), StepTransformer(max_epochs=2), random_state=0).fit(X, y)


def default() -> PRMClassifier:
    """Fit the default model."""
    X, y = make_arithmetic_solutions(60, 2, random_state=0)
    return PRMClassifier(PRMFeaturizer(cache=False), random_state=0).fit(X, y)


MODELS: dict[str, Callable[[], PRMClassifier]] = {
    "causal": causal,
    "encoder": encoder,
    "transformer": transformer,
    "default": default,
}


@contextmanager
def counted(clf: Any) -> Iterator[list[int]]:
    """Count what a model reads: tokens, positions or texts."""
    counts: list[int] = []
    head = clf.head_
    module = getattr(head, "module_", None)
    if module is None:
        original = TextEncoder.iter_encode
        kind: Any = TextEncoder
        kind.iter_encode = lambda self, texts: counts.append(len(texts)) or original(self, texts)
        try:
            yield counts
        finally:
            kind.iter_encode = original
        return
    layer = getattr(module, "project", None) or module.get_input_embeddings()
    hook = layer.register_forward_hook(lambda _, __, output: counts.append(output.shape[0] * output.shape[1]))
    try:
        yield counts
    finally:
        hook.remove()


def timed(call: Callable[[Any], Any], argument: Any) -> tuple[float, Any]:
    """Return the seconds of a call, and its result."""
    start = time.perf_counter()
    result = call(argument)
    return time.perf_counter() - start, result


def measure(name: str, clf: PRMClassifier, texts: list[str], n_rounds: int, step_tokens: int) -> list[dict[str, Any]]:
    """Return a row per length."""
    fresh = iter(texts)
    # What is loaded and compiled on first use is nobody's running cost.
    first = clf.incremental(PROBLEM)
    for _ in range(3):
        first.extend([next(fresh)])
        first.fork().extend([next(fresh)])
        clf.score_solutions([Solution(PROBLEM, first.steps)])
    scorer = clf.incremental(PROBLEM)
    rows = []
    for length in LENGTHS:
        try:
            while scorer.n_steps < length:
                scorer.extend([next(fresh)])
            scorer.fork().extend([next(fresh)])
        except ValueError:
            print(f"{name}: a solution of {length} steps of {step_tokens} tokens does not fit into the model")
            break
        grown, afresh, along, differences = [], [], [], []
        for _ in range(n_rounds):
            new, fork = next(fresh), scorer.fork()
            # The first step of a fork: statistics read the earlier steps again.
            with counted(clf) as read:
                seconds, rewards = timed(fork.extend, [new])
            with counted(clf) as read_afresh:
                seconds_afresh, scored = timed(clf.score_solutions, [Solution(PROBLEM, (*scorer.steps, new))])
            grown.append(seconds)
            afresh.append(seconds_afresh)
            differences.append(abs(rewards[0] - scored[0].rewards[-1]))
            along.append(timed(fork.extend, [next(fresh)])[0])
        rows.append(
            {
                "model": name,
                "steps": length,
                "next step ms": 1e3 * median(along),
                "first of a fork ms": 1e3 * median(grown),
                "afresh ms": 1e3 * median(afresh),
                "times": median(afresh) / median(along),
                "read": sum(read),
                "read afresh": sum(read_afresh),
                "difference": float(max(differences)),
            }
        )
    return rows


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = random.Random(0)
    rows: list[dict[str, Any]] = []
    for name in args.models:
        clf = MODELS[name]()
        # Steps of one length, so that the work of a step can be compared. All texts are different.
        n_words = 2 if name == "encoder" else 20
        texts = [
            " ".join(["so", *(str(rng.randrange(10, 99)) for _ in range(n_words))]) + "."
            for _ in range(LENGTHS[-1] + 4 * args.rounds * len(LENGTHS) + 20)
        ]
        rows += measure(name, clf, texts, args.rounds, n_words)
    print_table(rows)
    worst = max(row["difference"] for row in rows)
    growth = {
        name: {
            "steps": (part[0]["steps"], part[-1]["steps"]),
            "time": part[-1]["next step ms"] / part[0]["next step ms"],
            "afresh": part[-1]["afresh ms"] / part[0]["afresh ms"],
            "read": part[-1]["read"] / part[0]["read"],
        }
        for name in args.models
        if (part := [row for row in rows if row["model"] == name])
    }
    for name, one in growth.items():
        first, last = one["steps"]
        print(
            f"{name}: from {first} to {last} steps one more step costs {one['time']:.2f} times, afresh "
            f"{one['afresh']:.2f} times; it reads {one['read']:.2f} times as much"
        )
    if not args.no_write:
        print(f"written to {write_result('incremental', {'rows': rows, 'growth': growth})}")
    assert worst <= 1e-4, f"scores differ by {worst}"
    assert all(one["read"] <= 1.2 for one in growth.values()), growth


if __name__ == "__main__":
    main()
