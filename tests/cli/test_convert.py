"""``prmkit convert``: what a user sees, and what lies on the disk afterwards."""

import gzip
import json

import pytest
from typer.testing import CliRunner

from prmkit.cli import app
from prmkit.data import load, load_prm800k
from prmkit.data.formats.registry import FORMATS


def run(*arguments):
    result = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    steps = {"input": "2+3*4?", "value": ["3*4 = 12.", "So 15."], "label": ["+", "-"]}
    path.write_text(f"{json.dumps(steps)}\n" * 2)
    return path


def test_help_teaches():
    text = " ".join(run("--help").output.split())
    for word in ("--from", "--to", "--on-loss", "phase2_train.jsonl", "label_map", "written whole or not at all"):
        assert word in text
    assert "convert" in CliRunner().invoke(app, ["--help"]).output


def test_help_lists_every_format_of_the_registry():
    for command in ("convert", "evaluate", "fit"):
        text = " ".join(CliRunner().invoke(app, [command, "--help"]).output.split())
        for name, file_format in FORMATS.items():
            assert f"{name}: {file_format.description}" in text


def test_every_command_shows_an_example():
    for command in (["fit"], ["train"], ["convert"], ["evaluate"], ["cache", "info"], ["cache", "clear"]):
        text = CliRunner().invoke(app, [*command, "--help"]).output
        assert f"prmkit {' '.join(command)} " in text.split("Usage", 1)[-1].split("\n", 1)[-1]


def test_several_files_by_a_pattern(rows, tmp_path):
    (tmp_path / "rows-2.jsonl").write_bytes(gzip.compress(rows.read_bytes()))
    result = run(tmp_path / "rows*.jsonl", tmp_path / "out.jsonl", "--to", "rated")
    assert "read: records: 4" in result.output
    assert len(load(tmp_path / "out.jsonl").solutions) == 4


def test_a_table_of_numbered_steps_becomes_solutions(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text("problem,step_number,text,label\np,1,a,+\np,2,b,\np,3,c,-\np,1,d,+\nq,2,e,+\n")
    assert "row 4 (line 6): gap in the order" in run(path, tmp_path / "out.jsonl", "--to", "rated").output
    result = run(path, tmp_path / "out.jsonl", "--to", "rated", "--on-error", "skip")
    assert "read: skipped: " in result.output
    solutions = load(tmp_path / "out.jsonl").solutions
    assert [solution.steps for solution in solutions] == [("a", "b", "c"), ("d",)]


def test_recognised_converted_counted(rows, tmp_path):
    out = tmp_path / "out.jsonl.gz"
    result = run(rows, out, "--to", "stepwise")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith("recognised as sdiehl: ")
    assert "read: records: 2" in lines
    assert any(line.startswith("written: 2 solutions, as stepwise") for line in lines)
    assert lines[-1] == "lost beside the labels: id (2)"
    assert json.loads(gzip.decompress(out.read_bytes()).splitlines()[0]) == {
        "prompt": "2+3*4?", "completions": ["3*4 = 12.", "So 15."], "labels": [True, False],
    }  # fmt: skip


def test_bad_rows_stop_or_are_counted(rows, tmp_path):
    out = tmp_path / "out.jsonl"
    rows.write_text(rows.read_text() + '{"input": "p", "value": ["a"], "label": ["?"]}\n')
    result = run(rows, out, "--to", "rated")
    assert result.exit_code == 2
    assert "rows.jsonl, line 3: unknown label" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]
    result = run(rows, out, "--to", "rated", "--on-error", "skip")
    assert "read: malformed: unknown label: 1" in result.output
    assert len(load(out).solutions) == 2


def test_losses_stop_if_asked(data_folder, tmp_path):
    source = data_folder / "prm800k" / "train_sample.jsonl"
    result = run(source, tmp_path / "a.jsonl", "--to", "sdiehl", "--on-loss", "raise")
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "neutral steps become right" in result.output
    result = run(source, tmp_path / "a.jsonl", "--to", "sdiehl")
    assert result.exit_code == 0
    assert "lost in 228 solutions: neutral steps become right" in result.output
    assert ": 0\n" not in result.output
    original = load_prm800k(source, view="trajectories")
    assert load(tmp_path / "a.jsonl").y.tolist() == [1 if rating == 0 else rating for rating in original.y]


def test_an_existing_file_is_safe(rows, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    assert "pass --overwrite" in run(rows, out, "--to", "flat").output
    assert out.read_text() == "precious"
    assert run(rows, out, "--to", "flat", "--overwrite").exit_code == 0
    assert len(out.read_text().splitlines()) == 4
    before = rows.read_bytes()
    assert "is what is read" in run(rows, rows, "--to", "stepwise", "--overwrite").output
    assert rows.read_bytes() == before


def test_options_of_the_format(tmp_path):
    soft, chat, flat = tmp_path / "soft.jsonl", tmp_path / "chat.jsonl", tmp_path / "flat.csv"
    soft.write_text(json.dumps({"prompt": "p", "completions": ["a", "b"], "labels": [0.5, 0.25]}))
    turns = [("user", "p\na"), ("assistant", "-")]
    chat.write_text(json.dumps({"conversations": [{"role": role, "content": text} for role, text in turns]}))
    flat.write_text("problem,text,label\np,a,0\n")
    out = tmp_path / "out.jsonl"

    def labels(*arguments):
        result = run(*arguments, "--to", "rated", "--overwrite")
        assert result.exit_code == 0, result.output
        return json.loads(out.read_text())["problem"], json.loads(out.read_text())["labels"]

    assert labels(soft, out) == ("p", [0.5, 0.25])
    assert labels(soft, out, "--option", "threshold=0.5") == ("p", [1, -1])
    assert labels(chat, out, "--option", r"step_separator=\n") == ("p", [-1])
    assert labels(flat, out, "--option", 'label_map={"0": -1, "1": 1}') == ("p", [-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "trl"], "--to is 'trl', expected one of"),
        (["--to", "rated", "--from", "trl"], "--from is 'trl', expected one of"),
        (["--to", "rlhflow"], "does not write it; it writes"),
        (["--to", "rated", "--from", "stepwise"], "line 1: without prompt"),
        (["--to", "rated", "--option", "x=1"], "has no option x"),
        (["--to", "rated", "--option", "x"], "expected KEY=VALUE"),
        (["--to", "rated", "--on-loss", "stop"], "Error: --on-loss is 'stop'"),
        (["--to", "rated", "--on-error", "stop"], "Error: --on-error is 'stop'"),
        (["--to", "rated", "--limit", "0"], "Error: --limit is 0"),
    ],
)
def test_errors_in_words(rows, tmp_path, arguments, message):
    result = run(rows, tmp_path / "out.jsonl", *arguments)
    assert result.exit_code == 2
    assert result.output.strip().splitlines()[-1].startswith("Error: ")
    assert message in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_errors_say_the_flag_to_type(rows, tmp_path):
    """Python's advice is no use in a terminal: ``on_error='skip'`` is no flag."""
    out = tmp_path / "out.jsonl"
    rows.write_text(rows.read_text() + "not JSON\n")
    assert "pass --on-error skip to leave such lines out" in run(rows, out, "--to", "rated").output

    def refused(labels, *arguments):
        rows.write_text(json.dumps({"problem": "p", "steps": ["a", "b"], "labels": labels}) + "\n")
        return run(rows, out, "--to", "stepwise", *arguments).output

    assert "Pass --on-loss count to accept that" in refused([0, -1], "--on-loss", "raise")
    assert "pass --option labels=binary if it is wrong" in refused([0, 1])
    assert not out.exists()


def test_missing_and_unknown_sources(tmp_path, data_folder):
    out = tmp_path / "out.jsonl"
    assert "does not exist" in run(tmp_path / "no.jsonl", out, "--to", "rated").output
    assert "--on bon:PATH" in run(data_folder / "gsm8k_solutions", out, "--to", "rated").output
    assert (
        run(data_folder / "processbench" / "gsm8k.json", tmp_path / "no" / "out.jsonl", "--to", "rated").exit_code == 2
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "folder",
    [
        "processbench",
        pytest.param("prmbench", marks=pytest.mark.slow),
        "mr_ben",
        "big_bench_mistake",
        "reasoneval_format",
    ],
)
def test_every_benchmark_converts_without_a_loss(folder, data_folder, tmp_path):
    for file in sorted((data_folder / folder).iterdir()):
        result = run(file, tmp_path / "out.jsonl", "--to", "rated", "--overwrite")
        assert result.exit_code == 0, result.output
        assert "lost" not in result.output.splitlines()[-1]
        original, read = load(file), load(tmp_path / "out.jsonl")
        assert read.y.tolist() == original.y.tolist()
        assert read.first_errors == original.first_errors


def test_processbench_there_and_back(data_folder, tmp_path):
    source = data_folder / "processbench" / "gsm8k.json"
    run(source, tmp_path / "a.jsonl", "--to", "rated")
    result = run(tmp_path / "a.jsonl", tmp_path / "b.json.gz", "--to", "processbench", "--on-loss", "raise")
    assert result.exit_code == 0
    assert json.loads(gzip.decompress((tmp_path / "b.json.gz").read_bytes())) == json.loads(source.read_text())


def test_what_is_read_is_never_replaced(tmp_path):
    source = tmp_path / "mine.jsonl"
    source.write_text('{"input": "2 + 2?", "value": ["4."], "label": ["+"]}\n')
    before = source.read_bytes()
    for given in (source, tmp_path):
        done = CliRunner().invoke(app, ["convert", str(given), str(source), "--to", "flat", "--overwrite"])
        assert done.exit_code == 2
        assert "is what is read" in done.output
    assert source.read_bytes() == before
