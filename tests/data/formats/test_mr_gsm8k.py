"""MR-GSM8K: steps as a list or one text, and a first error that must fit them and the verdict."""

import json

import pytest

from prmkit.data import load_mr_gsm8k

ROW = {
    "uuid": "u1",
    "question": "2 + 3 * 4?",
    "ground_truth_solution": "3 * 4 = 12. 2 + 12 = 14.",
    "ground_truth_answer": 14,
    "question_type": "POT",
    "model_output_steps": ["3 * 4 = 12.", "2 + 12 = 15.", "So 15."],
    "model_output_answer_correctness": "wrong",
    "model_output_solution_correctness": "wrong",
    "model_output_solution_first_error_step": "2",
    "model_output_solution_first_error_reason": "...",
}
RIGHT = {**ROW, "model_output_solution_correctness": "correct", "model_output_solution_first_error_step": "N/A"}


def test_the_index_counts_from_one_and_later_steps_are_not_judged(tmp_path):
    path = tmp_path / "MR-GSM8K.json"
    path.write_text(json.dumps([ROW, RIGHT, {**ROW, "model_output_solution_first_error_step": 3}]))
    dataset = load_mr_gsm8k(path)
    assert dataset.y.tolist() == [1, -1, 1, 1, 1, 1, 1, -1]
    assert dataset.first_errors == [1, -1, 2]
    assert dataset.solutions[0].meta == {
        "record_id": "u1",
        "answer": "14",
        "question_type": "POT",
        "final_answer_correct": False,
    }


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("Step 1: a\nb\nStep 2: c\n", ("Step 1: a\nb", "Step 2: c")),
        ("We begin.\nStep 1: a\n\nStep 2: c", ("We begin.\nStep 1: a", "Step 2: c")),
        ("x = 3\n    y = 4\r\nprint(x)", ("x = 3", "    y = 4", "print(x)")),
        ("\nx = 3\ny = 4\n\nprint(x)\n", ("x = 3", "y = 4", "print(x)")),
        ("as in step 1 we add\nthen stop", ("as in step 1 we add", "then stop")),
    ],
)
def test_one_text_is_cut_at_step_marks_or_else_into_lines(text, steps):
    dataset = load_mr_gsm8k([{**ROW, "model_output_steps": text}])
    assert dataset.solutions[0].steps == steps
    assert dataset.first_errors == [1]
    assert dataset.counts["solutions given as one text, split into steps"] == 1


def test_a_blank_line_before_the_first_error_leaves_open_what_was_counted():
    row = {**ROW, "model_output_steps": "x = 3\n\ny = 4\nprint(x)"}
    with pytest.raises(ValueError, match="blank line before the first error"):
        load_mr_gsm8k([row])
    assert load_mr_gsm8k([{**RIGHT, "model_output_steps": row["model_output_steps"]}]).y.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_output_solution_first_error_step": "4"}, "first error beyond the steps"),
        ({"model_output_steps": "Step 1: a", "model_output_solution_first_error_step": "2"}, "beyond the steps"),
        ({"model_output_steps": "Step 1: a\nStep 3: b"}, "steps are not numbered from 1: .* 1, 3"),
        ({"model_output_steps": ["a", " ", "b"]}, "first error is a blank step"),
        ({"model_output_solution_first_error_step": "N/A"}, "contradictory first error"),
        ({"model_output_solution_correctness": "correct"}, "contradictory first error"),
        ({"model_output_solution_correctness": "incorrect"}, "expected 'correct' or 'wrong'"),
        ({"model_output_solution_first_error_step": "0"}, 'expected 1, 2, … or "N/A"'),
        ({"model_output_solution_first_error_step": "step 2"}, 'expected 1, 2, … or "N/A"'),
        ({"model_output_steps": ""}, "no steps"),
    ],
)
def test_what_cannot_be_meant_is_malformed(changes, reason):
    with pytest.raises(ValueError, match=f"record 0: .*{reason}"):
        load_mr_gsm8k([{**ROW, **changes}])


def test_answer_and_verdict_may_differ():
    dataset = load_mr_gsm8k([{**ROW, "model_output_answer_correctness": "correct"}])
    assert dataset.first_errors == [1]
    assert dataset.solutions[0].meta["final_answer_correct"] is True
