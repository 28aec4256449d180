"""The ``prmkit`` command. Every command is thin: it calls functions that Python can call too."""

from __future__ import annotations

from typing import Annotated

import typer

from prmkit.cli._bench import bench
from prmkit.cli._cache import cache
from prmkit.cli._convert import convert
from prmkit.cli._evaluate import SeveralAfterOn, evaluate
from prmkit.cli._fit import fit
from prmkit.cli._label import label
from prmkit.cli._score import score
from prmkit.cli._states import states
from prmkit.cli._terminal import ListsFormats
from prmkit.cli._train import PASSED_ON, train
from prmkit.utils.environment import write_any_text

__all__ = ["app", "main"]

app = typer.Typer(
    name="prmkit",
    no_args_is_help=True,
    help=(
        "Process reward models: which step of a solution is wrong, and how sure is that?\n\n"
        "prmkit fit trains the default classifier on step labels, in minutes on a processor. prmkit train fine-tunes a "
        "language model. prmkit evaluate compares models on benchmarks. prmkit score scores files of any size. prmkit "
        "states computes what a language model holds, for a classifier to learn from. prmkit label makes step labels "
        "by rollouts of a language model. prmkit convert writes step labels in another format. prmkit "
        "bench measures this machine. prmkit COMMAND --help shows examples.\n\n"
        "All else is done from Python:\n\n"
        "    from prmkit import PRMClassifier, load_prm800k\n\n"
        "    X, y = load_prm800k('train.jsonl'); clf = PRMClassifier().fit(X, y)\n\n"
        "See it work, offline and on your machine:  python -m prmkit.examples"
    ),
)
app.command(no_args_is_help=True, cls=ListsFormats)(fit)
app.command(add_help_option=False, context_settings=PASSED_ON)(train)
app.command(no_args_is_help=True, cls=ListsFormats)(convert)
app.command(no_args_is_help=True, cls=SeveralAfterOn)(evaluate)
app.command(no_args_is_help=True, cls=ListsFormats)(score)
app.command(no_args_is_help=True, cls=ListsFormats)(states)
app.command(no_args_is_help=True, cls=ListsFormats)(label)
app.command()(bench)
app.add_typer(cache, name="cache")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from prmkit import __version__

        typer.echo(f"prmkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    write_any_text()
    app()
