"""The guarantees hold for every estimator of the registry, and the checks catch those that break them."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from prmkit import PRMClassifier, PRMFeaturizer, StratifiedProblemKFold, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.models import StepMLP, StepProbe
from prmkit.uncertainty import CalibratedStepClassifier
from prmkit.utils import estimator_checks, path_checks
from prmkit.utils._registry import REGISTRY
from prmkit.utils._tiny_model import tiny_language_model
from prmkit.utils.label_checks import check_label_polarity

LOGISTIC = PRMClassifier(StepStatistics(), LogisticRegression())
CHECKS = [
    estimator_checks.check_no_lookahead,
    estimator_checks.check_step_subset_invariance,
    estimator_checks.check_step_order_invariance,
    estimator_checks.check_one_pass_per_solution,
]
CASES = [
    pytest.param((entry, params), id=f"{entry.name}-{number}")
    for entry in REGISTRY
    for number, params in enumerate(entry.steps)
]

PATH_CASES = [
    pytest.param(entry, params, id=f"{entry.name}-{number}")
    for entry in REGISTRY
    for number, params in enumerate(entry.paths)
]


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(12, 2, error_rate=0.5, neutral_rate=0.3, random_state=0)


@pytest.fixture(scope="module", params=CASES)
def fitted(request, data):
    """An estimator that the checks fit once and not each anew."""
    entry, params = request.param
    return FrozenEstimator(entry.make(params).fit(data.X, data.y))


@pytest.mark.filterwarnings("ignore:Solution.meta")  # this data has no log-probabilities; their own tests have some
@pytest.mark.filterwarnings("ignore:candidates holds no other")  # nor does it know the solution of the last check
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_guarantees(fitted, check, data):
    check(fitted, data.X, data.y)


@pytest.mark.parametrize("params", [{"pooling": "mean_last", "log_probs": True}, {"pooling": "tokens"}], ids=str)
def test_scores_over_states_in_float32_keep_the_tolerance_of_float32(params, data):
    """The states are rounded to float16, which moves the scores by less than the tolerance."""
    states = PRMFeaturizer("states", tiny_language_model(), dtype="float32", cache=False, **params)
    head = StepProbe(hidden_size=16, n_seeds=2, max_epochs=2, random_state=0) if params["pooling"] == "tokens" else None
    fitted = FrozenEstimator(PRMClassifier(states, head, random_state=0).fit(data.X, data.y))
    for check in CHECKS[:3]:
        check(fitted, data.X, data.y, atol=estimator_checks.TOLERANCE)


@pytest.mark.filterwarnings("ignore:.*not attainable")
@pytest.mark.parametrize("check", [path_checks.check_path_invariance, path_checks.check_same_problem_refused])
@pytest.mark.parametrize(("entry", "params"), PATH_CASES)
def test_guarantees_of_path_estimators(entry, params, check):
    check(entry.make(params))


def test_every_estimator_is_registered():
    """An estimator that prmkit exports without standing in the registry would escape the checks."""
    import prmkit.features
    import prmkit.models
    import prmkit.uncertainty

    rooms = (prmkit.features, prmkit.models, prmkit.uncertainty)
    exported = [PRMClassifier, *(getattr(room, name) for room in rooms for name in room.__all__)]
    estimators = {cls.__name__ for cls in exported if isinstance(cls, type) and issubclass(cls, BaseEstimator)}
    assert estimators == {name for name, _ in estimator_checks.registered_estimators()}


class _Reads(ClassifierMixin, BaseEstimator):
    """A classifier of one feature of a step, given by a subclass."""

    def fit(self, X, y):
        self.model_ = LogisticRegression().fit(self.features(X), y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(self.features(X))


class LooksAhead(_Reads):
    def features(self, X):
        return np.array([[len(step.solution.steps)] for step in X])


class SeesTheBatch(_Reads):
    def features(self, X):
        lengths = np.array([[len(step.text)] for step in X], dtype=float)
        return lengths - lengths.mean()


class SeesTheOrder(_Reads):
    def features(self, X):
        return np.arange(len(X))[:, None] % 7 + 0.0


class PassPerStep(_Reads):
    """Encodes problem and prefix anew for each step, as loops over ``pipeline`` do."""

    def features(self, X):
        texts = ["\n".join([step.problem, *step.prefix, step.text]) for step in X]
        return np.vstack([PRMFeaturizer(cache=False, dtype="float32")(text) for text in texts])


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (LooksAhead, estimator_checks.check_no_lookahead, "looks ahead"),
        (SeesTheBatch, estimator_checks.check_step_subset_invariance, "alone"),
        (SeesTheOrder, estimator_checks.check_step_order_invariance, "shuffled"),
        pytest.param(
            PassPerStep,
            estimator_checks.check_one_pass_per_solution,
            "one pass costs about twice",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_checks_catch_what_they_are_for(broken, check, words, data):
    with pytest.raises(AssertionError, match=words):
        check(broken(), data.X[:20], data.y[:20])


def test_small_look_ahead_is_caught_where_no_encoder_rounds(data):
    """The tolerance for half precision is for encoders in half precision alone."""

    class Slightly(_Reads):
        def features(self, X):
            return np.array([[step.index + 1e-2 * step.solution.n_steps] for step in X])

    with pytest.raises(AssertionError, match="looks ahead"):
        estimator_checks.check_no_lookahead(Slightly(), data.X, data.y)


def test_look_ahead_through_other_attributes_of_the_solution_is_caught():
    """Position from the end, the classic leak of PRM800K."""

    class FromTheEnd(_Reads):
        def features(self, X):
            return np.array([[step.solution.n_steps - step.index] for step in X])

    data = make_arithmetic_solutions(6, 2, random_state=1)
    y = np.array([1 if step.index == step.solution.n_steps - 1 else 0 for step in flatten(data.solutions)])
    with pytest.raises(AssertionError, match="looks ahead"):
        estimator_checks.check_no_lookahead(FromTheEnd(), flatten(data.solutions), y)


class JudgesByRank(BaseEstimator):
    """Keeps the first half of the paths it is given, in the order of their risks: no path is judged alone."""

    def fit(self, X, first_errors, groups=None):
        return self

    def predict(self, X, groups=None):
        return np.argsort(np.argsort([max(path) for path in X])) < len(X) / 2


def test_paths_judged_by_their_company_are_caught():
    with pytest.raises(AssertionError, match="when it stands alone"):
        path_checks.check_path_invariance(JudgesByRank())


def test_a_problem_on_two_sides_is_caught():
    with pytest.raises(AssertionError, match="calibrated on"):
        path_checks.check_same_problem_refused(JudgesByRank())


CLASSIFIERS = [
    pytest.param(LOGISTIC, id="statistics"),
    pytest.param(
        PRMClassifier(StepStatistics(), StepMLP(max_epochs=30, random_state=0)), id="mlp", marks=pytest.mark.slow
    ),
    pytest.param(
        CalibratedStepClassifier(PRMClassifier(StepStatistics(), LogisticRegression()), cv=2), id="calibrated"
    ),
    pytest.param(
        VotingClassifier([("a", LOGISTIC), ("b", LOGISTIC)], voting="soft"), id="voting", marks=pytest.mark.slow
    ),
    pytest.param(GridSearchCV(LOGISTIC, {"head__C": [1.0]}, cv=StratifiedProblemKFold(2)), id="search"),
]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_every_spelling_of_labels_keeps_its_polarity(classifier):
    check_label_polarity(classifier)


class Alphabetical(_Reads):
    """Takes the first class for the wrong one, and learns nothing."""

    def features(self, X):
        return np.zeros((len(X), 1))


def test_a_classifier_that_tells_nothing_apart_is_caught():
    with pytest.raises(AssertionError, match="booleans: wrong steps have the smaller risk"):
        check_label_polarity(Alphabetical())
