"""How fast does a token-level PRM learn, in labels and in real tokens per second?

One model, its first weights the same for all, one epoch over the same rows of PRM800K and ProcessBench:

- Trainer, TRL's settings: plain ``transformers.Trainer`` as TRL's trainer set it up: its tokens of a row, its
  ``max_length`` (or the model's limit), ``DataCollatorForTokenClassification``, batches of 8 in random order, gradient
  checkpointing, no dropout, the model's own loss;
- the same without gradient checkpointing;
- prmkit: ``PRMTrainer`` with gradient checkpointing too; its batches hold rows of like length, as many real tokens as
  8 rows do on average, so that there are about as many updates (``--tokens-per-batch`` sets another budget);
- the same without gradient checkpointing.

The ways take turns, round by round. Only ``train()`` is timed; padding is counted in the batches as they are made.
On a CPU all is float32.

Models: ``encoder``, the MiniLM BERT: block-causal for prmkit, TRL's way attends to the whole text, at the same cost
otherwise. ``causal``: a small Llama layout with random weights.

Labels: how many ``max_length`` cuts off in the whole data, where TRL's rule says nothing about it; prmkit trains the
causal model with ``max_length=None`` and reports what is lost, if anything.

``--gpu``: a random model of the size of Qwen2-0.5B in bfloat16, with the fraction of the GPU's peak that real tokens
make of it: 6 FLOPs per parameter (embeddings left out) and token, and 6 per layer, width and pair of tokens of which
one sees the other; recomputation counts as none. Written to ``results/training_gpu.json``.

    python benchmarks/bench_training.py                    # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_training.py --rows 16 --rounds 1 --models causal
    python benchmarks/bench_training.py --gpu              # needs CUDA
    python benchmarks/bench_training.py --gpu --tiny --device cpu --rows 16 --no-write   # the code of it, on a CPU
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import datasets
import torch
from _common import load_steps_table, machine, print_table, versions, write_result
from _token_models import encoder, language_model, learn_tokenizer
from transformers import DataCollatorForTokenClassification, PrinterCallback, Trainer, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from prmkit.features.passes.model_files import token_limit
from prmkit.marking.scheme import MarkingScheme
from prmkit.models import PRMTrainer, PRMTrainingConfig
from prmkit.models.trainer._rows import training_rows

Row = dict[str, Any]
TRL, TRL_PLAIN = "Trainer, TRL's settings", "Trainer, no checkpointing"
PRMKIT, PRMKIT_PLAIN = "prmkit", "prmkit, no checkpointing"
WAYS = (TRL, TRL_PLAIN, PRMKIT, PRMKIT_PLAIN)

QWEN2_HALF_BILLION = {
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
PEAK_TFLOPS = {  # dense bfloat16, from the makers' data sheets; the first name found in the GPU's counts
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "4090": 165,
    "3090": 71,
}


@dataclass(frozen=True)
class Subject:
    """What is trained: a model to copy, its tokenizer, and how long its rows may be."""

    model: Any
    tokenizer: Any
    separator: str
    trl_length: int | None
    prmkit_length: int | None
    device: str
    tokens_per_batch: int | None


class Counting:
    """A collator that counts rows' tokens, padded tokens and labels as it makes batches."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator
        self.tokens = self.padded = self.labels = 0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Make the batch, and count."""
        batch = self.collator(rows)
        self.tokens += sum(len(row["input_ids"]) for row in rows)
        self.padded += batch["input_ids"].numel()
        self.labels += int((batch["labels"] != -100).sum())
        return batch


def stepwise_rows() -> list[Row]:
    """Solutions up to their last labelled step; a neutral step counts as right, since TRL knows two labels."""
    rows = []
    for solution, ratings in zip(*load_steps_table(["prm800k", "processbench"]), strict=True):
        labels = [rating >= 0 for rating in ratings if rating is not None]
        if labels and None not in ratings[: len(labels)]:
            steps = list(solution.steps[: len(labels)])
            rows.append({"prompt": solution.problem, "completions": steps, "labels": labels})
    return rows


def make_trainer(way: str, subject: Subject, rows: list[Row], folder: str) -> Trainer:
    """A trainer of a copy of the model, nothing done yet but the tokens made."""
    model = copy.deepcopy(subject.model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # TRL's default, and prmkit's
    settings: dict[str, Any] = {
        "output_dir": folder,
        "num_train_epochs": 1,
        "learning_rate": 1e-5,
        "logging_steps": 10,
        "per_device_train_batch_size": 8,
        "gradient_checkpointing": way not in (TRL_PLAIN, PRMKIT_PLAIN),
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": subject.device != "cpu",
        "use_cpu": subject.device == "cpu",
        "dataloader_pin_memory": subject.device != "cpu",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lost labels, which are counted below, and of names of settings to come
        if way in (TRL, TRL_PLAIN):
            trainer = Trainer(
                model,
                TrainingArguments(**settings),
                data_collator=DataCollatorForTokenClassification(subject.tokenizer),
                train_dataset=datasets.Dataset.from_list([trl_row(row, subject) for row in rows]),
            )
        else:
            config = PRMTrainingConfig(
                **settings,
                step_separator=subject.separator,
                max_length=subject.prmkit_length,
                tokens_per_batch=subject.tokens_per_batch or as_8_rows(rows, subject),
            )
            tokenizer = copy.deepcopy(subject.tokenizer)
            trainer = PRMTrainer(model, config, train_dataset=rows, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer


def prompt_length(row: Row, subject: Subject) -> int:
    return len(subject.tokenizer(row["prompt"], add_special_tokens=False, verbose=False)["input_ids"])


def as_8_rows(rows: list[Row], subject: Subject) -> int:
    """How many tokens 8 rows have on average; no less than the longest."""
    lengths = [len(trl_row(row, subject)["input_ids"]) for row in rows]
    return max(*lengths, round(8 * sum(lengths) / len(lengths)))


def trl_row(row: Row, subject: Subject) -> dict[str, list[Any]]:
    """Tokenise a row by TRL's rule: the separator closes each step, its last token has the label."""

    def ids(text: str) -> list[int]:
        return list(subject.tokenizer(text, add_special_tokens=False)["input_ids"])

    tokens = ids(row["prompt"])
    if subject.tokenizer.bos_token_id is not None:
        tokens = [subject.tokenizer.bos_token_id, *tokens]
    labels = [-100] * len(tokens)
    for step, label in zip(row["completions"], row["labels"], strict=True):
        tokens += ids(step) + ids(subject.separator)
        labels += [-100] * (len(tokens) - len(labels) - 1) + [-100 if label is None else int(label)]
    return {"input_ids": tokens[: subject.trl_length], "labels": labels[: subject.trl_length]}


def train(way: str, subject: Subject, rows: list[Row]) -> dict[str, float]:
    """Train one epoch; return seconds and counts."""
    on_gpu = subject.device != "cpu"
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(way, subject, rows, folder)
        trainer.data_collator = counted = Counting(trainer.data_collator)
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        trainer.train()
        if on_gpu:
            torch.cuda.synchronize()
        found = {
            "seconds": time.perf_counter() - start,
            "tokens": counted.tokens,
            "padded": counted.padded,
            "labels": counted.labels,
            "updates": trainer.state.global_step,
        }
        if on_gpu:
            found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def bench_model(subject: Subject, rows: list[Row], rounds: int) -> tuple[list[Row], dict[str, list[Any]]]:
    """Rows of the table, and every round of every way."""
    for way in WAYS:  # what is loaded and compiled on first use is nobody's running cost
        train(way, subject, rows[:8])
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS:
            runs[way].append(train(way, subject, rows))
            print(f"round {number + 1} of {rounds}: {way} {runs[way][-1]['seconds']:.1f} s", flush=True)

    def rates(way: str, what: str) -> list[float]:
        return [run[what] / run["seconds"] for run in runs[way]]

    def times(way: str, what: str, peer: str) -> float:
        return median(one / other for one, other in zip(rates(way, what), rates(peer, what), strict=True))

    table = []
    for way in WAYS:
        last = runs[way][-1]
        row = {
            "training": way,
            "seconds": median(run["seconds"] for run in runs[way]),
            "updates": last["updates"],
            "labels/s": median(rates(way, "labels")),
            "tokens/s": median(rates(way, "tokens")),
            "padded/real tokens": last["padded"] / last["tokens"],
            "times TRL's labels/s": times(way, "labels", TRL),
            "times TRL's tokens/s": times(way, "tokens", TRL),
        }
        table.append(row | ({"GiB": last["memory_gib"]} if "memory_gib" in last else {}))
    return table, runs


def lost_labels(subject: Subject, rows: list[Row]) -> list[Row]:
    """What ``max_length`` takes from the labels of the whole data."""
    n_labels = sum(len(row["labels"]) for row in rows)
    kept = [sum(label != -100 for label in trl_row(row, subject)["labels"]) for row in rows]
    table = [
        {
            "rule": "TRL",
            "max_length": subject.trl_length,
            "labels": n_labels,
            "lost": n_labels - sum(kept),
            "solutions without any": sum(not n for n in kept),
            "said": "nothing",
        }
    ]
    scheme = MarkingScheme(step_separator=subject.separator)
    limits = [token_limit(subject.model, subject.prmkit_length)]
    if subject.trl_length not in limits:
        limits.insert(0, subject.trl_length)
    for limit in limits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            counted = partial(training_rows, tokenizer=subject.tokenizer, scheme=scheme, max_length=limit)
            fits = [row for row in rows if prompt_length(row, subject) < limit]
            report = counted(fits, classes=(False, True))[1]
        left_out = n_labels - report.n_steps  # a prompt that leaves no room is an error, by row
        table.append(
            {
                "rule": "prmkit",
                "max_length": limit,
                "labels": n_labels,
                "lost": report.n_lost_steps + left_out,
                "solutions without any": report.n_without_target + len(rows) - len(fits),
                "said": "counts, as a warning" if report.n_lost_steps else "",
            }
        )
    return table


def training_flops(model: Any, lengths: Sequence[int]) -> float:
    """Forward and backward of a decoder over rows of these lengths: products with weights, and attention."""
    config = model.config
    n_weights = model.num_parameters() - model.get_input_embeddings().weight.numel()
    width = config.num_hidden_layers * config.hidden_size
    return float(sum(6 * n_weights * n + 6 * width * n**2 for n in lengths))


def peak_flops(tflops: float | None) -> float | None:
    if tflops is None and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        tflops = next((value for known, value in PEAK_TFLOPS.items() if known in name), None)
    return None if tflops is None else tflops * 1e12


def subject_of(kind: str, options: argparse.Namespace, rows: list[Row]) -> Subject:
    """The model of one name, ready to be copied."""
    if kind == "encoder":
        model, tokenizer = encoder()
        separator, trl_length, prmkit_length = "[SEP]", 512, 512
    else:
        tokenizer = learn_tokenizer([text for row in rows for text in (row["prompt"], *row["completions"])])
        size = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4}
        if options.gpu:
            size = {**QWEN2_HALF_BILLION, **(TINY if options.tiny else {})}
        model = language_model(tokenizer, kind="qwen2" if options.gpu else "llama", **size)
        separator, trl_length, prmkit_length = "\n", 1024, None
    budget = options.tokens_per_batch or (8192 if options.gpu else None)
    return Subject(model, tokenizer, separator, trl_length, prmkit_length, options.device, budget)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", "--model", nargs="*", default=["encoder", "causal"], choices=["encoder", "causal"])
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda with --gpu, else cpu)")
    parser.add_argument("--rows", type=int, default=None, help="to train on (default: 64; 1024 with --gpu)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each way (default: %(default)s)")
    parser.add_argument(
        "--tokens-per-batch", type=int, default=None, help="prmkit's (default: those of 8 rows; 8192 with --gpu)"
    )
    parser.add_argument("--gpu", action="store_true", help="the model of 0.5 billion parameters in bfloat16")
    parser.add_argument("--tiny", action="store_true", help="with --gpu: two narrow layers, to try the code")
    parser.add_argument("--peak-tflops", type=float, default=None, help="of the GPU, where it is not known")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only; do not write a result")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    disable_progress_bar()
    options.device = options.device or ("cuda" if options.gpu else "cpu")
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit("no CUDA device here: leave out --gpu and --device, or try the code with --tiny --device cpu")
    if options.gpu and options.device == "cpu" and not options.tiny:
        sys.exit("--gpu on a CPU takes hours: add --tiny")

    rows = stepwise_rows()
    n_rows = options.rows or (1024 if options.gpu else 64)
    result: dict[str, Any] = {
        "data": ["prm800k", "processbench"],
        "dtype": "float32" if options.device == "cpu" else "bfloat16",
        "rows_in_data": len(rows),
        "models": {},
    }
    for kind in ["causal"] if options.gpu else options.models:
        subject = subject_of(kind, options, rows)
        room = subject.prmkit_length or subject.trl_length
        able = [row for row in rows if prompt_length(row, subject) < room - 64]
        chosen = random.Random(options.seed).sample(able, min(n_rows, len(able)))
        table, runs = bench_model(subject, chosen, options.rounds)
        found = {
            "rows": table,
            "rounds": runs,
            "trained_rows": len(chosen),
            "parameters": subject.model.num_parameters(),
            "lost_labels": lost_labels(subject, rows),
        }
        gain = table[WAYS.index(PRMKIT)]
        found["required"] = [
            {
                "prmkit": f"times TRL's {what}",
                "found": gain[f"times TRL's {what}"],
                "required": ">= 1.5",
                "met": "yes" if gain[f"times TRL's {what}"] >= 1.5 else "NO",
            }
            for what in ("labels/s", "tokens/s")
        ]
        if options.gpu:
            add_fraction_of_peak(found, subject, chosen, peak_flops(options.peak_tflops))
        result["models"][f"qwen2-0.5b{', tiny' * options.tiny}" if options.gpu else kind] = found

    print(f"\n{machine()}\n{versions()}\nmedians of {options.rounds} rounds, {result['dtype']}")
    for kind, found in result["models"].items():
        print(f"\n{kind}: {found['parameters'] / 1e6:.1f} million parameters, {found['trained_rows']} rows\n")
        for name in ("rows", "required", "lost_labels"):
            print_table(found[name])
            print()
    if not options.no_write:
        print(f"written to {write_result('training_gpu' if options.gpu else 'training', result)}")


def add_fraction_of_peak(found: dict, subject: Subject, rows: list[Row], peak: float | None) -> None:
    """Add what share of the peak the real tokens of each way are."""
    found["peak_tflops"] = None if peak is None else peak / 1e12
    for row, way in zip(found["rows"], WAYS, strict=True):
        limit = subject.trl_length if way in (TRL, TRL_PLAIN) else subject.prmkit_length
        lengths = [len(trl_row(one, replace(subject, trl_length=limit))["input_ids"]) for one in rows]
        rate = training_flops(subject.model, lengths) / row["seconds"]
        row["TFLOP/s"] = rate / 1e12
        row["of peak"] = None if peak is None else rate / peak


if __name__ == "__main__":
    main()
