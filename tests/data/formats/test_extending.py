"""A new format is its file, a line in the registry and its test: nothing else knows formats by name."""

import inspect
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import prmkit.data
from prmkit.cli import app
from prmkit.data import load, write
from prmkit.data.formats._rated import load_rated
from prmkit.data.formats.format import Format, from_ratings, has_fields
from prmkit.data.formats.registry import FORMATS, register_format

RECORD = {"task": "2 + 3?", "lines": ["We add.", "2 + 3 = 6."], "good": [True, False]}
LOADERS = sorted({name for name in prmkit.data.__all__ if name.startswith("load_")} - {"load_prm800k"})


def parse_mine(record, solution_id, counts, *, invert=False):
    ratings = [1 if good != invert else -1 for good in record.array("good")]
    return [from_ratings(record.text("task"), record.texts("lines"), ratings, solution_id)]


def write_mine(labelled):
    solution = labelled.solution
    good = [rating is not None and rating >= 0 for rating in labelled.ratings]
    return {"task": solution.problem, "lines": list(solution.steps), "good": good}


@pytest.fixture
def mine():
    added = Format(
        name="mine",
        description="the rows of my own project",
        recognises=has_fields({"task": str, "lines": list, "good": list}),
        parse=parse_mine,
        write=write_mine,
    )
    register_format(added)
    yield added
    del FORMATS["mine"]


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_registered_format_is_loaded(mine):
    dataset = load([RECORD])
    assert dataset.description.startswith("recognised by its first records as mine\n")
    assert (dataset.y.tolist(), dataset.first_errors) == ([1, -1], [1])
    assert load([RECORD], "mine", invert=True).y.tolist() == [-1, 1]
    with pytest.raises(ValueError, match="the format mine has no option flip; its options: invert"):
        load([RECORD], "mine", flip=True)


def test_a_registered_format_is_written(mine, tmp_path):
    path = tmp_path / "mine.jsonl"
    report = write(load([{**RECORD, "good": [False, True]}]), path, "mine", on_loss="raise")
    assert report.solutions == 1
    assert json.loads(path.read_text()) == {**RECORD, "good": [False, True]}


def test_a_registered_format_is_on_the_command_line(mine, tmp_path):
    source, out, back = (tmp_path / f"{name}.jsonl" for name in "abc")
    source.write_text(json.dumps(RECORD))
    assert "mine: the rows of my own project" in " ".join(run("convert", "--help").split())
    assert "recognised as mine" in run("convert", source, out, "--to", "stepwise")
    run("convert", out, back, "--to", "mine", "--on-loss", "raise")
    assert json.loads(back.read_text()) == RECORD
    run("convert", source, out, "--to", "stepwise", "--option", "invert=true", "--overwrite")
    assert json.loads(out.read_text())["labels"] == [False, True]


def test_a_registered_format_is_named_where_formats_are_listed(mine):
    for source, name in (([{"a": 1}], None), ([RECORD], "your")):
        with pytest.raises(ValueError, match=r"(Known|expected one of).*\bmine\b"):
            load(source, name)


def test_registering_again_replaces_and_never_a_format_of_prmkit(mine):
    register_format(Format("mine", "newer", mine.recognises, mine.parse))
    assert FORMATS["mine"].description == "newer"
    with pytest.raises(ValueError, match="'flat' is a format of prmkit already"):
        register_format(Format("flat", "mine", mine.recognises, mine.parse))
    with pytest.raises(ValueError, match="a Format whose name"):
        FORMATS["other"] = mine
    assert "other" not in FORMATS


def test_no_file_beside_the_registry_lists_the_formats():
    """A list of names in code or help, kept by hand, would forget the next format."""
    package = Path(prmkit.data.__file__).parents[1]
    names = re.compile("|".join(sorted(FORMATS, key=len, reverse=True)))
    for file in [*(package / "data").rglob("*.py"), package / "cli" / "_convert.py"]:
        lists = [line for line in file.read_text().splitlines() if len(set(names.findall(line))) > 4 and "," in line]
        assert not lists, f"{file.name}: {lists}"


@pytest.mark.parametrize("function", [load, write])
def test_help_lists_the_formats(function):
    listed = [name for name in FORMATS if f"- {name}: {FORMATS[name].description}" in function.__doc__]
    assert listed == [name for name, one in FORMATS.items() if function is load or one.write is not None]


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_describes_all_of_its_parameters(name):
    function = getattr(prmkit.data, name)
    section = function.__doc__.split("Parameters\n")[1].split("\nReturns\n")[0]
    parameters = list(inspect.signature(function).parameters)
    assert re.findall(r"^(\w+)(?:, \w+)* :", section, flags=re.MULTILINE)[:1] == parameters[:1]
    for parameter in parameters:
        assert re.search(rf"^(\w+, )*{parameter}(, \w+)* :.*\n    \S", section, flags=re.MULTILINE), parameter
    assert ">>> " in function.__doc__


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_loader_has_the_options_of_its_format(name):
    # The format "rated" has a loader that is not public: ``load`` reads its files.
    function = load_rated if name == "rated" else getattr(prmkit.data, f"load_{name}", None)
    if FORMATS[name].reader is not None:
        return
    if function is None:  # options need a docstring that describes them
        assert not FORMATS[name].options
        return
    shown = inspect.signature(function).parameters
    common = [*list(shown)[:1], "on_error", "limit", "split"]
    assert {key: one.default for key, one in shown.items() if key not in common} == FORMATS[name].options
