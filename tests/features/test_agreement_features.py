"""AgreementFeatures: shares by hand, which solutions are the others, what is fixed, and its way into a classifier."""

import pickle
from collections import Counter

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_union

from prmkit import PRMClassifier, Solution, Step, flatten
from prmkit.data import load_candidates, make_arithmetic_solutions
from prmkit.features import AgreementFeatures, StepStatistics
from prmkit.features.agreement import _steps
from prmkit.utils.estimator_checks import check_step_order_invariance

PROBLEM = "Ann has 3 bags of 12 nuts and eats 5. How many are left?"
ONE = Solution(PROBLEM, ["3 * 12 = 36.", "36 - 5 = 31, and 31 is the answer.", "So 31."])
TWO = Solution(PROBLEM, ["3 * 12 = 36 nuts.", "She is left with 30, not 32."])
THREE = Solution(PROBLEM, ["First, 12 - 5 = 7.", "Then 3 * 7 = 21 and 21 + 10 = 31."])
MEAN, MIN, LAST, MIN_SO_FAR, MEAN_SO_FAR, COUNT = range(6)


def rows(solutions, candidates=None):
    return AgreementFeatures(candidates).fit_transform(flatten(solutions))


def test_columns_are_shares_of_the_other_solutions():
    found = rows([ONE, TWO, THREE])
    assert found.dtype == np.float32
    expected = [
        [1 / 2, 1 / 2, 1 / 2, 1 / 2, 1 / 2, 1],  # 36 stands in TWO
        [1 / 2, 1 / 2, 1 / 2, 1 / 2, 1 / 2, 1],  # 31 stands in THREE
        [1, 1, 1, 1 / 2, 1 / 2, 0],  # 31 is not new
        [1 / 2, 1 / 2, 1 / 2, 1 / 2, 1 / 2, 1],
        [0, 0, 0, 0, 1 / 6, 2],  # neither 30 nor 32
        [0, 0, 0, 0, 0, 1],
        [1 / 6, 0, 1 / 2, 0, 1 / 8, 3],  # 21 and 10 are nowhere else, 31 stands in ONE
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert AgreementFeatures().get_feature_names_out().tolist() == list(AgreementFeatures.descriptions)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (r"\frac{3}{6} is $\dfrac12$, 0.5 or .50", ["1/2"] * 4),
        (r"1,250 or 1{,}250 or 1,\!250 or 1250.0", ["1250"] * 4),
        ("1,2,3 and (4, 5)", ["1", "2", "3", "4", "5"]),
        ("12.5% of -8", ["25/2", "-8"]),
        ("Step 12: nothing", []),
        ("3. We add 4", ["4"]),
        ("no number", []),
        ("1/0", ["1/0"]),
    ],
)
def test_numbers_have_one_spelling(text, numbers):
    assert _steps.step_numbers(text) == numbers


def test_two_samples_of_the_same_text_are_two_others():
    found = rows([ONE, Solution(PROBLEM, ONE.steps), TWO])
    assert found[0, MEAN] == 1.0  # 36: the twin and TWO
    assert found[1, MEAN] == 0.5  # 31: the twin alone
    np.testing.assert_array_equal(found[:3], found[3:6])
    np.testing.assert_array_equal(found, rows([ONE, ONE, TWO], [ONE, ONE, TWO]))


def test_copies_of_a_solution_that_hold_one_row_each_are_one_solution():
    copies = [Step(Solution(PROBLEM, ONE.steps), t) for t in range(3)]
    np.testing.assert_array_equal(AgreementFeatures().transform([*copies, *flatten([TWO])])[:3], rows([ONE, TWO])[:3])


def test_a_given_set_counts_all_that_do_not_begin_as_the_solution_does():
    new = Solution(PROBLEM, ["3 * 12 = 36.", "So 31 remain, or 7."])
    found = rows([new], [ONE, TWO, THREE])
    # ONE begins with the first step, and counts as the solution itself there. It counts as another one after that.
    np.testing.assert_allclose(found[:, MEAN], [1 / 2, (2 / 3 + 1 / 3) / 2])
    # Steps that come later make no difference.
    np.testing.assert_array_equal(rows([Solution(PROBLEM, new.steps[:1])], [ONE, TWO, THREE]), found[:1])


def test_a_set_that_is_given_is_fixed_and_one_that_is_not_is_that_of_x():
    X = flatten([ONE, TWO, THREE])
    fixed = AgreementFeatures([ONE, TWO, THREE])
    np.testing.assert_array_equal(fixed.transform(X), AgreementFeatures().transform(X))
    np.testing.assert_array_equal(fixed.transform(X[5:]), fixed.transform(X)[5:])
    with pytest.warns(UserWarning, match="X holds no other solution of the problem of any of the 1 solutions in X"):
        alone = AgreementFeatures().transform(X[5:])
    np.testing.assert_allclose(alone[:, :5], 0.5)


def test_the_order_of_rows_and_rows_given_twice_change_nothing():
    data = make_arithmetic_solutions(4, 3, random_state=0)
    check_step_order_invariance(AgreementFeatures(), data.X, data.y)


def test_other_problems_do_not_count_and_spelling_makes_no_other_problem():
    other = Solution("Another problem", ["36 and 31"])
    same = Solution(PROBLEM.upper() + " ", ["36"])
    np.testing.assert_allclose(rows([ONE, other, same])[:2, MEAN], [1, 0])


def test_columns_are_finite_where_nothing_agrees_or_nothing_is_said():
    X = [*flatten([Solution(PROBLEM, ["", "It is 7.", "Yes."])]), "a plain 7", "a plain 7"]
    with pytest.warns(UserWarning, match="of any of the 1 solutions"):
        found = AgreementFeatures().transform(X)
    np.testing.assert_array_equal(
        found, [[1] * 5 + [0], [0.5] * 5 + [1], [1, 1, 1, 0.5, 0.5, 0], [0.5] * 5 + [1], [0.5] * 5 + [1]]
    )


def test_a_growing_solution_reads_what_a_whole_one_reads():
    features = AgreementFeatures([ONE, TWO, THREE])
    for solution in (ONE, TWO, Solution(PROBLEM, [*ONE.steps[:2], "Or 21?", "99"])):
        scorer = features.grow(PROBLEM)
        first = scorer.extend(solution.steps[:1])
        other = scorer.fork()
        other.extend(["Or 8.", "Or 7."])
        np.testing.assert_array_equal(
            np.vstack([first, scorer.extend(solution.steps[1:])]), features.transform(flatten([solution]))
        )
    with pytest.raises(ValueError, match=r"does not know the other solutions.*candidates=solutions"):
        AgreementFeatures().grow(PROBLEM)


def test_each_text_is_read_once(monkeypatch):
    solutions = [Solution("p", [f"{i} and {t}" for t in range(5)]) for i in range(40)]
    read = Counter()
    monkeypatch.setattr(_steps, "numbers_in", lambda text: read.update([text]) or [])
    rows(solutions)
    assert len(read) == 201
    assert sum(n for text, n in read.items() if text != "p") == 200


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        (ONE, "one Solution, expected a list"),
        ("36", "one str, expected a list"),
        ((one for one in [ONE]), "one generator, expected a list"),
        ([ONE, "36"], r"solutions\[1\] is str"),
    ],
)
def test_candidates_are_solutions(candidates, words):
    with pytest.raises(TypeError, match=words):
        AgreementFeatures(candidates).fit(flatten([ONE]))


def test_candidates_may_change_and_may_be_sampled_solutions():
    features = AgreementFeatures([ONE, TWO]).fit(flatten([ONE]))
    assert features.transform(flatten([ONE]))[1, MEAN] == 0
    features.candidates.append(THREE)
    assert features.transform(flatten([ONE]))[1, MEAN] == 0.5
    samples = load_candidates([{"problem": PROBLEM, "completions": ["\n\n".join(one.steps) for one in (ONE, TWO)]}])
    np.testing.assert_array_equal(rows(samples.solutions, samples), rows(samples.solutions))
    copied = pickle.loads(pickle.dumps(features))
    assert copied.transform(flatten([ONE]))[1, MEAN] == 0.5
    assert clone(features).transform(flatten([ONE]))[1, MEAN] == 0.5


def test_beside_step_statistics_in_a_classifier_that_is_saved(tmp_path):
    data = make_arithmetic_solutions(10, 3, error_rate=0.5, random_state=0)
    union = make_union(StepStatistics(), AgreementFeatures(data.solutions)).set_output(transform="pandas")
    assert union.fit_transform(data.X[:3]).columns[-1].endswith("numbers_introduced")
    union = make_union(StepStatistics(), AgreementFeatures(data.solutions))
    clf = PRMClassifier(union, HistGradientBoostingClassifier(max_iter=5))
    clf.fit(data.X, data.y).save(tmp_path / "model")
    loaded = PRMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(data.X[3:9]), clf.predict_proba(data.X[3:9]))
    assert loaded.featurizer_.transformer_list[1][1].candidates == data.solutions
    one = data.solutions[0]
    scorer = loaded.incremental(one.problem)
    grown = [scorer.extend([step])[0] for step in one.steps]
    np.testing.assert_allclose(grown, clf.score_solutions(data.solutions)[0].rewards)
    loaded.featurizer_.set_params(agreementfeatures__candidates=None).fit(data.X)
    np.testing.assert_array_equal(loaded.predict_proba(data.X), clf.predict_proba(data.X))
