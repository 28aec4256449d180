"""``prmkit convert``: step labels from one format into another, with an account of the losses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from prmkit.cli._terminal import fail


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            show_default=False,
            help="A file (JSON lines, JSON, CSV or Parquet, also compressed), a folder of such, a pattern in quotes "
            "('part-*.jsonl'), a URL, or the name owner/name of a Hugging Face data set.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(metavar="OUT", show_default=False, help="The file to write. It is gzipped if it ends in .gz."),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            show_default=False,
            help="The format to write, one of those below. The format rated, prmkit's own, loses nothing.",
        ),
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            show_default=False,
            help="The format of IN, one of those below. By default the first records tell it.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="An option of the format of IN, as its loader in Python has it: threshold=0.5 (stepwise), "
            'step_separator=TEXT (openrlhf, rlhflow), label_map=\'{"bad": -1, "good": 1}\' (flat).',
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            "--on-error",
            metavar="raise|skip",
            help="Whether a record that breaks its format stops the command, naming its line, or is left out.",
        ),
    ] = "raise",
    on_loss: Annotated[
        str,
        typer.Option(
            "--on-loss",
            metavar="count|raise",
            help="Whether a loss is counted or stops the command, if the new format cannot hold all that is said of a "
            "step.",
        ),
    ] = "count",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="NUMBER",
            show_default=False,
            help="Largest number of records to read. By default all are read.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Split of a Hugging Face data set.")] = "train",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Convert step labels into another format, and report what was kept, left out, doubtful and lost.

    OUT is written whole or not at all. Information that the new format cannot hold is counted:
    neutral steps, probabilities, unlabelled steps, ids. No label is ever guessed.

    PRM800K as rows for TRL:
      prmkit convert phase2_train.jsonl steps.jsonl.gz --to stepwise

    Probabilities made right and wrong, from 0.5 on:
      prmkit convert soft.jsonl hard.jsonl --to sdiehl --option threshold=0.5

    Exactly, or not at all:
      prmkit convert gsm8k.json steps.jsonl --to prm800k --on-loss raise
    """
    try:
        _convert(source, output, to, from_, option, on_error, on_loss, limit, split, overwrite)
    except (OSError, ValueError, TypeError, ImportError) as error:
        fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        fail(f"interrupted: nothing was written to {output}", code=130)


def _convert(
    source: str,
    output: Path,
    to: str,
    from_: str | None,
    option: list[str] | None,
    on_error: str,
    on_loss: str,
    limit: int | None,
    split: str,
    overwrite: bool,
) -> None:
    from prmkit.data.formats.reading import iter_labelled, named_skips
    from prmkit.data.formats.registry import FORMATS, check_format, load, recognise
    from prmkit.data.formats.writing import check_writable, write

    check_writable(to)
    _check_output(output, Path(source), overwrite)
    name = recognise(source, split=split) if from_ is None else check_format(from_)
    file_format = FORMATS[name]
    typer.echo(f"{'recognised as' if from_ is None else 'read as'} {name}: {file_format.description}")
    options: dict[str, Any] = {"on_error": on_error, "limit": limit, **_options(option)}
    counts: Counter[str] = Counter()
    skipped: list[str] = []
    dataset: Any
    if file_format.reader is not None:
        # Such a format is merged as a whole, so it cannot be streamed. Its reader knows no split of a local file.
        if not Path(source).exists():
            options["split"] = split
        dataset = load(source, name, **options)
        report = write(dataset, output, to, on_loss=on_loss)  # type: ignore[arg-type]
        lines: Iterable[str] = (line for line in dataset.description.splitlines()[1:] if not line.endswith(": 0"))
    else:
        stream = iter_labelled(source, file_format, split=split, counts=counts, skipped=skipped, **options)
        report = write(stream, output, to, on_loss=on_loss)  # type: ignore[arg-type]
        lines = [*(f"{reason}: {n}" for reason, n in counts.items()), *named_skips(skipped)]
    for line in filter(str.strip, lines):
        typer.echo(f"read: {line}")
    typer.echo(str(report))


def _check_output(output: Path, source: Path, overwrite: bool) -> None:
    """Raise if the output cannot be written, exists, or is part of the source."""
    from prmkit.utils.files import check_path

    check_path(output)
    if not output.exists():
        return
    if not overwrite:
        raise ValueError(f"{output} is there already: pass --overwrite, or choose another name")
    if source.exists() and (output.samefile(source) or output.resolve().parent == source.resolve()):
        raise ValueError(f"{output} is what is read, and may hold more than is written: choose another name")


def _options(pairs: Sequence[str] | None) -> dict[str, Any]:
    r"""Return the options that KEY=VALUE stands for. A value is JSON where it can be, else a text.

    Examples
    --------
    >>> _options(["threshold=0.5", r"step_separator=\n", "numbering=strip"])
    {'threshold': 0.5, 'step_separator': '\n', 'numbering': 'strip'}
    """
    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, has_value, text = pair.partition("=")
        if not has_value or not key:
            raise ValueError(f"--option {pair}: expected KEY=VALUE, such as threshold=0.5")
        try:
            options[key] = json.loads(text)
        except ValueError:
            # A shell hands over a backslash and an n.
            options[key] = text.replace("\\n", "\n").replace("\\t", "\t")
    return options
