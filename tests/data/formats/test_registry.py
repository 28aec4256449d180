"""``load`` finds out which layout a file has, says so, and refuses to guess."""

import gzip
import json
import tracemalloc

import pytest

from prmkit.data import load
from prmkit.data.formats.reading import iter_labelled, read
from prmkit.data.formats.registry import FORMATS, recognise
from prmkit.data.formats.writing import check_writable

FILES = {
    "processbench/gsm8k.json": "processbench",
    "processbench/math.json": "processbench",
    "prmbench": "prmbench",
    "mr_ben/math.json": "mr_ben",
    "mr_ben/biology.json": "mr_ben",
    "mr_ben/chemistry.json": "mr_ben",
    "big_bench_mistake": "big_bench_mistake",
    "prm800k/train_sample.jsonl": "prm800k",
    "prm800k/repeated_labels.jsonl": "prm800k",
    "prm800k/test_sample.jsonl": "prm800k",
    "prm800k/raw_examples.jsonl": "prm800k",
    "reasoneval_format/mr-math_redundant_errors.json": "reasoneval",
    "reasoneval_format/mr-math_invalid_errors.json": "reasoneval",
    "reasoneval_format/perturbation.json": "reasoneval",
    "steps_train.jsonl.gz": "rated",
}
STEPWISE_ROW = {"prompt": "p", "completions": ["a"], "labels": [True]}


def test_every_layout_is_there_under_its_name():
    assert len(FORMATS) == 18
    for name, layout in FORMATS.items():
        assert layout.name == name
        assert layout.description
    assert "nothing" not in FORMATS


@pytest.mark.parametrize("file", FILES)
def test_every_real_file_is_recognised(file, data_folder):
    assert recognise(data_folder / file) == FILES[file]


def test_all_that_real_files_hold_is_of_one_layout(data_folder):
    """Not only the first records: no record of a file looks like another layout."""
    for file, expected in FILES.items():
        for record in _records(data_folder / file):
            fitting = [name for name, layout in FORMATS.items() if layout.recognises(record)]
            assert fitting == [expected]


def _records(path):
    from prmkit.data.formats.sources import iter_records

    return (found.record for found in iter_records(path))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (STEPWISE_ROW, "stepwise"),
        ({"input": "p", "value": ["a"], "label": ["+"]}, "sdiehl"),
        ({"input": "p Step 1: a ки", "label": "p Step 1: a +", "task": "MATH"}, "math_shepherd"),
        ({"input": "p a [P]", "value": [0.5]}, "openrlhf"),
        ({"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "+"}]}, "rlhflow"),
        ({"id": "1", "generator": "g", "problem": "p", "steps": ["a"], "final_answer_correct": True, "label": 0},
         "processbench"),
        ({"text": "a", "label": "positive", "problem": "p"}, "flat"),
        ({"problem": "p", "prefix": [], "step": "a", "label": "-", "problem_id": "p1"}, "flat"),
        ({"problem": "p", "steps": ["a"], "labels": [1]}, "rated"),
    ],
)  # fmt: skip
def test_invented_rows_are_recognised_and_loaded(record, expected):
    dataset = load([record])
    assert dataset.description.startswith(f"recognised by its first records as {expected}\n")
    assert load([record], expected).y.tolist() == dataset.y.tolist()


def test_a_damaged_first_row_does_not_hide_the_layout():
    with pytest.warns(UserWarning, match="1 malformed"):
        dataset = load(iter(["?", STEPWISE_ROW]), on_error="skip")
    assert dataset.y.tolist() == [1]
    with pytest.raises(ValueError, match="record 0: no object"):
        load(["?", STEPWISE_ROW])


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([{"a": 1, "b": 2}], "fits no known format: its first record has the fields 'a', 'b'. Known: .*stepwise"),
        ([3], "fields none, but 3"),
        ([STEPWISE_ROW, {"input": "p", "value": ["a"], "label": ["+"]}], r"several formats \(stepwise, sdiehl\)"),
        ([], "holds no records"),
        ([{"prompt": "p", "answers": ["a"], "label": [1]}], "load_candidates"),
    ],
)
def test_no_guess(records, reason):
    with pytest.raises(ValueError, match=reason):
        load(records)


def test_gsm8k_solutions_are_sent_to_their_loader(data_folder):
    with pytest.raises(ValueError, match="without step labels: load_candidates"):
        load(data_folder / "gsm8k_solutions")


def test_unknown_names():
    with pytest.raises(ValueError, match="format is 'trl', expected one of prm800k, stepwise"):
        load([STEPWISE_ROW], "trl")
    with pytest.raises(ValueError, match=r"reads the format prmbench and does not write it; it writes .*'rated'"):
        check_writable("prmbench")


def test_prm800k_is_read_as_trajectories(data_folder):
    dataset = load(data_folder / "prm800k" / "train_sample.jsonl")
    assert len(dataset.solutions) == 988
    assert dataset.description.startswith("recognised by its first records as prm800k")
    stream = list(iter_labelled(data_folder / "prm800k" / "train_sample.jsonl", FORMATS["prm800k"]))
    assert [(one.solution, one.first_error) for one in stream] == list(
        zip(dataset.solutions, dataset.first_errors, strict=True)
    )


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_limit_reads_no_further(tmp_path, ending):
    """The end of the file is damaged: who reads on, fails."""
    path = tmp_path / f"big{ending}"
    with (gzip.open if ending.endswith("gz") else open)(path, "wt") as file:
        row = json.dumps({**STEPWISE_ROW, "prompt": "long " * 20_000})  # the first line is longer than any buffer
        for _ in range(200):
            file.write(row + "\n")
        file.write("damaged\n")
    tracemalloc.start()
    try:
        assert len(read(path, FORMATS["stepwise"], limit=3).X) == 3
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 4_000_000, "of a file of 20 MB, three lines"
        assert len(load(path, limit=3).X) == 3
    finally:
        tracemalloc.stop()
    stream = iter_labelled(path, FORMATS["stepwise"])
    assert next(stream).ratings == (1,)
    with pytest.raises(ValueError, match="line 201: not JSON"):
        list(stream)


def test_damaged_gzip_says_so(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(STEPWISE_ROW) + "\n").encode() * 5000)[:-40])
    with pytest.raises(ValueError, match="data are damaged"):
        load(path)


def test_the_unified_table_is_grouped_by_its_problem_keys(data_folder):
    with gzip.open(data_folder / "steps_train.jsonl.gz", "rt", encoding="utf-8") as file:
        keys = {json.loads(line)["problem_key"] for line in file}
    assert len(set(load(data_folder / "steps_train.jsonl.gz").groups.tolist())) == len(keys)


def test_skipped_records_are_named_by_file_line_and_reason(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = {"input": "2 + 2?", "value": ["4."], "label": ["+"]}
    path.write_text("\n".join(json.dumps(row) for row in (good, {**good, "label": ["?"]}, {"input": "p"})))
    with pytest.warns(UserWarning, match="2 malformed records were skipped"):
        description = load(path, "sdiehl", on_error="skip").description
    assert f"skipped: {path}, line 2: " in description
    assert f"skipped: {path}, line 3: without value" in description
