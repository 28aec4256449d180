"""``prmkit train``: a thin command, so that the other commands start without transformers."""

from __future__ import annotations

import typer

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of the command: the flags are read by transformers' parser, which knows those of TrainingArguments."""


def train(context: typer.Context) -> None:
    """Fine-tune a language model or an encoder as a process reward model."""
    from prmkit.cli._train_arguments import Parser

    parser = Parser()
    if not context.args or {"--help", "-h"} & set(context.args):
        typer.echo(parser.format_help())
        return
    from prmkit.cli._train_run import run

    run(parser, context.args)
