"""``prmkit train``: what a user types becomes a folder that scores, or one line that says what to mend."""

import gzip
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from prmkit import PRMClassifier, Solution
from prmkit.cli import app
from prmkit.cli._terminal import in_flags
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
    words = " ".join(result.output.split())
    for wanted in (
        "prompt",
        "--loss rank --zeta 4 --use_peft --lora_r 16",
        "accelerate launch -m prmkit.cli train",
        "PRM800K",
        "by problem",
        "[2, 1, 1]",
        "--model, --model_name_or_path NAME_OR_FOLDER",
        "--data, --dataset_name FILE",
    ):
        assert wanted in words, wanted
    titles = [line for line in result.output.splitlines() if line.endswith(":") and line[0].isalpha()]
    assert [title.split(":")[0] for title in titles if not title.startswith(("A small", "Adapters", "On all"))] == [
        "data",
        "model",
        "marking and labels",
        "loss",
        "training",
        "all other settings of transformers.TrainingArguments",
    ]


def test_help_lists_every_setting_and_every_loss():
    from prmkit.models import PRMTrainingConfig
    from prmkit.models.losses._registry import loss_names

    output = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "120"}).output
    flags = set(re.findall(r"--(\w+)", output))
    assert {name for name, field in PRMTrainingConfig.__dataclass_fields__.items() if field.init} <= flags
    assert f"One of {', '.join(loss_names())}" in " ".join(output.split())


def test_train_evaluate_and_score(model, data, tmp_path):
    out = tmp_path / "prm"
    said = train("--model", model, "--data", data, "--output_dir", out, "--max_steps", 2, "--eval_fraction", 0.5)
    assert "stepwise: TRL's prompt, completions, labels" in said
    assert "solutions: 20" in said
    assert "5 problems to learn from, 5 to evaluate on" in said
    assert "nothing was cut" in said
    table = {line[:36].strip(): line[36:].split() for line in said.splitlines()}
    saved = json.loads((out / "eval_results.json").read_text())
    assert float(table["accuracy"][0]) == pytest.approx(saved["eval_accuracy"], abs=5e-4)
    assert float(table["accuracy"][1]) == pytest.approx(saved["eval_majority_accuracy"], abs=5e-4)
    assert float(table["AUROC of -1"][1]) == 0.5
    assert f'PRMClassifier.from_pretrained("{out}")' in said
    scored = PRMClassifier.from_pretrained(out).score_solutions([SOLUTION])[0]
    assert scored.rewards.shape == (2,)
    assert np.isfinite(scored.rewards).all()
    assert "# prm" in (out / "README.md").read_text()


def test_the_printed_python_runs(model, data, tmp_path):
    out = tmp_path / "prm"
    said = train("--model", model, "--data", data, "--output_dir", out, "--max_steps", 1, "--eval_fraction", 0)
    assert "no evaluation" in said
    code = "\n".join(line.strip() for line in said.splitlines() if line.startswith("    "))
    assert len(code.splitlines()) == 2
    names = {}
    exec(code, names)  # prints


@pytest.mark.slow
def test_real_subprocess(model, data, tmp_path):
    out = tmp_path / "prm"
    command = [sys.executable, "-m", "prmkit.cli", "train", "--model", model, "--data", data]
    command += ["--output_dir", str(out), "--max_steps", "2", "--logging_steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "NO_COLOR": "1"})
    assert "The model is in" in done.stdout
    noise = [line for line in done.stderr.splitlines() if not line.startswith("update ")]
    assert noise == []
    assert "update 2 of 2: loss" in done.stderr


def test_only_the_first_process_speaks(model, data, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "-1")  # for accelerate one process, for us not the first
    said = train("--model", model, "--data", data, "--output_dir", tmp_path / "prm", "--max_steps", 1)
    assert "data:" not in said
    assert "The model is in" not in said


def test_rank_loss_judges_the_order_alone(model, data, tmp_path):
    out = tmp_path / "prm"
    said = train(
        *("--model", model, "--data", data, "--output_dir", out, "--max_steps", 1),
        *("--loss", "rank", "--zeta", 2, "--eval_fraction", 0.3),
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
    said = train("--model", model, "--data", path, "--output_dir", tmp_path / "prm", "--max_steps", 1)
    assert "solutions: 20" in said
    assert "9 problems to learn from, 1 to evaluate on" in said


def test_prm800k_keeps_three_classes_even_if_no_step_is_rated_wrong(model, tmp_path):
    def step(text, rating):
        return {"completions": [{"text": text, "rating": rating}], "chosen_completion": 0, "human_completion": None}

    records = [
        {"question": {"problem": f"{n} + 1?"}, "label": {"steps": [step(f"{n} + 1 = {n + 1}.", n % 2)]}}
        for n in range(4)
    ]
    path, out = write(tmp_path / "mine.jsonl", records), tmp_path / "prm"
    said = train("--model", model, "--data", path, "--output_dir", out, "--max_steps", 1, "--eval_fraction", 0)
    assert "PRM800K" in said
    assert "rated 0: 2" in said
    assert json.loads((out / "prmkit.json").read_text())["classes"] == [-1, 0, 1]


def test_streaming(model, data, tmp_path):
    options = ("--model", model, "--data", data, "--output_dir", tmp_path / "prm", "--streaming")
    assert "--max_steps" in refused(*options)
    assert "--eval_data" in refused(*options, "--max_steps", 1, "--eval_fraction", 0.5)
    said = train(*options, "--max_steps", 2, "--eval_data", data, "--per_device_train_batch_size", "2")
    assert "a stream of stepwise rows" in said
    assert "evaluation on" in said


def test_evaluation_problems_that_are_learnt_are_noticed(model, data, tmp_path):
    said = train(
        "--model", model, "--data", data, "--eval_data", data, "--output_dir", tmp_path / "prm", "--max_steps", 1
    )
    assert "10 problems to evaluate on are also learnt from" in said


def test_cut_steps_are_counted_and_labels_and_tokens_read(model, rows, tmp_path):
    ratings = [{**row, "labels": [1, 0, -1][: len(row["labels"])]} for row in rows]
    data, out = write(tmp_path / "ratings.jsonl", ratings), tmp_path / "prm"
    said = train(
        *("--model", model, "--data", data, "--output_dir", out, "--max_steps", 1, "--step_separator", "\\n\\n"),
        *("--label_order", "-1,0,1", "--scheme", "reward_tokens", "--reward_tokens", "-,0,+", "--max_length", 120),
    )
    assert "labelled steps do not fit" in said
    saved = json.loads((out / "prmkit.json").read_text())
    assert saved["classes"] == [-1, 0, 1]
    assert saved["scheme"]["reward_tokens"] == ["-", "0", "+"]
    assert saved["scheme"]["step_separator"] == "\n\n"


@pytest.fixture
def own_fields(rows, tmp_path):
    """Rows whose fields have names of their own."""
    own = [
        {
            "question": row["prompt"],
            "out": {"parts": row["completions"]},
            "good": [int(label or 0) for label in row["labels"]],
        }
        for row in rows
    ]
    return write(tmp_path / "own.jsonl", own)


@pytest.mark.parametrize("way", ["flag", "options", "config", "stream"])
def test_rows_with_fields_of_their_own(way, model, own_fields, tmp_path):
    named = "problem=question, steps=out.parts, labels=good"
    as_json = {"problem": "question", "steps": "out.parts", "labels": "good"}
    arguments = ["--fields", named, "--load_options", '{"labels": "binary"}']
    if way == "options":
        arguments = ["--load_options", json.dumps({"labels": "binary", "fields": as_json})]
    elif way == "config":
        (tmp_path / "run.json").write_text(json.dumps({"fields": as_json, "load_options": {"labels": "binary"}}))
        arguments = ["--config", tmp_path / "run.json"]
    elif way == "stream":
        arguments += ["--streaming"]
    out = tmp_path / "prm"
    said = train("--model", model, "--data", own_fields, "--output_dir", out, "--max_steps", 1, *arguments)
    assert "a stream of fields rows" in said if way == "stream" else "steps='out.parts'" in said
    assert json.loads((out / "prmkit.json").read_text())["classes"] == [-1, 1]


def test_the_separator_of_a_format_is_not_that_of_the_model():
    from prmkit.cli._train_arguments import Parser

    said = in_flags("pass step_separator='…' (openrlhf), or step_separator='x'", Parser().patterns())
    assert said == """pass --load_options '{"step_separator": "…"}' (openrlhf), or --step_separator x"""


def test_rows_of_no_known_format_say_what_to_type(model, own_fields, tmp_path):
    run = ("--model", model, "--data", own_fields, "--output_dir", tmp_path / "prm")
    said = refused(*run)
    assert '--fields problem=question,steps=out.parts,labels=good --load_options \'{"labels": "binary"}\'' in said
    assert "expected NAME=FIELD" in refused(*run, "--fields", "question")
    assert "at least steps" in (said := refused(*run, "--fields", "problem=question"))
    assert "'steps': '…', 'labels': '…', 'first_error': '…'" in said, "no flag within"
    assert "steps stands there twice" in refused(*run, "--fields", "steps=out.parts,labels=good,steps=out")
    fields = ("--fields", "problem=question,steps=out.parts,labels=good")
    assert "exclude each other" in refused(*run, *fields, "--format", "rated")
    said = refused(*run, *fields)
    assert '--load_options \'{"labels": "binary"}\' if 0 is wrong' in said
    assert not (tmp_path / "prm").exists()


def test_lora(model, data, tmp_path):
    pytest.importorskip("peft")
    out = tmp_path / "prm"
    train("--model", model, "--data", data, "--output_dir", out, "--max_steps", 1, "--use_peft", "--lora_r", 2)
    adapter = json.loads((out / "adapter_config.json").read_text())
    assert adapter["r"] == 2
    assert len(PRMClassifier.from_pretrained(out).score_solutions([SOLUTION])[0].rewards) == 2


def test_random_initialisation_with_model_kwargs(model, data, tmp_path):
    out = tmp_path / "prm"
    train(
        *("--model", model, "--data", data, "--output_dir", out, "--max_steps", 1, "--initialization", "random"),
        *("--model_kwargs", '{"num_hidden_layers": 1, "layer_types": ["full_attention"]}'),
    )
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 1


def test_resume_and_overwrite(model, data, tmp_path):
    out = tmp_path / "prm"
    run = ("--model", model, "--data", data, "--output_dir", out, "--logging_steps", "1")
    assert "holds no checkpoint" in refused(*run, "--resume_from_checkpoint")
    train(*run, "--max_steps", 2)
    assert "--resume_from_checkpoint" in refused(*run, "--max_steps", 3)
    said = train(*run, "--max_steps", 3, "--resume_from_checkpoint")
    assert "update 3 of 3: loss" in said
    assert "update 2 of 3: loss" not in said
    assert "exclude each other" in refused(*run, "--resume_from_checkpoint", "--overwrite_output_dir")
    said = train(*run, "--max_steps", 1, "--overwrite_output_dir")
    assert "update 1 of 1: loss" in said
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-1"]


def test_overwrite_spares_other_folders(model, data, tmp_path):
    out = tmp_path / "letters"
    out.mkdir()
    (out / "dear.txt").write_text("keep me")
    assert "something else" in refused("--model", model, "--data", data, "--output_dir", out, "--overwrite_output_dir")
    assert (out / "dear.txt").read_text() == "keep me"


def test_push_to_hub_is_asked_for_once(model, data, tmp_path, monkeypatch):
    from prmkit.models import PRMTrainer

    pushed = []
    monkeypatch.setattr(PRMTrainer, "init_hf_repo", lambda self, *_, **__: None)
    monkeypatch.setattr(PRMTrainer, "push_to_hub", lambda self, **told: pushed.append(self.args.hub_model_id))
    run = ("--model", model, "--data", data, "--output_dir", tmp_path / "prm", "--max_steps", 1)
    train(*run, "--push_to_hub", "--hub_model_id", "me/prm", "--save_strategy", "no")
    assert pushed == ["me/prm"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--loss", "rnk"], "--loss is 'rnk', expected one of 'cross_entropy'"),
        (["--loss", "rank", "--loss_options", '{"zta": 1}'], "no option zta: expected zeta"),
        (["--loss", "rank", "--loss_options", "zeta"], "--loss_options is zeta, expected JSON"),
        (["--loss", "rank", "--scheme", "prefix"], "choose --scheme separator"),
        (["--scheme", "tags"], "--scheme: invalid choice: 'tags'"),
        (["--scheme", "reward_tokens", "--reward_tokens", "good,bad"], "expected a single one"),
        (["--logging_stps", "1"], "there is no flag --logging_stps: is it --logging_steps"),
        (["--logging_steps", "often"], "--logging_steps: invalid float value: 'often'"),
        (["--eval_strategy", "never"], "invalid choice: 'never'"),
        (["--eval_fraction", "2"], "between 0 and 1"),
        (["--model_kwargs", '{"layers": 2}'], "has no setting 'layers'"),
        (["--max_length", "0"], "--max_length is 0"),
        (["--lora_r", "0"], "expected a rank"),
        (["--epochs", "3"], "there is no flag --epochs: type --num_train_epochs"),
        (["--set", "logging_steps=1"], "there is no flag --set: type the setting as a flag of its own"),
        (["--trust_remote_code", "true"], "prmkit never runs code of a model"),
        (["--load_options", "skip"], "--load_options is skip, expected JSON"),
        (["--eval_data", "other.jsonl", "--eval_fraction", "0.5"], "exclude each other"),
    ],
)
def test_errors_name_what_was_typed(arguments, says, model, data, tmp_path):
    out = tmp_path / "prm"
    assert says in refused("--model", model, "--data", data, "--output_dir", out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no records"),
        ("prompt,labels\n", "line 1: not JSON"),
        ('{"text": "a", "score": 1}\n', "fits no known format: its first record has the fields 'text', 'score'"),
        ('{"prompt": "a", "completions": ["b"]}\n', "has the fields 'prompt', 'completions'"),
        ('{"prompt": "a", "completions": ["b"], "labels": [true, false]}\n', "unequal lengths: 2 labels for 1 steps"),
        ('{"prompt": "a", "completions": [5], "labels": [true]}\n', "completions[0] is int (5)"),
        ('{"prompt": "a", "completions": ["b"], "labels": [1]}\n' * 2, "all rows have one problem"),
        ('[{"prompt": "a"', "is none"),
    ],
)
def test_files_that_cannot_be_learnt_from(text, says, model, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    assert says in refused("--model", model, "--data", path, "--output_dir", tmp_path / "prm")
    assert not (tmp_path / "prm").exists()


def test_what_is_not_there(model, data, tmp_path):
    out = tmp_path / "prm"
    assert "does not exist" in refused("--model", model, "--data", tmp_path / "no.jsonl", "--output_dir", out)
    assert "no folder at" in refused("--model", tmp_path / "none", "--data", data, "--output_dir", out)
    assert "is a file" in refused("--model", model, "--data", data, "--output_dir", data)
    result = CliRunner().invoke(app, ["train", "--model", model, "--output_dir", str(out)])
    assert result.exit_code == 2
    assert "--data" in result.output


def test_ratings_without_an_order_ask_for_it(model, rows, tmp_path):
    data = write(tmp_path / "ratings.jsonl", [{**row, "labels": [-1, 0, 1]} for row in rows if len(row["labels"]) == 3])
    said = refused("--model", model, "--data", data, "--output_dir", tmp_path / "prm")
    assert "pass --label_order -1,0,1" in said


def test_a_run_that_fails_leaves_nothing(model, data, tmp_path):
    run = ("--model", model, "--data", data, "--output_dir", tmp_path / "prm", "--max_steps", 2)
    assert "beta" in refused(*run, "--adam_beta1", "7")
    assert not (tmp_path / "prm").exists()


# ---- one reader


def test_every_format_is_read_by_its_content(model, tmp_path):
    """A file of ProcessBench, which only said that its fields were not those of stepwise rows."""
    records = [
        {
            "id": f"gsm8k-{n}",
            "generator": "small",
            "problem": f"{n} + 1?",
            "steps": [f"{n} + 1 = {n + 1}.", "So it is 7."],
            "final_answer_correct": False,
            "label": n % 2,
        }
        for n in range(6)
    ]
    path = tmp_path / "gsm8k.json"
    path.write_text(json.dumps(records))
    said = train("--model", model, "--data", path, "--output_dir", tmp_path / "prm", "--max_steps", 1)
    assert "processbench" in said
    assert json.loads((tmp_path / "prm" / "prmkit.json").read_text())["classes"] == [-1, 1]


def test_a_stream_of_another_format(model, tmp_path):
    records = [{"input": f"{n} + 1?", "value": [f"It is {n + 1}.", "So 3."], "label": ["+", "-"]} for n in range(6)]
    path = write(tmp_path / "rows.jsonl", records)
    out = tmp_path / "prm"
    said = train("--model", model, "--data", path, "--output_dir", out, "--streaming", "--max_steps", 2)
    assert "a stream of sdiehl rows" in said
    assert json.loads((out / "prmkit.json").read_text())["classes"] == [-1, 1]


# ---- TRL's words and files of settings


def test_the_flags_of_trl_are_known(model, data, tmp_path):
    """Those of its script examples/scripts/prm.py, with underscores or hyphens."""
    out = tmp_path / "prm"
    train(
        *("--model_name_or_path", model, "--dataset_name", data, "--output_dir", out, "--max-steps", 1),
        *("--per_device_train_batch_size", 4, "--gradient_checkpointing", "True", "--learning_rate", "1.0e-5"),
        *("--eval_strategy", "steps", "--eval_steps", 50, "--torch_dtype", "float32", "--dataset_train_split", "train"),
    )
    assert PRMClassifier.from_pretrained(out).score_solutions([SOLUTION])[0].rewards.shape == (2,)


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_settings_from_a_file_give_way_to_typed_ones(ending, model, data, tmp_path):
    settings = {
        "model": model,
        "data": [data],
        "output_dir": str(tmp_path / "prm"),
        "max_steps": 1,
        "learning_rate": "1e-4",
        "loss": "bce",
        "loss_options": {"zeta": 2},
        "gradient_checkpointing": False,
        "reward_tokens": None,
    }
    file = tmp_path / f"run.{ending}"
    file.write_text(json.dumps(settings, indent=1))
    train("--config", file, "--loss", "rank", "--eval_fraction", 0)
    saved = json.loads((tmp_path / "prm" / "prmkit.json").read_text())
    assert (saved["loss"], saved["loss_options"]) == ("rank", {"zeta": 2})
    file.write_text(json.dumps({"laerning_rate": 1}))
    assert "is it --learning_rate" in refused("--config", file)


def test_the_plain_parser_of_transformers_reads_the_settings():
    from transformers import HfArgumentParser

    from prmkit.models import PRMTrainingConfig

    (config,) = HfArgumentParser(PRMTrainingConfig).parse_args_into_dataclasses(
        [
            *("--output_dir", "prm", "--use_cpu", "--loss_options", '{"zeta": 2}', "--loss", "theory-rank"),
            *("--label_order=-1,0,1", "--reward_tokens=-,0,+", "--model_init_kwargs", '{"dtype": "float32"}'),
        ],
        look_for_args_file=False,
    )
    assert (config.loss, config.loss_options) == ("theory_rank", {"zeta": 2})
    assert (config.label_order, config.reward_tokens) == ([-1, 0, 1], ["-", "0", "+"])
    assert config.model_kwargs == {"dtype": "float32"}
    assert config.marking(3).step_separator is None


@pytest.mark.parametrize(
    ("order", "typed"),
    [("['-', '+']", "-,+"), ('["bad", "so so", "good"]', "'bad,so so,good'"), ("[-1, 0, 1]", "-1,0,1")],
)
def test_a_hint_can_be_typed_as_it_stands(order, typed):
    said = in_flags(f"say which is worst, label_order={order}", {"label_order": "--label_order {}"})
    assert said == f"say which is worst, --label_order {typed}"
