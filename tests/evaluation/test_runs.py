"""What a run says of itself, what it reads, and the folder that it writes to."""

import hashlib
import json
import re
import shlex
import warnings
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from prmkit.cli import app
from prmkit.data import Solution, StepDataset, flatten, load, make_arithmetic_solutions, write
from prmkit.evaluation import Benchmark, evaluate


def typed(*arguments):
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def here(tmp_path, monkeypatch, processbench, model_folder):
    """A folder of the user's, who types relative paths."""
    monkeypatch.chdir(tmp_path)
    Path("gsm8k.json").write_bytes(processbench.read_bytes())
    Path("my model").symlink_to(model_folder)
    return tmp_path


def the_report(folder="out"):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


# ---- the first records


@pytest.mark.parametrize("kind", ["processbench", "prm800k", "stepwise", "sdiehl", "flat", "rated", "math_shepherd"])
def test_the_first_records_of_any_format(classifier, tmp_path, kind):
    write(make_arithmetic_solutions(10, 2, random_state=5), tmp_path / "data.jsonl", kind)
    spec = f"{kind}:{tmp_path / 'data.jsonl'}"
    [some] = evaluate(classifier, spec, limit=6, n_resamples=0).benchmarks
    [all_of_it] = evaluate(classifier, spec, n_resamples=0).benchmarks
    assert 0 < len(some.solutions) <= 6
    assert some.solutions == all_of_it.solutions[: len(some.solutions)]
    assert "read: at most the first 6 records" in some.description
    assert "at most" not in all_of_it.description


def test_the_first_records_of_each_source(classifier, processbench, candidates, benchmark):
    threshold = Benchmark.from_dataset("other", make_arithmetic_solutions(20, random_state=9))
    found = evaluate(
        classifier,
        {"a": f"processbench:{processbench}", "b": f"bon:{candidates}", "c": benchmark},
        threshold_data=threshold,
        limit=4,
        n_resamples=0,
    )
    assert [(one.name, len(one.solutions)) for one in found.benchmarks] == [("a", 4), ("b", 12), ("c", 4)]
    assert "taken: the first 4 of 80 solutions" in found.benchmarks[2].description
    assert found.run["limit"] == 4


def test_the_first_problems_of_candidates(classifier, candidates):
    from prmkit.evaluation import read_benchmark

    some = read_benchmark(read_benchmark(f"bon:{candidates}"), limit=3)
    assert len(some.solutions) == 9
    assert some.candidates.correct.tolist() == [True, False, False] * 3
    assert "taken: the first 3 of 10 problems" in some.description


@pytest.mark.parametrize("limit", [0, -1, 2.5, True])
def test_a_senseless_limit_is_refused(classifier, benchmark, limit):
    with pytest.raises(ValueError, match="limit is"):
        evaluate(classifier, benchmark, limit=limit)


def test_a_file_of_scores_may_hold_more_than_the_first_records(here):
    rows = json.loads(Path("gsm8k.json").read_text())
    for row in rows:
        row["id"] = "the same"
    Path("same.json").write_text(json.dumps(rows))
    scores = [{"id": "the same", "rewards": [i / 1000] * len(row["steps"])} for i, row in enumerate(rows)]
    Path("scores.jsonl").write_text("\n".join(map(json.dumps, scores)))
    found = evaluate("scores.jsonl", "processbench:same.json", limit=20, n_resamples=0)
    assert [one["risks"]["scores"][0] for one in found.solutions()] == pytest.approx([1 - i / 1000 for i in range(20)])


def test_limit_in_a_terminal(here):
    code, said = typed("my model", "--on", "gsm8k.json", "--limit", 10, "--out", "out", "--resamples", 0)
    assert code == 0, said
    assert "10 solutions of" in said
    assert json.loads(Path("out/run.json").read_text())["limit"] == 10
    code, said = typed("my model", "--on", "gsm8k.json", "--limit", 0, "--out", "out")
    assert code == 2
    assert "--limit is 0" in said


# ---- the folder


def test_a_report_is_replaced_by_the_same_run_alone(here, classifier):
    spec = "processbench:gsm8k.json"
    settings = {"out": "out", "n_resamples": 0, "limit": 20}
    evaluate({"m": classifier}, spec, **settings)
    before = the_report()
    evaluate({"m": classifier}, spec, **settings)
    after = the_report()
    assert before.pop("run.json") != after.pop("run.json")
    assert before == after
    for models, on, more, told in (
        ({"n": classifier}, spec, {}, "other models"),
        ({"m": classifier}, {"x": spec}, {}, "other data"),
        ({"m": classifier}, spec, {"limit": 3}, "other data"),
        ({"m": classifier}, spec, {"random_state": 1}, "other settings"),
        ({"n": classifier}, spec, {"n_resamples": 1}, "other models and settings"),
    ):
        with pytest.raises(
            FileExistsError, match=f"another run .*: {told}. Choose another folder, or pass overwrite=T"
        ):
            evaluate(models, on, **{**settings, **more})
        with pytest.raises(FileExistsError):
            evaluate(models, on, **{**settings, **more, "out": None}).save("out")
    assert {name: text for name, text in the_report().items() if name != "run.json"} == before


def test_another_run_is_refused_before_anything_is_scored(here, benchmark):
    class Untouched:
        classes_, label_order_ = np.array([-1, 1]), [-1, 1]

        def predict_proba(self, X):
            raise AssertionError("scored")

    for name in ("results.json", "results.md", "report.html", "run.json"):
        Path("out").mkdir(exist_ok=True)
        Path("out", name).write_text("{}")
        with pytest.raises(FileExistsError, match=rf"another run \({name}\): other origin"):
            evaluate({"m": Untouched()}, benchmark, out="out")
        Path("out", name).unlink()


def test_overwrite_replaces_another_run_and_keeps_its_scores(here):
    arguments = ["my model", "--out", "out", "--resamples", 0, "--on"]
    assert typed(*arguments, "a=gsm8k.json", "--limit", 70)[0] == 0
    [stored] = Path("out/scores").iterdir()
    size = stored.stat().st_size
    code, said = typed(*arguments, "b=gsm8k.json")
    assert code == 2
    assert "out holds the report of another run" in said
    assert "or pass --overwrite to replace it" in said
    code, said = typed(*arguments, "b=gsm8k.json", "--overwrite")
    assert code == 0, said
    assert list(Path("out/scores").iterdir()) == [stored]
    lines = stored.read_text().splitlines()
    assert len(lines[0]) + len(lines[1]) + 2 == size
    digests = [one for line in lines for one in json.loads(line)["solutions"]]
    assert len(digests) == len(set(digests)) == 200
    assert json.loads(Path("out/results.json").read_text())["benchmarks"][0]["name"] == "b"


def test_a_failure_while_writing_leaves_the_old_report(here, classifier, monkeypatch):
    evaluate({"m": classifier}, "gsm8k.json", out="out", n_resamples=0, limit=20)
    before = the_report()
    found = evaluate({"other": classifier}, "gsm8k.json", n_resamples=0, limit=20)

    def broken():
        yield next(iter(records()))
        raise RuntimeError("the disk is full")

    records = found.solutions
    object.__setattr__(found, "solutions", broken)
    with pytest.raises(RuntimeError):
        found.save("out", overwrite=True)
    assert the_report() == before


# ---- tables that are not there


def of_solutions(*first_errors):
    """Solutions of three steps with these first errors, unlabelled from there on."""
    labels = [[-1 if t == first else 1 for t in range(3)][: first + 1 or None] for first in first_errors]
    solutions = [Solution(f"{i} + 1?", [f"{i} + {t} = {i + t}." for t in range(3)]) for i in range(len(labels))]
    rows = [step for one, own in zip(solutions, labels, strict=True) for step in flatten([one])[: len(own)]]
    return StepDataset(rows, np.concatenate(labels), vocabulary="rating")


@pytest.mark.parametrize(
    ("first_errors", "told"),
    [
        ((-1, -1, -1), "there is no solution with an error among the 3 solutions"),
        ((0, 1), "there is no correct solution"),
    ],
)
def test_a_missing_f1_says_why_everywhere(classifier, tmp_path, first_errors, told):
    found = evaluate({"m": classifier}, {"mine": of_solutions(*first_errors)}, out=tmp_path / "out", n_resamples=0)
    [one] = found.to_dict()["left_out"]
    assert (one["title"], one["benchmark"]) == ("First errors of mine", "mine")
    assert told in one["why"]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["left_out"] == [one]
    assert f'- no table "First errors of mine": {one["why"]}' in (tmp_path / "out" / "results.md").read_text()
    page = unescape(re.sub(r"<[^>]+>", "", (tmp_path / "out" / "report.html").read_text()))
    assert f"No table “First errors of mine”: {one['why']}" in page
    with pytest.raises(KeyError, match=told):
        found.table("First errors of mine")


def test_a_split_without_f1_is_named_beside_the_mean(here):
    rows = json.loads(Path("gsm8k.json").read_text())[:60]
    Path("gsm8k.json").write_text(json.dumps(rows))
    Path("math.json").write_text(json.dumps([row for row in rows if row["label"] < 0]))
    found = evaluate("my model", ["processbench:gsm8k.json", "processbench:math.json"], n_resamples=0)
    why = {one.title: one.why for one in found.left_out}
    assert set(why) == {"ProcessBench F1", "First errors of processbench math"}
    assert "no table of first errors of processbench math" in why["ProcessBench F1"]
    Path("omni.json").write_text(json.dumps(rows[:40]))
    found = evaluate("my model", [f"processbench:{name}.json" for name in ("gsm8k", "math", "omni")], n_resamples=0)
    assert "Without processbench math" in found.table("ProcessBench F1").note
    assert found.table("ProcessBench F1").columns == ["processbench gsm8k", "processbench omni", "mean"]


def test_f1_without_a_threshold_says_why(classifier):
    """One erroneous solution stands in one half, so the other half has no threshold."""
    found = evaluate({"m": classifier}, {"few": of_solutions(-1, -1, -1, 2, -1)}, n_resamples=0)
    table = found.table("First errors of few")
    assert "F1" not in table.rows[0].values
    assert "F1 of m, majority, position, length is not there, since no threshold could be chosen" in table.note
    assert "macro-F1 of m, " in found.table("Steps of few").note


def test_prm800k_has_no_first_errors_to_find(classifier, tmp_path):
    write(make_arithmetic_solutions(20, 2, random_state=5), tmp_path / "data.jsonl", "prm800k")
    found = evaluate(classifier, f"x=prm800k:{tmp_path / 'data.jsonl'}", n_resamples=0)
    assert [one.title for one in found.left_out] == ["First errors of x"]
    assert "its length alone tells" in found.left_out[0].why


def test_quoted_without_published_numbers_says_so(here, classifier):
    found = evaluate(
        classifier,
        dict.fromkeys(("gsm8k", "mine"), "processbench:gsm8k.json") | {"steps": of_solutions(-1, 0, 1)},
        quoted=True,
        n_resamples=0,
    )
    why = {one.title: one.why for one in found.left_out}
    assert set(why) == {"Published numbers for mine", "Published numbers for steps"}
    assert "gsm8k, math, olympiadbench, omnimath" in why["Published numbers for mine"]
    assert any(row.quoted for row in found.table("ProcessBench F1").rows)


def test_votes_need_answers(classifier, tmp_path):
    rows = [{"prompt": f"{i} + 1?", "answers": ["We add.", "We do not."], "label": [1, 0]} for i in range(3)]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluate(classifier, f"b=bon:{tmp_path / 'samples.jsonl'}", n_resamples=0)
    assert [(one.title, "no answer was found" in one.why) for one in found.left_out] == [("Rows of votes, b", True)]


# ---- command and files


def test_the_report_names_the_command_and_its_files(here):
    arguments = ["it's=my model", "--on", "gsm8k.json", "--out", "my out", "--resamples", "0"]
    code, said = typed(*arguments)
    assert code == 0, said
    run = json.loads(Path("my out/run.json").read_text())
    assert shlex.split(run["command"]) == ["prmkit", "evaluate", *arguments]
    digests = {
        path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in ("my model/config.json", "gsm8k.json")
    }
    names = ["it's", "processbench gsm8k"]
    assert run["inputs"] == [
        {"name": name, "path": path, "sha256": digest}
        for name, (path, digest) in zip(names, digests.items(), strict=True)
    ]
    page = Path("my out/report.html").read_text()
    shown = unescape(re.sub(r"<[^>]+>", "", page))
    for text in (run["command"], *digests, *digests.values()):
        assert text in shown
    for file in Path("my out").glob("*.*"):
        assert str(here) not in file.read_text()


@pytest.mark.parametrize("path", ["parts", "parts/*.jsonl", "./parts/../parts"])
def test_every_file_of_a_folder_is_named_as_it_was_typed(here, classifier, path):
    Path("parts").mkdir()
    rows = json.loads(Path("gsm8k.json").read_text())[:20]
    rows[0]["label"] = 99
    for name in ("first", "second"):
        Path("parts", f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.warns(UserWarning, match="contradict themselves"):
        found = evaluate({"m": classifier}, f"processbench:{path}", n_resamples=0, out="out")
    [_, *files] = found.run["inputs"]
    assert [Path(one["path"]).name for one in files] == ["first.jsonl", "second.jsonl"]
    for one in files:
        assert one["sha256"] == hashlib.sha256(Path(one["path"]).read_bytes()).hexdigest()
    assert "skipped: " in found.benchmarks[0].description
    for file in Path("out").glob("*.*"):
        assert str(here) not in file.read_text()


def test_a_python_call_stands_for_a_command(classifier, benchmark, tmp_path):
    found = evaluate({"m": classifier}, [benchmark], n_resamples=0, out=tmp_path / "out", show_progress=False)
    assert found.run["command"] == "evaluate({'m': <PRMClassifier>}, [<Benchmark>], n_resamples=0)"
    assert found.run["inputs"] == [{"name": "m", "path": "an object in memory", "sha256": ""}]
    assert str(tmp_path) not in (tmp_path / "out" / "report.html").read_text()


# ---- fields


@pytest.fixture
def rows(here):
    """Labels below names of nobody's format, and samples beside them."""
    data = make_arithmetic_solutions(20, 2, random_state=6)
    labels = iter(data.y.tolist())
    records = [
        {"q": one.problem, "out": {"parts": [{"text": text, "ok": int(next(labels) > 0)} for text in one.steps]}}
        for one in data.solutions
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, records)))
    samples = [
        {"q": f"{i} + 1?", "gold": str(i + 1), "tries": [{"s": f"#### {i + 1}"}, {"s": "#### 0"}]} for i in range(8)
    ]
    Path("samples.jsonl").write_text("\n".join(map(json.dumps, samples)))
    return data


FIELDS = "problem=q,steps=out.parts.text,labels=out.parts.ok"


def test_fields_of_step_labels(rows, classifier):
    code, said = typed(
        "my model", "--on", "mine=rows.jsonl", "p=processbench:gsm8k.json", "--fields", FIELDS, "--option",
        "labels=binary", "--out", "out", "--resamples", 0,
    )  # fmt: skip
    assert code == 0, said
    by_flags = json.loads(Path("out/results.json").read_text())
    assert [one["name"] for one in by_flags["benchmarks"]] == ["mine", "p"]
    fields = dict(pair.split("=") for pair in FIELDS.split(","))
    in_python = evaluate(
        {"my model": classifier}, {"mine": load("rows.jsonl", fields=fields, labels="binary")}, n_resamples=0
    )
    title = "Steps of mine"
    shown = next(table for table in by_flags["tables"] if table["title"] == title)
    assert shown["rows"][0]["values"] == in_python.to_dict()["tables"][1]["rows"][0]["values"]
    assert in_python.table(title).title == shown["title"]
    assert in_python.benchmarks[0].step_labels.tolist() == np.where(rows.y > 0, 1, -1).tolist()


@pytest.mark.parametrize("spec", ["samples.jsonl", "bon:samples.jsonl"])
def test_fields_of_candidates(rows, spec):
    fields = "problem=q,candidates=tries.s,answer=gold"
    code, said = typed("my model", "--on", spec, "--fields", fields, "--out", "out", "--resamples", 0)
    assert code == 0, said
    assert "Best of N, bon samples" in said
    assert "16 solutions of 8 problems" in said


def test_fields_that_no_data_take_are_refused(rows):
    code, said = typed("my model", "--on", "processbench:gsm8k.json", "--fields", FIELDS, "--out", "out")
    assert code == 2
    assert "Error: --fields is for data without a KIND in front" in said
    code, said = typed("my model", "--on", "rows.jsonl", "--fields", "problem", "--out", "out")
    assert code == 2
    assert "expected NAME=FIELD" in said


# ---- warnings


def test_one_warning_for_what_was_read_names_its_data(here, classifier):
    rows = json.loads(Path("gsm8k.json").read_text())
    rows[0]["label"] = 99
    for name in ("a", "b"):
        Path(f"{name}.json").write_text(json.dumps(rows))
    with pytest.warns(UserWarning, match="contradict") as caught:
        evaluate({"m": classifier}, ["a=processbench:a.json", "b=processbench:b.json"], n_resamples=0)
    [one] = caught
    assert Path(one.filename).name == "test_runs.py"
    for name in ("a", "b"):
        assert f"{name}: 1 rows that contradict themselves" in str(one.message)


def test_one_warning_for_what_was_scored_names_the_solutions(published_trl):
    long = Solution("1 + 1?", ["We add. " * 5, "We add. " * 500, "We add."], id="long")
    short = Solution("1 + 1?", ["We add.", "That is 3."], id="short")
    data = StepDataset(flatten([long, short]), np.array([1, -1, 1, -1, 1]))
    models = [f"one=trl:{published_trl}", f"two=trl:{published_trl}"]
    with pytest.warns(UserWarning, match="no score for") as caught:
        evaluate(models, {"x": data, "y": data}, n_resamples=0)
    [one] = [str(one.message) for one in caught]
    for model in ("one", "two"):
        for name in ("x", "y"):
            assert re.search(rf"{model} on {name}: .*no score for 2 of 5 steps, in 1 of 2 solutions \('long'\)", one)


def test_advice_in_a_terminal_can_be_typed(here):
    rows = [
        {"input": f"{i} and one? {i} + 1 = {i + 1}. \u043a\u0438", "value": ["-" if i % 3 else "+"]} for i in range(12)
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one = {"question": "1?", "answer": "1"}
    samples = [{**one, "responses": ["a\n\nb #### 1"] * 4}, {**one, "responses": ["One. Two. #### 1"] * 8}]
    Path("samples.jsonl").write_text("\n".join(map(json.dumps, samples)))
    on = ["openrlhf:rows.jsonl", "bon-line:samples.jsonl", "x=bon-sentence:samples.jsonl"]
    code, said = typed("my model", "--on", *on, "--out", "out", "--resamples", 0)
    assert code == 0, said
    [note] = re.findall(r"note: (.*?) # Evaluation", said)
    assert "rows name no problem" in note
    assert "--option step_separator=" in note
    assert "Pass --on bon-sentence:PATH" in note
    assert not re.search(r"\b(by|max_length)=|pass [a-z_]+ ", note)
