"""
Use scikit-learn's tools
========================

Pipelines, grid search and calibration work on steps as they do on any ``X``.
"""

from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from prmkit import PRMClassifier, PRMFeaturizer, StratifiedProblemKFold
from prmkit.data import make_arithmetic_solutions, split_by_problem
from prmkit.features import StepStatistics
from prmkit.models import StepTransformer
from prmkit.scoring import score_solutions

data = make_arithmetic_solutions(60, 2, random_state=0)
train, test = split_by_problem(data, 0.75, 0.25, random_state=0)

# %%
# A pipeline takes features of your choice, side by side, and any classifier.

pipe = make_pipeline(make_union(PRMFeaturizer(), StepStatistics()), StandardScaler(), LogisticRegression(C=0.01))
pipe.fit(train.X, train.y)
print("pipeline, log-loss:", round(log_loss(test.y, pipe.predict_proba(test.X)), 3))

# %%
# A grid search asks two questions: which context should a row of embeddings hold, and how strong should the penalty
# be? Each text is encoded once in all.

grid = GridSearchCV(
    PRMClassifier(PRMFeaturizer(), LogisticRegression(max_iter=1000)),
    {"featurizer__context": ["none", "prefix"], "head__C": [0.1, 1.0]},
    cv=StratifiedProblemKFold(3),
    scoring="neg_log_loss",
).fit(train.X, train.y)
print("grid search:", grid.best_params_)

# %%
# A transformer attends over the steps. It is causal: one pass scores all steps of a solution, and none looks ahead.

transformer = PRMClassifier(head=StepTransformer(hidden_size=64, max_epochs=10), random_state=0)
transformer.fit(train.X, train.y)
print("transformer, log-loss:", round(log_loss(test.y, transformer.predict_proba(test.X)), 3))

# %%
# A calibrated classifier still scores whole solutions.

statistics = PRMClassifier(StepStatistics(), random_state=0)
calibrated = CalibratedClassifierCV(statistics, method="sigmoid", cv=StratifiedProblemKFold(3))
calibrated.fit(train.X, train.y)
print("calibrated:", score_solutions(calibrated, test.solutions[:1])[0].risks.round(3))
