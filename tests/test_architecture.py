"""The structure holds: imports point one way, files stay small, importing is cheap."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "prmkit"
# A room may import itself and what its line names; every room may import utils.
ALLOWED = {
    "utils": set(),
    "data": set(),
    "metrics": {"data"},
    "features": {"data"},
    "models": {"features", "data", "metrics"},
    "classifier": {"models", "features", "data", "metrics"},
    "uncertainty": {"classifier", "models", "features", "data", "metrics"},
    "evaluation": {"classifier", "models", "features", "data", "metrics"},
    "cli": {"uncertainty", "evaluation", "classifier", "models", "features", "data", "metrics"},
    "examples": {"uncertainty", "evaluation", "classifier", "models", "features", "data", "metrics"},
}
# The checks put estimators to the test, so they know what a step is and which encoder to count.
EXCEPTIONS = {("utils/estimator_checks.py", "data"), ("utils/estimator_checks.py", "features")}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_rooms(tree: ast.AST) -> set[str]:
    """Rooms of prmkit that a file imports, inside functions too."""
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.append(node.module)
            modules += [f"{node.module}.{name.name}" for name in node.names if node.module == "prmkit"]
    rooms = {module.split(".")[1] for module in modules if module.startswith("prmkit.")}
    return rooms & set(ALLOWED)  # names of the top level, such as PRMClassifier, are no rooms


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_to_the_left(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    room = parts[0]
    if room == "__init__":
        return
    name = file.relative_to(PACKAGE).as_posix()
    found = imported_rooms(ast.parse(file.read_text())) - {room, "utils"}
    upward = {other for other in found - ALLOWED[room] if (name, other) not in EXCEPTIONS}
    assert not upward, f"{name} imports from {sorted(upward)}, which stand to the right of {room}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_are_small_and_say_why_they_exist(file):
    text = file.read_text()
    assert len(text.splitlines()) <= 300, "split it: one job per file"
    assert ast.get_docstring(ast.parse(text)), "the first line of a file says why it exists"


def test_words_of_the_field():
    """Names keep to the words of the design."""
    wrong = re.compile(r"(?<![a-z])(trace|chain|item|manager|helper|util)s?(?![a-z])", re.IGNORECASE)
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("__"):
                assert not wrong.search(node.name.replace("_", " ")), f"{file.name}: {node.name}"


def test_import_is_light():
    """``import prmkit`` loads no torch, transformers or scikit-learn and takes less than 0.3 s beyond Python."""
    code = (
        "import sys, time; start = time.perf_counter(); import prmkit; spent = time.perf_counter() - start; "
        ""
        "heavy = {'torch', 'transformers', 'sklearn', 'pandas', 'datasets'} & set(sys.modules); "
        "print(spent, sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    spent, heavy = out.split(maxsplit=1)
    assert heavy.strip() == "[]"
    assert float(spent) < 0.3


def test_every_public_name_exists():
    """What ``__all__`` promises can be imported, and is documented."""
    rooms = ["", ".data", ".features", ".models", ".metrics", ".uncertainty", ".evaluation"]
    rooms += [".utils.estimator_checks", ".utils.path_checks"]
    code = (
        "import importlib, prmkit\n"
        f"for room in {rooms}:\n"
        "    module = importlib.import_module('prmkit' + room)\n"
        "    for name in module.__all__:\n"
        "        assert getattr(module, name).__doc__, (room, name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
