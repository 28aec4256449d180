"""Training problems, label order and worst class are found through every wrapper."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from prmkit import PRMClassifier, StratifiedProblemKFold, score_solutions
from prmkit.data import make_arithmetic_solutions
from prmkit.data.problem_keys import distinct_problem_keys
from prmkit.features import StepStatistics
from prmkit.fitted import label_order, training_problems, worst_column
from prmkit.uncertainty import CalibratedStepClassifier, PrefixCertifier, StepEnsemble, path_uncertainty

DATA = make_arithmetic_solutions(30, 2, error_rate=0.5, random_state=0)
OTHER = make_arithmetic_solutions(40, 2, error_rate=0.5, random_state=1)
FOLDS = StratifiedProblemKFold(3)
HEAD = LogisticRegression(max_iter=300)


def classifier(order=("bad", "good")):
    return PRMClassifier(StepStatistics(), HEAD, label_order=None if order is None else list(order))


WRAPPERS = {
    "grid search": lambda clf: GridSearchCV(clf, {"head__C": [0.1, 1.0]}, cv=FOLDS),
    "random search": lambda clf: RandomizedSearchCV(clf, {"head__C": [0.1, 1.0]}, n_iter=2, cv=FOLDS, random_state=0),
    "pipeline": lambda clf: Pipeline([("same", FunctionTransformer()), ("clf", clf)]),
    "calibration": lambda clf: CalibratedClassifierCV(clf, cv=FOLDS),
    "voting": lambda clf: VotingClassifier([("a", clf), ("b", clf)], voting="soft"),
    "stacking": lambda clf: StackingClassifier([("a", clf), ("b", clf)], cv=FOLDS),
    "threshold": lambda clf: TunedThresholdClassifierCV(clf, cv=FOLDS),
    "search around calibration": lambda clf: GridSearchCV(
        CalibratedClassifierCV(clf, cv=FOLDS), {"estimator__head__C": [0.1, 1.0]}, cv=FOLDS
    ),
    "voting of searches": lambda clf: VotingClassifier(
        [("a", GridSearchCV(clf, {"head__C": [1.0]}, cv=FOLDS))], voting="soft"
    ),
    "our calibration": lambda clf: CalibratedStepClassifier(clf),
    "our ensemble": lambda clf: StepEnsemble(clf, 2, random_state=0),
    "our ensemble of pipelines": lambda clf: StepEnsemble(make_pipeline(FunctionTransformer(), clf), 2, random_state=0),
}


def own_labels(y, bad="bad", good="good"):
    return np.where(y < 0, bad, good)


@pytest.fixture(scope="module", params=WRAPPERS)
def wrapped(request):
    return WRAPPERS[request.param](classifier()).fit(DATA.X, own_labels(DATA.y))


class TestLabelOrder:
    def test_survives_every_wrapper(self, wrapped):
        assert label_order(wrapped) == ("bad", "good")
        assert wrapped.classes_[worst_column(wrapped)] == "bad"

    def test_everything_that_scores_solutions_works_behind_a_wrapper(self, wrapped):
        scored = score_solutions(wrapped, OTHER.solutions)
        risks = np.concatenate([one.risks for one in scored])
        wrong = OTHER.y < 0
        assert risks[wrong].mean() > risks[~wrong].mean() + 0.1
        assert path_uncertainty(wrapped, OTHER.solutions[:2])[0].scored.label_order == ("bad", "good")
        certifier = PrefixCertifier(wrapped, alpha=0.4).fit(OTHER.solutions, OTHER.first_errors)
        assert certifier.n_calibration_ == 40

    @pytest.mark.parametrize("name", ["voting", "stacking", "grid search", "calibration"])
    def test_polarity_is_not_the_alphabet(self, name):
        """ "correct" comes before "wrong" in the alphabet, and is the better of the two."""
        clf = WRAPPERS[name](classifier(["wrong", "correct"])).fit(DATA.X, own_labels(DATA.y, "wrong", "correct"))
        assert label_order(clf) == ("wrong", "correct")
        risks = np.concatenate([one.risks for one in score_solutions(clf, OTHER.solutions)])
        assert risks[OTHER.y < 0].mean() > risks[OTHER.y >= 0].mean() + 0.1

    def test_numbers_that_voting_gives_to_labels_are_no_order(self):
        """Inside, the labels "correct" and "wrong" are 0 and 1, and 0 looks like the worse."""
        voting = WRAPPERS["voting"](classifier(None)).fit(DATA.X, own_labels(DATA.y, "wrong", "correct"))
        with pytest.raises(ValueError, match=r"nothing tells the order .* VotingClassifier .* label_order="):
            score_solutions(voting, OTHER.solutions)
        scored = score_solutions(voting, OTHER.solutions, label_order=["wrong", "correct"])
        assert scored[0].label_order == ("wrong", "correct")

    def test_frozen_classifiers_vote_in_their_own_labels(self):
        clf = classifier(["wrong", "correct"]).fit(DATA.X, own_labels(DATA.y, "wrong", "correct"))
        voting = VotingClassifier([("a", FrozenEstimator(clf))], voting="soft")
        voting.fit(DATA.X, own_labels(DATA.y, "wrong", "correct"))
        assert label_order(voting) == ("wrong", "correct")

    def test_different_orders_inside_are_an_error(self):
        y = own_labels(DATA.y)
        one, other = (classifier(order).fit(DATA.X, y) for order in (["bad", "good"], ["good", "bad"]))
        voting = VotingClassifier([("a", FrozenEstimator(one)), ("b", FrozenEstimator(other))], voting="soft")
        voting.fit(DATA.X, y)
        with pytest.raises(ValueError, match="inside VotingClassifier have different orders"):
            score_solutions(voting, OTHER.solutions)
        assert score_solutions(voting, OTHER.solutions[:1], ["bad", "good"])[0].label_order == ("bad", "good")

    def test_an_unknown_wrapper_asks_for_the_order(self):
        class Wrapper(ClassifierMixin, BaseEstimator):
            def __init__(self, hidden):
                self.hidden = hidden

            def fit(self, X, y):
                self._hidden = self.hidden.fit(X, y)
                self.classes_ = self._hidden.classes_
                return self

            def predict_proba(self, X):
                return self._hidden.predict_proba(X)

        clf = Wrapper(classifier()).fit(DATA.X, own_labels(DATA.y))
        with pytest.raises(ValueError, match=r"\['bad', 'good'\] of Wrapper .* pass label_order="):
            score_solutions(clf, OTHER.solutions)
        with pytest.raises(ValueError, match="pass label_order="):
            PrefixCertifier(clf).fit(OTHER.solutions, OTHER.first_errors)
        assert len(path_uncertainty(clf, OTHER.solutions[:2], ["bad", "good"])) == 2

    def test_an_order_can_be_given_to_the_method(self):
        clf = classifier(None).fit(DATA.X, own_labels(DATA.y))
        with pytest.raises(ValueError, match="label_order="):
            clf.score_solutions(OTHER.solutions)
        assert clf.score_solutions(OTHER.solutions[:1], ["bad", "good"])[0].label_order == ("bad", "good")

    def test_well_known_labels_need_no_order(self):
        clf = WRAPPERS["voting"](classifier(None)).fit(DATA.X, DATA.y)
        assert label_order(clf) == (-1, 0, 1)

    def test_bagging_of_numbers(self):
        X = StepStatistics().fit_transform(DATA.X)
        inner = PRMClassifier("precomputed", HEAD, label_order=["wrong", "correct"])
        bagging = BaggingClassifier(inner, 2, random_state=0).fit(X, own_labels(DATA.y, "wrong", "correct"))
        assert label_order(bagging) == ("wrong", "correct")


class TestTrainingProblems:
    def test_survive_every_wrapper(self, wrapped):
        np.testing.assert_array_equal(training_problems(wrapped), distinct_problem_keys(DATA.X))

    def test_of_a_classifier_that_remembers_nothing(self):
        assert training_problems(make_pipeline(StepStatistics(), HEAD).fit(DATA.X, DATA.y)) is None
        assert training_problems(None) is None

    @pytest.mark.slow
    def test_evaluate_refuses_them_behind_a_search(self):
        """A search around the classifier once got flattering tables without a word."""
        from prmkit.evaluation import Benchmark, evaluate

        plain = classifier(None).fit(DATA.X, DATA.y)
        search = WRAPPERS["grid search"](classifier(None)).fit(DATA.X, DATA.y)
        for clf in (plain, search):
            with pytest.raises(ValueError, match="trained on"):
                evaluate(clf, [Benchmark.from_dataset("same", DATA)], show_progress=False)
        done = evaluate(search, [Benchmark.from_dataset("new", OTHER)], show_progress=False)
        assert done is not None
