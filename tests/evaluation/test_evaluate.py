"""The whole: several models side by side, files that do not change, and errors that say what to do."""

import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import prmkit
from prmkit import PRMClassifier
from prmkit.data import Solution, StepDataset, flatten, make_arithmetic_solutions, write
from prmkit.evaluation import Benchmark, evaluate, read_benchmark


def test_two_models_and_two_benchmarks(classifier, processbench, benchmark, candidates):
    seen = evaluate(
        {"one": classifier, "two": classifier},
        [f"gsm8k=processbench:{processbench}", benchmark, f"bon={candidates}"],
        n_resamples=20,
    )
    result = seen.to_dict()
    assert set(result) == {"models", "benchmarks", "left_out", "tables", "curves"}
    assert [one["name"] for one in result["benchmarks"]] == ["gsm8k", "new", "bon"]
    assert result["benchmarks"][0]["n_solutions"] == 200
    for table in result["tables"]:
        for row in table["rows"]:
            assert set(row["values"]) == set(table["columns"])
    steps = next(table for table in result["tables"] if table["title"] == "Steps of gsm8k")
    assert [row["system"] for row in steps["rows"]] == ["one", "two", "majority", "position", "length"]
    assert [row["baseline"] for row in steps["rows"]] == [False, False, True, True, True]
    difference = steps["rows"][1]["values"].pop("AUROC minus one")
    assert difference == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert steps["rows"][0]["values"].pop("AUROC minus one") is None
    assert steps["rows"][0]["values"] == steps["rows"][1]["values"]
    firsts = seen.table("First errors of gsm8k").rows
    one, majority = firsts[0].values["F1"], firsts[2].values
    assert majority["F1 minus one"].value == -one.value
    assert (majority["F1 minus one"].low, majority["F1 minus one"].high) == (-one.high, -one.low)
    cell = steps["rows"][0]["values"]["AUROC"]
    assert cell["low"] <= cell["value"] <= cell["high"]
    assert {curve["kind"] for curve in result["curves"]} == {"reliability", "best_of_n", "risk_coverage"}
    text = json.dumps(result, allow_nan=False)
    assert max(len(digits) for digits in re.findall(r"0\.0*([0-9]+)", text)) == 6  # more would be noise


def test_solutions_for_the_browser(classifier, processbench, benchmark):
    found = evaluate({"m": classifier}, f"gsm8k=processbench:{processbench}", n_resamples=0)
    records = list(found.solutions())
    assert len(records) == 200
    first = records[0]
    assert first["id"] == "made-0"
    assert len(first["risks"]["m"]) == len(first["steps"]) == len(first["ratings"])
    assert first["answer_correct"] == (first["gold"] == -1)
    assert all(-1 <= one["predicted"]["m"] < len(one["steps"]) for one in records)


def test_files_are_the_same_every_time(classifier, processbench, tmp_path):
    for name, n_jobs in (("a", None), ("b", 2)):
        evaluate(
            {"m": classifier},
            [f"x=processbench:{processbench}", f"y=processbench:{processbench}"],
            out=tmp_path / name,
            n_resamples=20,
            n_jobs=n_jobs,
        )
    for name in ("results.json", "results.md", "report.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "started" in json.loads((tmp_path / "a" / "run.json").read_text())
    assert "started" not in (tmp_path / "a" / "results.json").read_text()


def test_the_mean_of_splits_and_quoted_rows(classifier, processbench):
    found = evaluate(
        {"m": classifier},
        [f"gsm8k=processbench:{processbench}", f"math=processbench:{processbench}"],
        quoted=True,
        n_resamples=0,
    )
    table = found.table("ProcessBench F1")
    assert table.columns == ["gsm8k", "math", "mean"]
    row = next(row for row in table.rows if row.system == "Math-Shepherd-PRM-7B")
    assert row.quoted
    assert row.source == "arXiv:2412.06559v4, Table 3"
    assert row.values["mean"].value == pytest.approx((0.479 + 0.295) / 2)
    assert "Math-Shepherd-PRM-7B (quoted: arXiv:2412.06559v4, Table 3) | 0.479 | 0.295 |" in found.to_markdown()
    assert table.rows[0].values["mean"].value == pytest.approx(table.rows[0].values["gsm8k"].value)


def test_problems_that_a_model_was_trained_on_are_left_out(classifier):
    known = make_arithmetic_solutions(60, 2, random_state=0)
    new = make_arithmetic_solutions(20, 2, random_state=3)
    solutions = known.solutions[:10] + new.solutions
    ratings = np.concatenate([known.y[: len(flatten(known.solutions[:10]))], new.y])
    mixed = Benchmark.from_dataset("mixed", StepDataset(flatten(solutions), ratings))
    left = evaluate({"m": classifier}, mixed, n_resamples=0).benchmarks[0]
    assert left.solutions == new.solutions
    assert "m was trained on 5 of 25 problems, which are left out" in left.description
    kept = evaluate({"m": classifier}, mixed, trained_on="keep", n_resamples=0)
    assert len(kept.benchmarks[0].solutions) == 50
    assert "its numbers here flatter it" in kept.table("Steps of mixed").note
    with pytest.raises(ValueError, match=r"Nothing is left to evaluate on.*trained_on='keep'"):
        evaluate({"m": classifier}, Benchmark.from_dataset("known", known))


def test_three_classes_only_where_a_model_has_them(classifier, benchmark, tmp_path):
    titles = [table.title for table in evaluate(classifier, benchmark, n_resamples=0).tables]
    assert ("Three classes of new" in titles) == bool((benchmark.step_labels == 0).any())


def test_undefined_numbers_are_none(classifier):
    data = make_arithmetic_solutions(20, 2, random_state=4)
    right = [s for s, first in zip(data.solutions, data.first_errors, strict=True) if first == -1]
    benchmark = Benchmark.from_dataset("right", StepDataset(flatten(right), np.ones(len(flatten(right)), dtype=int)))
    found = evaluate({"m": classifier}, benchmark, n_resamples=10).to_dict()
    assert [table["title"] for table in found["tables"]] == ["Steps of right"]
    values = found["tables"][0]["rows"][0]["values"]
    assert values["AUROC"] == {"value": None, "low": None, "high": None}
    assert values["macro-F1"] is None


@pytest.mark.parametrize(
    ("models", "on", "options", "error", "told"),
    [
        ([], "x", {}, ValueError, "no model"),
        ("nowhere", "x", {}, FileNotFoundError, "a folder that prmkit saved"),
        ("nowhere.jsonl", "x", {}, FileNotFoundError, "step scores"),
        ([3], "x", {}, TypeError, "int, expected a path"),
        ("classifier", [], {}, ValueError, "no benchmark"),
        ("classifier", "both", {}, ValueError, "NAME="),
        ("twice", "one", {}, ValueError, "two models are called"),
        ("classifier", "one", {"trained_on": "drop"}, ValueError, "'exclude', 'keep'"),
        ("classifier", "one", {"threshold_data": "two"}, (ValueError, FileNotFoundError), "two"),
    ],
)
def test_errors(classifier, benchmark, models, on, options, error, told):
    models = (
        {"classifier": classifier, "twice": [classifier, classifier]}.get(models, models)
        if isinstance(models, str)
        else models
    )
    on = {"one": benchmark, "both": [benchmark, benchmark]}.get(on, on) if isinstance(on, str) else on
    with pytest.raises(error, match=told):
        evaluate(models, on, n_resamples=0, **options)


def test_options_of_a_question_do_not_hide_that_it_is_known(classifier, tmp_path):
    """Mr-Ben's problems hold the options too; its question alone is what was trained on."""
    known = make_arithmetic_solutions(60, 2, random_state=0).solutions[0].problem
    rows = {
        str(i): [
            {
                "Question_UUID": str(i),
                "Subject": "math",
                "Question": question,
                "Options": "A: 1, B: 2",
                "Ground_Truth_Answer": "A",
                "Sampled_Model": "M",
                "Model_Solution_Steps": ["a", "b"],
                "Model_Solution_Correctness": "incorrect" if i else "correct",
                "Model_Solution_First_Error_Step": "2" if i else "N/A",
                "Model_Solution_Error_Reason": "",
                "Model_Solution_Rectified_First_Error_Step": "",
            }
        ]
        for i, question in enumerate([known, "new?", "newer?"])
    }
    (tmp_path / "math.json").write_text(json.dumps(rows))
    found = evaluate({"m": classifier}, f"mr_ben:{tmp_path / 'math.json'}", n_resamples=0)
    assert [one.problem for one in found.benchmarks[0].solutions] == ["new?\nA: 1, B: 2", "newer?\nA: 1, B: 2"]


def test_an_existing_prm(published_trl):
    """A folder in a published layout, by its scheme; nobody knows what it was trained on."""
    solutions = [Solution(f"{i} + 1?", ["We add.", f"That is {i + 1}."]) for i in range(6)]
    short = Benchmark.from_dataset("short", StepDataset(flatten(solutions), [1, -1] * 6))
    found = evaluate(f"tiny=trl:{published_trl}", short, n_resamples=0)
    assert found.to_dict()["models"] == [{"name": "tiny", "kind": "pretrained", "path": f"trl:{published_trl}"}]
    assert found.table("Steps of short").rows[0].values["AUROC"].value is not None
    assert "trained on" not in found.benchmarks[0].description


def test_steps_too_long_for_a_model_are_left_out_and_counted(published_trl, tmp_path):
    long = Solution("1 + 1?", ["We add. " * 5, "We add. " * 500, "We add."], id="long")
    short = Solution("2 + 1?", ["We add.", "That is 3."], id="short")
    data = Benchmark.from_dataset("data", StepDataset(flatten([long, short]), [1, -1, 1, -1, 1]))
    for _ in range(2):  # scored, and read back
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = evaluate(f"tiny=trl:{published_trl}", data, n_resamples=0, work=tmp_path)
        told = (
            "tiny gives no score to 2 of 5 steps, in 1 of 2 solutions ('long'): it cannot read them. These solutions "
            "are left out for all: 1 of the 2 with a wrong step, 0 of the 0 without"
        )
        assert told in found.table("Steps of data").note
        assert told in found.benchmarks[0].description
        assert [one["id"] for one in found.solutions()] == ["short"]


def scores_of(path, benchmark, without=()):
    """Write a file of scores that grow with the place of a solution, null for some of them."""
    lines = [
        {"id": one.id, "rewards": [None if one.id in without else 1 - i / 1000] * one.n_steps}
        for i, one in enumerate(benchmark.solutions)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return {"m": str(path)}


def test_a_solution_without_a_score_leaves_the_others_of_its_problem(tmp_path, processbench):
    benchmark = read_benchmark(f"processbench:{processbench}")
    lost = benchmark.solutions[0].id
    assert (benchmark.problems == benchmark.problems[0]).sum() > 1
    found = evaluate(scores_of(tmp_path / "s.jsonl", benchmark, {lost}), benchmark, n_resamples=0)
    assert [one.id for one in found.benchmarks[0].solutions] == [one.id for one in benchmark.solutions[1:]]
    told = f"in 1 of 200 solutions ('{lost}'): its file gives null. These solutions are left out for all"
    assert told in found.table(f"First errors of {benchmark.name}").note


def test_a_candidate_without_a_score_stays_and_is_chosen_last(tmp_path, candidates, value_of):
    """Whether it is right or wrong: to leave out what is hard to read would flatter the model."""
    benchmark = read_benchmark(f"bon:{candidates}")
    for place, expected in ((0, 0.0), (2, 1.0)):  # the right one, which has the best score, and a wrong one
        without = {benchmark.solutions[3 * i + place].id for i in range(10)}
        found = evaluate(scores_of(tmp_path / "s.jsonl", benchmark, without), benchmark, n_resamples=0)
        table = found.tables[0]
        assert "of 10 problems with 3 each" in table.note
        assert "in 10 of 30 solutions" in table.note
        assert "It chooses these candidates after all others" in table.note
        for rule in ("min", "mean", "weighted by min"):
            assert value_of(found, table.title, f"m, {rule}", "best of 3") == expected
        assert value_of(found, table.title, "pass@N (oracle)", "best of 3") == 1.0
    everything = {one.id for one in benchmark.solutions}
    found = evaluate(scores_of(tmp_path / "s.jsonl", benchmark, everything), benchmark, n_resamples=0)
    assert value_of(found, found.tables[0].title, "m, min", "best of 3") == 1.0  # the first of equals


@pytest.mark.filterwarnings("ignore:1 of 4 candidates are blank", "ignore:3 of 3 candidates have one step")
def test_a_blank_candidate_is_counted_and_its_problem_stays(tmp_path, classifier):
    rows = [
        {"prompt": "1 + 1?", "answers": ["The answer is 2", "", "The answer is 3"], "label": [1, 0, 0]},
        {"prompt": "2 + 2?", "answers": ["The answer is 4"], "label": [1]},
    ]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = evaluate({"m": classifier}, f"bon:{tmp_path / 'samples.jsonl'}", n_resamples=0)
    assert found.benchmarks[0].n_problems == 2
    assert "blank candidates left out: 1" in found.benchmarks[0].description
    assert "of 2 problems with 1 to 2 each" in found.tables[0].note


class Plain:
    """A classifier that is no estimator of scikit-learn, and gives what it is told to."""

    classes_ = np.array([-1, 1])

    def __init__(self, change=lambda proba: proba):
        self.change = change

    def predict_proba(self, X):
        return self.change(np.tile([0.3, 0.7], (len(X), 1)))


def test_any_object_with_probabilities_is_a_model(benchmark):
    assert evaluate({"m": Plain()}, benchmark, n_resamples=0).table("Steps of new").rows[0].values["AUROC"].value == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda proba: proba[:-1], "m on new: proba has shape"),
        (lambda proba: proba[:, 0], "m on new: proba has shape"),
        (lambda proba: 2 * proba, "m on new: proba holds 1.4"),
        (lambda proba: np.where([[True, False]], np.nan, proba), "m on new: proba holds nan"),
        (lambda proba: np.nan * proba, r"m gives no score to \d+ of .*its probabilities are NaN.*Nothing is left"),
    ],
)
def test_models_that_give_no_probabilities_are_named(benchmark, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate({"m": Plain(change)}, benchmark, n_resamples=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_resamples": -1}, "n_resamples is -1"),
        ({"n_resamples": 2.5}, "n_resamples is 2.5"),
        ({"random_state": "a"}, "random_state is 'a'"),
        ({"out": __file__}, "expected a folder"),
    ],
)
def test_settings_are_checked_before_anything_is_scored(benchmark, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate({"m": None}, benchmark, **options)


def test_a_path_is_a_benchmark_too_and_nothing_is_not(classifier, processbench, tmp_path):
    assert evaluate(classifier, processbench, n_resamples=0).benchmarks[0].kind == "processbench"
    with pytest.raises(TypeError, match="a benchmark is NoneType"):
        evaluate(classifier, None)
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(ValueError, match="holds no record, expected sampled solutions"):
        evaluate(classifier, f"bon:{tmp_path / 'none.jsonl'}")


def test_objects_that_refuse_long_solutions_are_evaluated_on_the_others(published_trl):
    long = Solution("1 + 1?", ["We add. " * 5, "We add. " * 500, "We add."], id="long")
    short = Solution("1 + 1?", ["We add.", "That is 3."], id="short")
    data = Benchmark.from_dataset("data", StepDataset(flatten([long, short]), [1, -1, 1, -1, 1]))
    classifier = PRMClassifier.from_pretrained(published_trl, "trl", too_long="raise")
    with pytest.warns(UserWarning, match=r"tiny on data: no score for 2 of 5 steps, in 1 of 2 solutions \('long'\)"):
        found = evaluate({"tiny": classifier}, data, n_resamples=0)
    assert [one.id for one in found.benchmarks[0].solutions] == ["short"]
    assert classifier.head_.too_long == "raise"


def test_a_model_whose_numbers_fail_is_named_and_no_step_is_called_too_long(published_trl, benchmark, classifier):
    broken = PRMClassifier.from_pretrained(published_trl, "trl")
    with torch.no_grad():
        next(broken.head_.scorer_.model.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"broken on new: the model gives NaN or infinity"):
        evaluate({"good": classifier, "broken": broken}, benchmark, n_resamples=0)


@pytest.mark.slow
def test_ten_thousand_solutions_from_a_file_of_scores(tmp_path):
    import subprocess
    import sys

    rng = np.random.default_rng(0)
    with (tmp_path / "bench.jsonl").open("w") as bench, (tmp_path / "scores.jsonl").open("w") as scores:
        for i in range(10_000):
            n = int(rng.integers(4, 16))
            first = int(rng.integers(-1, n))
            row = {"id": f"s{i}", "generator": "M", "problem": f"Problem {i // 2}", "final_answer_correct": first < 0}
            bench.write(json.dumps({**row, "steps": [f"Step {k} of {i}." for k in range(n)], "label": first}) + "\n")
            scores.write(json.dumps({"id": f"s{i}", "rewards": rng.random(n).tolist()}) + "\n")
    command = [sys.executable, "-m", "prmkit.cli", "evaluate", str(tmp_path / "scores.jsonl"), "--on"]
    command += [f"processbench:{tmp_path / 'bench.jsonl'}", "--out", str(tmp_path / "out")]
    # A process begins with the peak of the one that starts it, so a small one does: tests before have filled this one.
    measure = (
        "import os, subprocess as s, sys; p = s.Popen(sys.argv[1:], stdout=s.DEVNULL, stderr=s.DEVNULL); "
        "_, status, usage = os.wait4(p.pid, 0); print(status, usage.ru_utime, usage.ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", measure, *command], capture_output=True, text=True, check=True)
    status, seconds, peak = map(float, done.stdout.split())
    assert status == 0
    # Seconds of computing: a busy machine takes longer, and computes no more.
    assert seconds < 180
    assert peak < 1_000_000  # KiB


def test_evaluate_is_a_short_walk(classifier, tmp_path):
    """A reader of ``evaluate`` meets few files of prmkit: those entered at run time are counted."""
    root, files = str(Path(prmkit.__file__).parent), set()
    data = make_arithmetic_solutions(20, 2, random_state=1)
    write(data, tmp_path / "gsm8k.json", "processbench")

    def enter(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(root):
            files.add(frame.f_code.co_filename)

    spec = f"processbench:{tmp_path / 'gsm8k.json'}"
    evaluate(classifier, spec, n_resamples=5)  # modules are imported before files are counted
    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        evaluate(classifier, spec, n_resamples=5, out=tmp_path / "out")
    finally:
        sys.setprofile(before)
    # One of them finds models by their place, for evaluation and for files of scores.
    assert 20 < len(files) <= 44, sorted(files)
