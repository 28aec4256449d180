"""Mr-Ben: numbers that count non-blank steps, program code, and contradictions."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest

from prmkit.data import load, load_mr_ben
from prmkit.data.formats.reading import iter_labelled
from prmkit.data.formats.registry import FORMATS

ROW = {
    "Question_UUID": "q1",
    "Subject": "math",
    "Question": "2 + 3 * 4?",
    "Options": "A: 14\nB: 20",
    "Ground_Truth_Answer": "A",
    "Sampled_Model": "M",
    "Model_Solution_Steps": ["Step 1: 3 * 4 = 12.", " ", "Step 2: 2 + 12 = 15.", "", "Solution: Choice_B"],
    "Model_Solution_Correctness": "incorrect",
    "Model_Solution_First_Error_Step": "2",
    "Model_Solution_Error_Reason": ["..."],
}
CODE = {
    **ROW,
    "Subject": "coding",
    "Model_Solution_Steps": "def f(s):\n    # All of it\n\n    if s:\n        return 0\n    return 0\n",
    "Model_Solution_First_Error_Step": "    # All of it",
}


@pytest.mark.parametrize(
    ("name", "solutions", "problems", "right", "wrong", "unknown"),
    [
        ("math", 888, 292, 2837, 741, 5796),
        ("biology", 1035, 345, 5166, 418, 1835),
        ("chemistry", 848, 279, 3891, 466, 2852),
    ],
)
def test_published_files_have_the_counts_of_their_readme_and_the_labels_of_the_table(
    data_folder, name, solutions, problems, right, wrong, unknown
):
    path = data_folder / "mr_ben" / f"{name}.json"
    dataset = load_mr_ben(path)
    assert len(dataset.solutions) == solutions
    assert len({solution.meta["problem_id"] for solution in dataset.solutions}) == problems
    assert len(np.unique(dataset.groups)) == problems
    assert Counter(dataset.y.tolist()) == {1: right, -1: wrong}
    assert dataset.counts["steps without a label"] == unknown
    with gzip.open(data_folder / "steps_train.jsonl.gz", "rt", encoding="utf-8") as file:
        table = [row for row in map(json.loads, file) if row["dataset"] == f"mr_ben_{name}"]
    for one, row in zip(iter_labelled(path, FORMATS["mr_ben"]), table, strict=True):
        assert list(one.ratings) == row["labels"]
        assert (one.solution.problem, list(one.solution.steps)) == (row["problem"], row["steps"])
        assert one.solution.meta["generator"] == row["generator"]


def test_folder_holds_the_problems_of_all_subjects(data_folder):
    dataset = load_mr_ben(data_folder / "mr_ben")
    assert len(dataset.solutions) == 888 + 1035 + 848
    assert dataset.counts["blank steps dropped"] == 5


def test_the_number_counts_steps_that_are_not_blank():
    dataset = load_mr_ben([ROW])
    assert dataset.X[1].text == "Step 2: 2 + 12 = 15."
    assert dataset.y.tolist() == [1, -1]
    assert dataset.solutions[0].n_steps == 3
    assert dataset.solutions[0].problem == "2 + 3 * 4?\nA: 14\nB: 20"
    assert dataset.counts["blank steps dropped"] == 2


def test_the_question_without_its_options_makes_the_group():
    other = {**ROW, "Options": "A: 14\nB: 21"}
    dataset = load_mr_ben([ROW, other, {**ROW, "Question": "2 + 3 * 5?"}])
    assert [int(group) for group in dataset.groups] == [0, 0, 0, 0, 1, 1]


def test_a_file_is_one_object_of_lists(tmp_path):
    path = tmp_path / "math.json"
    path.write_text(json.dumps({"q1": [ROW, {**ROW, "Sampled_Model": "N"}], "q2": [ROW]}))
    ids = [solution.id for solution in load_mr_ben(path).solutions]
    assert ids == ["math:q1:0", "math:q1:1", "math:q2:0"]
    path.write_text(json.dumps({"q1": [ROW, {**ROW, "Model_Solution_First_Error_Step": "4"}]}))
    with pytest.raises(ValueError, match="'q1', record 1: first error beyond the steps"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"Model_Solution_First_Error_Step": "N/A"},
        {"Model_Solution_Correctness": "correct"},
        {"Model_Solution_Correctness": None},
        {"Model_Solution_Correctness": "wrong"},
        {"Model_Solution_First_Error_Step": "0"},
        {"Model_Solution_First_Error_Step": "4"},
        {"Model_Solution_Steps": ["", " "]},
    ],
)
def test_contradictions_are_rejected(changes):
    with pytest.raises(ValueError, match="record 0: "):
        load_mr_ben([{**ROW, **changes}])


def test_code_is_lines_and_the_error_a_quotation():
    dataset = load_mr_ben([CODE])
    assert dataset.X[1].text == "    # All of it"
    assert dataset.y.tolist() == [1, -1]
    assert dataset.solutions[0].steps[-1] == "    return 0"
    assert dataset.counts["blank lines of code dropped"] == 2
    # "return 0" stands twice, once deeper: exact white space tells which.
    assert load_mr_ben([{**CODE, "Model_Solution_First_Error_Step": "    return 0"}]).first_errors == [4]
    assert load_mr_ben([{**CODE, "Model_Solution_First_Error_Step": "if s:"}]).first_errors == [2]


@pytest.mark.parametrize(
    ("quoted", "reason"),
    [
        ("return 0", "more than one line"),
        ("", "no line"),
        ("import re", "no line"),
        ("N/A", "contradictory"),
        (2, "no string"),
    ],
)
def test_code_without_exactly_one_such_line_is_rejected(quoted, reason):
    with pytest.raises(ValueError, match=f"record 0: .*{reason}"):
        load_mr_ben([{**CODE, "Model_Solution_First_Error_Step": quoted}])


def test_right_code_is_right_in_every_line():
    row = {**CODE, "Model_Solution_Correctness": "correct", "Model_Solution_First_Error_Step": "N/A"}
    assert load_mr_ben([row]).y.tolist() == [1] * 5
