"""prmkit label: problems in, labelled steps out, and errors in the words of the flags."""

import json
import random

import pytest
from typer.testing import CliRunner

from prmkit.cli import app
from prmkit.data import load
from prmkit.decoding import CallableGenerator


def added(problem, steps, n, seed):
    """Add two numbers in two steps, each of which may be wrong."""
    texts = []
    for k in range(n):
        rng = random.Random(seed * 100 + k)
        left, right = map(int, problem.removesuffix("?").split("+"))
        plan = "We add." if rng.random() < 0.7 else "We multiply."
        result = left + right if "add" in (steps or [plan])[0] and rng.random() < 0.8 else left * right
        texts.append(("\n\n".join([*([] if steps else [plan]), f"The answer is {result}."]), "eos"))
    return texts


@pytest.fixture
def asked(monkeypatch):
    """What a generator was made of; in its place stands one that adds."""
    made = []

    def generator(model, base_url, options):
        made.append((model, base_url, options))
        return CallableGenerator(added)

    monkeypatch.setattr("prmkit.cli._label._generator", generator)
    return made


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    rows = [{"question": f"{i}+{i + 3}?", "answer": str(2 * i + 3), "id": f"p{i}"} for i in range(1, 7)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["label", *map(str, arguments)], env={"COLUMNS": "200"})


def test_problems_become_labelled_steps_and_the_log_answers_again(asked, source, tmp_path):
    out = tmp_path / "out.jsonl"
    flags = ("--problem", "question", "--solutions", 4, "--completions", 8, "--verifier", "numeric")
    done = run("tiny", source, out, *flags, "--generator", "device=cpu")
    assert done.exit_code == 0, done.output
    assert asked == [("tiny", None, {"device": "cpu"})]
    data = load(out)
    assert {step.problem for step in data.X} == {f"{i}+{i + 3}?" for i in range(1, 7)}
    assert all(
        (mark == -1) == ("multiply" in step.text) for step, mark in zip(data.X, data.y, strict=True) if step.index == 0
    )
    assert "generated tokens" in done.output
    n_lines = len((tmp_path / "out.jsonl.log").read_text().splitlines())
    assert f"{out} is there already: pass --overwrite" in run("tiny", source, out, *flags).output
    before = out.read_bytes()
    assert run("tiny", source, out, *flags, "--overwrite").exit_code == 0
    assert out.read_bytes() == before
    assert len((tmp_path / "out.jsonl.log").read_text().splitlines()) == n_lines


def test_soft_labels_as_rated_steps_through_a_server(asked, source, tmp_path):
    out = tmp_path / "out.jsonl"
    flags = ("--to", "rated", "--labels", "soft", "--limit", 2, "--base-url", "http://x/v1", "--budget", 400)
    done = run("m", source, out, "--problem", "question", "--solutions", 2, *flags, "--verifier", "exact")
    assert done.exit_code == 0, done.output
    assert asked == [("m", "http://x/v1", {})]
    data = load(out)
    assert data.vocabulary == "soft"
    assert data.solutions[0].meta["n_tried"][0] == 16


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "line 1: fields question, answer, id, expected an object with the text problem. Name its field by"),
        (("--problem", "question", "--verifier", "guess"), "--verifier is 'guess', expected math"),
        (("--problem", "question", "--solutions", 0), "--solutions is 0, expected a whole number"),
        (("--problem", "question", "--verifier", "exact", "--answer", "id"), "no step has"),
        (("--problem", "question", "--to", "bon"), "--to"),
        (("--problem", "question", "--generator", "server"), "--generator server: expected KEY=VALUE"),
        (("--on-error", "skip"), "6 lines"),
        (("--problem", "question", "--verifier", "exact", "--max-tokens", 2), "pass more than --max-tokens 2"),
    ],
)
def test_errors_speak_of_flags(asked, source, tmp_path, flags, told):
    if "id" in flags:
        source.write_text('{"question": "1+4?", "answer": "5"}\n')
    done = run("tiny", source, tmp_path / "out.jsonl", *flags)
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())
    assert not (tmp_path / "out.jsonl").exists()


def test_an_option_that_the_generator_does_not_know_is_named(source, tmp_path):
    done = run(
        "m", source, tmp_path / "o.jsonl", "--problem", "question", "--base-url", "http://x", "--generator", "a=1"
    )
    assert done.exit_code == 2
    assert "--generator" in done.output


def test_help_teaches_with_an_example():
    out = run("--help").output
    for word in ("prmkit label Qwen", "--base-url", "generates nothing", "--log", "stepwise"):
        assert word in out


@pytest.mark.slow
def test_a_model_on_this_machine_labels_what_it_writes(source, tmp_path, make_tokenizer, make_language_model):
    tokenizer, folder = make_tokenizer(), tmp_path / "tiny"
    tokenizer.save_pretrained(folder)
    make_language_model(tokenizer).save_pretrained(folder)
    flags = ("--problem", "question", "--solutions", 3, "--completions", 2, "--verifier", "numeric", "--max-tokens", 40)
    flags = (*flags, "--generator", "step_separator= ", "--generator", "prompt=plain", "--labels", "soft")
    done = run(folder, source, tmp_path / "out.jsonl", *flags)
    assert done.exit_code == 0, done.output
    data = load(tmp_path / "out.jsonl")
    assert data.vocabulary == "soft"
    assert len(data.solutions) > 3
    again = run(folder, source, tmp_path / "again.jsonl", *flags)
    assert again.output.replace("again", "out") == done.output
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
