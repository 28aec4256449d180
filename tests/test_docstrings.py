"""Public docstrings: every parameter and return value is described, and the prose stays plain."""

import ast
import importlib
import inspect
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

validate = pytest.importorskip("numpydoc.validate", reason="numpydoc is in the extra [dev]").validate

PACKAGE = Path(__file__).resolve().parents[1] / "prmkit"
ROOMS = (
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
)
# numpydoc's rules: a docstring (GL08), a summary (SS01), parameters named, in order and described (PR01, PR02, PR03,
# PR07), returns described (RT01, RT03), yields described (YD01).
RULES = {"GL08", "SS01", "PR01", "PR02", "PR03", "PR07", "RT01", "RT03", "YD01"}
# This list only shrinks. Each entry names an object, a rule and a reason.
IGNORED: dict[tuple[str, str], str] = {
    ("prmkit.models.PRMTrainingConfig", "PR01"): "the inherited settings are documented by transformers",
    ("prmkit.decoding.TextGenerator", "PR01"): "a protocol is not called",
}


def public_objects() -> dict[str, object]:
    """Public names by address, with the public methods that prmkit itself defines."""
    found = {}
    for room in ("", *ROOMS):
        door = importlib.import_module(f"prmkit.{room}" if room else "prmkit")
        for name in door.__all__:
            thing = getattr(door, name)
            if inspect.ismodule(thing) or not (room or name == "PRMClassifier"):
                continue
            if inspect.isclass(thing) and thing.__name__ != name:
                continue  # an alias is checked under its own name
            found[f"{door.__name__}.{name}"] = thing
            if inspect.isclass(thing):
                for member, value in inspect.getmembers(thing):
                    own = inspect.unwrap(value) if callable(value) else value
                    if member.startswith("_") or not inspect.isroutine(own):
                        continue
                    if getattr(own, "__module__", "").startswith("prmkit"):
                        found[f"{door.__name__}.{name}.{member}"] = own
    return found


OBJECTS = public_objects()


@pytest.mark.parametrize("address", sorted(OBJECTS))
def test_numpydoc(address):
    errors = {(code, text) for code, text in validate(address)["errors"] if code in RULES}
    left = {(code, text) for code, text in errors if (address, code) not in IGNORED}
    assert left == set()


def test_the_ignore_list_holds_no_mended_entry():
    mended = {
        (address, rule)
        for address, rule in IGNORED
        if address not in OBJECTS or rule not in {code for code, _ in validate(address)["errors"]}
    }
    assert mended == set()


def prose(file: Path) -> str:
    """The docstrings of a file without code, literals and doctests."""
    nodes = ast.walk(ast.parse(file.read_text()))
    texts = [ast.get_docstring(node) for node in nodes if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    return re.sub(r"(>>>|\.\.\.) .*|``[^`]*``|`[^`]*`", "", "\n".join(text for text in texts if text))


@cache  # not when tests are collected, which every process does
def prose_of_files() -> dict[str, str]:
    return {str(file.relative_to(PACKAGE)): prose(file) for file in sorted(PACKAGE.rglob("*.py"))}


def test_sentences_end_with_full_stops():
    """Fewer than 3 semicolons per 1,000 words; no file makes a habit of them."""
    words = sum(len(text.split()) for text in prose_of_files().values())
    assert 1000 * sum(text.count(";") for text in prose_of_files().values()) / words < 3
    assert {file: text.count(";") for file, text in prose_of_files().items() if text.count(";") > 5} == {}


def test_no_entry_begins_with_of():
    """A description has a subject: "The learning rate of AdamW", not "Of AdamW"."""
    assert {
        file for file, text in prose_of_files().items() if re.search(r"^\s*Of\b", text, flags=re.MULTILINE)
    } == set()


def test_private_docstrings_describe_their_parameters_too():
    """In all docstrings with a Parameters section, fewer than 5 % of the parameters lack a description."""
    bare, total = [], 0
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or not (text := ast.get_docstring(node)):
                continue
            section = re.search(r"Parameters\n-+\n(.*?)(?=\n\n?\w+\n-+|\Z)", text, flags=re.DOTALL)
            lines = section.group(1).split("\n") if section else []
            for line, following in pairwise([*lines, ""]):
                if line and not line.startswith(" "):
                    total += 1
                    if not following.startswith("    "):
                        bare.append(f"{file.relative_to(PACKAGE)}: {node.name}: {line}")
    assert len(bare) < 0.05 * total, "\n".join(bare)
