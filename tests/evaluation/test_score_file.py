"""Scores made elsewhere: read as they were written, or refused with what is missing."""

import json

import numpy as np
import pytest

from prmkit.data import Solution, StepDataset, flatten
from prmkit.evaluation import Benchmark, evaluate, write_step_scores
from prmkit.evaluation._inputs._score_file import read_step_scores


@pytest.fixture
def two():
    solutions = [Solution("p", ["a", "b"], id="s0"), Solution("q", ["c"], id="s1")]
    return Benchmark.from_dataset("two", StepDataset(flatten(solutions), [1, -1, 1]))


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("risks", [0.25, 0.75], [0.5]),
        ("rewards", [0.75, 0.25], [0.5]),
        ("probabilities", [[0.25, 0.75], [0.75, 0.25]], [[0.5, 0.5]]),
        ("probabilities", [[0.25, 0.5, 0.25], [0.75, 0, 0.25]], [[0.5, 0.25, 0.25]]),
        ("raw_rewards", [np.log(3), -np.log(3)], [0.0]),
    ],
)
def test_every_kind_of_score_becomes_a_risk(tmp_path, two, field, first, second):
    path = write(tmp_path / "s.jsonl", {"id": "s1", field: second}, {"id": "s0", field: first})
    scores = read_step_scores(path, [two])["two"]
    np.testing.assert_allclose(scores.risks, [0.25, 0.75, 0.5])
    assert (scores.neutral is None) == (np.shape(first)[-1] != 3)


def test_missing_solutions_are_counted(tmp_path, two):
    path = write(tmp_path / "s.jsonl", {"id": "other", "risks": [0.1]})
    with pytest.raises(ValueError, match=r"two: solutions without scores: 2 \(first 's0'\).*ids in the file: 'other'"):
        read_step_scores(path, [two])


def test_another_number_of_scores_than_steps(tmp_path, two):
    path = write(tmp_path / "s.jsonl", {"id": "s0", "risks": [0.1]}, {"id": "s1", "risks": [0.1]})
    with pytest.raises(ValueError, match=r"other numbers of scores than steps: 1 .first 's0': 1 scores for 2 steps"):
        read_step_scores(path, [two])


def test_two_lines_for_one_solution(tmp_path, two):
    lines = [{"id": "s0", "risks": [0.1, 0.1]}, {"id": "s1", "risks": [0.1]}, {"id": "s1", "risks": [0.2]}]
    with pytest.raises(ValueError, match="more lines than solutions: 1"):
        read_step_scores(write(tmp_path / "s.jsonl", *lines), [two])


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"risks": [0.1]}, "line 1: .*with an id"),
        ([1], "line 1: .*with an id"),
        ({"id": 3, "risks": [0.1]}, "expected strings"),
        ({"id": "s0"}, "no scores"),
        ({"id": "s0", "risks": [0.1], "rewards": [0.9]}, "risks and rewards"),
        ({"id": "s0", "risks": [1.5, 0.1]}, "raw_rewards"),
        ({"id": "s0", "risks": [None, 0.1]}, "without NaN|raw_rewards"),
        ({"id": "s0", "risks": "high"}, "expected numbers"),
        ({"id": "s0", "risks": [[0.1], [0.2]]}, "one number per step"),
        ({"id": "s0", "probabilities": [0.1, 0.2]}, "worst first"),
        ({"id": "s0", "probabilities": [[0.1, 0.2], [0.5, 0.5]]}, "sums to"),
        ({"id": "s0", "raw_rewards": [None, 1.0]}, "NaN"),
    ],
)
def test_lines_that_are_none(tmp_path, two, record, told):
    with pytest.raises(ValueError, match=told):
        read_step_scores(write(tmp_path / "s.jsonl", record), [two])


def test_the_benchmark_tells_equal_ids_apart(tmp_path, two):
    solutions = [Solution("r", ["x"], id="s0"), Solution("s", ["y"], id="s1")]
    other = Benchmark.from_dataset("other", StepDataset(flatten(solutions), [1, -1]))
    lines = [
        {"id": "s0", "benchmark": "two", "risks": [0.1, 0.2]},
        {"id": "s1", "benchmark": "two", "risks": [0.3]},
        {"id": "s0", "benchmark": "other", "risks": [0.4]},
        {"id": "s1", "benchmark": "other", "risks": [0.5]},
    ]
    found = read_step_scores(write(tmp_path / "s.jsonl", *lines), [two, other])
    assert found["two"].risks.tolist() == [0.1, 0.2, 0.3]
    assert found["other"].risks.tolist() == [0.4, 0.5]


def test_a_file_of_scores_equals_its_model(tmp_path, classifier, benchmark):
    write_step_scores(tmp_path / "model.jsonl", classifier, benchmark)
    by_file = evaluate({"model": str(tmp_path / "model.jsonl")}, benchmark, n_resamples=50).to_dict()
    by_model = evaluate({"model": classifier}, benchmark, n_resamples=50).to_dict()
    assert by_file["models"][0]["kind"] == "scores"
    assert {**by_file, "models": 0} == {**by_model, "models": 0}
