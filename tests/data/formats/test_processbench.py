"""ProcessBench: the published files, the conventions, and the way back into a file."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest

from prmkit.data import load, load_processbench
from prmkit.data.formats.format import LabelledSolution
from prmkit.data.formats.reading import iter_labelled
from prmkit.data.formats.registry import FORMATS

ROW = {
    "id": "gsm8k-7",
    "generator": "M",
    "problem": "2 + 3 * 4?",
    "steps": ["3 * 4 = 12.", "2 + 12 = 15.", "So 15."],
    "final_answer_correct": False,
    "label": 1,
}


@pytest.mark.parametrize(
    ("name", "solutions", "right", "wrong", "unknown"), [("gsm8k", 237, 809, 121, 303), ("math", 443, 1634, 265, 995)]
)
def test_published_files_have_the_counts_of_their_readme_and_the_labels_of_the_table(
    data_folder, name, solutions, right, wrong, unknown
):
    dataset = load_processbench(data_folder / "processbench" / f"{name}.json")
    assert len(dataset.solutions) == dataset.counts["records"] == solutions
    assert Counter(dataset.y.tolist()) == {1: right, -1: wrong}
    assert dataset.counts["steps without a label"] == unknown
    table = {}
    with gzip.open(data_folder / "steps_train.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["dataset"] == f"processbench_{name}":
                table[row["id"]] = row
    found = list(iter_labelled(data_folder / "processbench" / f"{name}.json", FORMATS["processbench"]))
    assert len(found) == len(table)
    for one in found:
        row = table[one.solution.id]
        assert list(one.ratings) == row["labels"]
        assert one.solution.steps == tuple(row["steps"])
        assert one.solution.meta["final_answer_correct"] is row["final_answer_correct"]
        assert one.solution.meta["generator"] == row["generator"]


def test_folder_reads_both_files_and_groups_by_the_text_of_the_problem(data_folder):
    dataset = load_processbench(data_folder / "processbench")
    assert len(dataset.solutions) == 237 + 443
    by_text = {}
    for step, group in zip(dataset.X, dataset.groups, strict=True):
        by_text.setdefault(step.problem, set()).add(int(group))
    assert all(len(groups) == 1 for groups in by_text.values())
    assert len(by_text) == len(np.unique(dataset.groups)) < 680


def test_steps_after_the_first_error_are_unlabelled_and_no_error_makes_all_right():
    wrong, right = load_processbench([ROW]), load_processbench([{**ROW, "label": -1}])
    assert wrong.y.tolist() == [1, -1]
    assert [step.index for step in wrong.X] == [0, 1]
    assert wrong.solutions[0].n_steps == 3
    assert (wrong.first_errors, right.first_errors) == ([1], [-1])
    assert right.y.tolist() == [1, 1, 1]


def test_a_right_final_answer_is_no_label():
    dataset = load_processbench([{**ROW, "final_answer_correct": True, "label": 0}])
    assert dataset.first_errors == [0]
    assert dataset.solutions[0].meta == {"generator": "M", "final_answer_correct": True}
    assert dataset.solutions[0].id == "gsm8k-7"


@pytest.mark.parametrize("label", [3, -2, True, "1", 1.0, None, [1]])
def test_a_label_that_is_no_step_is_named_with_its_place(label):
    with pytest.raises(ValueError, match=r"record 1: .*(label is|of 3 steps)"):
        load([ROW, {**ROW, "label": label}], "processbench")
    with pytest.warns(UserWarning, match="1 malformed records were skipped"):
        dataset = load([ROW, {**ROW, "label": label}], "processbench", on_error="skip")
    assert len(dataset.solutions) == 1


def test_blank_steps_stay_where_they_are():
    dataset = load_processbench([{**ROW, "steps": ["a", "", "b"], "label": 2}])
    assert dataset.solutions[0].steps == ("a", "", "b")
    assert dataset.y.tolist() == [1, 1, -1]


def test_written_records_are_the_published_ones(data_folder):
    path = data_folder / "processbench" / "math.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    written = [FORMATS["processbench"].write(one) for one in iter_labelled(path, FORMATS["processbench"])]
    assert written == records
    assert list(written[0]) == list(records[0])


def test_an_unknown_first_error_cannot_be_written():
    [one] = iter_labelled([ROW], FORMATS["processbench"])
    with pytest.raises(ValueError, match="unknown first error"):
        FORMATS["processbench"].write(LabelledSolution(one.solution, (1, None, 1), None))
