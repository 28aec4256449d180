"""Keys of problems: the same for the same problem however it is spelled."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from prmkit import PRMClassifier
from prmkit.data import (
    ProblemShuffleSplit,
    Solution,
    Step,
    StepDataset,
    StratifiedProblemKFold,
    flatten,
    load,
    problem_groups,
)
from prmkit.data.problem_keys import distinct_problem_keys, problem_keys
from prmkit.features import StepStatistics


def test_spelling_does_not_matter_and_words_do():
    same = problem_keys(["Let $x = 2$.\\, Find x.", "let x=2. find x.", "LET $x\\;=\\; 2$.\nFind $x$."])
    assert len(set(same.tolist())) == 1
    assert len(set(problem_keys(["x = 2", "x = -2", "y = 2"]).tolist())) == 3


def test_strings_solutions_and_steps_agree():
    solution = Solution("What is 1 + 1?", ["2."])
    assert len(set(problem_keys(["What is 1 + 1?", solution, Step(solution, 0)]).tolist())) == 1


def test_without_a_problem_the_first_step_counts():
    a, b = problem_keys([Solution("", ["1 + 1 = 2.", "Done."]), Solution("", ["2 + 2 = 4.", "Done."])])
    assert a != b
    assert distinct_problem_keys(["1 + 1 = 2.", "1 + 1 = 2."]).tolist() == [int(a)]


def test_keys_are_the_same_in_every_process():
    assert problem_keys(["a"]).tolist() == [int.from_bytes(bytes.fromhex("ca978112ca1bbdca"), "big")]
    assert problem_keys(["a"]).dtype == np.uint64


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match="expected str, Solution or Step"):
        problem_keys([3])


SPELLINGS = ["A pen costs {} euros. What do two cost?", "A pen costs\u00a0{} euros.\n What do two  cost?"]
SPELLINGS += ["a PEN costs ${}$ euros. What do two cost?", "A pen costs {}\\, euros. What do two cost?"]


@pytest.fixture
def spelled():
    """Twelve problems, each in four spellings that differ in what makes no other problem."""
    solutions = [
        Solution(text.format(i), (f"2 * {i} = {2 * i}.", "Done."), meta={"problem_id": f"{i}-{k}"})
        for i in range(12)
        for k, text in enumerate(SPELLINGS)
    ]
    return flatten(solutions), [i % 2 for i in range(96)]


def test_one_notion_of_the_same_problem(spelled):
    """Groups, both splitters, the data set and what a classifier remembers agree."""
    X, y = spelled
    dataset = StepDataset(X, y)
    expected = np.repeat(np.arange(12), 8).tolist()
    assert problem_groups(X).tolist() == dataset.groups.tolist() == expected
    splits = [*StratifiedProblemKFold(4).split(X, y), *ProblemShuffleSplit(3, random_state=0).split(X)]
    for train, test in splits:
        assert not {expected[row] for row in train} & {expected[row] for row in test}
    for part in dataset.split_by_problem(0.5, 0.5, random_state=0):
        assert len(part.X) == 48
    assert len(PRMClassifier(StepStatistics(), LogisticRegression()).fit(X, y).training_problems_) == 12


def test_several_ids_of_one_text_are_one_group(spelled):
    """A file that numbers each copy of a problem anew does not put copies on both sides of a split."""
    X, _ = spelled
    rows = [
        {"problem": step.problem, "step": step.text, "label": "+", "problem_id": step.solution.meta["problem_id"]}
        for step in X
    ]
    assert load(rows).groups.tolist() == np.repeat(np.arange(12), 8).tolist()
    # And one id holds texts together that are worded in two ways.
    worded = [{**row, "problem": row["problem"] + " Tell me." * (i % 2)} for i, row in enumerate(rows)]
    assert load(worded).groups.tolist() == np.repeat(np.arange(12), 8).tolist()
