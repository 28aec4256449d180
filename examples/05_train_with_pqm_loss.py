"""PRMTrainer with PQM's ranking loss on stepwise rows; then what its rewards are good for. Offline, under a minute.

The rows are TRL's: prompt, completions, labels. The loss (Li and Li 2024) puts the wrong steps of a solution below its
right ones. It fixes an order and nothing else: a reward is no probability until it is calibrated.
"""

import tempfile

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score

from prmkit import PRMClassifier, Solution, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.models import PRMTrainer, PRMTrainingConfig
from prmkit.scoring import score_solutions


def stepwise_rows(n_problems, per_problem, seed):
    """Return rows of solutions, right or with a wrongly chosen operation: a small model learns to see that."""
    data = make_arithmetic_solutions(n_problems, per_problem, error_rate=0.8, random_state=seed)
    ratings = {(step.solution, step.index): rating for step, rating in zip(data.X, data.y, strict=True)}
    return [
        {
            "prompt": solution.problem,
            "completions": list(solution.steps),
            "labels": [bool(ratings[solution, t] >= 0) for t in range(solution.n_steps)],
        }
        for solution in data.solutions
        if solution.meta["error"] in (None, "operation")
    ]


# Three parts that share no problem: to learn from, to calibrate on, to judge by.
rows = stepwise_rows(170, 3, seed=0)
problems = list(dict.fromkeys(row["prompt"] for row in rows))
learn = [row for row in rows if row["prompt"] in set(problems[:-30])]
calibrate = [row for row in rows if row["prompt"] in set(problems[-30:])]
test = [row for row in stepwise_rows(70, 6, seed=1) if row["prompt"] not in problems]

with tempfile.TemporaryDirectory() as folder:
    args = PRMTrainingConfig(
        output_dir=folder,
        loss="rank",
        loss_options={"zeta": 4.0},
        learning_rate=1e-3,
        num_train_epochs=3,
        tokens_per_batch=512,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=50,
    )
    trainer = PRMTrainer(
        "all-MiniLM-L6-v2",
        args,
        train_dataset=learn,
        model_options={"num_hidden_layers": 2},
    )
    trainer.train()
    trainer.save_model()
    model = PRMClassifier.from_pretrained(folder)
    model.predict_proba(flatten([Solution("2 + 3?", ["5"])]))  # read before the folder goes


def steps_of(rows):
    """Return steps and labels as scikit-learn takes them."""
    steps = flatten([Solution(row["prompt"], row["completions"]) for row in rows])
    return steps, np.array([label for row in rows for label in row["labels"]])


X, y = steps_of(test)
rewards = model.head_.reward(X)
print(f"rewards run from {rewards.min():.1f} to {rewards.max():.1f}; AUROC {roc_auc_score(y, rewards):.3f}")

# The sigmoid of a reward is a number in [0, 1], and no probability. A logistic regression on problems that the model
# did not learn makes one of it; the order, and so the AUROC, stays.
calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(*steps_of(calibrate))
for name, judge in (("sigmoid of the reward", model), ("calibrated", calibrated)):
    proba = judge.predict_proba(X)[:, 1]
    print(
        f"{name}: mean {proba.mean():.3f} where {y.mean():.3f} are right, log-loss {log_loss(y, proba):.3f}"
    )

# To choose among solutions of one problem the order is enough: the one whose worst step is best.
solutions = [Solution(row["prompt"], row["completions"]) for row in test]
right = np.array([all(row["labels"]) for row in test])
starts = np.cumsum([0, *(solution.n_steps for solution in solutions[:-1])])
worst_step = np.minimum.reduceat(rewards, starts)
chosen, chance = [], []
for problem in {solution.problem for solution in solutions}:
    places = np.array([i for i, solution in enumerate(solutions) if solution.problem == problem])
    if 0 < right[places].sum() < len(places):
        chosen.append(right[places[worst_step[places].argmax()]])
        chance.append(right[places].mean())
print(
    f"of {len(chosen)} problems with right and wrong solutions: {np.mean(chosen):.2f} right by the worst step,"
)
print(f"{np.mean(chance):.2f} by chance")

# To say how sure a path is, it takes probabilities.
print(score_solutions(calibrated, [solutions[int(np.flatnonzero(~right)[0])]])[0])
