"""
Train with PQM's ranking loss
=============================

``PRMTrainer`` learns from a ``StepDataset``, or from TRL's rows with ``prompt``, ``completions`` and ``labels``.
PQM's loss (Li and Li 2024) puts the wrong steps of a solution below its right ones. It fixes an order and nothing
else. So a reward is no probability until it is calibrated.
"""

import tempfile

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score

from prmkit import PRMClassifier
from prmkit.data import StepDataset, make_arithmetic_solutions, split_by_problem
from prmkit.models import PRMTrainer, PRMTrainingConfig
from prmkit.scoring import score_solutions

# %%
# Word problems in which only a wrong operation is an error. Three parts share no problem: one to learn from, one to
# calibrate on, one to test on.

data = make_arithmetic_solutions(150, 4, error_rate=0.8, random_state=0)
kept = data[np.array([step.solution.meta["error"] in (None, "operation") for step in data.X])]
binary = StepDataset(kept.X, kept.y >= 0)
train, calibration, test = split_by_problem(binary, 0.4, 0.15, 0.45, random_state=0)

# %%
# The first two layers of MiniLM, three epochs.

with tempfile.TemporaryDirectory() as folder:
    args = PRMTrainingConfig(
        output_dir=folder,
        loss="rank",
        loss_options={"zeta": 4.0},
        model_kwargs={"num_hidden_layers": 2},
        learning_rate=1e-3,
        num_train_epochs=3,
        tokens_per_batch=512,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=50,
    )
    trainer = PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=train)
    trainer.train()
    trainer.save_model()
    model = PRMClassifier.from_pretrained(folder)
    rewards = model.head_.reward(test.X)

print(f"rewards from {rewards.min():.1f} to {rewards.max():.1f}, AUROC {roc_auc_score(test.y, rewards):.3f}")

# %%
# The sigmoid of a reward is a number in [0, 1], but no probability. A logistic regression on problems that the
# model did not learn makes a probability of it. The order stays, and so does the AUROC.

calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(calibration.X, calibration.y)
for name, classifier in (("sigmoid of the reward", model), ("calibrated", calibrated)):
    proba = classifier.predict_proba(test.X)[:, 1]
    print(
        f"{name}: mean {proba.mean():.3f}, share of right steps {test.y.mean():.3f}, "
        f"log-loss {log_loss(test.y, proba):.3f}"
    )

# %%
# The order is enough to choose among the solutions of one problem. Here the solution whose worst step is best is
# chosen.

wrong = {step.solution for step, right in zip(test.X, test.y, strict=True) if not right}
scored = score_solutions(model, test.solutions)
chosen, chance = [], []
for problem in {solution.problem for solution in test.solutions}:
    candidates = [one for one in scored if one.solution.problem == problem]
    right = [one.solution not in wrong for one in candidates]
    if 0 < sum(right) < len(right):
        chosen.append(right[int(np.argmax([one.aggregates["min"] for one in candidates]))])
        chance.append(np.mean(right))
print(f"{len(chosen)} problems with right and wrong solutions: share of right choices {np.mean(chosen):.2f},")
print(f"by chance {np.mean(chance):.2f}")

# %%
# Only a calibrated model says how sure it is of a whole solution.

print(score_solutions(calibrated, [next(iter(sorted(wrong, key=lambda solution: solution.problem)))])[0])
