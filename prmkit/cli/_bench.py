"""``prmkit bench``: what this machine does, as a table to paste into an issue."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from prmkit.cli._terminal import flags_of, in_words


def bench(
    context: typer.Context,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", metavar="NUMBER", help="About how long it may take. Less time gives less work per round."
        ),
    ] = 60.0,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="Encoder: name or folder of a sentence-transformers model.")
    ] = "all-MiniLM-L6-v2",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")] = False,
) -> None:
    """Measure how fast this machine encodes, fits, scores and trains, each beside the usual way without prmkit.

    It takes about a minute, needs no data, and prints a Markdown table with machine and versions:
      prmkit bench

    A quick look, or the numbers for a script:
      prmkit bench --seconds 15
      prmkit bench --json > bench.json

    "times as fast" is the rate over that of the first line, measured in turns, so it holds on a busy machine too.
    "of the peak" is the share of the fastest matrix product of the same precision: what the hardware could do at best.
    In Python: prmkit.evaluation.measure_machine().
    """
    with in_words(flags_of(context), "interrupted: nothing was measured to the end"):
        from prmkit.evaluation import measure_machine

        report = measure_machine(seconds, model=model)
        typer.echo(json.dumps(report.to_dict()) if as_json else str(report))
