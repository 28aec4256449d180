"""The documentation tells the truth: its code runs, its commands exist, its names resolve."""

import ast
import builtins
import configparser
import importlib
import inspect
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

import prmkit
from prmkit.cli import app

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


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_code_of_a_page_runs(page, tmp_path, run_python):
    """The blocks of a page run one after the other, in an empty folder and without a network."""
    code = "\n".join(block for block in blocks(TEXTS[page], "python") if not block.startswith(NOT_RUN))
    run_python(code, folder=tmp_path, MPLBACKEND="agg", NO_COLOR="1", HF_HUB_OFFLINE="1")


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
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0
    return done.output


@pytest.mark.slow
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


# What a reader can be told: pages, examples, and every text in the package, such as errors, help and docstrings.
SOURCES = sorted((ROOT / "prmkit").rglob("*.py"))
EXAMPLES = [*sorted((ROOT / "examples").glob("*.py")), ROOT / "examples" / "README.rst"]


@cache  # not when tests are collected, which every process does
def trees():
    """Return the source files of the package, parsed."""
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def strings(tree):
    """Return the texts in a part of a program, one a line, with ``{}`` for each value in an f-string."""
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return "\n".join(texts)


@cache
def told_in():
    """Return pages, examples, and what the package tells, by their files."""
    examples = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in EXAMPLES}
    return TEXTS | examples | {page: strings(tree) for page, tree in trees().items()}


FILES_NAMED_PRMKIT = {"prmkit.json", "prmkit.typed"}


def exists(name):
    """Whether a dotted name can be imported."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:n]))
        except ImportError:
            continue
        return all((thing := getattr(thing, part, None)) is not None for part in parts[n:])
    return False


def test_dotted_names_can_be_imported():
    named = {
        (page, name)
        for page, text in told_in().items()
        if page != "CHANGES.md"  # of names that are gone
        for name in re.findall(r"(?<![\w./-])prmkit(?:\.[A-Za-z_]\w*)+", text)
    }
    assert len(named) > 50
    assert [(page, name) for page, name in named if name not in FILES_NAMED_PRMKIT and not exists(name)] == []


def test_calls_in_errors_and_warnings_can_be_made():
    """``pass flatten(solutions)``: what an error tells the reader to call is a public name, or has an address."""
    known = {*dir(builtins), "LogisticRegression", "make_pipeline", "StandardScaler"} | {
        "P",
        "sample",
        "value",
    }  # "P(negative)", "0 sample(s)"
    doors = [
        "data",
        "decoding",
        "evaluation",
        "features",
        "marking",
        "metrics",
        "models",
        "models.losses",
        "scoring",
        "uncertainty",
    ]
    for door in ["", *(f".{door}" for door in doors)]:
        room = importlib.import_module(f"prmkit{door}")
        for name in room.__all__:
            known |= {name, *dir(getattr(room, name))}
    told = [
        (page, name)
        for page, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn")
        for name in re.findall(r"(?<![\w.])([A-Za-z_]\w*)\(", strings(node))
    ]
    assert len(told) > 50
    assert [(page, name) for page, name in told if name not in known] == []


def test_what_pip_is_told_to_install_can_be_installed():
    """Without a release, there is no ``prmkit`` to install: extras are those of the clone, and the rest has a name."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    required = settings["options"]["install_requires"] + "".join(extras.values())
    packages = {re.split(r"[<>=]", line)[0] for line in required.split("\n") if line} | {"pip", "uv"}
    advised = 0
    for page, text in told_in().items():
        if page == "CHANGES.md":
            continue
        assert "prmkit[" not in text, page
        for of_clone in re.findall(r"\.\[([a-z,]+)\]", text):
            assert set(of_clone.split(",")) <= set(extras), (page, of_clone)
        for words in re.findall(r"pip install ([^`\n;,()]+)", text):
            # The rest of the sentence is no package.
            name = next((word for word in words.split() if word[0] != "-" and word != "constraints.txt"), "{")
            advised += 1
            assert name.startswith(('".[', "{", "/")) or re.split(r"[<>=]", name)[0] in packages, (page, words)
    assert advised > 8
