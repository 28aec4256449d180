"""How fast does a token-level PRM score solutions, and what does a longer solution cost?

One model in float32, its weights the same for all, on solutions of ProcessBench in random order:

- pipeline per prefix: ``transformers.pipeline("token-classification")`` once per step on the text up to and
  including its separator, the score of the last token, as TRL documents the use of its models;
- forward per prefix: the same prefixes tokenised and passed through the model by hand, the two logits of the last
  position, as ``get_step_probability`` of sdiehl/prm does;
- padded batches of 8: one pass for all steps, solutions in the order given, each batch padded to its longest;
- prmkit: ``PRMClassifier.from_pretrained`` and ``predict_proba`` on all steps.

The ways take turns, round by round, so that a busy moment of the machine hits all of them. Tokenisation counts.

Models: a small causal language model with random weights (Llama layout, BPE learnt on the data), for which all ways
must give the same scores; and the MiniLM BERT with a random head. The other ways let the encoder attend to the whole
text it is given, with [CLS] and [SEP] around it, so that the batches of 8 look ahead; prmkit's block-causal mask keeps
it from that, and its scores differ by design. Only solutions that fit into a model's positions are scored; how many
those are is reported.

Required of prmkit, with the causal model: 0.8 times the mean number of steps per solution as fast as either loop, 1.5
times as fast as the padded batches, and the loop's scores within 1e-5. The encoder stands beside it: its solutions are
the short ones, and a loop's work, counted in tokens, is that much less.

Growth: one solution of 5, 10, 20 and 40 short steps.

    python benchmarks/bench_token_scoring.py               # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_token_scoring.py --solutions 24 --rounds 1 --models causal
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import load_steps_table, machine, print_table, versions, write_result
from _token_models import encoder, learn_tokenizer, save_for_prmkit, wide_language_model
from transformers.utils.logging import disable_progress_bar

from prmkit import PRMClassifier, Solution, flatten
from prmkit.marking.encoding import encode_solution
from prmkit.marking.scheme import MarkingScheme

PIPELINE, FORWARD, BATCHES, PRMKIT = ("pipeline per prefix", "forward per prefix", "padded batches of 8", "prmkit")
Scores = list[np.ndarray]


class Ways:
    """Four ways to score solutions with the model in one folder; each returns P(right) of every step.

    Parameters
    ----------
    folder : str
    separator : str
        Written after the problem and after each step.
    """

    def __init__(self, folder: str, separator: str) -> None:
        from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

        self.separator = separator
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self.pipe = pipeline("token-classification", model=self.model, tokenizer=self.tokenizer, device="cpu")
        self.clf = PRMClassifier.from_pretrained(folder, device="cpu")
        self.by_name: dict[str, Callable[[list[Solution]], Scores]] = {
            PIPELINE: self.pipeline_per_prefix,
            FORWARD: self.forward_per_prefix,
            BATCHES: self.padded_batches,
            PRMKIT: self.prmkit,
        }

    def prefix(self, solution: Solution, n_steps: int) -> str:
        """The text up to and including the separator of a step, as TRL documents it."""
        return self.separator.join((solution.problem, *solution.steps[:n_steps])) + self.separator

    def pipeline_per_prefix(self, solutions: list[Solution]) -> Scores:
        """One call of the pipeline per step."""

        def score(text: str) -> float:
            last = self.pipe(text)[-1]
            return last["score"] if last["entity"] == self.model.config.id2label[1] else 1 - last["score"]

        return [
            np.array([score(self.prefix(solution, t + 1)) for t in range(solution.n_steps)]) for solution in solutions
        ]

    @torch.inference_mode()
    def forward_per_prefix(self, solutions: list[Solution]) -> Scores:
        """One pass per step by hand, without the pipeline's work on each token."""

        def score(text: str) -> float:
            logits = self.model(**self.tokenizer(text, return_tensors="pt")).logits[0, -1]
            return logits.softmax(-1)[1].item()

        return [
            np.array([score(self.prefix(solution, t + 1)) for t in range(solution.n_steps)]) for solution in solutions
        ]

    @torch.inference_mode()
    def padded_batches(self, solutions: list[Solution]) -> Scores:
        """One pass per 8 solutions, outputs read where the characters of each separator end."""
        found = []
        for start in range(0, len(solutions), 8):
            batch = solutions[start : start + 8]
            encoded = self.tokenizer(
                [self.prefix(one, one.n_steps) for one in batch],
                padding=True,
                padding_side="right",
                return_tensors="pt",
            )
            proba = self.model(**encoded).logits.softmax(-1)[..., 1].numpy()
            for i, solution in enumerate(batch):
                texts = (solution.problem, *solution.steps)
                ends = list(accumulate(len(text) + len(self.separator) for text in texts))[1:]
                # The last character of a separator that is written between spaces belongs to no token.
                trailing = len(self.separator) - len(self.separator.rstrip(" "))
                where = [encoded.char_to_token(i, end - trailing - 1) for end in ends]
                found.append(proba[i, where])
        return found

    def prmkit(self, solutions: list[Solution]) -> Scores:
        """All steps in one call."""
        proba = self.clf.predict_proba(flatten(solutions))[:, 1]
        return np.split(proba, list(accumulate(solution.n_steps for solution in solutions))[:-1])


def measure(ways: Ways, solutions: list[Solution], rounds: int) -> tuple[dict[str, list[float]], dict]:
    """Seconds of every round of every way, and the scores."""
    for way in ways.by_name.values():  # what is loaded and compiled on first use is nobody's running cost
        way(solutions[:2])
    spent: dict[str, list[float]] = {name: [] for name in ways.by_name}
    scores = {}
    for number in range(rounds):
        for name, way in ways.by_name.items():
            start = time.perf_counter()
            scores[name] = way(solutions)
            spent[name].append(time.perf_counter() - start)
            print(f"round {number + 1} of {rounds}: {name} {spent[name][-1]:.2f} s", flush=True)
    return spent, scores


def bench_model(kind: str, ways: Ways, scheme: MarkingScheme, solutions: list[Solution], rounds: int) -> dict[str, Any]:
    """Rows of one model, and whether the causal one meets what is required."""
    spent, scores = measure(ways, solutions, rounds)
    n_steps = sum(solution.n_steps for solution in solutions)
    mean_steps = n_steps / len(solutions)

    def times(peer: str, name: str = PRMKIT) -> float:
        return median(one / other for one, other in zip(spent[peer], spent[name], strict=True))

    def differs(name: str) -> float:
        pairs = zip(scores[name], scores[PIPELINE], strict=True)
        return float(max(np.abs(one - other).max() for one, other in pairs))

    rows = [
        {
            "scoring": name,
            "seconds": median(spent[name]),
            "steps/s": n_steps / median(spent[name]),
            "solutions/s": len(solutions) / median(spent[name]),
            "times the pipeline": times(PIPELINE, name),
            "times the forward loop": times(FORWARD, name),
            "times padded batches": times(BATCHES, name),
            "largest difference": differs(name),
        }
        for name in ways.by_name
    ]
    marked = [encode_solution(ways.tokenizer, one, one.n_steps, scheme) for one in solutions]
    lengths = [len(tokens.input_ids) for tokens in marked]
    same = [
        ways.tokenizer(ways.prefix(one, one.n_steps), add_special_tokens=False)["input_ids"]
        == tokens.input_ids.tolist()
        for one, tokens in zip(solutions, marked, strict=True)
    ]
    found = {
        "rows": rows,
        "rounds": spent,
        "solutions": len(solutions),
        "steps": n_steps,
        "mean_steps": mean_steps,
        "same_tokens": sum(same),
        "tokens": sum(lengths),
        "tokens_of_prefixes": int(sum((tokens.step_positions + 1).sum() for tokens in marked)),
        "tokens_padded_by_8": sum(max(lengths[i : i + 8]) * len(lengths[i : i + 8]) for i in range(0, len(lengths), 8)),
        "spread_of_scores": float(np.std(np.concatenate(scores[PIPELINE]))),
    }
    if kind == "causal":
        found["required"] = [
            required(f"times as fast as {PIPELINE}", times(PIPELINE), 0.8 * mean_steps),
            required(f"times as fast as {FORWARD}", times(FORWARD), 0.8 * mean_steps),
            required(f"times as fast as {BATCHES}", times(BATCHES), 1.5),
            required("largest difference to the pipeline", differs(PRMKIT), 1e-5, at_most=True),
        ]
    return found


def required(what: str, found: float, limit: float, at_most: bool = False) -> dict[str, Any]:
    met = found <= limit if at_most else found >= limit
    return {
        "prmkit": what,
        "found": found,
        "required": f"{'<=' if at_most else '>='} {limit:.3g}",
        "met": "yes" if met else "NO",
    }


def bench_growth(ways: Ways, lengths=(5, 10, 20, 40)) -> list[dict[str, Any]]:
    """Time of one solution as it gets longer."""
    rows = []
    for n in lengths:
        steps = [f"Then {t} + {t + 1} = {2 * t + 1}." for t in range(n)]
        solution = Solution("How many apples are left?", steps)
        row: dict[str, Any] = {"steps": n}
        for name, way in ways.by_name.items():
            if name == BATCHES:
                continue  # one solution is no batch
            way([solution])
            spent = []
            for _ in range(3):
                start = time.perf_counter()
                way([solution])
                spent.append(time.perf_counter() - start)
            row[f"{name}, ms"] = 1000 * median(spent)
        row["prmkit, ms per step"] = row[f"{PRMKIT}, ms"] / n
        row["times the pipeline"] = row[f"{PIPELINE}, ms"] / row[f"{PRMKIT}, ms"]
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["causal", "encoder"], choices=["causal", "encoder"])
    parser.add_argument("--solutions", type=int, default=48, help="to score (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=256, help="width of the causal model")
    parser.add_argument("--layers", type=int, default=8, help="layers of the causal model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only; do not write results/token_scoring.json")
    options = parser.parse_args()
    disable_progress_bar()

    solutions, _ = load_steps_table(["processbench"])
    order = random.Random(options.seed).sample(solutions, len(solutions))
    result: dict[str, Any] = {"data": "processbench", "dtype": "float32", "models": {}}
    for kind in options.models:
        separator = "\n" if kind == "causal" else " [SEP] "
        scheme = MarkingScheme("separator", step_separator=separator.strip(" "), opening="{problem}" + separator)
        if kind == "causal":
            texts = [text for one in load_steps_table()[0] for text in (one.problem, *one.steps)]
            tokenizer = learn_tokenizer(texts)
            model = wide_language_model(tokenizer, options.hidden, options.layers)
        else:
            model, tokenizer = encoder()
        with tempfile.TemporaryDirectory() as folder:
            save_for_prmkit(model, tokenizer, scheme, folder)
            ways = Ways(folder, separator)
            limit = model.config.max_position_embeddings - 2  # a pipeline adds [CLS] and [SEP]
            whole = [ways.prefix(one, one.n_steps) for one in order]
            fits = [len(ids) <= limit for ids in tokenizer(whole, verbose=False)["input_ids"]]
            chosen = [one for one, fit in zip(order, fits, strict=True) if fit][: options.solutions]
            found = bench_model(kind, ways, scheme, chosen, options.rounds)
            found["growth"] = bench_growth(ways)
        found |= {"fitting_solutions": sum(fits), "parameters": model.num_parameters(), "limit": limit}
        result["models"][kind] = found

    print(f"\n{machine()}\n{versions()}\nmedians of {options.rounds} rounds, float32")
    for kind, found in result["models"].items():
        print(
            f"\n{kind}: {found['parameters'] / 1e6:.1f} million parameters; {found['solutions']} of "
            f"{found['fitting_solutions']} solutions that fit into {found['limit']} tokens, {found['steps']} steps, "
            f"{found['mean_steps']:.2f} per solution; {found['tokens']} tokens, "
            f"{found['tokens_of_prefixes'] / found['tokens']:.2f} times as many in prefixes, "
            f"{found['tokens_padded_by_8'] / found['tokens']:.2f} times in padded batches; the loop's tokens are "
            f"prmkit's in {found['same_tokens']} of {found['solutions']}\n"
        )
        for table in ("rows", "required", "growth"):
            print_table(found.get(table, []))
            print()
    if not options.no_write:
        print(f"written to {write_result('token_scoring', result)}")


if __name__ == "__main__":
    main()
