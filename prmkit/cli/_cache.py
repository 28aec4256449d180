"""``prmkit cache``: how much of the disk the embeddings take, and how to have it back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prmkit.features.encoding.cache import EmbeddingCache

cache = typer.Typer(
    no_args_is_help=True,
    help=(
        "The embeddings that prmkit keeps on disk, so that no text is encoded twice.\n\n"
        "They lie in --dir, else in the folder that PRMKIT_CACHE_DIR names, else in your user cache folder. "
        "Above PRMKIT_CACHE_MAX_BYTES (2 GiB) the oldest go. Nothing is lost by clearing: what is needed "
        "again is computed again. PRMFeaturizer(cache=False) works without."
    ),
)

Folder = Annotated[
    str | None, typer.Option("--dir", metavar="FOLDER", help="Folder of the cache, if not the default.")
]


@cache.command()
def info(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False,
) -> None:
    """Show where the cache lies, its size, and the entries of each encoder."""
    found = _open(folder).info()
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"path     {found['path']}")
    typer.echo(f"entries  {found['entries']:,}")
    typer.echo(f"size     {_readable(found['bytes'])} of at most {_readable(found['max_bytes'])}")
    for name, entries in found["namespaces"].items():
        typer.echo(f"encoder  {name}: {entries:,}")


@cache.command()
def clear(
    folder: Folder = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget all embeddings. Asks first."""
    embeddings = _open(folder)
    entries = embeddings.info()["entries"]
    if entries and not yes:
        typer.confirm(f"Forget {entries:,} embeddings in {embeddings.path}?", abort=True)
    typer.echo(f"{embeddings.clear():,} embeddings forgotten in {embeddings.path}")


def _open(folder: str | None) -> EmbeddingCache:
    from prmkit.features.encoding.cache import EmbeddingCache

    try:
        return EmbeddingCache(folder)
    except ValueError as error:  # a setting that cannot be read
        raise typer.BadParameter(str(error)) from error


def _readable(n_bytes: int) -> str:
    size, units = float(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.4g} {units[0]}"
