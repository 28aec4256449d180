"""The manners that commands share: errors in one line, in the words of the flags, and help that lists the formats."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeAlias

import typer
from typer.core import TyperCommand

OnErrorFlag: TypeAlias = Annotated[
    str,
    typer.Option(
        "--on-error",
        metavar="raise|skip",
        help="Whether a record that breaks its format stops the command, naming its line, or is left out.",
    ),
]
"""The flag of every command that reads records."""
LimitFlag: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="NUMBER",
        show_default=False,
        help="Largest number of records to read. By default all are read.",
    ),
]
"""The flag of every command that reads records."""

SplitFlag: TypeAlias = Annotated[
    str | None, typer.Option("--split", metavar="NAME", show_default=False, help="Split of the data. Default: train.")
]
"""The flag of commands that fit or score."""
LabelOrderFlag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--label-order",
        metavar="WORST,…,BEST",
        show_default=False,
        help="Labels from worst to best, if they are classes of your own.",
    ),
]
"""The flag of commands that fit or score."""


def complete_format(incomplete: str) -> list[str]:
    """Return the formats whose names begin so, for the completion of a shell."""
    from prmkit.data.formats.registry import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


FromFlag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FORMAT",
        autocompletion=complete_format,
        show_default=False,
        help="The format of IN, one of those below, or bon for sampled solutions with a step per line "
        "(bon-paragraph, bon-enumeration, bon-sentence). By default the first records tell it. Rows with a problem "
        "and a list of steps need no labels.",
    ),
]
"""The flag of commands that work in blocks."""
FieldsFlag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--fields",
        metavar="NAME=FIELD,...",
        show_default=False,
        help="The field of each part, where IN has no known format: problem and steps, perhaps id; or problem and "
        "text, which is cut into steps; or problem and candidates; or, for a table with one step per row, problem, "
        "step, order and solution. A field is a dotted path, such as steps=response.steps.text.",
    ),
]
"""The flag of commands that work in blocks."""
OptionFlag: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="An option of the reader: by=line cuts texts at lines, for example."
    ),
]
"""The flag of commands that work in blocks."""
ResumeFlag: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        help="Whether to go on with what the same command has done before, or to do all anew and replace OUT.",
    ),
]
"""The flag of commands that work in blocks."""
EngineFlag: TypeAlias = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="Where the model runs: on this machine, or in actors of Ray (the extra ray).",
    ),
]
"""The flag of commands that work in blocks."""
WorkersFlag: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="NUMBER",
        show_default=False,
        help="Processes that run the model, each of which loads it. Default: one.",
    ),
]
"""The flag of commands that work in blocks."""
BlockStepsFlag: TypeAlias = Annotated[
    int,
    typer.Option(
        "--block-steps",
        metavar="NUMBER",
        help="Steps that are read at once and kept as one part: what a killed run may lose.",
    ),
]
"""The flag of commands that work in blocks."""

# What follows a name and an equals sign in an error: quoted, in brackets, or a word; or nothing.
_VALUE = r"('[^']*'|\"[^\"]*\"|\[[^\]]*\]|\{[^}]*\}|\([^)]*\)|[^\s,;:()]*[^\s,;:().])?"
_PROPOSAL = r"\bload\(…, fields=dict\(([^)]*)\)((?:, \w+=(?:\{[^}]*\}|'[^']*'|[^,)]+))*)\)"
_SAMPLES = r"\bload_(?:candidates\(…, fields=dict\(([^)]*)\)|samples\(…, ([^)]*))\)"
_BY_CONVERT = "prmkit convert IN OUT --to rated --fields {}"
_BY_EVALUATE = "prmkit evaluate MODEL --on PATH --out FOLDER --fields {}"
_OF_JSON = {"None": "null", "True": "true", "False": "false"}
_ONLY_IN_PYTHON = {
    "load_candidates(path, by=…) reads it": "prmkit evaluate takes it as --on bon:PATH",
    ". candidates.contradictions lists them": "",
    "or pass max_length above": "or save the model with a max_length above",
    "Pass a function of a text that returns its steps as by": "Such texts may well be one step",
    "make StepDataset(…, vocabulary='binary') if it is wrong, or vocabulary='rating' if it is neutral": (
        "--option labels=binary if it is wrong, or --option labels=rating if it is neutral, for the formats stepwise "
        "and rated"
    ),
}
"""Advice that only Python can follow, and the words for it here."""


class ListsFormats(TyperCommand):
    """A command whose help ends with the registered formats, so that a new format needs no edit of the help."""

    # Typer brings a click of its own in some versions, so the types of click do not fit all of them.
    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with the formats as its last lines."""
        from prmkit.data.formats.registry import describe_formats

        writable = describe_formats(writable=True)
        others = [line for line in describe_formats() if line not in writable]
        lines = ["Formats that are read and written:", *writable, "Formats that are only read:", *others]
        self.epilog = "\n\n".join(lines)
        super().format_help(ctx, formatter)


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """Rename the settings that a message speaks of to the flags that are typed.

    ``flags`` holds a pattern per setting, such as ``--on-error {}``. ``{json}`` in it stands for the value as JSON. A
    key such as ``labels='rating'`` stands for a setting with this value alone.

    >>> in_flags("line 3: not JSON. Pass on_error='skip' to go on", {"on_error": "--on-error {}"})
    'line 3: not JSON. Pass --on-error skip to go on'
    >>> in_flags("labels are [-1, 1]: pass label_order=[-1, 1]", {"label_order": "--label_order {}"})
    'labels are [-1, 1]: pass --label_order -1,1'
    """
    message = re.sub(_PROPOSAL, lambda found: _fields(found, flags), message)
    message = re.sub(_SAMPLES, lambda found: _BY_EVALUATE.format(_pairs(found[1] or found[2])), message)
    exact = {name: pattern for name, pattern in flags.items() if "=" in name}
    for in_python, typed in (_ONLY_IN_PYTHON | exact).items():
        message = message.replace(in_python, typed)
    for name, pattern in flags.items():

        def renamed(found: re.Match[str], pattern: str = pattern) -> str:
            value = found[1] or ""
            # A shell needs no quotes around a word.
            plain = value[1:-1] if re.fullmatch(r"(['\"])[\w-]+\1", value) else value
            if listed := re.fullmatch(r"\[(.*)\]", value):
                plain = shlex.quote(",".join(part.strip().strip("'").strip('"') for part in listed[1].split(",")))
            if value.startswith("{"):
                plain = _map_as_json(value) if "{json}" in pattern else shlex.quote(_map_as_json(value))
            return _typed(pattern, plain).rstrip()

        message = re.sub(rf"(?<![\w.,-])(?<!\w\()(?<!--option ){name}={_VALUE}", renamed, message)
        if pattern.endswith(" {}"):
            message = re.sub(rf"(^|: ){name} (?=is )", rf"\1{pattern[:-2]}", message)
    return message


def _map_as_json(value: str) -> str:
    """Return a mapping as JSON. What the user must fill in, …, stays."""
    try:
        mapping = ast.literal_eval(value.replace(": …", ": '…'"))
    except (ValueError, SyntaxError):
        return value
    return json.dumps(mapping, ensure_ascii=False).replace('"…"', "…")


def _typed(pattern: str, value: str) -> str:
    """Return a pattern with its value, which is JSON in an option of a reader."""
    value = _OF_JSON.get(value, value) if pattern.startswith("--option ") else value
    as_json = _OF_JSON.get(value, value)
    try:
        json.loads(as_json)
    except ValueError:
        as_json = json.dumps(value)
    return pattern.format(value, json=as_json)


def _pairs(arguments: str) -> str:
    """Return the arguments of a call, all texts, as NAME=FIELD,… for a shell."""
    pairs = re.sub("['\"]", "", arguments).replace(", ", ",")
    return shlex.quote(pairs) if re.search(r"[\s#$&;|<>()*?]", pairs) else pairs


def _fields(found: re.Match[str], flags: Mapping[str, str]) -> str:
    """Return the call of ``load`` that names fields as the flags that do so."""
    named, options = found.groups()
    typed = [_pairs(named)]
    # What the user must fill in is no Python.
    pairs = re.findall(r", (\w+)=(\{[^}]*\}|'[^']*'|[^,)]+)", options.replace("…", "'…'"))
    values = {name: ast.literal_eval(value) for name, value in pairs}

    def as_json(value: object) -> str:
        return json.dumps(value, ensure_ascii=False).replace('"…"', "…")

    if values and "load_options" in flags:
        typed.append(f"--load_options {shlex.quote(as_json(values))}")
    else:
        texts = {
            name: json.dumps(value)[1:-1] if isinstance(value, str) else as_json(value)
            for name, value in values.items()
        }
        typed += [f"--option {name}={shlex.quote(text)}" for name, text in texts.items()]
    return flags.get("fields", _BY_CONVERT).format(" ".join(typed))


def flags_of(context: typer.Context, **others: str) -> dict[str, str]:
    """Return how each setting of a command is typed, for `in_flags`. ``others`` are settings of other names."""
    typed = {param.name: param.opts for param in context.command.params}
    flags = {str(name): f"{opts[0]} {{}}" for name, opts in typed.items() if opts[0].startswith("--")}
    if "option" in flags:
        flags |= {name: f"--option {name}={{}}" for name in reader_options() - flags.keys()}
    return flags | others


def reader_options() -> set[str]:
    """Return the options of all formats, and those of fields by name."""
    from prmkit.data.formats.fields import by_fields
    from prmkit.data.formats.registry import FORMATS

    by_name = by_fields({"steps": "steps", "labels": "labels"})
    return {name for file_format in (*FORMATS.values(), by_name) for name in file_format.options}


@contextmanager
def in_words(flags: Mapping[str, str], interrupted: str, *, unsaid: str = "\n") -> Iterator[None]:
    """End with one line and code 2 for an error that the user can mend, and with 130 after Ctrl-C.

    Warnings of prmkit become notes, each once, except those that hold the text ``unsaid``. Other libraries' are not
    shown.
    """

    said: set[str] = set()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if unsaid not in str(message) and str(message) not in said:
            said.add(str(message))
            say(f"note: {in_flags(str(message), flags)}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"prmkit\.")
        warnings.showwarning = note
        try:
            yield
        except (OSError, ValueError, TypeError, ImportError, FloatingPointError) as error:
            fail(in_flags(" ".join(str(error).split()), flags))
        except KeyboardInterrupt:
            fail(interrupted, code=130)


def options_of(pairs: Sequence[str] | None, flag: str = "--option") -> dict[str, Any]:
    r"""Return the options that KEY=VALUE stands for. A value is JSON where it can be, else a text.

    >>> options_of(["threshold=0.5", r"step_separator=\n", "numbering=strip"])
    {'threshold': 0.5, 'step_separator': '\n', 'numbering': 'strip'}
    """
    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, has_value, text = pair.partition("=")
        if not has_value or not key:
            raise ValueError(f"{flag} {pair}: expected KEY=VALUE, such as threshold=0.5")
        try:
            options[key] = json.loads(text)
        except ValueError:
            # A shell hands over a backslash and an n.
            options[key] = text.replace("\\n", "\n").replace("\\t", "\t")
    return options


def fields_of(text: str) -> dict[str, str]:
    """Return the mapping that NAME=FIELD,… stands for.

    >>> fields_of("problem=question, steps=response.steps")
    {'problem': 'question', 'steps': 'response.steps'}
    """
    pairs = [pair.strip().partition("=") for pair in text.split(",")]
    if not all(name and is_pair and field for name, is_pair, field in pairs):
        raise ValueError(f"--fields {text}: expected NAME=FIELD,…, such as problem=question,steps=response.steps")
    if twice := [name for name, n in Counter(name for name, _, _ in pairs).items() if n > 1]:
        raise ValueError(f"--fields {text}: {twice[0]} stands there twice, expected one field for each name")
    return {name: field for name, _, field in pairs}


def say(text: str, *, err: bool = False) -> None:
    """Print a text, in the first of several processes."""
    if is_first_process():
        typer.echo(text, err=err)


def fail(message: str, code: int = 2) -> NoReturn:
    """Print an error, and end the command."""
    if is_first_process():
        typer.secho(f"Error: {message}", fg="red", err=True)
    raise typer.Exit(code)


def is_first_process() -> bool:
    """Whether this process is the one that prints, as accelerate and torchrun number them."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
