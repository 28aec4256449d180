"""``prmkit evaluate`` from a terminal."""

import json
import re

import pytest
from typer.testing import CliRunner

from prmkit.cli import app
from prmkit.data import make_arithmetic_solutions


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def files(tmp_path):
    """Two benchmarks of one made-up ProcessBench, and constant scores for both."""
    data = make_arithmetic_solutions(30, 2, random_state=0)
    rows, scores = [], []
    for i, (solution, first) in enumerate(zip(data.solutions, data.first_errors, strict=True)):
        rows.append(
            {
                "id": f"made-{i}",
                "generator": "M",
                "problem": solution.problem,
                "steps": list(solution.steps),
                "final_answer_correct": first == -1,
                "label": int(first),
            }
        )
        scores.append({"id": f"made-{i}", "risks": [0.9 if k == first else 0.1 for k in range(solution.n_steps)]})
    for name in ("gsm8k", "math"):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    (tmp_path / "scores.jsonl").write_text("\n".join(map(json.dumps, scores)))
    return tmp_path


def test_several_benchmarks_after_one_option(files):
    done = run(
        f"mine={files / 'scores.jsonl'}",
        "--on",
        f"processbench:{files / 'gsm8k.json'}",
        f"processbench:{files / 'math.json'}",
        "--out",
        files / "report",
        "--resamples",
        "10",
    )
    assert done.exit_code == 0, done.output
    assert "| mine | 1.000 | 1.000 | 1.000 |" in "".join(
        line.replace(" [1.000, 1.000]", "") + "\n" for line in done.output.splitlines()
    )
    result = json.loads((files / "report" / "results.json").read_text())
    assert [one["name"] for one in result["benchmarks"]] == ["processbench gsm8k", "processbench math"]
    assert result["models"] == [{"name": "mine", "kind": "scores", "path": str(files / "scores.jsonl")}]
    assert (files / "report" / "report.html").stat().st_size > 10_000
    assert (files / "report" / "results.md").read_text() in done.output


def test_the_option_several_times_and_models_on_either_side(files):
    done = run(
        "--on",
        f"a=processbench:{files / 'gsm8k.json'}",
        "--on",
        f"b=processbench:{files / 'math.json'}",
        "--threshold-data",
        "a",
        "--out",
        files / "report",
        files / "scores.jsonl",
        "--resamples",
        "0",
    )
    assert done.exit_code == 0, done.output
    assert "Thresholds chosen on a" in done.output


def test_help_teaches():
    text = " ".join(run("--help").output.split())
    for wanted in (
        "--on processbench:gsm8k.json processbench:math.json",
        '"rewards": [0.98, 0.12]',
        "bon:samples.jsonl",
    ):
        assert wanted in text.replace("│ ", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "--on", "processbench:{}/gsm8k.json"], "the model nowhere does not exist"),
        (["{}/scores.jsonl", "--on", "what:{}/none.json"], "unknown kind 'what'"),
        (["{}/scores.jsonl", "--on", "processbench:{}/none.json"], "none.json does not exist"),
        (
            ["{}/scores.jsonl", "--on", "processbench:{}/gsm8k.json", "--trained-on", "no"],
            "Error: --trained-on is 'no'",
        ),
        (["{}/scores.jsonl", "--on", "{}/broken.jsonl"], "ass --option on_error=skip to leave such lines out"),
    ],
)
def test_errors_are_one_line(files, arguments, told):
    (files / "broken.jsonl").write_text('{"problem": "p", "steps": ["a"], "labels": [1]}\n{broken\n')
    done = run(*(one.format(files) for one in arguments), "--out", files / "report")
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not (files / "report" / "results.json").exists()


def test_a_table_of_steps_by_its_columns(tmp_path):
    """The error proposes what can be typed, in each command that reads step labels."""
    path, scores = tmp_path / "rows.csv", tmp_path / "scores.jsonl"
    rows = [f"{i} + 2?,{k + 1},Step {k} of {i}.,{'ok' if k or i % 2 else 'off'}" for i in range(6) for k in (0, 1)]
    path.write_text("\n".join(["the task,step_no,text,verdict", *rows]))
    scores.write_text("\n".join(json.dumps({"id": f"rows:{2 * i}", "rewards": [0.2, 0.9]}) for i in range(6)))
    evaluate = [scores, "--on", path, "--out", tmp_path / "out", "--resamples", "0"]
    told = " ".join(run(*evaluate).output.split())
    fields, labels = re.search(r"--fields '([^']*)' --option '?(label_map='?\{[^}]*\})", told).groups()
    assert fields == "problem=the task,step=text,order=step_no,label=verdict"
    option = labels.replace("'", "").replace('"off": …', '"off": -1').replace('"ok": …', '"ok": 1')
    said = run(*evaluate, "--fields", fields, "--option", option).output
    assert "6 solutions of 6 problems" in said
    converted = CliRunner().invoke(
        app, ["convert", str(path), str(tmp_path / "o.jsonl"), "--to", "rated", "--fields", fields, "--option", option]
    )
    assert "written: 6 solutions" in converted.output
    read = [json.loads(line)["labels"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert read == [[-1, 1], [1, 1]] * 3


def test_samples_by_their_fields(tmp_path):
    """Lines of one problem need not be neighbours, and what the messages advise can be typed."""
    path, scores = tmp_path / "mine.jsonl", tmp_path / "scores.jsonl"
    rows = [
        {"question": f"{i} + 2?", "output": f"Add 2.\n\nThe answer is {i + 2 + k}.", "gold": i + 2}
        for k in (0, 1)
        for i in range(5)
    ]
    path.write_text("\n".join(map(json.dumps, [*rows, {"question": "8 + 2?", "gold": 3}])))
    lines = [{"id": f"mine:{i + 1}/{k}", "rewards": [0.9, 0.8 - k / 2]} for i in range(5) for k in (0, 1)]
    scores.write_text("\n".join(map(json.dumps, lines)))
    command = [scores, "--on", path, "--out", tmp_path / "out", "--resamples", "0"]

    def told(*flags):
        return " ".join(run(*command, *flags).output.split())

    fields = re.search(r"prmkit evaluate MODEL --on PATH --out FOLDER --fields (\S+) reads", told())[1]
    assert fields == "problem=question,text=output,reference=gold"
    said = told("--fields", fields)
    assert "line 11: without output" in said
    assert "Pass --option on_error=skip" in said
    said = told("--fields", fields, "--option", "on_error=skip")
    assert "10 solutions of 5 problems" in said
    assert "| scores, min | 0.500 | 1.000 |" in said
    (tmp_path / "odd.jsonl").write_text(json.dumps({"question": "2?", "outputs": [{"text": "a", "is_correct": True}]}))
    command[2] = f"bon:{tmp_path / 'odd.jsonl'}"
    assert "--fields problem=question,candidates=outputs.text,correct=outputs.is_correct" in told()
