"""``prmkit convert``: step labels from one layout into another, and what that cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            show_default=False,
            help="A file (JSON lines, JSON, CSV, Parquet; also gzipped), a folder of such, or the name owner/name of a "
            "Hugging Face data set.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", show_default=False, help="The file to write; gzipped if it ends in .gz."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="LAYOUT",
            show_default=False,
            help="stepwise (TRL's prompt, completions, labels), sdiehl, math_shepherd, prm800k, processbench, flat (a "
            "row per step) or rated (prmkit's own, which loses nothing).",
        ),
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="LAYOUT",
            show_default=False,
            help="Any of these, or openrlhf, rlhflow, prmbench, reasoneval, mr_gsm8k, mr_ben, big_bench_mistake. "
            "Default: what the first records look like.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="An option of the layout read, as its loader in Python has it, such as threshold=0.5 (stepwise), "
            'step_separator=TEXT (openrlhf, rlhflow) or label_map=\'{"bad": -1, "good": 1}\' (flat).',
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            "--on-error",
            metavar="raise|skip",
            help="What to do with a record that breaks its layout: stop, naming its line, or leave it out.",
        ),
    ] = "raise",
    on_loss: Annotated[
        str,
        typer.Option(
            "--on-loss",
            metavar="count|raise",
            help="What to do where the new layout cannot hold all that is said of a step: count it, or stop.",
        ),
    ] = "count",
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="NUMBER", show_default=False, help="Read this many records at most."),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Split of a Hugging Face data set.")
    ] = "train",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
) -> None:
    """Convert step labels into another layout, and say what was kept, left out, doubtful and lost.

    OUT is written whole or not at all. What the new layout cannot hold is counted:
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
        _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        _fail(f"interrupted: nothing was written to {output}", code=130)


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
    from prmkit.cli._train_settings import as_mapping
    from prmkit.data.formats.reading import iter_labelled, named_skips
    from prmkit.data.formats.registry import FORMATS, check_format, load, recognise
    from prmkit.data.formats.writing import check_writable, write
    from prmkit.utils.files import check_path

    check_writable(to)
    check_path(output)
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already: pass --overwrite, or choose another name")
    read = Path(source)
    if (
        output.exists()
        and read.exists()
        and (output.samefile(read) or output.resolve().parent == read.resolve())
    ):
        raise ValueError(f"{output} is what is read, and may hold more than is written: choose another name")
    name = recognise(source, split=split) if from_ is None else check_format(from_)
    typer.echo(f"{'recognised as' if from_ is None else 'read as'} {name}: {FORMATS[name].description}")
    options = {key: _unescaped(value) for key, value in as_mapping(option, "--option").items()}
    counts: Counter[str] = Counter()
    skipped: list[str] = []
    given: Any
    if name == "prm800k":  # merged as a whole, since its labellers rated some solutions more than once
        given = load(
            source,
            name,
            on_error=on_error,
            limit=limit,
            **({} if Path(source).exists() else {"split": split}),
            **options,
        )
    else:
        given = iter_labelled(
            source,
            FORMATS[name],
            on_error=on_error,
            limit=limit,
            split=split,
            counts=counts,
            skipped=skipped,
            **options,
        )
    report = write(given, output, to, on_loss=on_loss)
    lines = [f"{what}: {n}" for what, n in counts.items()] + named_skips(skipped)
    if name == "prm800k":
        lines = [line for line in given.description.splitlines()[1:] if not line.endswith(": 0")]
    for line in filter(str.strip, lines):
        typer.echo(f"read: {line}")
    typer.echo(str(report))


def _unescaped(value: Any) -> Any:
    """A shell hands over a backslash and an n."""
    return value.replace("\\n", "\n").replace("\\t", "\t") if isinstance(value, str) else value


def _fail(message: str, code: int = 2) -> NoReturn:
    typer.secho(f"Error: {message}", fg="red", err=True)
    raise typer.Exit(code)
