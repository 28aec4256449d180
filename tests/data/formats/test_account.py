"""What skipped rows take along, what a publication got wrong, and fields that never cost a row."""

import copy
import json
import warnings
from collections import Counter
from functools import partial

import pytest

import prmkit.data
from prmkit.data import load, load_candidates
from prmkit.data.formats.reading import read
from prmkit.data.formats.registry import FORMATS
from prmkit.evaluation._inputs._benchmarks import read_benchmark

STEPS = ["7 - 4 = 3.", "3 * 2 = 6.", "So 7."]
VERDICT = {"model_output_solution_correctness": "wrong", "model_output_solution_first_error_step": "3"}
ROWS = {
    "processbench": {"id": "a", "problem": "(7 - 4) * 2?", "steps": STEPS, "label": 2},
    "mr_gsm8k": {"question": "(7 - 4) * 2?", "model_output_steps": STEPS, **VERDICT},
    "mr_ben": {
        "Question": "(7 - 4) * 2?",
        "Model_Solution_Steps": STEPS,
        "Model_Solution_Correctness": "incorrect",
        "Model_Solution_First_Error_Step": "3",
    },
    "reasoneval": {"question": "(7 - 4) * 2?", "model_output_step_format": [[step] for step in STEPS], **VERDICT},
    "big_bench_mistake": {"input": "(7 - 4) * 2?", "steps": STEPS, "mistake_index": 2},
    "verify_then_generate": {"problem": "(7 - 4) * 2?", "student_incorrect_solution": STEPS, "incorrect_index": 2},
}
INDEX = {
    "processbench": ("label", 3),
    "mr_gsm8k": ("model_output_solution_first_error_step", "4"),
    "mr_ben": ("Model_Solution_First_Error_Step", 17),
    "reasoneval": ("model_output_solution_first_error_step", "9"),
    "big_bench_mistake": ("mistake_index", 5),
    "verify_then_generate": ("incorrect_index", 3),
}


def named_loader(name):
    """What leaves out rows that a publication got wrong: its loader, or the reader behind it where it has none."""
    return getattr(prmkit.data, f"load_{name}", partial(read, file_format=FORMATS[name], published=True))


class TestPublishedFaults:
    def test_every_benchmark_is_tried(self):
        assert {name for name in FORMATS if FORMATS[name].benchmark} == {*ROWS, "prmbench"}

    @pytest.fixture(params=ROWS)
    def rows(self, request):
        field, beyond = INDEX[request.param]
        good = ROWS[request.param]
        return request.param, [good, {**good, field: beyond}, good]

    def test_the_named_loader_leaves_them_out_counts_and_names_them(self, rows):
        name, records = rows
        with pytest.warns(
            UserWarning, match=r"1 rows that contradict themselves, as published, were left out \(1 first"
        ):
            dataset = named_loader(name)(records)
        assert dataset.first_errors == [2, 2]
        assert dataset.counts["left out, wrong as published: first error beyond the steps"] == 1
        assert "skipped: record 1: first error beyond the steps" in dataset.description

    def test_your_own_file_raises(self, rows):
        name, records = rows
        for format_name in (None, name):
            with pytest.raises(ValueError, match="record 1: first error beyond the steps"):
                load(records, format_name)

    def test_other_faults_raise_in_the_named_loader_too(self, rows):
        name, records = rows
        with pytest.raises(ValueError, match="record 1: "):
            named_loader(name)([records[0], {**records[0], INDEX[name][0]: "third"}])

    def test_evaluate_leaves_them_out_and_says_so(self, rows, tmp_path):
        name, records = rows
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, records)))
        for spec in (f"{name}:{path}", str(path)):
            with pytest.warns(UserWarning, match="contradict themselves, as published"):
                benchmark = read_benchmark(spec)
            assert benchmark.first_errors == [2, 2]
            assert "left out, wrong as published: first error beyond the steps: 1" in benchmark.description
            assert f"{path}, line 2" in benchmark.description


class TestLabelsOfSkippedRows:
    def test_labels_of_steps(self):
        good = {"prompt": "1?", "completions": ["a", "b", "c"], "labels": [True, True, False]}
        rows = [good] * 3 + [{**good, "prompt": 1}]
        with pytest.warns(UserWarning, match=r"2 labels True, of 8 \(25%\)"):
            dataset = load(rows, on_error="skip")
        assert "labels left out: False, of 4 (25%): 1" in dataset.description

    def test_first_errors(self):
        good = ROWS["processbench"]
        rows = [good, good, {**good, "label": -1}, {**good, "steps": "a"}]
        with pytest.warns(UserWarning, match=r"1 labels 'an error', of 3 \(33%\)"):
            load(rows, on_error="skip")

    def test_fields(self):
        rows = [{"q": "1?", "s": ["a"], "y": ["good"]}, {"q": 1, "s": ["a"], "y": ["bad"]}]
        with pytest.warns(UserWarning, match=r"With them went 1 labels 'bad', of 1 \(100%\)"):
            load(rows, fields={"problem": "q", "steps": "s", "labels": "y"}, on_error="skip")

    def test_candidates(self):
        good = {"prompt": "1?", "answers": ["a\nb", "c\nd"], "label": [1, 0]}
        counts = Counter()
        with pytest.warns(UserWarning, match=r"1 labels True, of 3 \(33%\)"):
            load_candidates([good, good, {**good, "prompt": 1}], counts=counts, on_error="skip")
        assert counts["labels left out: False, of 3 (33%)"] == 1


NO_LABELS = {
    "processbench": ("id", "generator", "final_answer_correct"),
    "mr_gsm8k": ("uuid", "question_type", "ground_truth_answer", "model_output_answer_correctness"),
    "mr_ben": ("Subject", "Options", "Question_UUID", "Sampled_Model", "Ground_Truth_Answer"),
    "reasoneval": ("id", "generator", "ground_truth_answer", "model_output_answer_correctness"),
    "big_bench_mistake": ("target", "answer"),
}


@pytest.mark.parametrize("name", NO_LABELS)
@pytest.mark.parametrize("value", [7, 2.5, True, None, ["a"], {"a": [1]}, "text"], ids=repr)
def test_a_field_without_a_label_never_costs_a_row(name, value):
    row = copy.deepcopy(ROWS[name])
    expected = load([row], name)
    for field in NO_LABELS[name]:
        dataset = load([{**row, field: value}], name)
        assert dataset.y.tolist() == expected.y.tolist()
        assert dataset.first_errors == expected.first_errors


def test_ids_are_read_as_text():
    assert load([{**ROWS["processbench"], "id": 7}]).solutions[0].id == "7"
    assert load([{**ROWS["mr_ben"], "Subject": 3}]).solutions[0].meta["subject"] == "3"
    rated = {"problem": "1?", "steps": ["1."], "labels": ["+"], "id": 12}
    assert load([rated]).solutions[0].id == "12"
    flat = {"step": "1.", "label": "+", "problem_id": ["set", 4]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load([flat]).solutions[0].meta["problem_id"] == '["set", 4]'


def test_ratings_of_skipped_records_of_prm800k(tmp_path):
    def record(ratings, **question):
        steps = [{"completions": [{"text": f"{r}.", "rating": r}], "chosen_completion": 0} for r in ratings]
        return {"question": {"problem": "1?", **question}, "label": {"steps": steps}}

    path = tmp_path / "rows.jsonl"
    records = [record([1, 1, -1]), record([1, 0, None]), record([1, -1], problem=7)]
    path.write_text("\n".join(map(json.dumps, records)))
    with pytest.warns(UserWarning, match=r"With them went 1 labels -1, of 2 \(50%\), 1 labels 1, of 4 \(25%\)"):
        dataset = load(path, on_error="skip")
    assert "labels left out: -1, of 2 (50%): 1" in dataset.description
