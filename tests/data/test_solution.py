import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest

from prmkit.data import Solution, Step, StepDataset, flatten, problem_groups
from prmkit.data.solution import as_steps, iter_solutions


@pytest.fixture
def solution():
    return Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14."], id="a", meta={"answer": "14"})


def test_solutions_and_steps_are_immutable(solution):
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.problem = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Step(solution, 0).index = 1
    with pytest.raises(TypeError):
        solution.steps[0] = "other"


def test_the_list_given_as_steps_can_change_without_changing_the_solution():
    steps = ["a", "b"]
    solution = Solution("p", steps)
    steps.append("c")
    assert solution.steps == ("a", "b")
    assert solution.n_steps == 2


def test_equality_and_hash_leave_out_id_and_meta(solution):
    twin = Solution(solution.problem, solution.steps, id="b", meta={"other": 1})
    assert twin == solution
    assert hash(twin) == hash(solution)
    assert Step(twin, 1) == Step(solution, 1)
    assert len({Step(twin, 1), Step(solution, 1), Step(solution, 0)}) == 2
    assert Solution(solution.problem, solution.steps[:1]) != solution
    assert Solution("other", solution.steps) != solution


def test_numpy_arrays_of_solutions_and_steps_stay_one_dimensional(solution):
    assert np.asarray([solution, solution]).shape == (2,)
    assert np.asarray(flatten([solution])).shape == (2,)
    assert not hasattr(solution, "__len__")
    assert not hasattr(solution, "__getitem__")


def test_a_step_sees_its_problem_and_what_comes_before_and_nothing_after(solution):
    first, second = flatten([solution])
    assert (first.problem, first.prefix, first.text) == (solution.problem, (), "3 * 4 = 12.")
    assert (second.prefix, second.text) == (("3 * 4 = 12.",), "2 + 12 = 14.")


def test_an_empty_text_is_a_step(solution):
    assert [step.text for step in flatten([Solution("p", ["", "a"])])] == ["", "a"]


@pytest.mark.parametrize("index", [2, -1])
def test_a_step_must_exist(solution, index):
    with pytest.raises(IndexError, match=f"step {index} of a solution with 2 steps"):
        Step(solution, index)


@pytest.mark.parametrize(
    ("problem", "steps", "message"),
    [
        ("p", "one string", "steps is one string, expected a list of strings.*Solution.from_text"),
        (3, ["a"], "problem is int, expected str"),
        ("p", ["a", 4], r"steps\[1\] is int \(4\), expected str"),
        ("p", ["a", None], r"steps\[1\] is NoneType"),
        ("p", [["a", "b"]], r"steps\[0\] is list"),
    ],
)
def test_texts_are_checked(problem, steps, message):
    with pytest.raises(TypeError, match=message):
        Solution(problem, steps)


def test_pickles_share_the_solution():
    """Steps are views: a thousand of them cost one text, in processes and in files."""
    solution = Solution("p" * 1000, ["s" * 1000] * 99 + ["t" * 100_000])
    steps = flatten([solution])
    assert len(pickle.dumps(steps)) < 1.2 * len(pickle.dumps(solution)) + 50 * len(steps)
    back = pickle.loads(pickle.dumps(steps))
    assert back == steps
    assert len({id(step.solution) for step in back}) == 1


def test_pickles_keep_id_and_meta(solution):
    back = pickle.loads(pickle.dumps(solution))
    assert (back, back.id, back.meta) == (solution, "a", {"answer": "14"})


def test_flatten_names_what_is_no_solution(solution):
    with pytest.raises(TypeError, match=r"solutions\[1\] is str, expected Solution\(problem, steps\)"):
        flatten([solution, "text"])
    with pytest.raises(TypeError, match=r"expected Solution.* by Solution\.from_text\(problem, text\)"):
        flatten(["5 * 5 = 25."])
    assert flatten([]) == []
    assert flatten([Solution("p", [])]) == []


@pytest.mark.parametrize(
    "container",
    [list, tuple, iter, lambda X: np.array(X, dtype=object), lambda X: pd.Series(X, index=range(5, 5 + len(X)))],
)
def test_as_steps_takes_any_one_dimensional_container(solution, container):
    steps = flatten([solution])
    assert as_steps(container(steps)) == steps


def test_plain_strings_become_steps_without_problem_or_prefix():
    (step,) = as_steps(np.array(["2 + 2 = 4"]))
    assert (step.problem, step.prefix, step.text) == ("", (), "2 + 2 = 4")


PASS = (
    r"X holds one row per step: pass flatten\(solutions\), and one label per step as y\. "
    r"A table with one step per row becomes both by X, y = StepDataset\.from_frame\(frame\)\."
)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("text", TypeError, f"X is one str, expected a list of steps. {PASS}"),
        (Solution("p", ["a"]), TypeError, f"X is one Solution, expected a list of steps. {PASS}"),
        (Step(Solution("p", ["a"]), 0), TypeError, f"X is one Step, expected a list of steps. {PASS}"),
        ([Solution("p", ["a"])], TypeError, rf"X\[0\] is Solution, expected Step \(or str\). {PASS}"),
        (["a", ["b", "c"]], TypeError, rf"X\[1\] is list, expected Step \(or str\). {PASS}"),
        (["a", None], TypeError, rf"X\[1\] is NoneType, expected Step \(or str\). {PASS}"),
        ([1.0, 2.0], TypeError, rf"X\[0\] is float, expected Step \(or str\). {PASS}"),
        (3, TypeError, f"X is int, expected a list of steps. {PASS}"),
        ([], ValueError, rf"X is empty: found array with 0 sample\(s\), at least 1 step is required. {PASS}"),
        (np.ones((2, 3)), ValueError, rf"X has shape \(2, 3\), expected a 1-D array of steps. {PASS}"),
        (pd.DataFrame({"x": ["a"]}), ValueError, rf"X has shape \(1, 1\), expected a 1-D array of steps. {PASS}"),
    ],
)
def test_what_is_no_list_of_steps_is_an_error_that_says_what_to_pass(X, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        as_steps(X)


def test_iter_solutions_meets_equal_solutions_once(solution):
    twin = Solution(solution.problem, solution.steps, id="twin")
    other = Solution("q", ["c"])
    steps = [Step(solution, 1), Step(other, 0), Step(twin, 0), Step(twin, 1), Step(solution, 1)]
    assert list(iter_solutions(steps)) == [(solution, [0, 2, 3, 4], [1, 0, 1, 1]), (other, [1], [0])]


def test_iter_solutions_keeps_solutions_apart_that_differ_in_problem_or_length():
    solutions = [Solution("p", ["a"]), Solution("q", ["a"]), Solution("p", ["a", "b"])]
    assert [found for found, _, _ in iter_solutions(flatten(solutions))] == solutions


def test_groups_are_equal_where_problems_are():
    X = flatten([Solution("p", ["a", "b"]), Solution("q", ["a"]), Solution("p", ["c"], id="x")])
    assert problem_groups(X).tolist() == [0, 0, 1, 0]
    assert problem_groups(X).dtype == np.int64


def test_a_plain_string_is_a_group_of_its_own():
    assert problem_groups(["a", "b", "a"]).tolist() == [0, 1, 0]
    assert problem_groups(["a", Step(Solution("a", ["a"]), 0)]).tolist() == [0, 1]


def test_a_data_set_is_no_list_of_solutions(solution):
    with pytest.raises(TypeError, match=r"solutions is a StepDataset, .*: pass dataset\.solutions"):
        flatten(StepDataset(flatten([solution]), [1, -1]))
