"""Pipelines, grid search and calibration work on steps as they do on any X. Offline, under a minute."""

from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from prmkit import PRMClassifier, PRMFeaturizer, StratifiedProblemKFold
from prmkit.data import ProblemShuffleSplit, make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.models import StepTransformer
from prmkit.scoring import score_solutions

data = make_arithmetic_solutions(80, 3, random_state=0)
learn, test = next(ProblemShuffleSplit(1, test_size=0.25, random_state=0).split(data.X, data.y))
X, y = data[learn]
X_test, y_test = data[test]

# Features of your choice, side by side, and any classifier.
pipe = make_pipeline(
    make_union(PRMFeaturizer(), StepStatistics()), StandardScaler(), LogisticRegression(C=0.01)
)
print("pipeline, log-loss:", round(log_loss(y_test, pipe.fit(X, y).predict_proba(X_test)), 3))

# What a row of embeddings should hold, and how strong the penalty should be; each text is encoded once in all.
grid = GridSearchCV(
    PRMClassifier(PRMFeaturizer(), LogisticRegression(max_iter=1000)),
    {"featurizer__context": ["none", "problem", "prefix"], "head__C": [0.1, 1.0]},
    cv=StratifiedProblemKFold(3),
    scoring="neg_log_loss",
    n_jobs=2,
).fit(X, y)
print("grid search:", grid.best_params_)

# A transformer over the steps, causal: one pass scores all steps of a solution.
transformer = PRMClassifier(head=StepTransformer(hidden_size=64), random_state=0).fit(X, y)
print("transformer, log-loss:", round(log_loss(y_test, transformer.predict_proba(X_test)), 3))

# Calibrated by problem, and still a judge of whole solutions.
statistics = PRMClassifier(StepStatistics(), random_state=0)
calibrated = CalibratedClassifierCV(statistics, method="sigmoid", cv=StratifiedProblemKFold(3)).fit(X, y)
print("calibrated:", score_solutions(calibrated, data.solutions[:1])[0].risks.round(3))
