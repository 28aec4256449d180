"""Published step labels with layouts of their own: SCAN, VersaPRM, OpenR's Math-APS, verify-then-generate."""

import json
import re

import pytest

from prmkit.data import load, write
from prmkit.data.formats.registry import FORMATS

QUESTION = "A hen lays 4 eggs a day.\nHow many in 3 days?"
FLAT = {
    "question": QUESTION,
    "final_answer": 12,
    "reasoning_steps": [
        {"solution_prefix": QUESTION, "mc_value": 0.5},
        {"solution_prefix": f"{QUESTION}\n\n\nOne a day.\n\nSo 3.", "mc_value": 0.0},
        {"solution_prefix": f"{QUESTION}\n\n\nOne a day.", "mc_value": 0.25},
        {"solution_prefix": f"{QUESTION}\n\n\nOne a day.\n\nNo, 4.", "mc_value": 1},
        {"solution_prefix": f"{QUESTION}\n\n\nOne a day. 4 * 3 = 12.", "mc_value": 1.0},
    ],
}
TREE = {
    "question": QUESTION,
    "final_answer": "12",
    "reasoning_steps": {
        "text": QUESTION,
        "mc_value": 0.5,
        "children": [
            {
                "text": "One a day.",
                "mc_value": 0.25,
                "children": [
                    {"text": "So 3.", "mc_value": 0.0, "children": []},
                    {"text": "No, 4.", "mc_value": None, "children": []},
                ],
            },
            {"text": "4 * 3 = 12.", "mc_value": 1.0, "children": []},
        ],
    },
}
ROWS = {
    "scan": {"question": "5 - 2?", "steps": ["5 - 2 = 3.", "So 4."], "scores": [1, 0.25]},
    "versaprm": {
        "id": 7,
        "domain": "law",
        "question": "Who may vote?",
        "answer": "C",
        "chain_of_thoughts": [
            {"cot_id": 0, "steps": ["Adults.", "Cats too.", "So B."], "labels": [1, -1, -1], "augs": []},
            {"cot_id": 1, "steps": ["Adults.", "So C."], "labels": [1, 1]},
            {"cot_id": 2, "steps": ["Nobody."], "labels": None},
        ],
    },
    "math_aps": FLAT,
    "verify_then_generate": {
        "problem": "5 - 2?",
        "topic": "Word problems",
        "student_incorrect_solution": ["5 - 2 = 3.", "3 + 1 = 4.", " 4"],
        "incorrect_index": 1,
        "incorrect_step": "3 + 1 = 4.",
        "error_category": "Misunderstanding",
    },
}


def judged(dataset):
    return [(step.prefix, step.text, label) for step, label in zip(dataset.X, dataset.y.tolist(), strict=True)]


class TestScan:
    def test_scores_are_probabilities(self):
        dataset = load([ROWS["scan"]])
        assert judged(dataset) == [((), "5 - 2 = 3.", 1.0), (("5 - 2 = 3.",), "So 4.", 0.25)]
        assert dataset.vocabulary == "soft"

    def test_whole_scores_are_probabilities_too(self):
        dataset = load([{**ROWS["scan"], "scores": [1, 0]}])
        assert (dataset.y.tolist(), dataset.vocabulary) == ([1.0, 0.0], "soft")

    @pytest.mark.parametrize("scores", [[1, 2], [1, "+"], [1], [True, False], [1, -1]])
    def test_what_is_no_probability_is_refused(self, scores):
        with pytest.raises(ValueError, match="record 0: "):
            load([{**ROWS["scan"], "scores": scores}])


class TestVersaPRM:
    def test_steps_after_the_first_wrong_one_are_not_judged(self):
        dataset = load([ROWS["versaprm"]])
        assert dataset.y.tolist() == [1, -1, 1, 1]
        assert dataset.first_errors == [1, -1, None]
        assert dataset.counts["labels after the first wrong step, filled in by the file, left out"] == 1
        assert dataset.counts["solutions without labels"] == 1
        assert dataset.solutions[0].meta == {"answer": "C", "domain": "law", "record_id": "7"}
        assert len(set(dataset.groups)) == 1

    def test_zero_is_wrong_and_other_labels_are_refused(self):
        row = {"question": "q", "chain_of_thoughts": [{"steps": ["a", "b"], "labels": [1, 0]}]}
        assert load([row]).y.tolist() == [1, -1]
        for label in (2, 0.5, "1", None):
            row = {"question": "q", "chain_of_thoughts": [{"steps": ["a", "b"], "labels": [1, label]}]}
            with pytest.raises(ValueError, match=r"chain_of_thoughts\[0\]\.labels\[1\]"):
                load([row])


class TestMathAPS:
    def test_nodes_with_their_whole_text(self):
        """The nodes come in any order, and a node follows another one only where that ends with a line."""
        dataset = load([FLAT])
        assert judged(dataset) == [
            ((), "One a day.", 0.25),
            (("One a day.",), "So 3.", 0.0),
            (("One a day.",), "No, 4.", 1.0),
            ((), "One a day. 4 * 3 = 12.", 1.0),
        ]
        assert {solution.problem for solution in dataset.solutions} == {QUESTION}
        assert dataset.solutions[0].meta == {"answer": "12"}
        assert dataset.counts["values of a question as a whole, left out"] == 1
        assert dataset.counts["steps of several solutions, labelled in the first"] == 1

    def test_a_tree(self):
        dataset = load([TREE])
        assert judged(dataset) == [
            ((), "One a day.", 0.25), (("One a day.",), "So 3.", 0.0), ((), "4 * 3 = 12.", 1.0),
        ]  # fmt: skip
        assert [solution.steps for solution in dataset.solutions] == [
            ("One a day.", "So 3."), ("One a day.", "No, 4."), ("4 * 3 = 12.",),
        ]  # fmt: skip

    def test_equal_texts_are_samples_of_their_own(self):
        nodes = [*FLAT["reasoning_steps"][:2], {**FLAT["reasoning_steps"][1], "mc_value": 0.75}]
        assert load([{**FLAT, "reasoning_steps": nodes}]).y.tolist() == [0.0, 0.75]

    @pytest.mark.parametrize(("nodes", "reason"), [
        ([{"solution_prefix": QUESTION, "mc_value": 0.5}], "no steps"),
        ([{"solution_prefix": f"{QUESTION}\nSo 3.", "mc_value": 3}], "no probability"),
        ([{"mc_value": 1.0}], "without solution_prefix"),
        ({**TREE["reasoning_steps"], "text": "Another?"}, "the root is no question"),
        ({**TREE["reasoning_steps"], "children": ["a"]}, "no object"),
        ([], "no steps"),
    ])  # fmt: skip
    def test_what_cannot_be_read_is_named(self, nodes, reason):
        with pytest.raises(ValueError, match=f"record 0: .*{reason}"):
            load([{**FLAT, "reasoning_steps": nodes}])


class TestVerifyThenGenerate:
    def test_the_index_counts_from_0(self):
        dataset = load([ROWS["verify_then_generate"]])
        assert judged(dataset) == [((), "5 - 2 = 3.", 1), (("5 - 2 = 3.",), "3 + 1 = 4.", -1)]
        assert dataset.first_errors == [1]
        assert dataset.solutions[0].meta == {"topic": "Word problems", "error_type": "Misunderstanding"}

    def test_a_quotation_of_another_step_contradicts_the_index(self):
        row = {**ROWS["verify_then_generate"], "incorrect_index": 0}
        with pytest.raises(ValueError, match="first error is another step: incorrect_index is 0, '5 - 2 = 3"):
            load([row])

    @pytest.mark.parametrize("index", [3, -1, None, True, "1", 1.0])
    def test_what_is_no_index_is_refused(self, index):
        with pytest.raises(ValueError, match="record 0: "):
            load([{**ROWS["verify_then_generate"], "incorrect_index": index}])


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("other", ["rated", "stepwise"])
def test_converted_rows_keep_their_labels(name, other, tmp_path):
    for row in (ROWS[name], *([TREE] if name == "math_aps" else [])):
        dataset = load([row])
        report = write(dataset, tmp_path / "out.jsonl", other, overwrite=True)
        back = load(tmp_path / "out.jsonl", format=other)
        assert judged(back) == judged(dataset)
        assert back.vocabulary == dataset.vocabulary
        n_unlabelled = len(dataset.solutions) - len({id(step.solution) for step in dataset.X})
        assert sum(report.left_out.values()) == (n_unlabelled if other == "stepwise" else 0)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("value", [7, 2.5, True, None, ["a"], {"a": [1]}, "text"], ids=repr)
def test_a_field_without_a_label_never_costs_a_row(name, value):
    fields = {
        "versaprm": ("id", "domain", "answer", "category"),
        "math_aps": ("final_answer", "question_id"),
        "verify_then_generate": ("topic", "error_category", "error_description", "dialog_history"),
    }
    expected = load([ROWS[name]])
    for field in fields.get(name, ("extra",)):
        assert judged(load([{**ROWS[name], field: value}])) == judged(expected)


def test_skipped_rows_are_counted_by_label():
    lost = {
        "scan": ("question", "a probability below 0.5"),
        "versaprm": ("question", "-1"),
        "math_aps": ("question", "a probability below 0.5"),
        "verify_then_generate": ("problem", "'an error'"),
    }
    assert set(lost) == set(ROWS)
    for name, (field, label) in lost.items():
        with pytest.warns(UserWarning, match=rf"With them went .*{re.escape(label)}, of "):
            load([ROWS[name], {**ROWS[name], field: 3}], name, on_error="skip")


def test_a_file_of_them_is_recognised(tmp_path):
    for name, row in ROWS.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([row, row]))
        dataset = load(path)
        assert dataset.description.startswith(f"recognised by its first records as {name}\n")
        assert FORMATS[name].description in dataset.description
