"""What do common beginnings of solutions cost a token-level PRM: once per solution, or once?

One causal model, the same weights for all ways, on candidates of one problem at a time:

- one padded batch: all candidates in a single pass, padded to the longest, as a loop around transformers does;
- sorted batches: prmkit without sharing, batches of similar length within the token budget;
- prmkit: each distinct beginning of the candidates is computed once, without padding.

Candidates, all from visible data:

- samples: the first N of 8 independent samples of a GSM8K problem (best-of-N). They share the problem and little else;
- beams: the beginnings of such samples, step by step, as a search scores them;
- alternatives: solutions of PRM800K with another last step each, from the labellers' alternatives. They share
  problem and steps before.

The ways take turns on every problem, so that a busy moment of the machine hits all of them. Tokens are counted at the
model's embedding. Ratios are medians over problems. Required: with N = 16 candidates twice as fast as the padded batch,
scores within 1e-4, and as many tokens as there are distinct beginnings.

    python benchmarks/bench_prefixes.py                       # a small model with random weights
    python benchmarks/bench_prefixes.py --model FOLDER        # any causal model, read at the tokens "-" and "+"
    python benchmarks/bench_prefixes.py --problems 2 --sizes 16 --no-write
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import data_folder, load_steps_table, machine, print_table, versions, write_result
from _token_models import learn_tokenizer, wide_language_model

from prmkit import Solution
from prmkit.marking.encoding import MarkedTokens, SolutionEncoder, prepare_tokenizer, reward_token_ids
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.tokens.scoring_pass import Readout, marked_outputs, padded, score_marked

PADDED, SORTED, PRMKIT = "one padded batch", "sorted batches", "prmkit"
Scores = list[np.ndarray]


def samples() -> list[list[Solution]]:
    """Return the samples of each GSM8K problem."""
    by_problem = defaultdict(list)
    with gzip.open(data_folder() / "gsm8k_samples" / "samples.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            by_problem[record["problem"]].append(Solution(record["problem"], record["steps"]))
    return list(by_problem.values())


def beams() -> list[list[Solution]]:
    """Return the beginnings of the samples of each problem, shortest first within a sample."""
    return [
        list(
            {
                (whole.problem, whole.steps[:t]): Solution(whole.problem, whole.steps[:t])
                for whole in group
                for t in range(1, whole.n_steps + 1)
            }.values()
        )
        for group in samples()
    ]


def alternatives() -> list[list[Solution]]:
    """Return, for each labelled solution of PRM800K, its beginnings with each step that a labeller saw there."""
    groups = []
    with (data_folder() / "prm800k" / "train_sample.jsonl").open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            problem, steps, group = record["question"]["problem"], [], []
            for step in record["label"]["steps"]:
                texts = [completion["text"] for completion in step["completions"] or []]
                group += [Solution(problem, [*steps, text]) for text in texts]
                chosen = step["chosen_completion"]
                if chosen is None or not texts:
                    break
                steps.append(texts[chosen])
            groups.append(group)
    return groups


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """Count the tokens that are embedded within the context."""
    counts: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, ids, __: counts.append(ids[0].numel()))
    try:
        yield counts
    finally:
        hook.remove()


@torch.inference_mode()
def one_padded_batch(model: Any, rows: list[MarkedTokens], readout: Readout, pad: int) -> Scores:
    """All rows in one pass."""
    batch = {
        "input_ids": padded([row.input_ids for row in rows], pad),
        "attention_mask": padded([np.ones_like(row.input_ids) for row in rows], 0),
        "positions": padded([row.step_positions for row in rows], 0),
    }
    outputs = marked_outputs(model, {name: torch.from_numpy(value) for name, value in batch.items()}, readout).numpy()
    return [output[: len(row.step_positions)] for output, row in zip(outputs, rows, strict=True)]


def measure(
    model: Any, readout: Readout, pad: int, rows: list[MarkedTokens], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Return times, tokens and the largest difference of the scores of one problem."""
    ways: dict[str, Callable[[], Scores]] = {
        PADDED: partial(one_padded_batch, model, rows, readout, pad),
        SORTED: partial(score_marked, model, rows, readout, pad_token_id=pad, device="cpu", share=False),
        PRMKIT: partial(score_marked, model, rows, readout, pad_token_id=pad, device="cpu"),
    }
    seconds, tokens, scores = defaultdict(list), {}, {}
    for _ in range(rounds):
        for name, way in ways.items():
            with counted(model) as counts:
                start = clock()
                scores[name] = way()
                seconds[name].append(clock() - start)
            tokens[name] = sum(counts)
    spent = {name: median(values) for name, values in seconds.items()}
    tree = len({row.input_ids[:end].tobytes() for row in rows for end in range(1, len(row.input_ids) + 1)})
    return {
        "tokens of all rows": sum(len(row.input_ids) for row in rows),
        "padded tokens": tokens[PADDED],
        "prmkit's tokens": tokens[PRMKIT],
        "distinct beginnings": tree,
        "seconds, padded": spent[PADDED],
        "seconds, sorted": spent[SORTED],
        "seconds, prmkit": spent[PRMKIT],
        "times the padded batch": spent[PADDED] / spent[PRMKIT],
        "times sorted batches": spent[SORTED] / spent[PRMKIT],
        "largest difference": max(
            float(np.abs(one - other).max()) for one, other in zip(scores[PRMKIT], scores[PADDED], strict=True)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a causal model (default: a small one with random weights)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32], help="numbers of candidates")
    parser.add_argument("--candidates", nargs="*", default=["samples", "beams", "alternatives"])
    parser.add_argument("--problems", type=int, default=15, help="per kind and size (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=256, help="width of the random model")
    parser.add_argument("--layers", type=int, default=8, help="layers of the random model")
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time, on a machine that others use")
    parser.add_argument("--no-write", action="store_true", help="print only; do not write results/prefixes.json")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    if options.threads:
        torch.set_num_threads(options.threads)

    if options.model:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(options.model)
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
        scheme = MarkingScheme("reward_tokens", reward_tokens=("-", "+"))
        prepare_tokenizer(tokenizer, scheme)
        readout = Readout("language_model", "classes", tuple(reward_token_ids(tokenizer, scheme)))
    else:
        tokenizer = learn_tokenizer(text for one in load_steps_table()[0] for text in (one.problem, *one.steps))
        model = wide_language_model(tokenizer, options.hidden, options.layers)
        scheme, readout = MarkingScheme("separator", step_separator="\n"), Readout("tokens")
    pad = tokenizer.pad_token_id
    encoder = SolutionEncoder(tokenizer, scheme)

    rows: list[dict[str, Any]] = []
    kinds = {"samples": samples, "beams": beams, "alternatives": alternatives}
    for kind in options.candidates:
        groups = kinds[kind]()
        for size in options.sizes:
            chosen = [group[:size] for group in groups if len(group) >= size][: options.problems]
            if not chosen:
                continue
            found = []
            for group in chosen:
                marked = [encoder.encode(one, one.n_steps) for one in group]
                if not found:  # what is tried and compiled on first use is nobody's running cost
                    measure(model, readout, pad, marked, 1, clock)
                found.append(measure(model, readout, pad, marked, options.rounds, clock))
            exact = all(one["prmkit's tokens"] <= one["distinct beginnings"] or size == 1 for one in found)
            row = {"candidates": kind, "N": size, "problems": len(found)}
            row |= {name: median(one[name] for one in found) for name in found[0]}
            row["largest difference"] = max(one["largest difference"] for one in found)
            row["each beginning once"] = "yes" if exact else "NO"
            rows.append(row)
            print_table([row])
            print(flush=True)

    required = [
        {
            "candidates": row["candidates"],
            "N": row["N"],
            "times the padded batch": row["times the padded batch"],
            "required": ">= 2",
            "met": "yes" if row["times the padded batch"] >= 2 and row["largest difference"] <= 1e-4 else "NO",
        }
        for row in rows
        if row["N"] == 16
    ]
    print(
        f"{machine()}\n{versions()}\nmedians over problems, float32, {model.num_parameters() / 1e6:.1f}M parameters\n"
    )
    print_table(rows)
    print()
    print_table(required)
    if not options.no_write:
        result = {"parameters": model.num_parameters(), "clock": clock.__name__, "rows": rows, "required": required}
        print(f"written to {write_result('prefixes', result)}")


if __name__ == "__main__":
    main()
