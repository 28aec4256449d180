"""Parts of a data set share no problem and lose nothing."""

import numpy as np
import pytest

from prmkit.data import Solution, StepDataset, flatten, make_arithmetic_solutions, split_by_problem

DATA = make_arithmetic_solutions(40, 3, random_state=0)


def test_nothing_is_lost_and_no_problem_is_in_two_parts():
    parts = split_by_problem(DATA, 0.5, 0.25, 0.25, random_state=0)
    problems = [{solution.problem for solution in part.solutions} for part in parts]
    assert [len(names) for names in problems] == [20, 10, 10]
    assert len(set.union(*problems)) == 40
    assert sum(len(part.X) for part in parts) == len(DATA.X)
    assert sum(len(part.solutions) for part in parts) == len(DATA.solutions)


def test_labels_and_first_errors_stay_with_their_solutions():
    error_of = dict(zip(DATA.solutions, DATA.first_errors, strict=True))
    label_of = dict(zip(DATA.X, DATA.y, strict=True))
    for part in split_by_problem(DATA, 0.5, 0.5, random_state=1):
        assert part.first_errors == [error_of[solution] for solution in part.solutions]
        assert part.y.tolist() == [label_of[step] for step in part.X]


def test_the_seed_decides():
    def problems(seed):
        return {step.problem for step in split_by_problem(DATA, 0.5, 0.5, random_state=seed)[0].X}

    assert problems(0) == problems(0)
    assert problems(0) != problems(1)


def test_spelling_of_a_problem_keeps_it_together():
    spellings = [Solution(text, ["a"]) for text in ("What is $1 + 1$?", "what is 1+1?", "What is  1 + 1 ?")]
    X = flatten([*spellings, Solution("Another?", ["b"])])
    data = StepDataset(X, np.ones(4), rows={"place": np.arange(4)})
    sizes = {len(part.X) for part in split_by_problem(data, 0.5, 0.5, random_state=0)}
    assert sizes == {1, 3}


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.6), (1.2, -0.2), (), (float("nan"), 1.0), ("a", "b")])
def test_shares_that_make_no_sense(shares):
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_problem(DATA, *shares)


def test_the_method_is_the_function():
    for one, two in zip(
        DATA.split_by_problem(0.7, 0.3, random_state=2), split_by_problem(DATA, 0.7, 0.3, random_state=2), strict=True
    ):
        assert one.X == two.X


def test_too_few_problems():
    with pytest.raises(ValueError, match="2 problems are too few"):
        split_by_problem(make_arithmetic_solutions(2, 1, random_state=0), 0.9, 0.05, 0.05)


def test_plain_lists_are_refused():
    with pytest.raises(TypeError, match="expected StepDataset"):
        split_by_problem(DATA.X, 0.5, 0.5)
