"""Train a step classifier, cross-validate it by problem, and score a reasoning path. Offline, a few seconds."""

from sklearn.model_selection import cross_val_score

from prmkit import PRMClassifier, Solution, StratifiedProblemKFold
from prmkit.data import make_arithmetic_solutions

data = make_arithmetic_solutions(80, 3, random_state=0)
print(data.description)

# Folds by problem: a plain cv=5 would put steps of one problem on both sides.
scores = cross_val_score(
    PRMClassifier(random_state=0), data.X, data.y, cv=StratifiedProblemKFold(3), scoring="roc_auc_ovr"
)
print("AUROC, one class against the others, per fold:", scores.round(3))

classifier = PRMClassifier(random_state=0).fit(data.X, data.y)
solution = Solution(
    "A hat costs 20 dollars. What do 7 hats cost?",
    [
        "We multiply the price of one hat by the number of hats.",
        "20 * 7 = 150.",
        "The hats cost 150 dollars.",
    ],
)
scored = classifier.score_solutions([solution])[0]
print(scored)  # coloured on a terminal, and in a notebook
print("P(no error):", round(scored.p_no_error, 3), " rewards:", scored.rewards.round(2))
