"""What uqlm and LM-Polygraph say of the same samples. It runs in their environments, so it imports prmkit nowhere.

    python _sample_peers.py uqlm SAMPLES.json

prints a JSON object: the version, the weight, and of every scorer its values per sample and its seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = {"uqlm": "uqlm", "LM-Polygraph": "lm-polygraph", "prmkit": "prmkit"}


def weight(name: str) -> dict[str, float]:
    """Return the packages that an installed package needs, itself among them, and their MB on disk."""
    from packaging.requirements import Requirement

    todo, found = [name], {}
    while todo:
        try:
            one = distribution(todo.pop())
        except PackageNotFoundError:
            continue
        key = one.metadata["Name"].lower().replace("_", "-")
        if key in found:
            continue
        paths = [Path(str(one.locate_file(file))) for file in one.files or ()]
        # Compiled files depend on how it was installed.
        found[key] = sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc") / 1e6
        needed = map(Requirement, one.requires or ())
        todo += [req.name for req in needed if req.marker is None or req.marker.evaluate({"extra": ""})]
    return found


def timed(found: dict[str, Any], name: str, work: Callable[[], Any]) -> None:
    start = time.perf_counter()
    values = np.asarray(work(), dtype=float)
    found[name] = {"values": values.tolist(), "seconds": time.perf_counter() - start}


def uqlm(samples: dict[str, Any]) -> dict[str, Any]:
    """Scorers that need no weights: exact match of answers and of texts, and those of token probabilities."""
    from uqlm.black_box import MatchScorer
    from uqlm.white_box import SampledLogprobsScorer, SingleLogprobsScorer

    found: dict[str, Any] = {}
    rows = samples["rows"]
    place = [(i, j) for i, of_problem in enumerate(rows) for j in range(len(of_problem))]
    log_probs = [[{"logprob": p} for p in rows[i][j]["log_probs"]] for i, j in place]

    def match(what: str) -> Any:
        responses = [rows[i][j][what] for i, j in place]
        others = [[one[what] for k, one in enumerate(rows[i]) if k != j] for i, j in place]
        return 1 - np.array(MatchScorer().evaluate(responses, others))

    timed(found, "MatchScorer (exact_match) of answers", lambda: match("answer"))
    timed(found, "MatchScorer (exact_match) of texts", lambda: match("text"))
    for name in ("sequence_probability", "min_probability"):
        scorer = SingleLogprobsScorer([name])
        timed(found, name, lambda scorer=scorer, name=name: -np.array(scorer.evaluate(log_probs)[name]))
    start = np.cumsum([0, *map(len, rows)])
    others = [[log_probs[k] for k in range(start[i], start[i + 1]) if k != start[i] + j] for i, j in place]
    scorer = SampledLogprobsScorer(["monte_carlo_probability"])
    texts = [rows[i][j]["text"] for i, j in place]
    timed(
        found,
        "monte_carlo_probability",
        lambda: -np.array(scorer.evaluate(texts, [[]], log_probs, others)["monte_carlo_probability"]),
    )
    return found


def polygraph(samples: dict[str, Any]) -> dict[str, Any]:
    """Estimators on given statistics: classes and likeness are those of equal answers, no model judges them."""
    from lm_polygraph import estimators
    from lm_polygraph.ue_metrics.pred_rej_area import PredictionRejectionArea
    from lm_polygraph.ue_metrics.ue_metric import get_random_scores, normalize_metric

    found: dict[str, Any] = {}
    rows = samples["rows"]
    texts = [[one["text"] for one in of_problem] for of_problem in rows]
    to_class, to_sample, same = {}, {}, []
    for i, of_problem in enumerate(rows):
        keys = [one["answer"] for one in of_problem]
        names = list(dict.fromkeys(keys))
        to_class[i] = [names.index(key) for key in keys]
        to_sample[i] = [[j for j, key in enumerate(keys) if key == name] for name in names]
        same.append(np.equal.outer(to_class[i], to_class[i]).astype(float))
    # Their likeness is one array, so all problems have as many samples.
    is_square = len({len(one) for one in same}) == 1
    stats: dict[str, Any] = {
        "sample_texts": texts,
        "semantic_classes_entail": {"class_to_sample": to_sample, "sample_to_class": to_class},
        "greedy_log_likelihoods": [one["log_probs"] for of_problem in rows for one in of_problem],
        "sample_log_probs": [[sum(one["log_probs"]) for one in of_problem] for of_problem in rows],
    }
    of_problems = {
        "LabelProb": estimators.LabelProb(),
        "SemanticEntropyEmpirical": estimators.SemanticEntropy(class_probability_estimation="frequency"),
        "SemanticEntropy": estimators.SemanticEntropy(),
        "MonteCarloSequenceEntropy": estimators.MonteCarloSequenceEntropy(),
    }
    if is_square:
        stats |= {"semantic_matrix_entail": np.array(same), "semantic_matrix_contra": 1 - np.array(same)}
        of_problems |= {
            "NumSemSets": estimators.NumSemSets(),
            "DegMat": estimators.DegMat(),
            "EigValLaplacian": estimators.EigValLaplacian(),
        }
    sizes = [len(of_problem) for of_problem in rows]
    for name, estimator in of_problems.items():
        timed(found, name, lambda estimator=estimator: np.repeat(estimator(stats), sizes))
    for name in ("MaximumSequenceProbability", "Perplexity"):
        timed(found, name, lambda name=name: getattr(estimators, name)()(stats))

    right, score = 1 - np.array(samples["errors"], dtype=float), np.array(samples["score"])
    area = PredictionRejectionArea()
    oracle, random = area(-right, right), get_random_scores(area, right)

    def prr(order: Any) -> float:
        return float(normalize_metric(area(score[order], right[order]), oracle, random))

    rng = np.random.default_rng(0)
    timed(found, "PredictionRejectionArea, normalised", lambda: [prr(slice(None))])
    orders = [rng.permutation(len(score)) for _ in range(200)]
    timed(found, "the same, mean of 200 orders of rows", lambda: [np.mean([prr(order) for order in orders])])
    return found


if __name__ == "__main__":
    library, path = sys.argv[1:]
    told: dict[str, Any] = {"version": version(PACKAGES[library]), "weight": weight(PACKAGES[library])}
    if path != "-":
        told["scores"] = {"uqlm": uqlm, "LM-Polygraph": polygraph}[library](json.loads(Path(path).read_text("utf-8")))
    print(json.dumps(told))
