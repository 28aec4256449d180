"""The examples run as a user would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prmkit.examples.__main__ import app

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("[0-9]*.py"))
QUIET = {"MPLBACKEND": "agg", "NO_COLOR": "1"}


def run(*command, cwd):
    """Run Python and return what it printed."""
    env = os.environ | QUIET
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    # Several processes: torch's own threads now and then abort when the interpreter ends, with all work done.
    aborted_at_the_end = "torch.distributed.run" in command and "without an active exception" in done.stderr
    assert done.returncode == 0 or aborted_at_the_end, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_numbered_scripts(script, tmp_path):
    assert run(str(script), cwd=tmp_path)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, run_python):
    script = ROOT / "examples" / "07_accelerate_launch.py"
    alone = run_python(script.read_text(), folder=tmp_path, **QUIET)
    launched = run("-m", "torch.distributed.run", "--nproc_per_node", "2", str(script), cwd=tmp_path)
    losses = [[float(loss) for loss in re.search(r"losses \[(.*)\]", out)[1].split(",")] for out in (alone, launched)]
    assert "1 process(es)" in alone
    assert launched.count("process(es)") == 1
    assert "2 process(es)" in launched
    assert losses[0] == pytest.approx(losses[1], abs=0.01)
    assert len(losses[0]) > 4


@pytest.mark.slow
def test_the_main_job_of_command_1(tmp_path):
    out = run("-m", "prmkit.examples", "--out", "out", cwd=tmp_path)
    for stage in ("1. Read", "2. Keep", "3. Cross-validate", "4. Fit", "5. Score", "6. Save", "Done"):
        assert stage in out
    assert "P(no error)" in out
    assert {"paths.png", "report.png", "model"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.slow
def test_main_job_on_prm800k(tmp_path, data_folder, run_python):
    arguments = ["--data", str(data_folder / "prm800k" / "train_sample.jsonl"), "--limit", "60", "--folds", "2"]
    code = "import runpy; runpy.run_module('prmkit.examples', run_name='__main__')"
    out = run_python(code, *arguments, folder=tmp_path, **QUIET)
    assert "dropped" in out
    assert "P(no error)" in out


def test_main_job_help_teaches():
    out = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for word in ("--data", "offline", "PRM800K", "--folds"):
        assert word in out


def test_readme_commands_are_the_ones_that_ci_runs():
    script, readme = ((ROOT / name).read_text() for name in (".ci/run", "README.md"))
    commands = [line for line in script.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert all(command in readme for command in commands)


@pytest.mark.slow
def test_python_in_the_readme_runs(tmp_path, run_python):
    """From a table to scores, a saved model, and a second process in a folder beside it: at most fifteen lines."""
    train, score = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line for line in (train + score).splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 15
    (tmp_path / "use").mkdir()
    assert len(re.findall(r"0\.\d+", run_python(train, folder=tmp_path, **QUIET))) == 5
    assert "P(no error)" in run_python(score, folder=tmp_path / "use", **QUIET)
    assert (tmp_path / "use" / "hats.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_wheel_holds_what_a_user_needs(tmp_path):
    """Built, unpacked elsewhere and imported from there: examples, types and commands come along."""
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(wheel, check=True)
    (file,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(file), str(site)], check=True)
    assert (site / "prmkit" / "py.typed").is_file()
    out = run("-c", "import prmkit, prmkit.examples.__main__; print(prmkit.__file__)", cwd=site)
    assert str(site) in out
