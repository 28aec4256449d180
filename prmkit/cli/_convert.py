"""``prmkit convert``: step labels from one format into another, with an account of the losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from prmkit.cli._terminal import LimitFlag, OnErrorFlag, complete_format, fields_of, flags_of, in_words, options_of


def convert(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            show_default=False,
            help="A file (JSON lines, JSON, CSV, Parquet or Arrow, also compressed), a folder of such, a pattern in "
            "quotes ('part-*.jsonl'), a URL, or the name owner/name of a Hugging Face data set.",
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
            autocompletion=complete_format,
            show_default=False,
            help="The format to write, one of those below. The format rated, prmkit's own, loses nothing.",
        ),
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            autocompletion=complete_format,
            show_default=False,
            help="The format of IN, one of those below. By default the first records tell it.",
        ),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields",
            metavar="NAME=FIELD,...",
            show_default=False,
            help="The field of each part, where IN has no known format: problem, steps, and labels or first_error. "
            "A field is a dotted path, such as steps=response.steps.text. --option labels=binary (or rating, soft) "
            "says what numbers mean, and --option base=1 that the first step is 1. For a table with one step per row: "
            "problem, step, order (the number of the step) and label.",
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
    on_error: OnErrorFlag = "raise",
    on_loss: Annotated[
        str,
        typer.Option(
            "--on-loss",
            metavar="count|raise",
            help="Whether a loss is counted or stops the command, if the new format cannot hold all that is said of a "
            "step.",
        ),
    ] = "count",
    limit: LimitFlag = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            show_default=False,
            help="Split to read, where IN has several: a Hugging Face data set (train by default), a folder with files "
            "such as train.jsonl and test.jsonl, or a JSON object of splits.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Convert step labels into another format, and report what was kept, left out, doubtful and lost.

    OUT is written whole or not at all. Information that the new format cannot hold is counted:
    neutral steps, probabilities, unlabelled steps, ids. No label is ever guessed.

    PRM800K as rows for TRL:
      prmkit convert phase2_train.jsonl steps.jsonl.gz --to stepwise

    Probabilities made right and wrong, from 0.5 on:
      prmkit convert soft.jsonl hard.jsonl --to sdiehl --option threshold=0.5

    Rows with fields of their own:
      prmkit convert mine.jsonl steps.jsonl --to stepwise
      --fields problem=question,steps=steps.text,labels=steps.good --option labels=binary

    Exactly, or not at all:
      prmkit convert gsm8k.json steps.jsonl --to prm800k --on-loss raise
    """
    from prmkit.data.formats.writing import check_writable

    interrupted = f"interrupted: nothing was written to {output}"
    with in_words({"format": "--to {}"}, interrupted):
        check_writable(to)
    with in_words(flags_of(context, format="--from {}"), interrupted):
        _convert(source, output, to, from_, fields, option, on_error, on_loss, limit, split, overwrite)


def _convert(
    source: str,
    output: Path,
    to: str,
    from_: str | None,
    fields: str | None,
    option: list[str] | None,
    on_error: str,
    on_loss: str,
    limit: int | None,
    split: str | None,
    overwrite: bool,
) -> None:
    from prmkit.data.formats.fields import by_fields
    from prmkit.data.formats.reading import iter_labelled
    from prmkit.data.formats.registry import FORMATS, check_format, load, recognise
    from prmkit.data.formats.sources import named_skips
    from prmkit.data.formats.writing import write

    _check_output(output, Path(source), overwrite)
    if fields is not None:
        if from_ is not None:
            raise ValueError("--fields and --from exclude each other: a format knows its fields")
        file_format = by_fields(fields_of(fields))
    else:
        file_format = FORMATS[recognise(source, split=split) if from_ is None else check_format(from_)]
    is_told = fields is not None or from_ is not None
    name = file_format.name
    typer.echo(f"{'read as' if is_told else 'recognised as'} {name}: {file_format.description}")
    options: dict[str, Any] = {"on_error": on_error, "limit": limit, **options_of(option)}
    counts: Counter[str] = Counter()
    skipped: list[str] = []
    dataset: Any
    if file_format.reader is not None:
        # Such a format is merged as a whole, so it cannot be streamed.
        options["split"] = split
        dataset = load(source, name, **options)
        report = write(dataset, output, to, on_loss=on_loss, overwrite=overwrite)  # type: ignore[arg-type]
        lines: Iterable[str] = (line for line in dataset.description.splitlines()[1:] if not line.endswith(": 0"))
    else:
        stream = iter_labelled(source, file_format, split=split, counts=counts, skipped=skipped, **options)
        report = write(stream, output, to, on_loss=on_loss, overwrite=overwrite)  # type: ignore[arg-type]
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
