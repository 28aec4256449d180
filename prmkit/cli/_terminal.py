"""The manners that commands share: errors in one line, and help that lists the formats of the registry."""

from __future__ import annotations

from typing import Any, NoReturn

import typer
from typer.core import TyperCommand


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


def fail(message: str, code: int = 2) -> NoReturn:
    """Print an error and end the command."""
    typer.secho(f"Error: {message}", fg="red", err=True)
    raise typer.Exit(code)
