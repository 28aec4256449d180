"""
Train a step classifier
=======================

This example cross-validates a classifier by problem, fits it, and scores a new solution.
"""

import matplotlib.pyplot as plt
from sklearn.model_selection import cross_val_score

from prmkit import PRMClassifier, Solution, StratifiedProblemKFold
from prmkit.data import make_arithmetic_solutions
from prmkit.scoring import PathDisplay

data = make_arithmetic_solutions(60, 2, random_state=0)
print(data.description)

# %%
# Folds are made by problem. A plain ``cv=5`` would put steps of one problem on both sides.

scores = cross_val_score(
    PRMClassifier(random_state=0), data.X, data.y, cv=StratifiedProblemKFold(3), scoring="roc_auc_ovr"
)
print("AUROC, one class against the others, per fold:", scores.round(3))

# %%
# The fitted classifier scores every step of a solution in one pass.

classifier = PRMClassifier(random_state=0).fit(data.X, data.y)
solution = Solution(
    "A hat costs 20 dollars. What do 7 hats cost?",
    ["We multiply the price of one hat by the number of hats.", "20 * 7 = 150.", "The hats cost 150 dollars."],
)
scored = classifier.score_solutions([solution])[0]
print(scored)
print("P(no error):", round(scored.p_no_error, 3), " rewards:", scored.rewards.round(2))

# %%
# The same solution as a picture: the risk of each step, the place of the first error, and the entropy.

PathDisplay.from_scored(scored)
plt.show()
