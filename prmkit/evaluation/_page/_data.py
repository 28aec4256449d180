"""Solutions inside the page: a small index, and packs of texts that the page opens when it shows them."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prmkit.evaluation._inputs._scoring import rounded
from prmkit.evaluation._tables._context import Context, choose_by_first_error, first_errors_at, thresholds
from prmkit.scoring.scored_solution import risk_rgb

_PER_PACK = 128
_PREVIEW = 90
# Ends of script elements, comments and character references: none of them may appear in embedded text.
_UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def embed_solutions(solutions: Iterable[Mapping[str, Any]], result: Mapping[str, Any]) -> tuple[str, list[str], bool]:
    """Return the index of all solutions as JSON, and their texts as packs of zlib-compressed JSON in base64.

    The last value tells whether there are candidates. They stand in the index by problem too, with the candidate that
    each rule chooses. Their answers and scores are in the packs.
    """
    models = [model["name"] for model in result["models"]]
    benchmarks: dict[str, int] = {b["name"]: place for place, b in enumerate(result["benchmarks"])}
    error_types: dict[str, int] = {}
    columns: dict[str, list[Any]] = {
        name: [] for name in ("id", "preview", "benchmark", "errorType", "gold", "predicted", "highest", "answer")
    }
    packs: list[str] = []
    pack: list[Any] = []
    previews: dict[str, int] = {}
    rules: dict[str, int] = {}
    problems: dict[Any, dict[str, Any]] = {}
    for solution in solutions:
        risks = _risks(solution, models)
        error_type = solution["error_type"]
        answer = solution["answer_correct"]
        row = {
            "id": str(solution["id"]),
            # Many solutions share a problem.
            "preview": previews.setdefault(
                " ".join((solution["problem"] or "")[: 2 * _PREVIEW].split())[:_PREVIEW], len(previews)
            ),
            "benchmark": benchmarks.setdefault(solution["benchmark"], len(benchmarks)),
            "errorType": None if error_type is None else error_types.setdefault(error_type, len(error_types)),
            "gold": _place(solution["gold"], solution, "gold"),
            "predicted": [_place(solution["predicted"].get(name), solution, name) for name in models],
            "highest": [max((r for r in one or () if r is not None), default=None) for one in risks],
            "answer": None if answer is None else bool(answer),
        }
        for name, value in row.items():
            columns[name].append(value)
        ratings = [None if rating is None else int(rating) for rating in solution["ratings"] or ()]
        pack.append([solution["problem"] or "", list(solution["steps"]), ratings, risks])
        if sampled := solution.get("sampled"):
            for rule in sampled["rules"]:
                rules.setdefault(rule, len(rules))
            one = problems.setdefault(
                (row["benchmark"], sampled["problem"]), {"reference": sampled["reference"], "members": [], "chosen": {}}
            )
            one["chosen"] |= dict.fromkeys((rules[rule] for rule in sampled["chosen_by"]), len(one["members"]))
            one["members"].append(len(columns["id"]) - 1)
            scored = [(rules[rule], score) for rule, score in sampled["scores"].items() if score is not None]
            pack[-1].append([sampled["answer"], {rule: float(f"{score:.4g}") for rule, score in scored}])
        if len(pack) == _PER_PACK:
            packs.append(_packed(pack))
            pack = []
    if pack:
        packs.append(_packed(pack))
    index = {
        "models": models,
        "benchmarks": list(benchmarks),
        "errorTypes": list(error_types),
        "perPack": _PER_PACK,
        "scale": [risk_rgb(risk) for risk in (0.0, 0.5, 1.0)],
        "solutions": columns,
        "previews": list(previews),
        "rules": list(rules),
        "problems": [
            one | {"chosen": [one["chosen"].get(number) for number in range(len(rules))]} for one in problems.values()
        ],
    }
    return script_json(index), packs, bool(problems)


def script_json(value: Any) -> str:
    r"""Return JSON in ASCII that is safe inside a script element; NaN and infinity raise ValueError.

    Examples
    --------
    >>> print(script_json({"text": "</script>"}))
    {"text":"\u003c/script\u003e"}
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_UNSAFE)


def _packed(pack: list[Any]) -> str:
    return base64.b64encode(zlib.compress(script_json(pack).encode("ascii"), 6)).decode("ascii")


def _risks(solution: Mapping[str, Any], models: Sequence[str]) -> list[list[float | None] | None]:
    """Risks of all models in the order of the models, None for a model that did not score this solution."""
    n_steps, by_model = len(solution["steps"]), solution["risks"]
    unknown = (by_model.keys() | solution["predicted"].keys()) - set(models)
    if unknown:
        raise ValueError(
            f"solution {solution['id']!r} names the models {sorted(unknown)}, but result['models'] has {models}"
        )
    ratings = solution["ratings"]
    if ratings and len(ratings) != n_steps:
        raise ValueError(
            f"solution {solution['id']!r} has {n_steps} steps, but {len(ratings)} ratings: one per step, or none"
        )
    risks: list[list[float | None] | None] = []
    for name in models:
        if name not in by_model:
            risks.append(None)
            continue
        if len(by_model[name]) != n_steps:
            raise ValueError(
                f"solution {solution['id']!r} has {n_steps} steps, but {len(by_model[name])} risks by {name!r}"
            )
        risks.append([None if risk is None else _risk(float(risk), solution, name) for risk in by_model[name]])
    return risks


def _risk(risk: float, solution: Mapping[str, Any], name: str) -> float:
    if not 0 <= risk <= 1:  # catches NaN too
        said = "NaN (say None for a step without a risk)" if math.isnan(risk) else f"{risk}"
        raise ValueError(f"risks must lie in [0, 1], found {said} by {name!r} in solution {solution['id']!r}")
    return round(risk, 4)


def _place(index: int | None, solution: Mapping[str, Any], name: str) -> int | None:
    if index is None:
        return None
    if not -1 <= index < len(solution["steps"]):
        raise ValueError(
            f"first error {index} ({name}) of solution {solution['id']!r} is none of its {len(solution['steps'])} "
            "steps, counted from 0; -1 says that there is no error"
        )
    return int(index)


_ANSWER_CORRECT = ("final_answer_correct", "answer_correct", "is_correct")


def browsed_solutions(
    contexts: Sequence[Context], sampled_in: Callable[[Context], Mapping[int, dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Yield one record per solution: the labels, and the risks and the predicted first error of each model.

    The threshold is the one of the tables of first errors, or 0.5 if there is none. ``sampled_in`` returns what is said
    of the candidates of a benchmark, by row.
    """
    for context in contexts:
        benchmark = context.benchmark
        models = [system for system in context.systems if not system.baseline]
        risks = {one.name: benchmark.rows(one.scores.risks).split() for one in models}
        predicted = {}
        for one in models:
            chosen = thresholds(benchmark, one, choose_by_first_error, context.threshold_data, context.random_state)
            limit = one.scores.half if chosen is None else chosen.by_solution
            predicted[one.name] = first_errors_at(benchmark, one, limit)
        labels = benchmark.labels.split()
        sampled = sampled_in(context)
        for i, solution in enumerate(benchmark.solutions):
            meta = solution.meta or {}
            correct = next((meta[key] for key in _ANSWER_CORRECT if isinstance(meta.get(key), bool)), None)
            if benchmark.candidates is not None:
                correct = bool(benchmark.candidates.correct[i])
            error_type = meta.get("error_type")
            yield {
                "benchmark": benchmark.name,
                "id": solution.id or str(i),
                "problem": solution.problem,
                "steps": list(solution.steps),
                "risks": {name: [rounded(float(risk)) for risk in of[i]] for name, of in risks.items()},
                "gold": benchmark.first_errors[i],
                "ratings": [None if np.isnan(label) else int(label) for label in labels[i]],
                "predicted": {name: int(of[i]) for name, of in predicted.items()},
                "error_type": None if error_type is None else str(error_type),
                "answer_correct": correct,
                "sampled": sampled.get(i),
            }
