"""Scorers of steps: the numbers of the functions they stand for, any wrapper and vocabulary, and errors in words."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from prmkit import PRMClassifier, Solution, StratifiedProblemKFold, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.data.labels import declare_labels
from prmkit.features import StepStatistics
from prmkit.metrics import first_error_f1_score, step_scorers

TRAIN = make_arithmetic_solutions(24, 2, error_rate=0.5, random_state=0)
TEST = make_arithmetic_solutions(16, 2, error_rate=0.5, random_state=1)
ROWS = dict(zip([*TRAIN.X, *TEST.X], StepStatistics().fit_transform([*TRAIN.X, *TEST.X]), strict=True))
NAMES = np.array(["negative", "neutral", "positive"])
FOLDS = StratifiedProblemKFold(3)


def rows_of(X):
    """The statistics of the steps above, which are computed once."""
    unknown = np.zeros(len(next(iter(ROWS.values()))))
    return np.array([ROWS.get(step, unknown) for step in X])


def head():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1))


def classifier(**settings):
    return PRMClassifier(FunctionTransformer(rows_of), head(), **settings)


def as_own(y):
    """Labels whose alphabet hides which is worst."""
    return np.where(y < 0, "wrong", np.where(y == 0, "so-so", "right"))


LABELS = {
    "ratings": (lambda y: y, -1, {}),
    "names": (lambda y: NAMES[y + 1], "negative", {}),
    "wrong and right": (lambda y: np.where(y < 0, 0, 1), 0, {}),
    "right is 0": (lambda y: np.where(y < 0, 1, 0), 1, {"label_order": [1, 0]}),
    "own": (as_own, "wrong", {"label_order": ["wrong", "so-so", "right"]}),
    "own, declared": (lambda y: declare_labels(as_own(y), ("wrong", "so-so", "right")), "wrong", {}),
    "declared as objects": (
        lambda y: declare_labels(as_own(y).astype(object), ("wrong", "so-so", "right")),
        "wrong",
        {},
    ),
}


@pytest.mark.parametrize("kind", LABELS)
def test_scores_are_those_of_the_functions(kind):
    relabel, worst, settings = LABELS[kind]
    clf = classifier(**settings).fit(TRAIN.X, relabel(TRAIN.y))
    is_wrong = TEST.y < 0
    risk = clf.predict_proba(TEST.X)[:, clf.classes_.tolist().index(worst)]
    called_wrong = clf.predict(TEST.X) == worst
    found = {name: scorer(clf, TEST.X, relabel(TEST.y)) for name, scorer in step_scorers().items()}
    assert found["wrong_auroc"] == roc_auc_score(is_wrong, risk) > 0.6
    assert found["wrong_average_precision"] == average_precision_score(is_wrong, risk)
    assert found["wrong_macro_f1"] == f1_score(is_wrong, called_wrong, average="macro")
    firsts = {"true": [], "predicted": []}
    for solution in TEST.solutions:
        rows = [row for row, step in enumerate(TEST.X) if step.solution is solution]
        for name, wrong in (("true", is_wrong), ("predicted", called_wrong)):
            firsts[name].append(next((t for t, row in enumerate(rows) if wrong[row]), -1))
    assert found["first_error_f1"] == first_error_f1_score(firsts["true"], firsts["predicted"]) > 0


WRAPPERS = {
    "pipeline": lambda clf: make_pipeline(FunctionTransformer(), clf),
    "search": lambda clf: GridSearchCV(
        clf, {"head__logisticregression__C": [0.1]}, cv=FOLDS, scoring=step_scorers()["wrong_auroc"]
    ),
    "calibration": lambda clf: CalibratedClassifierCV(clf, cv=FOLDS),
    "calibration in a search": lambda clf: GridSearchCV(
        CalibratedClassifierCV(clf, cv=FOLDS),
        {"method": ["sigmoid"]},
        cv=FOLDS,
        scoring=step_scorers(),
        refit="first_error_f1",
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("stated", [True, False], ids=["stated", "declared"])
def test_the_worst_label_is_found_through_wrappers(wrapper, stated):
    order = ("wrong", "so-so", "right")
    clf = WRAPPERS[wrapper](classifier(label_order=order if stated else None))
    y = as_own(TRAIN.y) if stated else declare_labels(as_own(TRAIN.y), order)
    clf.fit(TRAIN.X, y)
    risk = clf.predict_proba(TEST.X)[:, clf.classes_.tolist().index("wrong")]
    assert step_scorers()["wrong_auroc"](clf, TEST.X, as_own(TEST.y)) == roc_auc_score(TEST.y < 0, risk)


def test_cross_validation_takes_them_all(recwarn):
    results = cross_validate(classifier(), TRAIN.X, TRAIN.y, cv=FOLDS, scoring=step_scorers(), n_jobs=1)
    for name, scorer in step_scorers().items():
        assert np.isfinite(results[f"test_{name}"]).all()
        one = cross_val_score(classifier(), TRAIN.X, TRAIN.y, cv=FOLDS, scoring=scorer)
        assert one.tolist() == results[f"test_{name}"].tolist()
    assert not [str(w.message) for w in recwarn]


def test_declared_labels_tell_what_a_plain_pipeline_cannot():
    y = declare_labels(as_own(TRAIN.y).astype(object), ("wrong", "so-so", "right"))
    plain = make_pipeline(FunctionTransformer(rows_of), head()).fit(TRAIN.X, as_own(TRAIN.y))
    scorer = step_scorers()["wrong_auroc"]
    assert scorer(plain, TRAIN.X, y) > 0.6
    with pytest.raises(ValueError, match=r"nothing tells which of \['right', 'so-so', 'wrong'\] is the worst"):
        scorer(plain, TRAIN.X, as_own(TRAIN.y))


class TestErrors:
    """The worst label is never guessed, and what cannot be scored is said."""

    @pytest.mark.parametrize("name", step_scorers())
    def test_no_wrong_step(self, name):
        clf = classifier().fit(TRAIN.X, TRAIN.y)
        right = [row for row, label in enumerate(TEST.y) if label > 0]
        X = flatten([Solution("What is 1 + 1?", ["1 + 1 = 2."]), Solution("What is 2 + 1?", ["2 + 1 = 3."])])
        with pytest.raises(ValueError, match=r"0 of 2 steps have the worst label -1|0 erroneous and 2 correct"):
            step_scorers()[name](clf, X, [1, 1])
        if name != "first_error_f1":
            with pytest.raises(ValueError, match=r"labels of y are \[1\]"):
                step_scorers()[name](clf, [TEST.X[row] for row in right], TEST.y[right])

    def test_scikit_learn_makes_nan_of_it_and_shows_the_words(self):
        y = np.where(TRAIN.y < 0, 1, TRAIN.y)
        y[[row for row, step in enumerate(TRAIN.X) if step.problem == TRAIN.X[0].problem]] = -1
        with pytest.warns(UserWarning, match="0 of .* steps have the worst label"):
            results = cross_validate(classifier(), TRAIN.X, y, cv=FOLDS, scoring=step_scorers())
        assert np.isnan(results["test_wrong_auroc"]).any()

    def test_labels_of_another_meaning(self):
        scorer = step_scorers()["wrong_auroc"]
        binary = classifier().fit(TRAIN.X, np.where(TRAIN.y < 0, 0, 1))
        with pytest.raises(ValueError, match="-1 is the worst of the labels of y, and 0 that of a classifier"):
            scorer(binary, TEST.X, TEST.y)
        neutral = TEST.y >= 0
        without_wrong = [step for step, kept in zip(TEST.X, neutral, strict=True) if kept]
        with pytest.raises(ValueError, match="different meanings"):
            scorer(binary, without_wrong, declare_labels(TEST.y[neutral], "rating"))

    def test_a_stated_order_whose_worst_label_was_not_seen(self):
        clf = classifier(label_order=[2, 0, 1]).fit(TRAIN.X, np.where(TRAIN.y < 0, 0, 1))
        for labels in (np.where(TEST.y < 0, 0, 1), declare_labels(np.where(TEST.y < 0, 0, 1), "binary")):
            with pytest.raises(ValueError, match="nothing tells which"):
                step_scorers()["wrong_macro_f1"](clf, TEST.X, labels)

    def test_a_class_that_training_lacks_is_no_error(self):
        two = classifier().fit(TRAIN.X, np.where(TRAIN.y < 0, -1, 1))
        assert step_scorers()["wrong_auroc"](two, TEST.X, TEST.y) > 0.6

    def test_steps_without_a_probability(self):
        class Lossy:
            classes_ = np.array([-1, 1])

            def predict_proba(self, X):
                return np.array([[np.nan, np.nan], *[[0.3, 0.7]] * (len(X) - 1)])

        with pytest.raises(ValueError, match="1 of 3 steps have no probability"):
            step_scorers()["wrong_average_precision"](Lossy(), TEST.X[:3], [-1, 1, 1])

    def test_numbers_have_no_solutions(self):
        rows = rows_of(TRAIN.X)
        clf = PRMClassifier("precomputed", head()).fit(rows, TRAIN.y)
        assert step_scorers()["wrong_auroc"](clf, rows, TRAIN.y) > 0.6
        with pytest.raises(ValueError, match="X holds numbers"):
            step_scorers()["first_error_f1"](clf, rows, TRAIN.y)


class TestFirstErrors:
    """Whole solutions are regrouped, and one whose first error is unknown is left out and counted."""

    class Says:
        """A classifier that knows its answers by text."""

        classes_ = np.array([-1, 1])

        def predict(self, X):
            return np.array([-1 if "!" in step.text else 1 for step in X])

    def score(self, X, y):
        return step_scorers()["first_error_f1"](self.Says(), X, y)

    def test_rows_in_any_order(self):
        wrong, right = Solution("p", ["a", "b!", "c!"]), Solution("q", ["a", "b"])
        X, y = flatten([wrong, right]), np.array([1, -1, 1, 1, 1])
        assert self.score(X, y) == 1.0
        order = [4, 2, 0, 3, 1]
        assert self.score([X[i] for i in order], y[order]) == 1.0
        # The step after the first error needs no label.
        assert self.score([X[i] for i in (3, 1, 0, 4)], y[[3, 1, 0, 4]]) == 1.0

    def test_half_right(self):
        solutions = [
            Solution("p", ["a!", "b"]),
            Solution("q", ["a", "b"]),
            Solution("r", ["a", "b!"]),
            Solution("s", ["x!"]),
        ]
        y = [1, -1, 1, 1, 1, -1, 1]
        assert self.score(flatten(solutions), y) == pytest.approx(2 * 0.5 * 0.5)

    def test_unknown_first_errors_are_counted(self):
        wrong, right, other = Solution("p", ["a", "b!"]), Solution("q", ["a", "b"]), Solution("r", ["a!", "b"])
        X, y = flatten([wrong, right, other]), [1, -1, 1, 1, -1, 1]
        with pytest.warns(UserWarning, match="leaves out 1 of 3 solutions.*<Solution of 2 steps: 'p'"):
            assert self.score(X[1:], y[1:]) == 1.0
        with pytest.warns(UserWarning, match="leaves out 1 of 3 solutions.*'p'"):  # one step, two labels
            assert self.score([X[0], *X], [-1, *y]) == 1.0
        with (
            pytest.warns(UserWarning, match="leaves out 1 of 3 solutions.*'q'"),
            pytest.raises(ValueError, match="2 erroneous and 0 correct"),
        ):
            self.score([X[row] for row in (0, 1, 2, 4, 5)], [y[row] for row in (0, 1, 2, 4, 5)])
