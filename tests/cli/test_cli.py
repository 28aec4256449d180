"""The command line: what a user types, and what it must not cost."""

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import prmkit
from prmkit.cli import app
from prmkit.cli._terminal import in_flags
from prmkit.features.encoding.backends.backend import EncoderModel
from prmkit.features.encoding.backends.converted import converted_files, kept
from prmkit.features.encoding.cache import EmbeddingCache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PRMKIT_CACHE_DIR", str(tmp_path))
    EmbeddingCache().put_many("some-encoder", ["a", "b"], np.ones((2, 4)))
    return tmp_path


def run(*arguments, **kwargs):
    return CliRunner().invoke(app, list(arguments), **kwargs)


def test_version():
    assert run("--version").output.strip() == f"prmkit {prmkit.__version__}"


@pytest.mark.parametrize("arguments", [["--help"], ["cache", "--help"]])
def test_help_teaches(arguments):
    result = run(*arguments)
    assert result.exit_code == 0
    wanted = "python -m prmkit.examples" if arguments == ["--help"] else "PRMKIT_CACHE_DIR"
    assert wanted in " ".join(result.output.split())


def test_info(folder):
    lines = run("cache", "info").output.splitlines()
    assert lines[0].split() == ["path", str(EmbeddingCache().path)]
    assert lines[1].split() == ["entries", "2"]
    assert "some-encoder: 2" in lines[-1]
    assert json.loads(run("cache", "info", "--json").output)["namespaces"] == {"some-encoder": 2}


def test_info_of_another_folder(folder, tmp_path):
    assert json.loads(run("cache", "info", "--json", "--dir", str(tmp_path / "empty")).output)["entries"] == 0


def test_clear_asks_first(folder):
    assert run("cache", "clear", input="n\n").exit_code == 1
    assert EmbeddingCache().info()["entries"] == 2
    result = run("cache", "clear", input="y\n")
    assert "2 embeddings forgotten" in result.output
    assert EmbeddingCache().info()["entries"] == 0


def test_converted_models_are_shown_and_cleared(folder):
    directory = EmbeddingCache().directory
    model = EncoderModel(None, "digest", directory, "cpu", 1, {})
    kept(model, "openvino", (), lambda: b"x" * 1000)
    assert run("cache", "info").output.splitlines()[-1].split()[:2] == ["models", "1"]
    facts = json.loads(run("cache", "info", "--json").output)
    assert facts["converted_models"] == 1
    assert facts["converted_bytes"] > 1000
    run("cache", "clear", input="n\n")
    assert len(converted_files(directory)) == 1
    assert "2 embeddings and 1 converted models forgotten" in run("cache", "clear", "--yes").output
    assert not converted_files(directory)


def test_clear_without_asking(folder):
    assert run("cache", "clear", "--yes").exit_code == 0
    assert EmbeddingCache().info()["entries"] == 0


def test_a_setting_that_cannot_be_read(folder, monkeypatch):
    monkeypatch.setenv("PRMKIT_CACHE_MAX_BYTES", "much")
    result = run("cache", "info")
    assert result.exit_code == 2
    assert "PRMKIT_CACHE_MAX_BYTES" in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["cache", "info"]])
def test_no_torch_is_loaded(folder, arguments):
    code = (
        "import sys\n"
        "from prmkit.cli import main\n"
        f"sys.argv = ['prmkit', *{arguments!r}]\n"
        "try:\n    main()\n"
        "finally:\n    print({'torch', 'sklearn', 'transformers'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("set()")


@pytest.mark.parametrize("module", ["prmkit", "prmkit.cli"])
def test_python_m(module):
    command = [sys.executable, "-m", module, "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("prmkit ")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("prmkit ", {"fit", "train", "evaluate"}), ("prmkit convert a b --to process", {"processbench"})],
)
def test_a_shell_completes_commands_and_formats(typed, expected):
    """What the script of ``--install-completion`` asks when somebody presses the tab key."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - (not typed.endswith(" ")))}
    done = CliRunner().invoke(app, [], env={"_PRMKIT_COMPLETE": "complete_bash", **words}, prog_name="prmkit")
    assert expected <= set(done.output.split())
    assert "--install-completion" in run("--help").output


@pytest.mark.parametrize(
    ("message", "flags", "said"),
    [
        ("Pass limit=3 or (limit=4).", {"limit": "--limit {}"}, "Pass --limit 3 or (--limit 4)."),
        ("pass name=…, or none", {"name": "--option name={}"}, "pass --option name=…, or none"),
        ("a.limit=3 and f(limit=3) stay", {"limit": "--limit {}"}, "a.limit=3 and f(limit=3) stay"),
        ('say m={"a": 1}', {"m": "--option m={}"}, "say --option m='{\"a\": 1}'"),
        ("say m={'a': …, 'b': None}", {"m": "--option m={}"}, 'say --option m=\'{"a": …, "b": null}\''),
        ("say m={'a': 1}", {"m": "--more '{{\"m\": {json}}}'"}, 'say --more \'{"m": {"a": 1}}\''),
        (
            "Say it: load(…, fields=dict(problem='the task', steps='b'))",
            {"fields": "--fields {}"},
            "Say it: --fields 'problem=the task,steps=b'",
        ),
        ("Pass way='a b'", {"way": "--way {}"}, "Pass --way 'a b'"),
        ("Pass way='it'", {"way": "--more '{{\"way\": {json}}}'"}, 'Pass --more \'{"way": "it"}\''),
        (
            "Say it: load(…, fields=dict(steps='a.b', labels='c'), labels='binary')",
            {"labels": "--option labels={}", "fields": "--fields {}"},
            "Say it: --fields steps=a.b,labels=c --option labels=binary",
        ),
        (
            r"Say it: load(…, fields=dict(steps='a', labels='c'), label_map={'x': …, 2: …}, step_separator='\n'). Put",
            {"fields": "--fields {}", "load_options": "--load_options {}"},
            """Say it: --fields steps=a,labels=c """
            r"""--load_options '{"label_map": {"x": …, "2": …}, "step_separator": "\n"}'. Put""",
        ),
        (
            r"Say it: load(…, fields=dict(steps='a', labels='c'), label_map={'x': …}, step_separator='\n\n'). Put",
            {"fields": "--fields {}"},
            r"""Say it: --fields steps=a,labels=c --option label_map='{"x": …}' --option step_separator='\n\n'. Put""",
        ),
        (
            "pass step_separator='…' (openrlhf)",
            {"step_separator": "--option step_separator={}"},
            "pass --option step_separator='…' (openrlhf)",
        ),
        ("pass no_error=None", {"no_error": "--option no_error={}"}, "pass --option no_error=null"),
        ("pass base=1", {"base": "--more '{{\"base\": {json}}}'"}, "pass --more '{\"base\": 1}'"),
        ("Say it: load(…, fields=dict(steps='a'))", {}, "Say it: prmkit convert IN OUT --to rated --fields steps=a"),
        ("delimit=3", {"limit": "--limit {}"}, "delimit=3"),
    ],
)
def test_settings_become_flags(message, flags, said):
    assert in_flags(message, flags) == said
