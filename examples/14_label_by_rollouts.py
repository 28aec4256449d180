"""
Label steps by rollouts, and train on them: no person labels anything
=====================================================================

A step is worth what its completions reach. :func:`~prmkit.decoding.label_by_rollouts` samples solutions, completes them
from each of their steps, and asks a verifier of final answers which completions are right. We do this with an offline
toy generator whose steps are known to be right or wrong, train a :class:`~prmkit.PRMClassifier` on the labels, and
compare it on new problems with one that learnt from the true labels.

With a real model, put ``TransformersGenerator("Qwen/Qwen2.5-Math-1.5B-Instruct")`` or an ``OpenAIGenerator`` in place
of the toy, or type ``prmkit label --help``.
"""

import random

import numpy as np
from sklearn.metrics import roc_auc_score

from prmkit import PRMClassifier, flatten
from prmkit.decoding import AnswerVerifier, CallableGenerator, label_by_rollouts

# %%
# The toy adds up prices, one line per step. Each line is wrong now and then. A sum that is carried on from a wrong one
# is wrong too, although its own addition is right.


def problem_of(rng):
    """Draw a problem and its answer."""
    prices = [rng.randint(3, 40) for _ in range(rng.randint(3, 5))]
    return {"problem": f"Add up: {', '.join(map(str, prices))}.", "answer": sum(prices)}


def number_at_the_end(line):
    """Return the last number of a line."""
    return int(line.split()[-1].strip("."))


def add_up(problem, steps, n, seed):
    """Continue a solution n times."""
    prices = [int(word) for word in problem.removeprefix("Add up: ").strip(".").split(", ")]
    texts = []
    for k in range(n):
        rng, lines = random.Random(1000 * seed + k), list(steps)
        total = number_at_the_end(lines[-1]) if lines else prices[0]
        for price in prices[1 + len(lines) :]:
            slip = 0 if rng.random() < 0.8 else rng.choice([-1, 1]) * rng.randint(1, 12)
            lines.append(f"{total} + {price} = {total + price + slip}.")
            total += price + slip
        if not lines or not lines[-1].startswith("The answer"):
            lines.append(f"The answer is {total}.")
        texts.append(("\n\n".join(lines[len(steps) :]), "eos"))
    return texts


def is_right(step):
    """Tell the truth of a step: the sum so far is that of the prices so far."""
    prices = [int(word) for word in step.problem.removeprefix("Add up: ").strip(".").split(", ")]
    return number_at_the_end(step.text) == sum(prices[: step.index + 2])


# %%
# Label the solutions of 60 problems. With ``log="rollouts.jsonl"`` the work goes on after a kill: run the script again.

rng = random.Random(0)
generator = CallableGenerator(add_up)
labelled = label_by_rollouts(
    generator,
    AnswerVerifier(how="numeric"),
    [problem_of(rng) for _ in range(60)],
    n_solutions=6,
    n_completions=16,
    random_state=0,
)
print(labelled.description)
true = np.array([1 if is_right(step) else -1 for step in labelled.X])
print(f"{np.mean(labelled.y == true):.1%} of {len(true)} labels are those of the truth")

# %%
# Train on them. The weights say how far a label can be trusted. For comparison, one classifier learns from the true
# labels, and one from the outcome alone: each step of a solution with a right answer is called right.

X, y = labelled
by_outcome = np.array([1 if step.solution.meta["is_right"] else -1 for step in X])
classifiers = {
    "rollouts": PRMClassifier(views=("statistics", "words"), random_state=0).fit(
        X, y, sample_weight=labelled.rows["sample_weight"]
    ),
    "true labels": PRMClassifier(views=("statistics", "words"), random_state=0).fit(X, true),
    "outcomes": PRMClassifier(views=("statistics", "words"), random_state=0).fit(X, by_outcome),
}

# %%
# New problems, new solutions, and the truth about each of their steps. The number of a step in its solution is the
# baseline: later steps are wrong more often.

sampled = label_by_rollouts(
    generator, AnswerVerifier(how="numeric"), [problem_of(rng) for _ in range(60)], 6, 1, random_state=1
)
steps = flatten(sampled.solutions)
wrong = [not is_right(step) for step in steps]
print(f"{len(wrong)} steps, {np.mean(wrong):.0%} of them wrong")
print(f"{'learnt from':12}  AUROC  accuracy")
print(f"{'position':12}  {roc_auc_score(wrong, [step.index for step in steps]):.3f}")
for name, classifier in classifiers.items():
    risk = classifier.predict_proba(steps)[:, 0]
    accuracy = np.mean((classifier.predict(steps) == -1) == wrong)
    print(f"{name:12}  {roc_auc_score(wrong, risk):.3f}  {accuracy:.3f}")
