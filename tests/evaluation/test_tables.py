"""The numbers in the tables: against scikit-learn, brute force, and what can be counted by hand."""

import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from prmkit import PRMClassifier
from prmkit.data import Solution, make_arithmetic_solutions, split_by_problem
from prmkit.data.formats.candidates import load_candidates
from prmkit.evaluation import Benchmark, evaluate
from prmkit.evaluation._inputs._benchmark import CandidateRows
from prmkit.evaluation._inputs._benchmarks import candidates_benchmark
from prmkit.features import StepStatistics
from prmkit.metrics import aggregate, first_error_f1_score, first_error_from_risks


@pytest.fixture
def score(tmp_path):
    """Write risks, given by solution, as a file of scores."""

    def write(benchmark, risks, name="m"):
        path = tmp_path / f"{name}.jsonl"
        lines = [
            json.dumps({"id": solution.id, "risks": list(map(float, risks(solution)))})
            for solution in benchmark.solutions
        ]
        path.write_text("\n".join(lines))
        return str(path)

    return write


def test_step_table_agrees_with_sklearn(benchmark, score, random_risks, value_of):
    risks = {solution.id: random_risks(solution) for solution in benchmark.solutions}
    found = evaluate(score(benchmark, lambda one: risks[one.id]), benchmark, n_resamples=0)
    flat = np.concatenate([risks[one.id] for one in benchmark.solutions])
    wrong = benchmark.step_labels < 0

    def value(column):
        return value_of(found, "Steps of new", "m", column)

    assert value("AUROC") == pytest.approx(roc_auc_score(wrong, flat))
    assert value("average precision") == pytest.approx(average_precision_score(wrong, flat))
    assert value("macro-F1 at 0.5") == pytest.approx(f1_score(wrong, flat > 0.5, average="macro"))
    assert value("accuracy at 0.5") == pytest.approx(((flat > 0.5) == wrong).mean())


def test_first_errors_at_one_half(benchmark, score, random_risks, value_of):
    risks = {solution.id: random_risks(solution) for solution in benchmark.solutions}
    found = evaluate(score(benchmark, lambda one: risks[one.id]), benchmark, n_resamples=0)
    by_solution = [risks[one.id] for one in benchmark.solutions]
    expected = first_error_f1_score(benchmark.first_errors, first_error_from_risks(by_solution, 0.5))
    assert value_of(found, "First errors of new", "m", "F1 at 0.5") == pytest.approx(expected)
    predicted = [one["predicted"]["m"] for one in found.solutions()]
    pairs = zip(benchmark.first_errors, predicted, strict=True)
    near = [guess >= 0 and abs(guess - first) <= 1 for first, guess in pairs if first >= 0]
    assert value_of(found, "First errors of new", "m", "within one step") == pytest.approx(np.mean(near))
    f1, on_erroneous, on_correct = first_error_f1_score(benchmark.first_errors, predicted, return_parts=True)
    for column, expected in (("F1", f1), ("on erroneous", on_erroneous), ("on correct", on_correct)):
        assert value_of(found, "First errors of new", "m", column) == pytest.approx(expected)


def perfect(benchmark):
    first = dict(zip((one.id for one in benchmark.solutions), benchmark.first_errors, strict=True))

    def risks(solution):
        return [0.02 + 0.01 * (step == first[solution.id]) for step in range(solution.n_steps)]

    return risks


def test_a_perfect_ranking_with_low_risks(benchmark, score, value_of):
    """A chosen threshold finds everything where 0.5 finds nothing; a constant scores 0."""
    found = evaluate(score(benchmark, perfect(benchmark)), benchmark, n_resamples=20)
    assert value_of(found, "First errors of new", "m", "F1") == 1.0
    assert value_of(found, "First errors of new", "m", "F1 at 0.5") == 0.0
    assert value_of(found, "First errors of new", "majority", "F1") == 0.0
    assert value_of(found, "Steps of new", "majority", "AUROC") == 0.5
    cell = found.table("First errors of new").rows[0].values["F1"]
    assert (cell.low, cell.high) == (1.0, 1.0)


def test_a_threshold_never_judges_the_problems_that_chose_it(benchmark, score, random_risks):
    """Labels of one half turned round leave the threshold of that half as it was."""
    from prmkit.evaluation._inputs._scoring import StepScores
    from prmkit.evaluation._tables._context import System, choose_by_first_error, thresholds

    scores = StepScores(np.concatenate([random_risks(one) for one in benchmark.solutions]))
    system = System("m", scores)
    before = thresholds(benchmark, system, choose_by_first_error, None, 0).by_solution
    half = before == before[0]
    assert 0 < half.sum() < len(half)
    assert not set(benchmark.problems[half]) & set(benchmark.problems[~half])
    turned = [
        (0 if first < 0 else -1) if mine else first for first, mine in zip(benchmark.first_errors, half, strict=True)
    ]
    other = Benchmark("new", "steps", benchmark.solutions, benchmark.ratings, turned, benchmark.problems)
    after = thresholds(other, system, choose_by_first_error, None, 0).by_solution
    assert np.array_equal(after[half], before[half])
    assert not np.array_equal(after[~half], before[~half])


@pytest.mark.parametrize("name", ["position", "length"])
def test_baselines_never_see_the_labels_of_the_problem(benchmark, name):
    from prmkit.evaluation._tables._context import baseline_systems

    def risks_of_first_problem(ratings):
        changed = Benchmark("b", "steps", benchmark.solutions, ratings, benchmark.first_errors, benchmark.problems)
        [system] = [one for one in baseline_systems(changed, 0) if one.name == name]
        return system.scores.risks[benchmark.step_problems == benchmark.problems[0]]

    mine = benchmark.problems == benchmark.problems[0]
    turned = [
        [-rating for rating in ratings] if changes else ratings
        for ratings, changes in zip(benchmark.ratings, mine, strict=True)
    ]
    assert np.array_equal(risks_of_first_problem(benchmark.ratings), risks_of_first_problem(turned))


def test_a_threshold_from_other_data(benchmark, classifier, value_of):
    chooser = Benchmark.from_dataset("chooser", make_arithmetic_solutions(40, 2, random_state=5))
    inside = evaluate(classifier, [benchmark, chooser], threshold_data="chooser", n_resamples=0)
    outside = evaluate(classifier, benchmark, threshold_data=chooser, n_resamples=0)
    threshold = value_of(inside, "First errors of new", "PRMClassifier", "risk threshold")
    assert "/" not in threshold
    assert value_of(outside, "First errors of new", "PRMClassifier", "risk threshold") == threshold
    assert "Thresholds chosen on chooser" in inside.table("First errors of new").note
    assert [one.name for one in outside.benchmarks] == ["new"]
    assert "/" in value_of(inside, "First errors of chooser", "PRMClassifier", "risk threshold")


@pytest.fixture
def prmbench(tmp_path):
    rows = [
        {
            "idx": f"p{i}",
            "classification": kind,
            "question": f"{i}?",
            "original_question": f"{i}?",
            "modified_question": f"{i}?" if kind == "circular" else f"{i}, without a number?",
            "original_process": ["a", "b", "c"],
            "modified_process": [f"{kind} {i}", "b", "c"],
            "modified_steps": [1],
            "error_steps": [1],
            "reason": "",
        }
        for i in range(8)
        for kind in ("circular", "missing_condition")
    ]
    path = tmp_path / "prmbench.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_prm_score(prmbench, tmp_path, value_of):
    path = tmp_path / "m.jsonl"
    lines = [
        json.dumps({"id": f"p{i}/{kind}", "risks": [0.9 if kind == "circular" else 0.1, 0.1, 0.1]})
        for i in range(8)
        for kind in ("circular", "missing_condition")
    ]
    path.write_text("\n".join(lines))
    found = evaluate(str(path), f"PRMBench=prmbench:{prmbench}", n_resamples=20, quoted=True)
    assert found.benchmarks[0].n_problems == 8
    title = "PRMScore of PRMBench"
    assert value_of(found, title, "m", "simplicity") == 1.0
    assert value_of(found, title, "m", "sensitivity") == pytest.approx((0 + 2 * 2 / (4 + 1)) / 2)
    assert value_of(found, title, "m", "overall at 0.5") == pytest.approx((2 / 3 + 8 / 9) / 2)
    assert value_of(found, "PRMScore of the classes of PRMBench", "m", "circular") == 1.0
    quoted = [row for row in found.table(title).rows if row.quoted]
    assert len(quoted) == 13
    assert all("PRMBench" in row.source for row in quoted)
    assert not any(table.title.startswith("First errors") for table in found.tables)


def test_reasoneval(tmp_path, classifier, value_of):
    invalid = [
        {
            "id": i,
            "question": f"{i}?",
            "ground_truth_answer": "1",
            "generator": "M",
            "model_output": "",
            "model_output_answer_correctness": "wrong",
            "model_output_step_format": [["a"], ["b", "c"]],
            "model_output_solution_correctness": "wrong" if i % 2 else "correct",
            "model_output_solution_first_error_step": "2" if i % 2 else "N/A",
        }
        for i in range(6)
    ]
    redundant = [
        {
            "id": i,
            "question": f"{i}?",
            "ground_truth_answer": "1",
            "generator": "M",
            "model_output_step_format": [["a"], ["b"]],
            "rating": [1, 0],
        }
        for i in range(6)
    ]
    (tmp_path / "both.json").write_text("\n".join(map(json.dumps, invalid + redundant)))
    found = evaluate({"m": classifier}, f"R=reasoneval:{tmp_path / 'both.json'}", n_resamples=10)
    titles = [table.title for table in found.tables]
    assert "ReasonEval, invalid steps: R" in titles
    assert "ReasonEval, redundant steps: R" in titles
    assert value_of(found, "ReasonEval, redundant steps: R", "m", "solution AUROC") is None  # all are redundant


def test_best_of_n_by_enumeration(score, random_risks, value_of):
    rng = np.random.default_rng(1)
    sets = load_candidates(
        [
            {
                "prompt": f"{i}?",
                "answers": [f"step\nThe answer is {rng.integers(3)}" for _ in range(5)],
                "label": rng.integers(2, size=5).tolist(),
            }
            for i in range(12)
        ]
    )
    benchmark = candidates_benchmark("bon", sets)
    risks = {solution.id: random_risks(solution) for solution in benchmark.solutions}
    found = evaluate(score(benchmark, lambda one: risks[one.id]), benchmark, n_resamples=10)
    scores = aggregate([1 - risks[one.id] for one in benchmark.solutions], "product").reshape(12, 5)
    correct = benchmark.candidates.correct.reshape(12, 5)
    subsets = list(itertools.combinations(range(5), 2))
    expected = np.mean([correct[i, max(s, key=lambda k: scores[i, k])] for i in range(12) for s in subsets])
    title = "Best of N, bon"
    assert value_of(found, title, "m, product", "best of 2") == pytest.approx(expected)
    assert value_of(found, title, "random candidate", "best of 4") == pytest.approx(correct.mean())
    oracle = np.mean([correct[i, list(s)].any() for i in range(12) for s in subsets])
    assert value_of(found, title, "pass@N (oracle)", "best of 2") == pytest.approx(oracle)
    assert value_of(found, title, "m, product", "best of 1") == pytest.approx(correct.mean())
    assert found.table(title).columns == ["best of 1", "best of 2", "best of 4", "best of 5"]
    [curve] = [one for one in found.curves if one.kind == "best_of_n"]
    assert curve.series[0].x.tolist() == [1, 2, 4, 5]


def test_selection_baselines(candidates, tmp_path, value_of):
    path = tmp_path / "m.jsonl"
    lines = [
        json.dumps({"id": f"samples:{line}/{k}", "risks": [0.5] * (2 if k == 0 else 1)})
        for line in range(1, 11)
        for k in range(3)
    ]
    path.write_text("\n".join(lines))
    found = evaluate(str(path), f"B=bon:{candidates}", n_resamples=10)
    assert value_of(found, "Best of N, B", "longest candidate", "best of 3") == 1.0
    assert value_of(found, "Best of N, B", "shortest candidate", "best of 3") == 0.0
    assert value_of(found, "Best of N, B", "majority", "best of 3") == pytest.approx(1 / 3, abs=1e-5)  # all differ
    assert value_of(found, "Best of N, B", "m, mean", "best of 3") == 1.0  # equal scores: the first
    assert value_of(found, "Best of N, B", "m, product", "best of 3") == 0.0


def test_votes_of_few_candidates_do_not_depend_on_the_seed(score):
    """Eight candidates have at most 70 subsets: the note calls their votes exact."""
    rng = np.random.default_rng(0)
    solutions = [Solution(f"p{i // 8}", [f"a{i}"], id=str(i)) for i in range(80)]
    answers = [str(answer) for answer in rng.integers(0, 3, 80)]
    candidates = CandidateRows(np.arange(80) // 8, np.array([answer == "1" for answer in answers]), answers)
    keys = (np.arange(80) // 8).astype(np.uint64)
    benchmark = Benchmark("b", "bon", solutions, [(None,)] * 80, [None] * 80, keys, "", candidates)
    scores = score(benchmark, lambda solution: [0.1 + int(solution.id) % 7 / 10])
    tables = [evaluate(scores, benchmark, n_resamples=0, random_state=seed).tables[0] for seed in (0, 1)]
    first, second = ({row.system: row.values for row in table.rows} for table in tables)
    assert first == second
    assert "majority" in first
    assert "'last' is the reward of the last step" in tables[0].note


def test_candidates_of_unequal_number(score):
    solutions = [Solution("p", ["a"], id=str(i)) for i in range(5)]
    candidates = CandidateRows(np.array([0, 0, 1, 1, 1]), np.array([True, False, False, False, True]), [None] * 5)
    keys = np.array([1, 1, 2, 2, 2], dtype=np.uint64)
    benchmark = Benchmark("b", "bon", solutions, [(None,)] * 5, [None] * 5, keys, "", candidates)
    found = evaluate(score(benchmark, lambda _: [0.5]), benchmark, n_resamples=10)
    table = found.table("Best of N, b")
    assert table.columns == ["best of 1", "best of 2"]
    assert "2 to 3 each" in table.note
    assert "majority" not in [row.system for row in table.rows]


def test_each_split_has_its_own_column_of_processbench():
    data = make_arithmetic_solutions(60, 1, error_rate=0.5, random_state=0)
    one, other = split_by_problem(data, 0.5, 0.5, random_state=0)
    classifier = PRMClassifier(StepStatistics()).fit(*make_arithmetic_solutions(40, 2, random_state=7))
    on = [
        Benchmark.from_dataset("gsm8k a", one, "processbench"),
        Benchmark.from_dataset("gsm8k b", other, "processbench"),
    ]
    result = evaluate({"m": classifier}, on, n_resamples=5, quoted=True, show_progress=False)
    table = result.table("ProcessBench F1")
    assert table.columns == ["gsm8k a", "gsm8k b", "mean"]
    of_one = result.table("First errors of gsm8k a").rows[0].values["F1"].value
    of_other = result.table("First errors of gsm8k b").rows[0].values["F1"].value
    row = table.rows[0].values
    assert (row["gsm8k a"].value, row["gsm8k b"].value) == (of_one, of_other)
    assert row["mean"].value == pytest.approx((of_one + of_other) / 2)
    published = next(row for row in table.rows if row.system == "Skywork-PRM-7B")
    assert published.values["gsm8k b"].value == 0.708


def test_macro_f1_without_wrong_steps_is_undefined():
    data = make_arithmetic_solutions(20, 1, error_rate=0.0, neutral_rate=0.0, random_state=0)
    classifier = PRMClassifier(StepStatistics()).fit(*make_arithmetic_solutions(40, 2, random_state=7))
    benchmark = Benchmark.from_dataset("right", data)
    result = evaluate({"m": classifier}, benchmark, n_resamples=5, show_progress=False)
    assert all(row.values["macro-F1 at 0.5"].value is None for row in result.table("Steps of right").rows)
