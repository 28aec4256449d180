"""Keys of problems: the same for the same problem however it is spelled."""

import numpy as np
import pytest

from prmkit.data import Solution, Step
from prmkit.data.problem_keys import distinct_problem_keys, problem_keys


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
