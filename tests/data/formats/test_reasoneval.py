"""ReasonEval's three layouts in one loader: blocks of steps, ratings, and edits made by a script."""

import json
from collections import Counter

import pytest

from prmkit.data import load, load_reasoneval
from prmkit.data.formats.registry import FORMATS

INVALID = {
    "id": 4,
    "question": "2 + 3 * 4?",
    "ground_truth_answer": "14",
    "generator": "X",
    "model_output": "...",
    "model_output_answer_correctness": "wrong",
    "model_output_step_format": [["3 * 4 = 12."], ["2 + 12 = 15.", "Answer 15."], ["Done."]],
    "model_output_solution_correctness": "wrong",
    "model_output_solution_first_error_step": "2",
}
REDUNDANT = {
    "id": 5,
    "question": "2 + 3 * 4?",
    "generator": "X",
    "model_output_step_format": [["Let us begin.", "Well."], ["3 * 4 = 12.", "So 14."]],
    "rating": [0, 1],
}
EDITED = {
    "id": 6,
    "rid": 9,
    "question": "2 + 3 * 4?",
    "reference_steps": ["3 * 4 = 12.", "2 + 12 = 14.", "So 14."],
    "hypothesis_steps": ["3 * 4 = 12.", "2 + 17 = 14.", "So 14."],
    "error_type": "random number",
    "tags": 1,
}


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_invalid_errors_file(data_folder):
    path = data_folder / "reasoneval_format" / "mr-math_invalid_errors.json"
    dataset, rows = load_reasoneval(path), _lines(path)
    stated = [row["model_output_solution_first_error_step"] for row in rows]
    assert dataset.first_errors == [-1 if index == "N/A" else int(index) - 1 for index in stated]
    assert len(dataset.solutions) == 129
    right = sum(
        len(row["model_output_step_format"]) if index == "N/A" else int(index) - 1
        for row, index in zip(rows, stated, strict=True)
    )
    assert Counter(dataset.y.tolist()) == {1: right, -1: 80}
    assert Counter(s.meta.get("final_answer_correct") for s in dataset.solutions) == {True: 49, None: 80}


def test_redundant_errors_file(data_folder):
    path = data_folder / "reasoneval_format" / "mr-math_redundant_errors.json"
    dataset, rows = load_reasoneval(path), _lines(path)
    assert dataset.y.tolist() == [rating for row in rows for rating in row["rating"]]
    assert dataset.first_errors == [-1] * 67
    assert [s.steps for s in dataset.solutions] == [
        tuple(part for block in row["model_output_step_format"] for part in block) for row in rows
    ]


def test_perturbation_file(data_folder):
    path = data_folder / "reasoneval_format" / "perturbation.json"
    dataset, rows = load_reasoneval(path), _lines(path)
    mapped = {"random number", "random operation"}
    assert dataset.first_errors == [row["tags"] if row["error_type"] in mapped else None for row in rows]
    assert [s.meta["error_type"] for s in dataset.solutions] == [row["error_type"] for row in rows]
    assert Counter(dataset.y.tolist())[-1] == 99 + 87
    assert {step.solution.meta["error_type"] for step in dataset.X} == mapped
    for edit in ("swap steps", "remove step", "repeat step", "swap solutions"):
        assert dataset.counts[f"without labels: {edit}"] == 100


def test_folder_holds_all_three_kinds(data_folder):
    dataset = load_reasoneval(data_folder / "reasoneval_format")
    kinds = Counter(solution.meta["kind"] for solution in dataset.solutions)
    assert kinds == {"invalid": 129, "redundant": 67, "perturbation": 586}
    assert len({solution.id for solution in dataset.solutions}) == 782


def test_a_joined_block_is_one_step():
    dataset = load_reasoneval([INVALID, REDUNDANT])
    assert dataset.solutions[0].steps == ("3 * 4 = 12.", "2 + 12 = 15.\nAnswer 15.", "Done.")
    assert dataset.y.tolist() == [1, -1, 0, 1]
    assert dataset.first_errors == [1, -1]


def test_a_split_block_gives_its_parts_only_what_must_hold_for_them():
    dataset = load_reasoneval([INVALID, REDUNDANT], blocks="split")
    invalid, _ = dataset.solutions
    assert invalid.steps == ("3 * 4 = 12.", "2 + 12 = 15.", "Answer 15.", "Done.")
    assert [(step.solution.meta["kind"], step.index) for step in dataset.X] == [
        ("invalid", 0),
        ("redundant", 0),
        ("redundant", 1),
    ]
    assert dataset.y.tolist() == [1, 0, 0]
    assert dataset.first_errors == [None, -1]  # one of two parts of block 2 is wrong: nobody said which
    assert dataset.counts["doubtful: parts of a rated block, not rated themselves"] == 4
    assert invalid.meta["block_of_step"] == [0, 1, 1, 2]
    assert invalid.meta["block_ratings"] == [1, -1, None]


def test_single_parts_keep_their_labels_in_both_ways(data_folder):
    for name in ("mr-math_invalid_errors.json", "mr-math_redundant_errors.json"):
        path = data_folder / "reasoneval_format" / name  # every block there holds one step
        joined, split = load_reasoneval(path), load_reasoneval(path, blocks="split")
        assert joined.X == split.X
        assert joined.y.tolist() == split.y.tolist()
        assert joined.first_errors == split.first_errors


def test_no_error_is_a_capital_n_a():
    row = {**INVALID, "model_output_solution_correctness": "correct", "model_output_solution_first_error_step": "N/A"}
    assert load_reasoneval([row]).y.tolist() == [1, 1, 1]
    assert load_reasoneval([row], blocks="split").first_errors == [-1]


def test_one_tag_may_come_as_a_list():
    dataset = load_reasoneval([{**EDITED, "tags": [1]}])
    assert dataset.y.tolist() == [1, -1]
    assert dataset.solutions[0].meta["tags"] == [1]
    assert dataset.solutions[0].meta["rid"] == "9"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**INVALID, "model_output_solution_first_error_step": "4"}, "beyond the steps"),
        ({**INVALID, "model_output_solution_first_error_step": "N/A"}, "contradictory"),
        ({**INVALID, "model_output_solution_correctness": "correct"}, "contradictory"),
        ({**INVALID, "model_output_step_format": ["a", "b"]}, "is no list"),
        ({**INVALID, "model_output_step_format": [["a"], [], ["b"]]}, "none empty"),
        ({**INVALID, "rating": [1, 1, 1]}, "several of ReasonEval's formats"),
        ({"question": "2 + 3?"}, "none of ReasonEval's formats"),
        ({**REDUNDANT, "rating": [0, -1]}, "unknown rating"),
        ({**REDUNDANT, "rating": [0, None]}, "unknown rating"),
        ({**REDUNDANT, "rating": [False, True]}, "unknown rating"),
        ({**REDUNDANT, "rating": [0]}, "unequal lengths"),
        ({**EDITED, "tags": 0}, "tags is not what was edited"),
        ({**EDITED, "tags": 5}, "tags is not what was edited"),
        ({**EDITED, "tags": -1}, "tags is no index"),
        ({**EDITED, "hypothesis_steps": EDITED["reference_steps"]}, "tags is not what was edited"),
        ({**EDITED, "error_type": "typo"}, "expected one of random number"),
    ],
)
@pytest.mark.parametrize("blocks", ["join", "split"])
def test_what_cannot_be_meant_is_malformed(row, reason, blocks):
    with pytest.raises(ValueError, match=f"record 1: .*{reason}"):
        load([INVALID, row], "reasoneval", blocks=blocks)


def test_only_unlabelled_edits_are_no_data_set():
    with pytest.raises(ValueError, match=r"(?s)no labelled step is left.*without labels: swap steps: 1"):
        load_reasoneval([{**EDITED, "error_type": "swap steps", "tags": [0, 1]}])
    with pytest.raises(ValueError, match="blocks is 'both'"):
        load_reasoneval([INVALID], blocks="both")


def test_each_kind_is_recognised_and_a_mixture_is_not():
    assert all(map(FORMATS["reasoneval"].recognises, (INVALID, REDUNDANT, EDITED)))
    assert not FORMATS["reasoneval"].recognises({**INVALID, **REDUNDANT})
