"""The structure holds: imports point one way, no circles, files of one topic, and importing is cheap."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "prmkit"
# From left to right. A room may import itself, what its line names, and utils.
ALLOWED = {
    "utils": set(),
    "data": set(),
    "fitted": {"data"},
    "metrics": {"fitted", "data"},
    "scoring": {"saving", "metrics", "fitted", "data"},
    "marking": {"data"},
    "features": {"marking", "data"},
    "models": {"features", "marking", "metrics", "fitted", "data"},
    "saving": {"models", "features", "marking", "metrics", "fitted", "data"},
    "classifier": {"saving", "models", "features", "marking", "scoring", "metrics", "fitted", "data"},
}
ALLOWED["uncertainty"] = ALLOWED["classifier"] | {"classifier"}
ALLOWED["evaluation"] = ALLOWED["classifier"] | {"classifier"}
ALLOWED["decoding"] = ALLOWED["uncertainty"] | {"uncertainty"}
ALLOWED["cli"] = ALLOWED["examples"] = ALLOWED["decoding"] | {"decoding", "evaluation"}
# The checks put estimators to the test, so they know what a step is and which encoder to count.
EXCEPTIONS = {
    ("utils/estimator_checks.py", "data"),
    ("utils/estimator_checks.py", "features"),
    ("utils/label_checks.py", "data"),
    ("utils/label_checks.py", "scoring"),
}
ALLOWED["__main__"] = {"cli"}
FILES = sorted(PACKAGE.rglob("*.py"))
LINES_PER_FILE = 600
# The whole house. Who needs more raises a number here and says in the pull request what users get for it.
BUDGET = {"lines": 65_300, "files": 305, "public names": 185}
DOORS = (
    "data",
    "decoding",
    "evaluation",
    "features",
    "marking",
    "metrics",
    "models",
    "models.losses",
    "saving",
    "scoring",
    "uncertainty",
)


def module_name(file: Path) -> str:
    parts = ("prmkit", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


@cache  # not when tests are collected, which every process does
def imported_modules(file: Path) -> set[str]:
    """Modules of prmkit that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("prmkit"):
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found.add(full if full in MODULES else node.module)
    return found


def imports() -> dict[str, set[str]]:
    return {name: imported_modules(file) for name, file in MODULES.items()}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def public_names(room: str) -> list[str]:
    """The ``__all__`` of a room's stub, which is also the door's."""
    tree = ast.parse((PACKAGE / room.replace(".", "/") / "__init__.pyi").read_text())
    lists = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    return ast.literal_eval(lists[0])


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_to_the_left(module):
    room = room_of(module)
    if not room:
        return
    file = MODULES[module].relative_to(PACKAGE).as_posix()
    found = {room_of(other) for other in imported_modules(MODULES[module])} - {"", room, "utils"}
    upward = {other for other in found - ALLOWED[room] if (file, other) not in EXCEPTIONS}
    assert not upward, f"{file} imports from {sorted(upward)}, which stand to the right of {room}"


def test_no_circles_of_files():
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(f"these files import each other: {' -> '.join(error.args[1])}")


def test_an_underscore_means_that_no_other_room_imports_it():
    across = {
        (module, other)
        for module, others in imports().items()
        for other in others
        if room_of(module) != room_of(other) and any(part.startswith("_") for part in other.split("."))
    }
    assert not across, f"drop the underscore of the second, or import it from its room's door: {sorted(across)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_hold_one_topic_and_say_why_they_exist(file):
    text = file.read_text()
    assert len(text.splitlines()) <= LINES_PER_FILE, "split it: one topic per file"
    assert ast.get_docstring(ast.parse(text)), "the first line of a file says why it exists"


def test_the_house_keeps_its_weight():
    """Lines, files and names only grow on purpose: see BUDGET."""
    weight = {
        "lines": sum(len(file.read_text().splitlines()) for file in FILES),
        "files": len(FILES),
        "public names": len({name for room in DOORS for name in public_names(room)} - {"losses"}),
    }
    over = {what: (found, BUDGET[what]) for what, found in weight.items() if found > BUDGET[what]}
    assert not over, f"over budget (found, allowed): {over}"


def test_one_address_per_name():
    """A public name belongs to one room; the package's own door repeats the most frequent."""
    rooms = {}
    for room in DOORS:
        for name in public_names(room):
            rooms.setdefault(name, set()).add(room_of(f"prmkit.{room}"))
    assert {name: found for name, found in rooms.items() if len(found) > 1} == {}


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("*.pyi")), ids=lambda stub: str(stub.relative_to(PACKAGE)))
def test_a_folder_exports_nothing_that_its_room_hides(stub):
    parts = stub.parent.relative_to(PACKAGE).parts
    if len(parts) > 1:
        room = parts[0] if ".".join(parts[:2]) != "models.losses" else "models.losses"
        assert set(public_names(".".join(parts))) <= set(public_names(room))


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("*.pyi")), ids=lambda stub: str(stub.relative_to(PACKAGE)))
def test_stubs_repeat_the_name_so_that_editors_offer_it(stub):
    """``from ._x import Y as Y``: without the second Y, jedi takes the import for the stub's own use."""
    names = [
        name for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom) for name in node.names
    ]
    assert [name.name for name in names if name.asname != name.name] == []
    assert {name.name for name in names} - {"__version__"} == set(
        public_names(".".join(stub.parent.relative_to(PACKAGE).parts))
    )


def test_words_of_the_field():
    """Names keep to the words of the design."""
    wrong = re.compile(r"(?<![a-z])(trace|chain|item|manager|helper|util)s?(?![a-z])", re.IGNORECASE)
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("__"):
                assert not wrong.search(node.name.replace("_", " ")), f"{file.name}: {node.name}"


def test_import_is_light():
    """``import prmkit`` loads no torch, transformers or scikit-learn and computes less than 0.3 s beyond Python."""
    code = (
        "import sys, time; start = time.process_time(); import prmkit; spent = time.process_time() - start; "
        "heavy = {'torch', 'transformers', 'sklearn', 'pandas', 'datasets'} & set(sys.modules); "
        "print(spent, sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    spent, heavy = out.split(maxsplit=1)
    assert heavy.strip() == "[]"
    assert float(spent) < 0.3


@pytest.mark.slow
def test_every_public_name_exists():
    """What ``__all__`` promises can be imported, whatever was imported before, and is documented."""
    checks = [f".utils.{kind}_checks" for kind in ("estimator", "label", "path")]
    rooms = ["", *(f".{door}" for door in DOORS), *checks]
    every = [f"prmkit{room}" for room in rooms] + [
        ".".join(("prmkit", *stub.parent.relative_to(PACKAGE).parts)) for stub in PACKAGE.rglob("*.pyi")
    ]
    code = (
        "import importlib, types\n"
        f"for module in {sorted(MODULES)}:\n"
        "    if not module.endswith('__main__'):\n"
        "        importlib.import_module(module)\n"
        f"for room in {every}:\n"
        "    door = importlib.import_module(room)\n"
        "    for name in door.__all__:\n"
        "        found = getattr(door, name)\n"
        "        assert found.__doc__, (room, name)\n"
        "        assert not isinstance(found, types.ModuleType) or room in ('prmkit', 'prmkit.models'), (room, name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
