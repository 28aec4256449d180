"""The scorers of uqlm and LM-Polygraph beside prmkit's on the same samples: same AUROC and PRR, and the seconds.

Only scorers that need no weights from a hub run: exact match, those of token probabilities, and estimators on given
statistics. Their classes and likeness of answers are those of equal answers, since no model judges entailment here.
No source of samples records log-probabilities, so these are drawn, the same for all: they compare numbers and
seconds, and their AUROC means nothing. Left out, since they need weights: non-contradiction, semantic entropy by
entailment, BERTScore and cosine (uqlm), and what needs a model's states or prompts (LM-Polygraph). So is its
LexicalSimilarity, which compares all pairs of texts word by word.

Both libraries are read from an environment of their own: uqlm 0.6 wants numpy below 2. One that is not
installed is left out, with its reason.

    python benchmarks/bench_samples_peers.py --uqlm VENV/bin/python --polygraph OTHER/bin/python
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, machine, print_table, versions, write_result
from _quality_report import markdown
from _sample_sets import SETS, Sampled
from sklearn.metrics import roc_auc_score

from prmkit.metrics import prr
from prmkit.uncertainty import sample_uncertainty

CHILD = Path(__file__).with_name("_sample_peers.py")
MEAN_TOKENS = 120


def sampled(name: str) -> tuple[Sampled, list[np.ndarray], dict[str, Any]]:
    """Return the samples, drawn log-probabilities, and both as an object for JSON."""
    found = SETS[name]()
    rng = np.random.default_rng(0)
    log_probs = [np.log(rng.beta(8, 1, rng.integers(1, 2 * MEAN_TOKENS))) for _ in found.errors]
    rows: list[list[dict[str, Any]]] = [[] for _ in found.candidates]
    keys = found.candidates.answer_keys
    for i, (group, solution) in enumerate(zip(found.groups, found.candidates.solutions, strict=True)):
        answer = f"no answer {i}" if keys[i] is None else keys[i]
        rows[group].append({"answer": answer, "text": "\n".join(solution.steps), "log_probs": log_probs[i].tolist()})
    score = sample_uncertainty(found.candidates).disagreement
    return found, log_probs, {"rows": rows, "errors": found.errors.tolist(), "score": score.tolist()}


def ours(found: Sampled, log_probs: list[np.ndarray]) -> dict[str, Callable[[], np.ndarray]]:
    """Return what prmkit has under each of their names, None where it has nothing."""
    candidates, groups = found.candidates, found.groups
    sizes = candidates.sizes

    def of_agreement(name: str) -> Callable[[], np.ndarray]:
        return lambda: sample_uncertainty(candidates).uncertainties()[name]

    def degrees() -> np.ndarray:
        # DegMat counts a sample among those that agree with it, and takes the mean of a problem.
        disagreement = sample_uncertainty(candidates).disagreement * (sizes - 1)[groups] / sizes[groups]
        return (np.bincount(groups, disagreement) / sizes)[groups]

    def of_disagreement() -> np.ndarray:
        return np.array([prr(found.errors.astype(float), sample_uncertainty(candidates).disagreement)])

    return {
        "MatchScorer (exact_match) of answers": of_agreement("disagreement"),
        "sequence_probability": lambda: -np.exp([one.mean() for one in log_probs]),
        "min_probability": lambda: -np.exp([one.min() for one in log_probs]),
        "LabelProb": lambda: 1 + of_agreement("largest_share")(),
        "SemanticEntropyEmpirical": of_agreement("entropy"),
        "NumSemSets": of_agreement("n_classes"),
        "DegMat": degrees,
        "MaximumSequenceProbability": lambda: np.array([-one.sum() for one in log_probs]),
        "Perplexity": lambda: np.array([-one.mean() for one in log_probs]),
        "PredictionRejectionArea, normalised": of_disagreement,
        "the same, mean of 200 orders of rows": of_disagreement,
    }


def quality(found: Sampled, values: np.ndarray) -> tuple[str, str]:
    errors = found.errors
    return f"{roc_auc_score(errors, values):.4f}", f"{prr(errors.astype(float), values):.4f}"


def rows_of(library: str, told: dict[str, Any], found: Sampled, log_probs: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return a row per scorer: numbers and seconds of both."""
    known, rows = ours(found, log_probs), []
    for name, one in told["scores"].items():
        theirs = np.array(one["values"])
        row: dict[str, Any] = {"library": f"{library} {told['version']}", "scorer": name}
        mine, seconds = None, None
        if name in known:
            start = time.perf_counter()
            mine = known[name]()
            seconds = time.perf_counter() - start
        is_number = len(theirs) == 1
        if is_number:
            row |= {"AUROC": "", "PRR": f"{theirs[0]:.4f}"}
            row |= {"AUROC, prmkit": "", "PRR, prmkit": "" if mine is None else f"{mine[0]:.4f}"}
        else:
            row["AUROC"], row["PRR"] = quality(found, theirs)
            row["AUROC, prmkit"], row["PRR, prmkit"] = ("", "") if mine is None else quality(found, mine)
        gap = "" if mine is None else f"{np.abs(theirs - mine).max():.1e}"
        row |= {"largest difference": gap, "seconds": f"{one['seconds']:.3f}"}
        row["seconds, prmkit"] = "" if seconds is None else f"{seconds:.3f}"
        rows.append(row)
    return rows


def ask(library: str, python: str, path: str) -> dict[str, Any] | str:
    """Return what a library says of the samples, or why it says nothing."""
    done = subprocess.run([python, str(CHILD), library, path], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"not run: {last[:160]}"
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uqlm", default=sys.executable, metavar="PYTHON", help="interpreter that has uqlm")
    parser.add_argument("--polygraph", default=sys.executable, metavar="PYTHON", help="the same of LM-Polygraph")
    parser.add_argument("--set", default="gsm8k_samples", choices=SETS, help="default: %(default)s")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    found, log_probs, samples = sampled(options.set)
    shown: dict[str, list[dict[str, Any]]] = {"scorers": [], "weight": []}
    heavy: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.json"
        path.write_text(json.dumps(samples), encoding="utf-8")
        for library, python in (("uqlm", options.uqlm), ("LM-Polygraph", options.polygraph)):
            told = ask(library, python, str(path))
            if isinstance(told, str):
                shown["not run"] = [*shown.get("not run", []), {"library": library, "reason": told}]
                continue
            shown["scorers"] += rows_of(library, told, found, log_probs)
            heavy[f"{library} {told['version']}"] = told["weight"]
    told = ask("prmkit", sys.executable, "-")
    own = {} if isinstance(told, str) else told["weight"]
    for library, packages in {**heavy, "prmkit, without extras": own}.items():
        more = {name: size for name, size in packages.items() if name not in own}
        row = {"library": library, "packages": len(packages), "MB on disk": f"{sum(packages.values()):.0f}"}
        shown["weight"].append(
            row | {"packages that prmkit does not need": len(more), "their MB": f"{sum(more.values()):.0f}"}
        )
    for title, rows in shown.items():
        print(f"\n{title}\n")
        print_table(rows)
    if options.no_write:
        return
    result = write_result("samples_peers", {"set": found.name, "tables": shown})
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `python benchmarks/bench_samples_peers.py` on {found.name}.",
        "",
        f"`machine`: {machine()}",
        "",
        f"`versions`: {versions()}",
        "",
        (__doc__ or "").split("    python")[0].strip(),
    ]
    title = "Scorers of uqlm and LM-Polygraph beside prmkit's"
    (RESULTS / "samples_peers.md").write_text(markdown(shown, notes, title), encoding="utf-8")
    print(f"written to {result} and samples_peers.md")


if __name__ == "__main__":
    main()
