"""The sampled solutions of bench_samples.py, and what may tell which of them are wrong. Every score here is a risk."""

from __future__ import annotations

import gzip
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from _common import data_folder, load_steps_table

from prmkit import PRMClassifier, Solution, Step, flatten, score_solutions
from prmkit.data import Candidates, load_candidates, load_samples
from prmkit.data.contradictions import ANSWERS, CUT
from prmkit.data.problem_keys import problem_keys
from prmkit.features import AgreementFeatures, PRMFeaturizer
from prmkit.metrics import aggregate
from prmkit.models import PathClassifier
from prmkit.uncertainty import sample_uncertainty

AGREEMENT = "disagreement"
PUBLISHED = {"qwen_prm": "Qwen2.5-Math-PRM-7B", "skywork_prm": "Skywork-PRM", "math_shepherd": "Math-Shepherd"}
RULES = ("min", "mean", "last")
OWN = "default step classifier"
CHOICE = re.compile(r"hoices?[\s_\\]*\(?([A-J](?:/[A-J])*)\b")


@dataclass(eq=False)
class Sampled:
    """Sampled solutions of one source: which are wrong, and their risks by the name of the score.

    ``rewards`` holds those of the steps by the name of their verifier.
    """

    name: str
    note: str
    candidates: Candidates
    errors: np.ndarray
    rewards: dict[str, list[np.ndarray]] = field(default_factory=dict)
    risks: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def groups(self) -> np.ndarray:
        return self.candidates.groups


def _gsm8k_samples(contradictions: str) -> Candidates:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_samples(
            data_folder() / "gsm8k_samples" / "samples.jsonl.gz",
            id="problem_id",
            steps="steps",
            answer="answer",
            correct="correct",
            reference="reference",
            contradictions=contradictions,
        )


def gsm8k_samples(contradictions: str = "text") -> Sampled:
    """Return 8 samples of one generator per problem, with the scores of three published verifiers."""
    candidates = _gsm8k_samples(contradictions)
    done = {"text": "texts believed", "keep": "as recorded", "drop": "contradictions left out"}[contradictions]
    told, cut = (candidates.counts[what] for what in (ANSWERS, CUT))
    note = f"{told} recorded answers contradict their text, {cut} are cut at a thousands separator; {done}"
    candidates = candidates[candidates.sizes > 1]
    found = Sampled(f"gsm8k_samples, {done}", note, candidates, candidates.correct != 1)
    for file, name in PUBLISHED.items():
        with gzip.open(data_folder() / "gsm8k_samples" / f"{file}_scores.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = map(json.loads, lines)
            scores = {f"{row['problem_id']}/{row['sample']}": np.array(row["step_scores"]) for row in rows}
        found.rewards[name] = [scores[str(solution.id)] for solution in candidates.solutions]
    return found


def gsm8k_solutions() -> Sampled:
    """Return the four candidates of each problem of GSM8K's example solutions."""
    candidates = load_candidates(data_folder() / "gsm8k_solutions" / "example_model_solutions.jsonl")
    note = "one sample each of a 6B and a 175B model, fine-tuned, and of both with a verifier: no exchangeable samples"
    return Sampled("gsm8k_solutions", note, candidates, ~candidates.correct)


def mr_ben(subject: str) -> Sampled:
    """Return the solutions of three models per problem; wrong is what its labellers call incorrect."""
    found = json.loads((data_folder() / "mr_ben" / f"{subject}.json").read_text("utf-8"))
    rows = [
        {
            "problem": f"{one['Question']}\n{one['Options']}",
            "id": key,
            "steps": [step for step in one["Model_Solution_Steps"] if step.strip()],
            "correct": one["Model_Solution_Correctness"],
        }
        for key, of_problem in found.items()
        for one in of_problem
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        candidates = load_samples(rows, id="id", steps="steps", correct="correct", extract=_choice)
    candidates = candidates[candidates.sizes > 1]
    missing = candidates.answer_keys.count(None)
    note = f"three models per problem, multiple choice; {missing} of {len(candidates.answers)} choose no option"
    return Sampled(f"Mr-Ben {subject}", note, candidates, ~candidates.correct)


def _choice(text: str) -> str | None:
    chosen = CHOICE.findall(text.rsplit("\n", 1)[-1])
    return chosen[-1] if chosen else None


def prm800k() -> Sampled:
    """Return the solutions of PRM800K's training sample; wrong is one with a wrong step."""
    solutions, ratings = load_steps_table(["prm800k_train"])
    rows = [
        {"problem": one.problem, "steps": list(one.steps), "correct": -1 not in of_steps}
        for one, of_steps in zip(solutions, ratings, strict=True)
    ]
    keys, n = np.unique(problem_keys(solutions), return_counts=True)
    several = np.isin(problem_keys(solutions), keys[n > 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        candidates = load_samples(
            [row for row, is_one in zip(rows, several, strict=True) if is_one],
            steps="steps",
            correct="correct",
            extract=_boxed,
        )
    candidates = candidates[candidates.sizes > 1]
    missing = candidates.answer_keys.count(None)
    note = (
        f"most labels end at the first wrong step, so {missing} of {len(candidates.answers)} solutions have no answer: "
        "whether there is an answer, and the length, tell what is wrong by construction"
    )
    return Sampled("PRM800K sample", note, candidates, ~candidates.correct)


def _boxed(text: str) -> str | None:
    from prmkit.data import extract_answer

    return extract_answer(text, last_number=False).answer


SETS: dict[str, Callable[[], Sampled]] = {
    "gsm8k_samples": gsm8k_samples,
    "gsm8k_samples_recorded": partial(gsm8k_samples, "keep"),
    "gsm8k_samples_without": partial(gsm8k_samples, "drop"),
    "gsm8k_solutions": gsm8k_solutions,
    "mr_ben_math": partial(mr_ben, "math"),
    "mr_ben_biology": partial(mr_ben, "biology"),
    "mr_ben_chemistry": partial(mr_ben, "chemistry"),
    "prm800k": prm800k,
}


def own_classifier(work: Path | None) -> PRMClassifier:
    """Return the default without embeddings, learnt from PRM800K and ProcessBench without the problems judged here."""
    folder = None if work is None else work / "step-classifier"
    if folder is not None and folder.exists():
        return PRMClassifier.load(folder)
    solutions, ratings = load_steps_table(["prm800k_train", "processbench"])
    judged = [
        s for name in ("gsm8k_samples", "gsm8k_solutions", "mr_ben_math") for s in SETS[name]().candidates.solutions
    ]
    table, _ = load_steps_table(["mr_ben"])
    shared = np.isin(problem_keys(solutions), problem_keys([*judged, *table]))
    known = [
        (Step(solution, t), rating)
        for solution, of_steps, is_shared in zip(solutions, ratings, shared, strict=True)
        for t, rating in enumerate(of_steps)
        if rating is not None and not is_shared
    ]
    classifier = PRMClassifier(views=("statistics", "words"), random_state=0)
    classifier.fit([step for step, _ in known], np.array([rating for _, rating in known]))
    if folder is not None:
        classifier.save(folder)
    return classifier


def own_rewards(classifier: PRMClassifier, solutions: Sequence[Solution]) -> list[np.ndarray]:
    """Return the rewards of the steps by a classifier."""
    return [scored.rewards for scored in score_solutions(classifier, solutions)]


def add_plain_risks(found: Sampled) -> None:
    """Add what needs no learning on right and wrong: agreement, length, verifiers, agreement weighted by them."""
    solutions, risks = found.candidates.solutions, found.risks
    with warnings.catch_warnings():
        # Samples without an answer are told in the note of the set.
        warnings.simplefilter("ignore")
        of_answers = sample_uncertainty(found.candidates).uncertainties()
        weighted = {
            name: sample_uncertainty(found.candidates, aggregate(rewards, "min")).weighted_disagreement
            for name, rewards in found.rewards.items()
        }
    risks |= of_answers
    risks["length, characters"] = np.array([sum(map(len, one.steps)) for one in solutions], dtype=float)
    risks["length, steps"] = np.array([one.n_steps for one in solutions], dtype=float)
    numbers = AgreementFeatures(candidates=solutions)
    rows = numbers.fit_transform(flatten(solutions))[np.cumsum([one.n_steps for one in solutions]) - 1]
    names = numbers.get_feature_names_out().tolist()
    for rule in ("mean", "min"):
        risks[f"disagreement on numbers, {rule}"] = 1 - rows[:, names.index(f"agreement_{rule}_so_far")].astype(float)
    for name, rewards in found.rewards.items():
        for rule in RULES:
            risks[f"{name}, {rule}"] = 1 - aggregate(rewards, rule)
        risks[f"disagreement weighted by {name}, min"] = np.asarray(weighted[name])


def add_learnt_risks(found: Sampled, verifier: str | None, model: PRMFeaturizer | None) -> None:
    """Add P(wrong) of `PathClassifier`, out of fold by problem, with more and more features."""
    right = ~found.errors
    plain = PathClassifier(features=("agreement", "length")).out_of_fold(found.candidates, right)
    found.risks["learnt: length"] = plain["length"]
    found.risks["learnt: agreement, length"] = plain["all"]
    features, candidates = ["agreement", "length"], found.candidates
    if verifier is not None:
        candidates, features = with_scores(found, verifier), [*features, "risks"]
        risks = PathClassifier(features=features).out_of_fold(candidates, right)
        found.risks[f"learnt: {verifier}"] = risks["risks"]
        found.risks[f"learnt: agreement, length, {verifier}"] = risks["all"]
    if model is not None:
        of_states = PathClassifier(features=("agreement", "length", "states"), model=model)
        risks = of_states.out_of_fold(candidates, right)
        found.risks["learnt: states"] = risks["states"]
        found.risks["learnt: agreement, length, states"] = risks["all"]


def with_scores(found: Sampled, verifier: str) -> Candidates:
    """Return the candidates with the rewards of a verifier in ``meta["step_scores"]``."""
    scores = iter(found.rewards[verifier])
    sets = [
        replace(
            one,
            candidates=tuple(
                replace(solution, meta={**(solution.meta or {}), "step_scores": next(scores).tolist()})
                for solution in one.candidates
            ),
        )
        for one in found.candidates
    ]
    return replace(found.candidates, sets=tuple(sets))
