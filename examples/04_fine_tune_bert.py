"""
Fine-tune a BERT
================

``TokenPRM`` fine-tunes the MiniLM BERT as a step classifier. Attention is block-causal: a token sees the problem
and the steps up to its own. So one pass scores all steps of a solution, and none sees a later step.

On PRM800K: ``python 04_fine_tune_bert.py FILE``. Without a file, the script uses word problems in which only a
wrong operation is an error. A small model learns to see that in seconds. It would not learn to check sums.
"""

import sys

import numpy as np

from prmkit import PRMClassifier, load_prm800k
from prmkit.data import make_arithmetic_solutions, split_by_problem
from prmkit.metrics import step_report
from prmkit.models import TokenPRM

if len(sys.argv) > 1:
    data = load_prm800k(sys.argv[1])
    head = TokenPRM(num_train_epochs=2, max_prompt_length=200, too_long="nan")
else:
    data = make_arithmetic_solutions(80, 2, error_rate=0.8, random_state=0)
    data = data[np.array([step.solution.meta["error"] in (None, "operation") for step in data.X])]
    head = TokenPRM(model_kwargs={"num_hidden_layers": 2}, num_train_epochs=4, learning_rate=1e-3, tokens_per_batch=512)
print(repr(data))

# %%
# A quarter of the problems stays out of training.

train, test = split_by_problem(data, 0.75, 0.25, random_state=0)
classifier = PRMClassifier("tokens", head, random_state=0).fit(train.X, train.y)
print(f"{len(classifier.head_.loss_curve_)} updates")

# %%
# The report compares the model with two baselines: the majority class, and a model that knows only the position of
# a step.

proba = classifier.predict_proba(test.X)
report = step_report(
    test.y, proba, classes=classifier.classes_, steps=test.X, reference=(train.X, train.y), n_resamples=200
)
print(report)

# %%
# A solution with a wrong step.

wrong = next(step.solution for step, rating in zip(test.X, test.y, strict=True) if rating == -1)
print(classifier.score_solutions([wrong])[0])
