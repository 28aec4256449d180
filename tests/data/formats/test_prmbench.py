"""PRMBench: error steps that count from one, one original per problem, and numbering that gives classes away."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest

from prmkit.data import load_prmbench
from prmkit.data.formats._rated import load_rated
from prmkit.data.formats.reading import iter_labelled
from prmkit.data.formats.registry import FORMATS

ROW = {
    "idx": "demo_3",
    "classification": "circular",
    "question": "2 + 3 * 4?",
    "original_question": "2 + 3 * 4?",
    "modified_question": "2 + 3 * 4, then?",
    "original_process": ["3 * 4 = 12.", "2 + 12 = 14."],
    "modified_process": ["Assume it is 14.", "So 3 * 4 = 12.", "2 + 12 = 14."],
    "modified_steps": [1, 2],
    "error_steps": [1],
    "reason": "...",
}
ALREADY_PRESENT = {
    # Modified solutions that another class of the same problem has with the same labels ...
    "prm_test_p1_11/missing_condition": 23,
    "prm_train_p1_91/counterfactual": 18,
    "prm_train_p1_191/counterfactual": 9,
    # ... and originals with the text of a modified solution.
    "prm_train_p1_278/original": 10,
    "prm_train_p1_363/original": 59,
    "prm_train_p1_375/original": 3,
}
"""Steps of the six solutions that the README's table leaves out because their text is there already."""


@pytest.fixture(scope="module")
def published(data_folder):
    counts = Counter()
    return list(iter_labelled(data_folder / "prmbench", FORMATS["prmbench"], counts=counts)), counts


def test_published_files_differ_from_the_table_by_the_six_solutions_it_has_already(published, data_folder):
    found, _ = published
    with gzip.open(data_folder / "steps_train.jsonl.gz", "rt", encoding="utf-8") as file:
        table = {row["id"]: row for row in map(json.loads, file) if row["dataset"].startswith("prmbench")}
    ours = {one.solution.id: one for one in found}
    assert len(ours) == len(found)
    assert {i: ours[i].solution.n_steps for i in set(ours) - set(table)} == ALREADY_PRESENT
    assert not set(table) - set(ours)
    for solution_id, row in table.items():
        one = ours[solution_id]
        assert list(one.ratings) == row["labels"], solution_id
        assert one.solution.meta["kind"] == row["kind"]
        assert one.solution.meta.get("error_type") == row.get("error_type")
        assert one.solution.steps == tuple(row["steps"]), solution_id
        if row["kind"] == "modified":
            assert one.solution.problem == row["problem"]


@pytest.mark.parametrize(
    ("name", "solutions", "right", "wrong", "problems"),
    [("prm_train", 3569, 45962, 7085, 399), ("prm_test", 250, 4091, 527, 28)],
)
def test_counts_are_those_of_the_readme(published, name, solutions, right, wrong, problems):
    found = [one for one in published[0] if one.solution.id.startswith(name)]
    left_out = [one for one in found if one.solution.id in ALREADY_PRESENT]
    assert len(found) == solutions + len(left_out)
    labels = Counter(rating for one in found for rating in one.ratings)
    labels -= Counter(rating for one in left_out for rating in one.ratings)
    assert labels == {1: right, -1: wrong}
    assert len({one.solution.meta["problem_id"] for one in found}) == problems


def test_indices_beyond_the_last_step_are_counted(published):
    _, counts = published
    assert counts["records"] == 3410
    assert counts["error steps beyond the last step"] == 100
    assert counts["dropped: modified solutions without an error step"] == 12
    assert counts["repeated originals"] == 3410 - 427


def test_originals_can_be_left_out_and_groups_follow_the_problem(data_folder):
    dataset = load_prmbench(data_folder / "prmbench", include_original=False)
    assert len(dataset.solutions) == 3410 - 12
    assert len(np.unique(dataset.groups)) == 427
    kinds = {solution.meta["kind"] for solution in dataset.solutions}
    assert kinds == {"modified"}


def test_indices_count_from_one_in_any_order_and_number():
    dataset = load_prmbench([{**ROW, "error_steps": [3, 1, 3, 9]}])
    assert dataset.y.tolist() == [-1, 1, -1, 1, 1]
    assert dataset.first_errors == [0, -1]
    assert dataset.counts["error steps beyond the last step"] == 1
    assert [s.problem for s in dataset.solutions] == ["2 + 3 * 4, then?", "2 + 3 * 4?"]
    assert set(dataset.groups.tolist()) == {0}


def test_without_an_error_step_only_the_original_is_left():
    for error_steps in ([], [4, 5]):
        dataset = load_prmbench([{**ROW, "error_steps": error_steps}])
        assert [solution.id for solution in dataset.solutions] == ["demo_3/original"]
        assert dataset.counts["dropped: modified solutions without an error step"] == 1


def test_multi_solutions_are_right_by_construction():
    dataset = load_prmbench([{**ROW, "classification": "multi_solutions", "error_steps": []}], False)
    assert dataset.y.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="error steps of a right solution"):
        load_prmbench([{**ROW, "classification": "multi_solutions"}])


def test_redundancy_may_be_neutral_and_other_classes_never():
    rows = [{**ROW, "classification": "redundency"}, ROW]
    assert load_prmbench(rows, False).y.tolist() == [-1, 1, 1, -1, 1, 1]
    neutral = load_prmbench(rows, False, redundancy="neutral")
    assert neutral.y.tolist() == [0, 1, 1, -1, 1, 1]
    assert neutral.first_errors == [-1, 0]
    with pytest.raises(ValueError, match="redundancy is 'zero'"):
        load_prmbench(rows, redundancy="zero")


def test_the_original_comes_once_in_its_most_frequent_wording_whatever_the_order():
    wordings = [["a", "b"], ["A", "b"], ["A", "b"], ["a", "c"], ["a", "b"]]
    classes = ["circular", "deception", "confidence", "redundency", "counterfactual"]
    rows = [
        {**ROW, "classification": name, "original_process": wording}
        for name, wording in zip(classes, wordings, strict=True)
    ]
    for order in (rows, rows[::-1]):
        dataset = load_prmbench([*order, {**ROW, "idx": "demo_4"}])
        originals = [s for s in dataset.solutions if s.meta["kind"] == "original"]
        assert [(s.id, s.steps) for s in originals] == [
            ("demo_3/original", ("A", "b")),
            ("demo_4/original", tuple(ROW["original_process"])),
        ]
        assert dataset.counts["repeated originals"] == 4
        assert len({s.id for s in dataset.solutions}) == len(dataset.solutions)


def test_two_reads_share_nothing():
    assert len(load_prmbench([ROW]).solutions) == len(load_prmbench([ROW]).solutions) == 2


def test_numbering_is_cut_off_in_both_or_neither():
    row = {
        **ROW,
        "original_process": ["1. We add.", "7.8 minutes is more.", "12"],
        "modified_process": ["Step 1. We add.", "step 2: 7.8 minutes is more.", "3) So 12."],
    }
    kept = load_prmbench([row])
    assert [s.steps for s in kept.solutions] == [tuple(row["modified_process"]), tuple(row["original_process"])]
    cut = load_prmbench([row], strip_numbering=True)
    assert cut.solutions[0].steps == ("We add.", "7.8 minutes is more.", "So 12.")
    assert cut.solutions[1].steps == ("We add.", "7.8 minutes is more.", "12")
    assert cut.y.tolist() == kept.y.tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classification": "redundancy"}, "expected one of redundency, circular"),
        ({"error_steps": [0]}, "expected whole numbers from 1"),
        ({"error_steps": ["1"]}, "expected whole numbers from 1"),
        ({"error_steps": [True]}, "expected whole numbers from 1"),
        ({"error_steps": 1}, "expected whole numbers from 1"),
        ({"error_steps": None}, "expected whole numbers from 1"),
        ({"modified_process": "Assume it is 14."}, "modified_process is no list"),
        ({"original_process": []}, "no steps"),
        ({"idx": None}, "without idx"),
    ],
)
def test_what_breaks_the_layout_is_named(changes, reason):
    with pytest.raises(ValueError, match=f"record 1: .*{reason}"):
        load_prmbench([ROW, {**ROW, **changes}])


def test_the_same_problem_and_class_twice_is_doubtful():
    assert load_prmbench([ROW, ROW]).counts["doubtful: idx and class not unique"] == 1
    assert (
        load_prmbench([ROW, {**ROW, "classification": "deception"}]).counts["doubtful: idx and class not unique"] == 0
    )


def test_groups_survive_a_copy_in_prmkits_own_rows():
    other = {name: f"{text} Or 5?" for name, text in ROW.items() if name.endswith("question")}
    found = iter_labelled([ROW, {**ROW, **other, "idx": "demo_4"}], FORMATS["prmbench"])
    copied = load_rated([FORMATS["rated"].write(one) for one in found])
    assert copied.groups.tolist() == [0] * 3 + [1] * 3 + [0] * 2 + [1] * 2
