import random
import re
from fractions import Fraction

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

from prmkit.data import StratifiedProblemKFold, make_arithmetic_solutions, ratings_to_first_error

NUMBER = r"\d+(?:\.\d+)?"
EQUATION = re.compile(rf"({NUMBER}) ([-+*×/÷]) ({NUMBER}) = ({NUMBER})")


def numbers(text):
    return {Fraction(number) for number in re.findall(NUMBER, text)}


def equations(text):
    """Return (is it true, the stated value) of every equation, worked out independently."""
    checked = []
    for left, sign, right, value in EQUATION.findall(text):
        a, b = Fraction(left), Fraction(right)
        truth = {"+": a + b, "-": a - b, "*": a * b, "×": a * b}.get(sign, a / b)
        checked.append((truth == Fraction(value), Fraction(value)))
    return checked


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(n_problems=600, random_state=0)


@pytest.fixture(scope="module")
def rated(data):
    """Per solution: the solution, and the rating of each of its steps."""
    of_solution = {id(solution): [] for solution in data.solutions}
    for step, rating in zip(data.X, data.y.tolist(), strict=True):
        assert step.index == len(of_solution[id(step.solution)])
        of_solution[id(step.solution)].append(rating)
    return [(solution, of_solution[id(solution)]) for solution in data.solutions]


def test_every_step_is_a_row(data):
    X, y = data
    assert y.shape == (len(X),)
    assert set(y.tolist()) == {-1, 0, 1}
    assert len(X) == sum(solution.n_steps for solution in data.solutions)
    assert len(data.solutions) == 1800
    assert len(np.unique(data.groups)) == 600


def test_an_equation_is_false_exactly_where_the_result_is_wrong(rated):
    n_equations = 0
    for solution, ratings in rated:
        for text, rating in zip(solution.steps, ratings, strict=True):
            truths = [is_true for is_true, _ in equations(text)]
            n_equations += len(truths)
            expected_false = rating == -1 and solution.meta["error"] == "result"
            assert all(truths) != expected_false, text
            assert truths or not expected_false
    assert n_equations > 4000


def test_the_first_error_is_exact_and_the_only_one(data, rated):
    kinds = set()
    for first_error, (solution, ratings) in zip(data.first_errors, rated, strict=True):
        assert ratings_to_first_error(ratings) == first_error
        assert ratings.count(-1) == (solution.meta["error"] is not None) == (first_error >= 0)
        kinds.add(solution.meta["error"])
    assert kinds == {None, "result", "operation", "number"}


def test_a_solution_misses_the_answer_exactly_when_it_has_an_error(rated):
    for solution, _ in rated:
        right, own = solution.meta["answer"], solution.meta["candidate_answer"]
        assert (own != right) == (solution.meta["error"] is not None)
        assert Fraction(own) in numbers(solution.steps[-1])


def test_answers_are_right_by_an_independent_calculation(rated):
    shopping = re.compile(rf"buys ({NUMBER}) \w+ at ({NUMBER}) dollars each and pays with ({NUMBER}) dollars")
    mixing = re.compile(rf"({NUMBER}) kilograms at ({NUMBER}) dollars each")
    checked = {"shopping": 0, "mixing": 0}
    for solution, _ in rated:
        if match := shopping.search(solution.problem):
            n, price, paid = map(Fraction, match.groups())
            assert Fraction(solution.meta["answer"]) == paid - n * price
            checked["shopping"] += 1
        elif len(parts := mixing.findall(solution.problem)) == 2:
            (a, p), (b, q) = (map(Fraction, part) for part in parts)
            assert Fraction(solution.meta["answer"]) == (a * p + b * q) / (a + b)
            checked["mixing"] += 1
    assert min(checked.values()) > 10


def test_steps_after_a_wrong_calculation_carry_its_value_on(rated):
    n_checked = 0
    for solution, ratings in rated:
        if -1 not in ratings:
            continue
        wrong = ratings.index(-1)
        reasoned = [solution.steps[i] for i in range(wrong + 1, solution.n_steps) if ratings[i] == 1]
        for _, value in equations(solution.steps[wrong]):
            assert value in numbers(" ".join(reasoned)), solution
            n_checked += 1
    assert n_checked > 200


def test_a_restatement_brings_no_new_number(rated):
    for solution, ratings in rated:
        for i, text in enumerate(solution.steps):
            if ratings[i] == 0:
                known = numbers(solution.problem).union(*map(numbers, solution.steps[:i]))
                assert numbers(text) <= known, (solution, i)


def test_the_position_says_little_about_an_error(data, rated):
    index = [step.index for step in data.X]
    assert roc_auc_score(data.y == -1, index) == pytest.approx(0.5, abs=0.06)
    last = [ratings[-1] == -1 for _, ratings in rated if -1 in ratings]
    assert np.mean(last) < 0.35
    first = [ratings[0] == -1 for _, ratings in rated if -1 in ratings]
    assert np.mean(first) > 0.1


def test_words_alone_help_a_little():
    """Neither trivial nor hopeless: a wrong result reads like a right one, a wrong operation does not."""
    data = make_arithmetic_solutions(200, random_state=0)
    texts = np.array([step.text for step in data.X])
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=200))
    proba = cross_val_predict(
        model, texts, data.y, cv=StratifiedProblemKFold(3), groups=data.groups, method="predict_proba"
    )
    assert 0.52 < roc_auc_score(data.y == -1, proba[:, 0]) < 0.75
    assert roc_auc_score(data.y == 0, proba[:, 1]) < 0.99


def test_without_restatements_a_solution_has_three_to_seven_steps():
    data = make_arithmetic_solutions(200, neutral_rate=0.0, random_state=1)
    lengths = [solution.n_steps for solution in data.solutions]
    assert min(lengths) == 3
    assert max(lengths) == 7
    assert 0 not in data.y


def test_rates_are_chances():
    clean = make_arithmetic_solutions(50, error_rate=0.0, random_state=0)
    assert -1 not in clean.y
    assert set(clean.first_errors) == {-1}
    broken = make_arithmetic_solutions(50, error_rate=1.0, random_state=0)
    assert all(first_error >= 0 for first_error in broken.first_errors)
    third = make_arithmetic_solutions(500, error_rate=0.3, neutral_rate=0.2, random_state=0)
    assert np.mean([e >= 0 for e in third.first_errors]) == pytest.approx(0.3, abs=0.05)
    assert np.sum(third.y == 0) / np.sum(third.y != 0) == pytest.approx(0.2, abs=0.02)
    restated = make_arithmetic_solutions(50, neutral_rate=1.0, random_state=0)
    assert np.mean(restated.y == 0) == 0.5


def test_problems_are_distinct_and_so_are_the_solutions_of_one(data):
    assert len({solution.problem for solution in data.solutions}) == 600
    assert len(set(data.solutions)) == len(data.solutions)
    assert len({solution.id for solution in data.solutions}) == len(data.solutions)
    phrasings = {}
    for solution in make_arithmetic_solutions(5, 200, error_rate=0.0, random_state=0).solutions:
        phrasings.setdefault(solution.problem, set()).add(solution.steps)
    assert [len(steps) for steps in phrasings.values()] == [200] * 5


@pytest.mark.parametrize("make", [int, np.random.RandomState, np.random.default_rng])
def test_a_seed_decides_everything_and_global_generators_are_left_alone(make):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = make_arithmetic_solutions(10, random_state=make(3))
    drawn = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert drawn == (random.random(), np.random.random())  # noqa: NPY002
    again = make_arithmetic_solutions(10, random_state=make(3))
    assert first.X == again.X
    assert first.y.tolist() == again.y.tolist()
    assert first.X != make_arithmetic_solutions(10, random_state=make(4)).X


def test_the_description_counts(data):
    n_wrong = sum(first_error >= 0 for first_error in data.first_errors)
    assert f"600 problems, 1800 solutions, {n_wrong} of them with an error" in data.description
    assert f"{np.sum(data.y == 0)} neutral" in data.description


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_problems": 0}, "n_problems=0, expected at least 1"),
        ({"solutions_per_problem": -1}, "solutions_per_problem=-1, expected at least 1"),
        ({"error_rate": 1.5}, "error_rate=1.5, expected a share from 0 to 1"),
        ({"neutral_rate": -0.1}, "neutral_rate=-0.1, expected a share from 0 to 1"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_arithmetic_solutions(**parameters)
