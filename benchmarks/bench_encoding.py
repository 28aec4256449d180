"""Tokens per second of every backend beside ``SentenceTransformer.encode``, in turns within one run.

The texts are all distinct steps of the visible ProcessBench files, or ``--n-texts`` of them. They stand in the order of
their length, as sentence-transformers sorts them, and are cut into blocks of 16 of its batches. The ways take turns on
each block. sentence-transformers (float32, batches of 32), ``auto`` and the copies in eight bits read every block. The
others, and all ways with a further number of threads, read every third one. A ratio compares the same blocks.

Each way has its mean cosine to sentence-transformers, and the share of the machine's matrix products that it reaches.
Copies in eight bits are made from 300 of the texts. What they lose is the AUROC of a logistic regression on the vectors
of steps, in five folds by problem, against the same on the vectors of sentence-transformers.

``--busy`` runs one more process that computes all the time. Two threads should then not be slower than one.

    python benchmarks/bench_encoding.py                                      # six minutes on an idle machine
    python benchmarks/bench_encoding.py --busy --n-texts 400 --no-int8
    python benchmarks/bench_encoding.py --n-texts 100 --threads 1 --no-write
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from _common import data_folder, machine, print_table, versions, write_result

from prmkit import PRMFeaturizer, StratifiedProblemKFold
from prmkit.data import load_processbench
from prmkit.features.encoding.backends.backend import candidates
from prmkit.features.encoding.model_path import resolve_model
from prmkit.utils.environment import fast_bfloat16, matrix_product_seconds

MODEL, PEER = "all-MiniLM-L6-v2", "sentence-transformers"
N_BLOCK, EVERY = 16 * 32, 3
Encode = Callable[[list[str]], np.ndarray]


def spin() -> None:
    """Keep one core busy."""
    while True:
        sum(range(10_000))


def auroc(steps: list[Any], labels: np.ndarray, vectors: dict[str, np.ndarray]) -> float:
    """Return how well a logistic regression on vectors finds wrong steps, by problem."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    known = [i for i, step in enumerate(steps) if step.text in vectors]
    wrong = np.array([labels[i] == -1 for i in known])
    folds = list(StratifiedProblemKFold(5).split([steps[i] for i in known], wrong))
    rows = np.array([vectors[steps[i].text] for i in known])
    model = LogisticRegression(C=1.0, max_iter=500)
    return float(roc_auc_score(wrong, cross_val_predict(model, rows, wrong, cv=folds, method="predict_proba")[:, 1]))


def featurizers(texts: list[str], with_int8: bool) -> dict[str, PRMFeaturizer]:
    """Return every way of prmkit, loaded and used once."""
    pairs = [("auto", "auto"), *candidates("auto", "auto", "cpu")]
    made = {
        "auto" if name == "auto" else f"{name}-{dtype}": PRMFeaturizer(
            model=MODEL, device="cpu", backend=name, dtype=dtype, cache=False, context="none"
        )
        for name, dtype in pairs
    }
    for package, name in (("openvino", "openvino-int8"), ("onnxruntime", "onnx-int8")):
        if with_int8 and find_spec(package) and find_spec("nncf"):
            made[name] = PRMFeaturizer(model=MODEL, device="cpu", backend=name, cache=False, context="none")
    for one in made.values():
        one.fit(texts).transform(texts[:64])
    return made


def measure(blocks: list[list[str]], ways: dict[str, Encode], all_blocks: set[str], rounds: int) -> dict[str, Any]:
    """Return the seconds of each way on each block, and the vectors of each text."""
    seconds: dict[str, dict[int, float]] = defaultdict(dict)
    vectors: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for _ in range(rounds):
        for number, block in enumerate(blocks):
            for name, way in ways.items():
                if name not in all_blocks and number % EVERY != 1 % len(blocks):
                    continue
                start = time.perf_counter()
                found = way(block)
                spent = time.perf_counter() - start
                seconds[name][number] = min(spent, seconds[name].get(number, spent))
                vectors[name].update(zip(block, found, strict=True))
    return {"seconds": seconds, "vectors": vectors}


def main() -> None:
    """Measure, print and write the tables."""
    import torch
    from sentence_transformers import SentenceTransformer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-texts", type=int, default=None, help="a random part of the texts (default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1, help="turns on each block, of which the fastest counts")
    parser.add_argument("--busy", action="store_true", help="beside a process that computes all the time")
    parser.add_argument("--no-int8", action="store_true", help="leave out the copies in eight bits")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*plain strings|.*longer than")

    datasets = [load_processbench(file) for file in sorted((data_folder() / "processbench").glob("*.json"))]
    texts = sorted({step for data in datasets for one in data.solutions for step in one.steps})
    random.Random(0).shuffle(texts)
    texts = texts[: options.n_texts]
    learnt = texts[:300]
    texts.sort(key=len, reverse=True)
    n_block = min(N_BLOCK, max(32, len(texts) // EVERY))
    blocks = [texts[i : i + n_block] for i in range(0, len(texts), n_block)]
    peer = SentenceTransformer(str(resolve_model(MODEL)), device="cpu")
    tokens = [
        sum(map(len, peer.tokenizer(block, truncation=True, max_length=peer.max_seq_length)["input_ids"]))
        for block in blocks
    ]
    layers = [module for module in peer.modules() if isinstance(module, torch.nn.Linear)]
    n_weights = sum(layer.weight.numel() for layer in layers if layer.out_features > 1)
    other = multiprocessing.get_context("spawn").Process(target=spin, daemon=True) if options.busy else None
    if other:
        other.start()
    steps = [step for data in datasets for step in data.X]
    labels = np.concatenate([np.asarray(data.y) for data in datasets])
    rows: list[dict[str, Any]] = []
    required: list[dict[str, Any]] = []
    chosen = {}
    for threads in options.threads:
        first = threads == options.threads[0]
        torch.set_num_threads(threads)
        made = featurizers(learnt, first and not options.no_int8)
        peer.encode(texts[:64], batch_size=32)
        ways: dict[str, Encode] = {PEER: lambda block: peer.encode(block, batch_size=32)}
        ways |= {name: one.transform for name, one in made.items()}
        found = measure(blocks, ways, {PEER, "auto", "openvino-int8", "onnx-int8"} if first else set(), options.rounds)
        peaks = {kind: 2 * 256 * 384 * 1536 / matrix_product_seconds(kind) for kind in ("float32", "bfloat16")}
        ratios, expected = {}, found["vectors"][PEER]
        usual = auroc(steps, labels, expected) if any("int8" in name for name in made) else None
        for name, seconds in found["seconds"].items():
            spent = sum(seconds.values())
            ratios[name] = sum(found["seconds"][PEER][number] for number in seconds) / spent
            vectors = found["vectors"][name]
            ours, theirs = np.array(list(vectors.values())), np.array([expected[text] for text in vectors])
            norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
            row = {
                "threads": threads,
                "way": name,
                "texts": len(vectors),
                "tokens per second": sum(tokens[number] for number in seconds) / spent,
                "times the peer": ratios[name],
                "mean cosine": f"{float(((ours * theirs).sum(axis=1) / norms).mean()):.5f}",
                "AUROC": usual if name == PEER else None,
                "AUROC lost": None,
                "share of peak": None,
            }
            if name != PEER and "int8" in name and usual is not None:
                row["AUROC"] = auroc(steps, labels, vectors)
                row["AUROC lost"] = f"{usual - float(row['AUROC']):.4f}"
            kind = made[name].precision if name in made else "float32"
            if kind in peaks:
                work = 2 * n_weights * sum(tokens[number] for number in seconds)
                row["share of peak"] = work / spent / peaks[kind] / threads
            rows.append(row)
        chosen[str(threads)] = made["auto"].backend_
        print(f"auto with {threads} thread(s): {json.dumps(chosen[str(threads)], default=float)}", flush=True)
        if first:
            required = claims(ratios, of_the_fastest(found["seconds"]), rows, fast_bfloat16("cpu"))
    if other:
        other.terminate()
    print(f"\n{machine()}\n{versions()}\n")
    print_table(rows)
    print()
    print_table(required)
    n_tokens = sum(tokens)
    result = {"model": MODEL, "texts": len(texts), "tokens": n_tokens, "busy": options.busy, "rows": rows}
    if not options.no_write:
        result |= {"chosen": json.loads(json.dumps(chosen, default=float)), "required": required}
        print(f"written to {write_result('encoding' + ('_busy' if options.busy else ''), result)}")


def of_the_fastest(seconds: dict[str, dict[int, float]]) -> float:
    """Return the speed of auto as a share of that of the fastest exact way, on the blocks that all have read."""
    exact = {name: part for name, part in seconds.items() if name not in (PEER, "auto") and "int8" not in name}
    common = set.intersection(*map(set, exact.values()))
    best = min(sum(part[number] for number in common) for part in exact.values())
    return best / sum(seconds["auto"][number] for number in common)


def claims(ratios: dict[str, float], share: float, rows: list[dict[str, Any]], fast: bool) -> list[dict[str, Any]]:
    """Return what is required of the first number of threads, and whether it was found."""
    wanted = [("auto", "times the peer", ratios["auto"], 1.5), ("auto", "of the fastest", share, 0.9)]
    if fast:
        wanted += [("torch-bfloat16", "times the peer", ratios["torch-bfloat16"], 4.0)]
        wanted += [(name, "times the peer", ratios[name], 5.0) for name in ("openvino-bfloat16",) if name in ratios]
    for row in rows:
        if "int8" in row["way"]:
            wanted.append((row["way"], "times the peer", row["times the peer"], 7.0 if fast else 3.5))
            wanted.append((row["way"], "mean cosine", float(row["mean cosine"]), 0.997))
            wanted.append((row["way"], "AUROC not lost", 1 - float(row["AUROC lost"]), 0.995))
    return [
        {"way": way, "what": what, "found": f"{found:.4f}", "at least": least, "met": "yes" if found >= least else "NO"}
        for way, what, found, least in wanted
    ]


if __name__ == "__main__":
    main()
