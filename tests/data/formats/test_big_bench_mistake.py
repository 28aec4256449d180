"""BIG-Bench-Mistake: the published files and what null means in them."""

import gzip
import json
from collections import Counter

import pytest

from prmkit.data import load_big_bench_mistake
from prmkit.data.formats.reading import iter_labelled
from prmkit.data.formats.registry import FORMATS

ROW = {"input": "Sort: b a", "steps": ["Letters: b, a.", "Order: b, a."], "answer": "b a", "target": "a b"}


@pytest.mark.parametrize(
    ("name", "right", "wrong", "unknown"),
    [
        ("logical_deduction", 667, 294, 1536),
        ("multistep_arithmetic", 855, 238, 413),
        ("tracking_shuffled_objects", 891, 260, 466),
    ],
)
def test_published_files_have_the_counts_of_their_readme_and_the_labels_of_the_table(
    data_folder, name, right, wrong, unknown
):
    path = data_folder / "big_bench_mistake" / f"{name}.jsonl"
    dataset = load_big_bench_mistake(path)
    assert len(dataset.solutions) == 300
    assert Counter(dataset.y.tolist()) == {1: right, -1: wrong}
    assert dataset.counts["steps without a label"] == unknown
    with gzip.open(data_folder / "steps_train.jsonl.gz", "rt", encoding="utf-8") as file:
        table = [row for row in map(json.loads, file) if row["dataset"] == f"bbm_{name}"]
    for one, row in zip(iter_labelled(path, FORMATS["big_bench_mistake"]), table, strict=True):
        assert list(one.ratings) == row["labels"]
        assert (one.solution.problem, list(one.solution.steps)) == (row["problem"], row["steps"])
        assert one.solution.meta["answer"] == row["final_answer"]


def test_folder_reads_all_three_files_with_ids_that_name_the_file(data_folder):
    dataset = load_big_bench_mistake(data_folder / "big_bench_mistake")
    assert Counter(solution.id.split(":")[0] for solution in dataset.solutions) == {
        "logical_deduction": 300,
        "multistep_arithmetic": 300,
        "tracking_shuffled_objects": 300,
    }


def test_null_is_no_mistake_although_the_answer_is_wrong():
    dataset = load_big_bench_mistake([{**ROW, "mistake_index": None}])
    assert dataset.y.tolist() == [1, 1]
    assert dataset.first_errors == [-1]
    assert dataset.solutions[0].meta == {"answer": "a b", "candidate_answer": "b a"}


@pytest.mark.parametrize("index", [2, -1, False, "0", 0.0])
def test_an_index_that_is_no_step_is_malformed(index):
    with pytest.raises(ValueError, match=r"record 0: .*(mistake_index is|of 2 steps)"):
        load_big_bench_mistake([{**ROW, "mistake_index": index}])


def test_a_missing_index_is_not_null():
    with pytest.raises(ValueError, match="without mistake_index"):
        load_big_bench_mistake([ROW])
