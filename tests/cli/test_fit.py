"""``prmkit fit``: labelled steps become a folder with the default classifier, and a report on other problems."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from prmkit import PRMClassifier
from prmkit.cli import app
from prmkit.data import load, make_arithmetic_solutions, write
from prmkit.saving import load_model


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["fit", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(make_arithmetic_solutions(20, 2, random_state=0), path, "rated")
    return path


@pytest.mark.slow
def test_the_model_is_the_default_of_python(rows, tmp_path):
    said = run(rows, "--out", tmp_path / "new" / "model", "--seed", 3)
    assert "split by problem: 18 problems to learn from, 2 to evaluate on" in said
    assert "majority" in said
    assert "AUROC of negative" in said
    learn, kept = load(rows).split_by_problem(0.9, 0.1, random_state=3)
    expected = PRMClassifier(random_state=3).fit(*learn).predict_proba(kept.X)
    saved = load_model(tmp_path / "new" / "model")
    np.testing.assert_allclose(saved.predict_proba(kept.X), expected, atol=1e-6)


@pytest.mark.slow
def test_several_files_and_data_to_judge_on(rows, tmp_path):
    other, test = tmp_path / "rows-2.jsonl", tmp_path / "test.jsonl"
    write(make_arithmetic_solutions(10, 2, random_state=1), other, "rated")
    write(make_arithmetic_solutions(10, 2, random_state=2), test, "rated")
    said = run(rows, other, "--eval-data", test, "--out", tmp_path / "model", "--limit", 1000)
    assert "read: records: 60" in said
    assert f"{len(load(test).X)} steps of 10 problems" in said
    assert len(load_model(tmp_path / "model").training_problems_) == 30


def test_classes_of_your_own(tmp_path):
    data = tmp_path / "mine.csv"
    lines = [f"{i} + 1?,{i} + 1 = {i + 1 + i % 2}.,{'bad' if i % 2 else 'fine'}" for i in range(40)]
    data.write_text("\n".join(["problem,text,label", *lines]))
    said = run(data, "--option", 'label_map={"bad": -1, "fine": 1}', "--out", tmp_path / "m", "--eval-fraction", 0)
    assert "no report: --eval-fraction" in said
    assert load_model(tmp_path / "m").label_order_ == (-1, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--eval-fraction", "1"], "--eval-fraction is 1.0, expected a share"),
        (["--from", "trl"], "--from is 'trl', expected one of"),
        (["--on-error", "stop"], "--on-error is 'stop'"),
        (["--option", "colour=1"], "has no option colour"),
        (["--eval-data", "none.jsonl"], "none.jsonl does not exist"),
    ],
)
def test_errors_in_one_line_with_nothing_written(rows, tmp_path, arguments, says):
    said = run(rows, "--out", tmp_path / "model", *arguments, code=2)
    assert said.splitlines()[-1].startswith("Error: ")
    assert says in said
    assert not (tmp_path / "model").exists()


def test_one_bad_row_is_named_and_can_be_left_out(rows, tmp_path):
    rows.write_text(rows.read_text() + "{broken\n")
    assert "--on-error skip" in run(rows, "--out", tmp_path / "model", code=2)
    assert "note: 1 malformed record" in run(rows, "--out", tmp_path / "model", "--on-error", "skip")


def test_what_stands_there_is_safe(rows, tmp_path):
    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "dear.txt").write_text("keep me")
    assert "is no saved model" in run(rows, "--out", letters, "--overwrite", code=2)
    assert (letters / "dear.txt").read_text() == "keep me"
    run(rows, "--out", tmp_path / "model")
    assert "pass --overwrite" in run(rows, "--out", tmp_path / "model", code=2)
    run(rows, "--out", tmp_path / "model", "--overwrite", "--limit", 10)
    assert len(load_model(tmp_path / "model").training_problems_) < 18


def test_every_step_of_prm800k_counts(tmp_path):
    """Alternatives are rows too, as in ``load_prm800k``."""
    path = tmp_path / "phase2_train.jsonl"
    step = {
        "completions": [{"text": "right", "rating": 1}, {"text": "wrong", "rating": -1}],
        "chosen_completion": 0,
        "human_completion": None,
    }
    records = [{"question": {"problem": f"{i} + 1?"}, "label": {"steps": [step]}} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, records)))
    run(path, "--out", tmp_path / "model")
    assert load_model(tmp_path / "model").classes_.tolist() == [-1, 1]
