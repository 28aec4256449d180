"""prmkit score: files of scores from a terminal, shards and their merge, and errors in the words of the flags."""

import json

import pytest
from typer.testing import CliRunner

from prmkit import PRMClassifier
from prmkit.cli import app
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    PRMClassifier(StepStatistics()).fit(*make_arithmetic_solutions(20, 2, random_state=0)).save(path)
    return path


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    solutions = make_arithmetic_solutions(20, 2, random_state=1).solutions
    records = [{"q": one.problem, "a": {"steps": one.steps}, "name": f"s{i}"} for i, one in enumerate(solutions)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


FIELDS = ("--fields", "problem=q,steps=a.steps,id=name")


def run(*arguments):
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_a_file_is_scored_and_goes_on(model, source, tmp_path):
    out = tmp_path / "out.parquet"
    done = run(model, source, out, *FIELDS, "--limit", 30)
    assert done.exit_code == 0, done.output
    assert f"written: {out}, 30 solutions" in done.output
    assert pandas.read_parquet(out).id.tolist() == [f"s{i}" for i in range(30)]
    before = out.read_bytes()
    assert run(model, source, out, *FIELDS, "--limit", 30).exit_code == 0
    assert out.read_bytes() == before
    other = run(model, source, out, *FIELDS)
    assert other.exit_code == 2
    assert "or pass --no-resume to replace it" in other.output
    assert run(model, source, out, *FIELDS, "--no-resume").exit_code == 0
    assert len(pandas.read_parquet(out)) == 40


def test_shards_are_merged(model, source, tmp_path):
    out, whole = tmp_path / "out.parquet", tmp_path / "whole.parquet"
    assert run(model, source, whole, *FIELDS, "--block-steps", 40).exit_code == 0
    for shard in ("1/2", "2/2"):
        missing = run("--merge", out)
        assert missing.exit_code == 2
        assert run(model, source, out, *FIELDS, "--block-steps", 40, "--shard", shard).exit_code == 0
    assert "shards are missing: 2/2 (out-2-of-2.parquet)" in " ".join(missing.output.split())
    done = run("--merge", out)
    assert done.exit_code == 0, done.output
    assert pandas.read_parquet(out).to_json() == pandas.read_parquet(whole).to_json()
    assert "pass --no-resume to replace it" in run("--merge", out).output
    assert run("--merge", *(tmp_path / f"out-{i}-of-2.parquet" for i in (2, 1)), out, "--no-resume").exit_code == 0
    assert pandas.read_parquet(out).to_json() == pandas.read_parquet(whole).to_json()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "{}", "out.parquet"], "the model nowhere does not exist"),
        (["{model}", "none.jsonl", "out.parquet"], "none.jsonl does not exist"),
        (["{model}", "{}", "out.csv"], "does not end in .parquet"),
        (["{model}", "{}"], "there are 2 of MODEL, IN and OUT"),
        (["{model}", "{}", "out.parquet"], "--fields problem=q,steps=a.steps. To score, no labels are needed"),
        (["{model}", "{}", "out.parquet", "--from", "csv"], "--from is 'csv', expected one of prm800k"),
        (["{model}", "{}", "out.parquet", *FIELDS, "--shard", "0/2"], "--shard is '0/2', expected i/n"),
        (["{model}", "{}", "out.parquet", *FIELDS, "--workers", "0"], "--workers is 0, expected a positive number"),
        (["{model}", "{}", "out.parquet", *FIELDS, "--engine", "dask"], "--engine is 'dask', expected one of"),
    ],
)
def test_errors_are_in_the_words_of_the_flags(arguments, expected, model, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*(argument.format(source, model=model) for argument in arguments))
    assert done.exit_code == 2
    assert expected in " ".join(done.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_broken_line_is_an_error_or_counted(model, source, tmp_path):
    source.write_text(source.read_text() + '{"q": "1 + 1?"}\n')
    out = tmp_path / "out.parquet"
    failed = " ".join(run(model, source, out, *FIELDS).output.split())
    assert "in.jsonl, line 41: without a" in failed
    assert "--on-error skip" in failed
    done = run(model, source, out, *FIELDS, "--on-error", "skip")
    assert done.exit_code == 0, done.output
    assert "note: 1 malformed records were skipped (1 without a" in done.output
    assert len(pandas.read_parquet(out)) == 40


def test_the_help_teaches():
    text = " ".join(CliRunner().invoke(app, ["score", "--help"], env={"COLUMNS": "200"}).output.split())
    for taught in ("prmkit score my-model solutions.jsonl scores.parquet", "--shard 2/2", "--merge", "math_shepherd:"):
        assert taught in text
