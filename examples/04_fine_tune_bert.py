"""Fine-tune the MiniLM BERT as a step classifier. Offline, under a minute.

On PRM800K: python 04_fine_tune_bert.py FILE. Attention is block-causal: a token sees the problem and the steps up to
its own. So one pass scores all steps of a solution, and none knows what comes after it.
"""

import sys

from prmkit import PRMClassifier, StepDataset, load_prm800k
from prmkit.data import ProblemShuffleSplit, make_arithmetic_solutions
from prmkit.metrics import step_report
from prmkit.models import TokenPRM

if len(sys.argv) > 1:
    data = load_prm800k(sys.argv[1])
    head = TokenPRM(num_train_epochs=2, max_prompt_length=200, too_long="nan")
else:  # solutions in which a wrong operation is chosen: a small model learns to see that in seconds, and no sums
    data = make_arithmetic_solutions(150, 3, error_rate=0.8, random_state=0)
    rows = [i for i, step in enumerate(data.X) if step.solution.meta["error"] in (None, "operation")]
    data = StepDataset([data.X[i] for i in rows], data.y[rows])
    head = TokenPRM(
        model_kwargs={"num_hidden_layers": 2}, num_train_epochs=4, learning_rate=1e-3, tokens_per_batch=512
    )
print(repr(data))

# A quarter of the problems is never seen in training.
split = ProblemShuffleSplit(1, test_size=0.25, random_state=0).split(data.X, data.y)
learn, test = (StepDataset([data.X[i] for i in rows], data.y[rows]) for rows in next(split))

classifier = PRMClassifier("tokens", head, random_state=0).fit(learn.X, learn.y)
print(f"{len(classifier.head_.loss_curve_)} updates")

# Beside it: the majority class, and what the position of a step alone gives away.
proba = classifier.predict_proba(test.X)
print(step_report(test.y, proba, classes=classifier.classes_, steps=test.X, reference=(learn.X, learn.y)))

wrong = next(step.solution for step, rating in zip(test.X, test.y, strict=True) if rating == -1)
print(f"\n{classifier.score_solutions([wrong])[0]}")  # coloured on a terminal, and in a notebook
