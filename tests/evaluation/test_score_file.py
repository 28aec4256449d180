"""Scores made elsewhere: read as they were written, or refused with what is missing."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from prmkit.data import Solution, StepDataset, flatten
from prmkit.evaluation import Benchmark, evaluate, read_benchmark, write_step_scores
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
        ({"id": True, "risks": [0.1]}, "a string or a number"),
        ({"id": "s0", "benchmark": 3, "risks": [0.1]}, "expected a string"),
        ({"id": "s0"}, "no scores"),
        ({"id": "s0", "risks": [0.1], "rewards": [0.9]}, "risks and rewards"),
        ({"id": "s0", "risks": [1.5, 0.1]}, "raw_rewards"),
        ({"id": "s0", "risks": [None, -0.1]}, "raw_rewards"),
        ({"id": "s0", "risks": "high"}, "expected numbers"),
        ({"id": "s0", "risks": ["0.1", "0.2"]}, "expected numbers"),
        ({"id": "s0", "raw_rewards": [True, False]}, "expected numbers"),
        ({"id": "s0", "rewards": None}, "one number per step"),
        ({"id": "s0", "risks": [[0.1], [0.2]]}, "one number per step"),
        ({"id": "s0", "probabilities": [0.1, 0.2]}, "worst first"),
        ({"id": "s0", "probabilities": [[0.1, 0.2], [0.5, 0.5]]}, "sums to"),
        ({"id": "s0", "raw_rewards": [float("inf"), 1.0]}, "infinity"),
        ({"id": "s0", "raw_rewards": [10**400, 1.0]}, "expected numbers"),
    ],
)
def test_lines_that_are_none(tmp_path, two, record, told):
    with pytest.raises(ValueError, match=told):
        read_step_scores(write(tmp_path / "s.jsonl", record), [two])


@pytest.mark.parametrize("field", ["risks", "rewards", "raw_rewards", "probabilities"])
def test_null_is_a_step_without_a_score(tmp_path, two, field):
    row = [0.25, 0.75] if field == "probabilities" else 0.25
    path = write(tmp_path / "s.jsonl", {"id": "s0", field: [row, None]}, {"id": "s1", field: [row]})
    assert np.isnan(read_step_scores(path, [two])["two"].risks).tolist() == [False, True, False]


def test_two_scales_in_one_file_are_refused(tmp_path, two):
    path = write(tmp_path / "s.jsonl", {"id": "s0", "raw_rewards": [3, 4]}, {"id": "s1", "rewards": [0.5]})
    with pytest.raises(ValueError, match="line 2: raw_rewards and probabilities are in one file"):
        read_step_scores(path, [two])


NATIVE = {
    "mr_gsm8k": (
        lambda i: {
            "uuid": f"u-{i}",
            "question": f"{i} + 1?",
            "model_output_steps": [f"{i} + 1 = {i + 1}.", "Done."],
            "model_output_solution_correctness": "wrong" if i % 2 else "correct",
            "model_output_solution_first_error_step": 2 if i % 2 else "N/A",
        },
        lambda i: f"u-{i}",
    ),
    "mr_ben": (
        lambda i: {
            "Question_UUID": f"q-{i}",
            "Subject": "math",
            "Question": f"{i} + 1?",
            "Options": "A: 1\nB: 2",
            "Model_Solution_Steps": [f"{i} + 1 = {i + 1}.", "Done."],
            "Model_Solution_Correctness": "incorrect" if i % 2 else "correct",
            "Model_Solution_First_Error_Step": 2 if i % 2 else "N/A",
            "Ground_Truth_Answer": "A",
        },
        lambda i: f"q-{i}",
    ),
    "reasoneval": (
        lambda i: {
            "id": i,
            "question": f"{i} + 1?",
            "model_output_step_format": [[f"{i} + 1 = {i + 1}."], ["Done."]],
            "model_output_solution_correctness": "wrong" if i % 2 else "correct",
            "model_output_solution_first_error_step": 2 if i % 2 else "N/A",
        },
        lambda i: i,
    ),
    "processbench": (
        lambda i: {
            "id": f"p-{i}",
            "problem": f"{i} + 1?",
            "steps": [f"{i} + 1 = {i + 1}.", "Done."],
            "label": 1 if i % 2 else -1,
            "final_answer_correct": not i % 2,
        },
        lambda i: f"p-{i}",
    ),
    "prmbench": (
        lambda i: {
            "idx": f"demo_{i}",
            "classification": "circular",
            "original_question": f"{i} + 1?",
            "modified_question": f"{i} + 1?",
            "original_process": [f"{i} + 1 = {i + 1}.", "Done."],
            "modified_process": [f"{i} + 1 = {i + 1}.", "Done."],
            "error_steps": [2],
        },
        lambda i: f"demo_{i}",
    ),
}


@pytest.mark.parametrize("kind", NATIVE)
def test_the_id_of_a_record_finds_its_solution(tmp_path, kind):
    """Lines are in another order than the records: the id alone tells which is which."""
    row, own_id = NATIVE[kind]
    (tmp_path / "data.json").write_text(json.dumps([row(i) for i in range(4)]))
    benchmark = read_benchmark(f"{kind}:{tmp_path / 'data.json'}")
    lines = [{"id": own_id(i), "risks": [i / 10, i / 10]} for i in (2, 0, 3, 1)]
    scores = read_step_scores(write(tmp_path / "s.jsonl", *lines), [benchmark])[benchmark.name]
    assert scores.risks.tolist() == [0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]


SAMPLED = {
    "number": (lambda i: {"id": i, "question": f"{i} + 1?", "answer": str(i + 1)}, lambda i: i, {}),
    "text": (
        lambda i: {"unique_id": f"test/{i}.json", "question": f"{i}?", "answer": "1"},
        lambda i: f"test/{i}.json",
        {},
    ),
    "float": (lambda i: {"idx": i, "question": f"{i}?", "answer": "1"}, float, {}),
    "nested": (
        lambda i: {"about": {"key": f"q-{i}"}, "question": f"{i}?", "answer": "1"},
        lambda i: f"q-{i}",
        {"id": "about.key", "problem": "question", "candidates": "responses", "answer": "answer"},
    ),
}


@pytest.mark.parametrize("kind", SAMPLED)
@pytest.mark.parametrize("layout", ["in their order", "numbered"])
def test_the_id_of_a_record_finds_its_sampled_solutions(tmp_path, kind, layout):
    row, own_id, fields = SAMPLED[kind]
    rows = [row(i) | {"responses": [f"We add.\n#### {k}" for k in range(3)]} for i in range(4)]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    benchmark = read_benchmark(f"bon:{tmp_path / 'data.json'}", fields=fields or None)
    lines = []
    for i in (2, 0, 3, 1):
        risks = [[i / 10 + k / 100] * 2 for k in range(3)]
        if layout == "in their order":
            lines += [{"id": own_id(i), "risks": one} for one in risks]
        else:
            named = int(own_id(i)) if kind == "float" else own_id(i)
            lines += [{"id": f"{named}/{k}", "risks": risks[k]} for k in (1, 2, 0)]
    scores = read_step_scores(write(tmp_path / "s.jsonl", *lines), [benchmark])[benchmark.name]
    expected = [i / 10 + k / 100 for i in range(4) for k in range(3) for _ in range(2)]
    np.testing.assert_allclose(scores.risks, expected)


@pytest.mark.parametrize(("n", "told"), [(1, "solutions without scores: 3"), (3, "more lines than solutions: 3")])
def test_a_record_needs_a_line_for_each_of_its_samples(tmp_path, n, told):
    rows = [{"id": i, "question": f"{i}?", "answer": "1", "responses": ["a\n#### 1", "b\n#### 2"]} for i in range(3)]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    benchmark = read_benchmark(f"bon:{tmp_path / 'data.json'}")
    lines = [{"id": i, "rewards": [0.5, None]} for i in range(3)] * n
    with pytest.raises(ValueError, match=told):
        read_step_scores(write(tmp_path / "s.jsonl", *lines), [benchmark])


SPELLINGS = {
    "ratings": ([1, -1], None),
    "ratings as floats": ([1.0, -1.0], "rating"),
    "booleans": ([True, False], None),
    "0 and 1": ([1, 0], "binary"),
    "names": (["positive", "negative"], None),
    "names of one's own": (["fine", "bad"], ("bad", "fine")),
    "numbers of one's own": ([0, 1], (1, 0)),
    "probabilities": ([1.0, 0.0], "soft"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_declared_meaning_of_labels_is_what_tables_go_by(tmp_path, spelling):
    """The same truth in every spelling gives the same numbers."""
    (right, wrong), vocabulary = SPELLINGS[spelling]
    rng = np.random.default_rng(0)
    solutions = [Solution(f"{i}?", ["a", "b", "c"], id=f"s{i}") for i in range(20)]
    is_wrong = rng.random(60) < 0.3
    y = np.array([wrong if bad else right for bad in is_wrong])
    benchmark = Benchmark.from_dataset("data", StepDataset(flatten(solutions), y, vocabulary=vocabulary))
    risks = np.clip(is_wrong + rng.normal(scale=0.8, size=60), 0, 1)
    lines = [{"id": f"s{i}", "risks": risks[3 * i : 3 * i + 3].tolist()} for i in range(20)]
    found = evaluate({"m": str(write(tmp_path / "s.jsonl", *lines))}, benchmark, n_resamples=0)
    auroc = found.table("Steps of data").rows[0].values["AUROC"].value
    assert auroc == pytest.approx(roc_auc_score(is_wrong, risks))
    first = [next((k for k in range(3) if is_wrong[3 * i + k]), -1) for i in range(20)]
    # A probability does not say for certain where the first error is.
    assert benchmark.first_errors == ([None] * 20 if vocabulary == "soft" else first)


@pytest.mark.parametrize("vocabulary", ["rating", ("no", "so-so", "yes")])
def test_neutral_steps_without_a_wrong_one_are_not_called_wrong(tmp_path, vocabulary):
    """0 and +1 of a source of ratings, as in parts of PRM800K: nothing is wrong, so nothing can be found."""
    solutions = [Solution(f"{i}?", ["a", "b"], id=f"s{i}") for i in range(6)]
    y = ([0, 1] if vocabulary == "rating" else ["so-so", "yes"]) * 6
    benchmark = Benchmark.from_dataset("data", StepDataset(flatten(solutions), y, vocabulary=vocabulary))
    assert benchmark.step_labels.tolist() == [0, 1] * 6
    lines = [{"id": f"s{i}", "risks": [0.8, 0.2]} for i in range(6)]
    found = evaluate({"m": str(write(tmp_path / "s.jsonl", *lines))}, benchmark, n_resamples=0)
    assert found.table("Steps of data").rows[0].values["AUROC"].value is None


def shifted(path, benchmark, rewards, shift):
    """Evaluate a file of raw rewards to which a number was added."""
    lines = [
        {"id": one.id, "raw_rewards": [reward + shift for reward in of_one]}
        for one, of_one in zip(benchmark.solutions, rewards, strict=True)
    ]
    return evaluate({"m": str(write(path / f"s{shift}.jsonl", *lines))}, benchmark, n_resamples=10)


def values_of(evaluation, title, *columns):
    """Return columns of the rows of the model."""
    rows = [row for row in evaluation.table(title).rows if row.system.startswith("m, ") or row.system == "m"]
    return {(row.system, column): row.values.get(column) for row in rows for column in columns}


@pytest.mark.parametrize("shift", [60, -60, 1e6])
def test_adding_a_number_to_raw_rewards_changes_no_ranking(tmp_path, benchmark, shift):
    rng = np.random.default_rng(0)
    rewards = [rng.integers(-3, 4, one.n_steps).tolist() for one in benchmark.solutions]
    first, other = (shifted(tmp_path, benchmark, rewards, by) for by in (0, shift))
    for title, columns in (
        ("Steps of new", ("AUROC", "average precision", "macro-F1")),
        ("First errors of new", ("F1", "on erroneous", "on correct")),
    ):
        found = values_of(first, title, *columns)
        assert found == values_of(other, title, *columns)
        assert None not in found.values()
    assert "raw rewards on their own scale" in first.table("Steps of new").note


@pytest.mark.parametrize("shift", [60, -60, 1e6])
def test_adding_a_number_to_raw_rewards_changes_no_best_of_n(tmp_path, candidates, shift):
    benchmark = read_benchmark(f"bon:{candidates}")
    rewards = [np.linspace(0, 1, one.n_steps) + (i % 3 == 0) for i, one in enumerate(benchmark.solutions)]
    first, other = (shifted(tmp_path, benchmark, rewards, by) for by in (0, shift))
    title = first.tables[0].title
    rules = [f"m, {rule}" for rule in ("min", "max", "first", "last", "mean")]
    best = {rule: values_of(first, title, "best of 3")[rule, "best of 3"] for rule in rules}
    assert best == {rule: values_of(other, title, "best of 3")[rule, "best of 3"] for rule in rules}
    assert {rule: one.value for rule, one in best.items()} == dict.fromkeys(rules, 1.0)
    # A product of numbers that are no probabilities means nothing.
    assert {row.system for row in first.table(title).rows} & {"m, product", "m, sum_log"} == set()


def test_raw_rewards_and_their_sigmoids_agree_where_nothing_saturates(tmp_path, benchmark):
    rng = np.random.default_rng(0)
    rewards = [rng.normal(size=one.n_steps) for one in benchmark.solutions]
    raw = shifted(tmp_path, benchmark, rewards, 0)
    lines = [
        {"id": one.id, "rewards": (1 / (1 + np.exp(-of_one))).tolist()}
        for one, of_one in zip(benchmark.solutions, rewards, strict=True)
    ]
    same = evaluate({"m": str(write(tmp_path / "p.jsonl", *lines))}, benchmark, n_resamples=10)
    columns = ("AUROC", "macro-F1", "macro-F1 at 0.5", "log-loss", "ECE")
    for key, cell in values_of(raw, "Steps of new", *columns).items():
        np.testing.assert_allclose(cell.value, values_of(same, "Steps of new", *columns)[key].value)
    thresholds = [str(values_of(one, "Steps of new", "risk threshold")) for one in (raw, same)]
    assert "reward" in thresholds[0]
    assert "reward" not in thresholds[1]


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


def test_a_file_that_evaluate_would_not_know_is_not_written(tmp_path, classifier, benchmark):
    with pytest.raises(ValueError, match=r"ends in \.jsonl"):
        write_step_scores(tmp_path / "model.txt", classifier, benchmark)


def test_a_file_of_scores_equals_its_model(tmp_path, classifier, benchmark):
    write_step_scores(tmp_path / "model.jsonl", classifier, benchmark)
    by_file = evaluate({"model": str(tmp_path / "model.jsonl")}, benchmark, n_resamples=50).to_dict()
    by_model = evaluate({"model": classifier}, benchmark, n_resamples=50).to_dict()
    assert by_file["models"][0]["kind"] == "scores"
    assert {**by_file, "models": 0} == {**by_model, "models": 0}
