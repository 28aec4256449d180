"""Texts per second of every backend beside ``SentenceTransformer.encode``, in interleaved rounds of one run.

All distinct steps of the visible ProcessBench files, or ``--n-texts`` of them. Each way has its tokens per second, the
ratio to sentence-transformers (float32, batches of 32), its mean cosine to it, and the share of the machine's matrix
products that it reaches. ``--busy`` runs one more process that computes all the time.

    python benchmarks/bench_encoding.py --n-texts 400 --threads 1 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import time

import numpy as np
from _common import data_folder, print_table, write_result

from prmkit import PRMFeaturizer
from prmkit.data import load_processbench
from prmkit.features.encoding.backends.backend import candidates
from prmkit.features.encoding.model_path import resolve_model
from prmkit.utils.environment import matrix_product_seconds

MODEL = "all-MiniLM-L6-v2"


def spin() -> None:
    while True:
        sum(range(10_000))


def main() -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-texts", type=int, default=None)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()

    files = sorted((data_folder() / "processbench").glob("*.json"))
    texts = sorted({step for file in files for one in load_processbench(file).solutions for step in one.steps})
    random.Random(0).shuffle(texts)
    texts = texts[: options.n_texts]
    peer = SentenceTransformer(str(resolve_model(MODEL)), device="cpu")
    n_tokens = sum(map(len, peer.tokenizer(texts, truncation=True, max_length=peer.max_seq_length)["input_ids"]))
    layers = [module for module in peer.modules() if isinstance(module, torch.nn.Linear)]
    work = 2 * n_tokens * sum(layer.weight.numel() for layer in layers if layer.out_features > 1)
    other = multiprocessing.get_context("spawn").Process(target=spin, daemon=True) if options.busy else None
    if other:
        other.start()
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        ways = {"sentence-transformers": lambda: peer.encode(texts, batch_size=32)}
        featurizers = {
            f"{name}-{dtype}": PRMFeaturizer(model=MODEL, device="cpu", backend=name, dtype=dtype, cache=False)
            for name, dtype in [("auto", "auto"), *candidates("auto", "auto", "cpu")]
        }
        ways |= {name: lambda one=one: one.transform(texts) for name, one in featurizers.items()}
        for name in featurizers:
            featurizers[name].transform(texts[:8])
        spent: dict[str, list[float]] = {name: [] for name in ways}
        found = {}
        for _ in range(options.rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                found[name] = way()
                spent[name].append(time.perf_counter() - start)
        peaks = {kind: 2 * 256 * 384 * 1536 / matrix_product_seconds(kind) for kind in ("float32", "bfloat16")}
        expected = found["sentence-transformers"]
        for name, seconds in spent.items():
            median = statistics.median(seconds)
            kind = featurizers[name].precision if name in featurizers else "float32"
            norms = np.linalg.norm(found[name], axis=1) * np.linalg.norm(expected, axis=1)
            cosines = (found[name] * expected).sum(axis=1) / norms
            rows.append(
                {
                    "threads": threads,
                    "way": name,
                    "tokens_per_second": n_tokens / median,
                    "ratio": statistics.median(spent["sentence-transformers"]) / median,
                    "mean_cosine": float(cosines.mean()),
                    "share_of_peak": work / median / peaks[kind] / threads,
                }
            )
        print(f"auto: {json.dumps(featurizers['auto-auto'].backend_)}", flush=True)
    if other:
        other.terminate()
    print_table(rows)
    result = {"model": MODEL, "texts": len(texts), "tokens": n_tokens, "busy": options.busy, "rows": rows}
    print(write_result("encoding" + ("_busy" if options.busy else ""), result))


if __name__ == "__main__":
    main()
