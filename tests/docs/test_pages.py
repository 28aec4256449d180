"""The documentation tells the truth: its code runs, its commands exist, its names resolve."""

import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import prmkit

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "api", "auto_examples"} & set(path.parts))
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in [*sorted(ROOT.glob("*.md")), *PAGES]}
NOT_RUN = "# not run: "


def blocks(text, language):
    """Return the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


# The README has a test of its own, in tests/test_examples.py.
WITH_PYTHON = [page for page, text in TEXTS.items() if blocks(text, "python") and page != "README.md"]


QUICK = ("docs/getting_started.md", "docs/guide/data_formats.md")


@pytest.mark.parametrize("page", [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in WITH_PYTHON])
def test_code_of_a_page_runs(page, tmp_path):
    """The blocks of a page run one after the other, in an empty folder and without a network."""
    code = "\n".join(block for block in blocks(TEXTS[page], "python") if not block.startswith(NOT_RUN))
    env = {**os.environ, "MPLBACKEND": "agg", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_blocks_that_are_not_run_say_why():
    """They are valid Python, and few: they need weights or a folder that the page cannot make."""
    skipped = [block for text in TEXTS.values() for block in blocks(text, "python") if block.startswith("# not run")]
    for block in skipped:
        compile(block, "page", "exec")
        assert re.match(rf"{NOT_RUN}(needs|downloads) .+\n", block)
    assert len(skipped) <= 6


def commands():
    """Return each ``prmkit`` command of the pages, as words."""
    found = []
    for page, text in TEXTS.items():
        for block in blocks(text, "sh"):
            typed = re.findall(r"^(?:.*-m prmkit\.cli|prmkit) (\w.*)$", block, flags=re.MULTILINE)
            found += [(page, shlex.split(line, comments=True)) for line in typed]
    return found


def help_of(command):
    """Return the help text of a command."""
    run = [sys.executable, "-m", "prmkit.cli", command, "--help"]
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout


def test_flags_of_commands_exist():
    used = {}
    for page, words in commands():
        used.setdefault(words[0], []).extend((page, word) for word in words[1:] if word.startswith("--"))
    # Tables name flags too: every --flag of prmkit's column.
    assert {"train", "evaluate", "convert", "cache"} <= set(used)
    for command, flags in used.items():
        known = help_of(command)
        assert [(page, flag) for page, flag in flags if not re.search(rf"{flag}\b", known)] == []


@pytest.mark.slow
def test_flags_of_the_trl_table_exist():
    rows = [line.split("|") for line in TEXTS["docs/migrate/trl.md"].splitlines() if line.startswith("| `--")]
    known = help_of("train")
    for theirs, ours in ((row[1], row[2]) for row in rows):
        flags = re.findall(r"--\w+", theirs if "the same" in ours else ours)
        assert [flag for flag in flags if not re.search(rf"{flag}\b", known)] == []


def test_references_to_names_resolve():
    """``{py:obj}`` roles name public things. Sphinx would pass over a wrong one in silence."""
    for page, text in TEXTS.items():
        for name in re.findall(r"\{py:obj\}`~?([\w.]+)`", text):
            room, _, last = name.rpartition(".")
            assert hasattr(importlib.import_module(room), last), f"{page}: {name}"


def test_readme_fits_on_a_page():
    assert len(TEXTS["README.md"].splitlines()) <= 120


def test_relative_links_lead_somewhere():
    for page, text in TEXTS.items():
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text):
            assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"


def test_every_public_room_has_its_page():
    """``docs/conf.py`` lists the rooms whose ``__all__`` becomes a page."""
    listed = set(re.findall(r'^    "(prmkit[\w.]*)",$', (DOCS / "conf.py").read_text(encoding="utf-8"), re.MULTILINE))
    rooms = {f"prmkit.{name}" for name in prmkit.__all__ if inspect.ismodule(getattr(prmkit, name))}
    assert rooms - {"prmkit.utils"} <= listed
