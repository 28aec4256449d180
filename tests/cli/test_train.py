"""``prmkit train``: what a user types becomes a folder that scores, or one line that says what to mend."""

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from prmkit import PRMClassifier, Solution
from prmkit.cli import app
from prmkit.data import make_arithmetic_solutions
from prmkit.data.solution import iter_solutions

SOLUTION = Solution("What is 2 + 3?", ["2 + 3 = 5.", "So the answer is 6."])


@pytest.fixture(scope="module")
def model(make_tokenizer, make_language_model, tmp_path_factory):
    """Folder of a tiny language model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = make_tokenizer()
    make_language_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def rows():
    """Stepwise rows of ten problems, each with two short solutions."""
    dataset = make_arithmetic_solutions(10, 2, random_state=0)
    found = []
    for solution, places, indices in iter_solutions(dataset.X):
        labels = [None] * solution.n_steps
        for place, index in zip(places, indices, strict=True):
            labels[index] = bool(dataset.y[place] >= 0)
        steps = [step[:30] for step in solution.steps[:3]]
        found.append({"prompt": solution.problem[:80], "completions": steps, "labels": labels[:3]})
    assert {label for row in found for label in row["labels"]} >= {True, False}
    return found


@pytest.fixture
def data(rows, tmp_path):
    return write(tmp_path / "steps.jsonl", rows)


def write(path, rows, opened=open):
    with opened(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


def train(*arguments, code=0):
    """Run the command; its output, in one line where it is an error."""
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def refused(*arguments):
    """Run the command, which must end with one line; that line."""
    last = train(*arguments, code=2).splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def test_help_teaches():
    result = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    words = " ".join(result.output.replace("│", " ").split())
    for wanted in (
        "prompt",
        "--loss rank --zeta 4 --lora 16",
        "accelerate launch -m prmkit.cli train",
        "PRM800K",
        "by problem",
        "[2, 1, 1]",
        "theory_rank",
    ):
        assert wanted in words, wanted
    for panel in ("Data", "Model", "What is learnt", "Training", "Output"):
        assert f"─ {panel}" in result.output


def test_train_evaluate_and_score(model, data, tmp_path):
    out = tmp_path / "prm"
    said = train("--model", model, "--data", data, "--output", out, "--max-steps", 2, "--eval-fraction", 0.5)
    assert "20 stepwise rows in steps.jsonl" in said
    assert "5 problems to learn from, 5 to evaluate on" in said
    assert "nothing was cut" in said
    table = {line[:36].strip(): line[36:].split() for line in said.splitlines()}
    saved = json.loads((out / "eval_results.json").read_text())
    assert float(table["accuracy"][0]) == pytest.approx(saved["eval_accuracy"], abs=5e-4)
    assert float(table["accuracy"][1]) == pytest.approx(saved["eval_majority_accuracy"], abs=5e-4)
    assert float(table["AUROC of False"][1]) == 0.5
    assert f'PRMClassifier.from_pretrained("{out}")' in said
    scored = PRMClassifier.from_pretrained(out).score_solutions([SOLUTION])[0]
    assert scored.rewards.shape == (2,)
    assert np.isfinite(scored.rewards).all()
    assert "# prm" in (out / "README.md").read_text()


def test_the_printed_python_runs(model, data, tmp_path):
    out = tmp_path / "prm"
    said = train("--model", model, "--data", data, "--output", out, "--max-steps", 1, "--eval-fraction", 0)
    assert "no evaluation" in said
    code = "\n".join(line.strip() for line in said.splitlines() if line.startswith("    "))
    assert len(code.splitlines()) == 2
    names = {}
    exec(code, names)  # prints


def test_real_subprocess(model, data, tmp_path):
    out = tmp_path / "prm"
    command = [sys.executable, "-m", "prmkit.cli", "train", "--model", model, "--data", data]
    command += ["--output", str(out), "--max-steps", "2", "--set", "logging_steps=1"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert "The model is in" in done.stdout
    noise = [line for line in done.stderr.splitlines() if not line.startswith("update ")]
    assert noise == []
    assert "update 2 of 2: loss" in done.stderr


def test_only_the_first_process_speaks(model, data, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "-1")  # for accelerate one process, for us not the first
    said = train("--model", model, "--data", data, "--output", tmp_path / "prm", "--max-steps", 1)
    assert "data:" not in said
    assert "The model is in" not in said


def test_rank_loss_judges_the_order_alone(model, data, tmp_path):
    out = tmp_path / "prm"
    said = train(
        *("--model", model, "--data", data, "--output", out, "--max-steps", 1),
        *("--loss", "rank", "--zeta", 2, "--eval-fraction", 0.3),
    )
    assert "only their order is judged" in said
    assert "accuracy" not in said
    assert json.loads((out / "prmkit.json").read_text())["loss"] == "rank"


@pytest.mark.parametrize("layout", ["json.gz", "json", "parquet", "several"])
def test_layouts_are_recognised_by_content(layout, model, rows, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "data.bin"
    if layout == "json.gz":
        write(path, rows, gzip.open)
    elif layout == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif layout == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        write(tmp_path / "part-1.txt", rows[:10])
        write(tmp_path / "part-2.txt", rows[10:])
        path = tmp_path / "part-*.txt"
    said = train("--model", model, "--data", path, "--output", tmp_path / "prm", "--max-steps", 1)
    assert "20 rows" in said or "20 stepwise rows" in said
    assert "9 problems to learn from, 1 to evaluate on" in said


def test_prm800k_keeps_three_classes_even_if_no_step_is_rated_wrong(model, tmp_path):
    def step(text, rating):
        return {
            "completions": [{"text": text, "rating": rating}],
            "chosen_completion": 0,
            "human_completion": None,
        }

    records = [
        {"question": {"problem": f"{n} + 1?"}, "label": {"steps": [step(f"{n} + 1 = {n + 1}.", n % 2)]}}
        for n in range(4)
    ]
    path, out = write(tmp_path / "mine.jsonl", records), tmp_path / "prm"
    said = train("--model", model, "--data", path, "--output", out, "--max-steps", 1, "--eval-fraction", 0)
    assert "PRM800K" in said
    assert "rated 0: 2" in said
    assert json.loads((out / "prmkit.json").read_text())["classes"] == [-1, 0, 1]


def test_streaming(model, data, tmp_path):
    options = ("--model", model, "--data", data, "--output", tmp_path / "prm", "--streaming")
    assert "--max-steps" in refused(*options)
    assert "--eval-data" in refused(*options, "--max-steps", 1, "--eval-fraction", 0.5)
    said = train(*options, "--max-steps", 2, "--eval-data", data, "--set", "per_device_train_batch_size=2")
    assert "a stream of stepwise rows" in said
    assert "evaluation on" in said


def test_evaluation_problems_that_are_learnt_are_noticed(model, data, tmp_path):
    said = train(
        "--model", model, "--data", data, "--eval-data", data, "--output", tmp_path / "prm", "--max-steps", 1
    )
    assert "10 problems of --eval-data are also learnt from" in said


def test_cut_steps_are_counted_and_labels_and_tokens_read(model, rows, tmp_path):
    ratings = [{**row, "labels": [1, 0, -1][: len(row["labels"])]} for row in rows]
    data, out = write(tmp_path / "ratings.jsonl", ratings), tmp_path / "prm"
    said = train(
        *("--model", model, "--data", data, "--output", out, "--max-steps", 1, "--separator", "\\n\\n"),
        *(
            "--label-order",
            "-1,0,1",
            "--scheme",
            "reward_tokens",
            "--reward-tokens",
            "-,0,+",
            "--max-length",
            120,
        ),
    )
    assert "labelled steps do not fit" in said
    saved = json.loads((out / "prmkit.json").read_text())
    assert saved["classes"] == [-1, 0, 1]
    assert saved["scheme"]["reward_tokens"] == ["-", "0", "+"]
    assert saved["scheme"]["marker"] == "\n\n"


def test_lora(model, data, tmp_path):
    pytest.importorskip("peft")
    out = tmp_path / "prm"
    train("--model", model, "--data", data, "--output", out, "--max-steps", 1, "--lora", 2)
    adapter = json.loads((out / "adapter_config.json").read_text())
    assert adapter["r"] == 2
    assert len(PRMClassifier.from_pretrained(out).score_solutions([SOLUTION])[0].rewards) == 2


def test_random_initialisation_with_model_options(model, data, tmp_path):
    out = tmp_path / "prm"
    train(
        *("--model", model, "--data", data, "--output", out, "--max-steps", 1, "--initialization", "random"),
        *("--model-option", "num_hidden_layers=1", "--model-option", 'layer_types=["full_attention"]'),
    )
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 1


def test_resume_and_overwrite(model, data, tmp_path):
    out = tmp_path / "prm"
    run = ("--model", model, "--data", data, "--output", out, "--set", "logging_steps=1")
    assert "holds no checkpoint" in refused(*run, "--resume")
    train(*run, "--max-steps", 2)
    assert "--resume" in refused(*run, "--max-steps", 3)
    said = train(*run, "--max-steps", 3, "--resume")
    assert "update 3 of 3: loss" in said
    assert "update 2 of 3: loss" not in said
    assert "exclude each other" in refused(*run, "--resume", "--overwrite")
    said = train(*run, "--max-steps", 1, "--overwrite")
    assert "update 1 of 1: loss" in said
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-1"]


def test_overwrite_spares_other_folders(model, data, tmp_path):
    out = tmp_path / "letters"
    out.mkdir()
    (out / "dear.txt").write_text("keep me")
    assert "something else" in refused("--model", model, "--data", data, "--output", out, "--overwrite")
    assert (out / "dear.txt").read_text() == "keep me"


def test_push_to_hub_is_asked_for_once(model, data, tmp_path, monkeypatch):
    from prmkit.models import PRMTrainer

    pushed = []
    monkeypatch.setattr(PRMTrainer, "init_hf_repo", lambda self, *_, **__: None)
    monkeypatch.setattr(PRMTrainer, "push_to_hub", lambda self, **told: pushed.append(self.args.hub_model_id))
    run = ("--model", model, "--data", data, "--output", tmp_path / "prm", "--max-steps", 1)
    train(*run, "--push-to-hub", "--set", "hub_model_id=me/prm", "--set", "save_strategy=no")
    assert pushed == ["me/prm"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--loss", "rnk"], "--loss is 'rnk', expected one of 'cross_entropy'"),
        (["--loss", "rank", "--loss-option", "zta=1"], "no option zta: expected zeta"),
        (["--loss", "rank", "--loss-option", "zeta"], "expected KEY=VALUE"),
        (["--loss", "rank", "--scheme", "prefix"], "choose --scheme 'separator'"),
        (["--scheme", "tags"], "--scheme is 'tags'"),
        (["--scheme", "reward_tokens", "--reward-tokens", "good,bad"], "expected a single one"),
        (["--set", "logging_stps=1"], "is it logging_steps"),
        (["--set", "logging_steps=often"], "--set logging_steps=often: expected float"),
        (["--set", "eval_strategy=never"], "please select one of"),
        (["--set", "loss=bce", "--loss", "rank"], "is set twice"),
        (["--eval-fraction", "2"], "between 0 and 1"),
        (["--model-option", "layers=2"], "has no setting 'layers'"),
        (["--max-length", "0"], "--max-length is 0"),
        (["--lora", "0"], "expected a rank"),
    ],
)
def test_errors_name_what_was_typed(arguments, says, model, data, tmp_path):
    out = tmp_path / "prm"
    assert says in refused("--model", model, "--data", data, "--output", out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no rows"),
        ("prompt,labels\n", "line 1: not JSON"),
        ('{"text": "a", "score": 1}\n', "have the fields text, score; expected rows with prompt"),
        ('{"prompt": "a", "completions": ["b"]}\n', "row 1 lacks labels"),
        ('{"prompt": "a", "completions": ["b"], "labels": [true, false]}\n', "row 1: expected one or more"),
        ('{"prompt": "a", "completions": [5], "labels": [true]}\n', "must be text"),
        ('{"prompt": "a", "completions": ["b"], "labels": [-1]}\n' * 2, "all rows have one problem"),
        ('[{"prompt": "a"', "is not JSON"),
    ],
)
def test_files_that_cannot_be_learnt_from(text, says, model, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    assert says in refused("--model", model, "--data", path, "--output", tmp_path / "prm")
    assert not (tmp_path / "prm").exists()


def test_what_is_not_there(model, data, tmp_path):
    out = tmp_path / "prm"
    assert "does not exist" in refused("--model", model, "--data", tmp_path / "no.jsonl", "--output", out)
    assert "no folder at" in refused("--model", tmp_path / "none", "--data", data, "--output", out)
    assert "is a file" in refused("--model", model, "--data", data, "--output", data)
    result = CliRunner().invoke(app, ["train", "--model", model, "--output", str(out)])
    assert result.exit_code == 2
    assert "--data" in result.output


def test_ratings_without_an_order_ask_for_it(model, rows, tmp_path):
    data = write(
        tmp_path / "ratings.jsonl", [{**row, "labels": [-1, 0, 1]} for row in rows if len(row["labels"]) == 3]
    )
    said = refused("--model", model, "--data", data, "--output", tmp_path / "prm")
    assert "--label-order [-1, 0, 1]" in said


def test_a_run_that_fails_leaves_nothing(model, data, tmp_path):
    run = ("--model", model, "--data", data, "--output", tmp_path / "prm", "--max-steps", 2)
    assert "beta" in refused(*run, "--set", "adam_beta1=7")
    assert not (tmp_path / "prm").exists()
