"""``prmkit cache``: show how much disk space embeddings and converted models take, and free it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prmkit.features.encoding.cache import EmbeddingCache

cache = typer.Typer(
    no_args_is_help=True,
    help=(
        "Show or clear what prmkit keeps on disk: embeddings, so that no text is encoded twice, and models that were "
        "converted for OpenVINO or ONNX Runtime.\n\n"
        "They are in --dir, or else in the folder that PRMKIT_CACHE_DIR names, or else in your user cache folder. If "
        "they take more than PRMKIT_CACHE_MAX_BYTES (2 GiB), the oldest are removed. Clearing loses nothing: "
        "all of it is made again when it is needed. PRMFeaturizer(cache=False) works without them.\n\n"
        "Example:  prmkit cache info --json"
    ),
)

Folder = Annotated[
    str | None, typer.Option("--dir", metavar="FOLDER", help="Folder of the cache, if it is not the default.")
]


@cache.command()
def info(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")] = False,
) -> None:
    """Show the folder of the cache, its size, the entries of each encoder, and the converted models.

    The sizes for a script:
      prmkit cache info --json
    """
    from prmkit.features.encoding.backends.converted import converted_files

    embeddings = _open(folder)
    facts, files = embeddings.info(), converted_files(embeddings.directory)
    facts |= {"converted_models": len(files), "converted_bytes": sum(file.stat().st_size for file in files)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"path     {facts['path']}")
    typer.echo(f"entries  {facts['entries']:,}")
    typer.echo(f"size     {_readable(facts['bytes'])} of at most {_readable(facts['max_bytes'])}")
    for name, entries in facts["namespaces"].items():
        typer.echo(f"encoder  {name}: {entries:,}")
    if files:
        typer.echo(f"models   {len(files):,} converted, {_readable(facts['converted_bytes'])}")


@cache.command()
def clear(
    folder: Folder = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove them without a question.")] = False,
) -> None:
    """Remove all embeddings and converted models, after a question.

    The embeddings of one project, without a question:
      prmkit cache clear --dir my-cache --yes
    """
    from prmkit.features.encoding.backends.converted import converted_files

    embeddings = _open(folder)
    entries, files = embeddings.info()["entries"], converted_files(embeddings.directory)
    models = f" and {len(files):,} converted models" if files else ""
    if (entries or files) and not yes:
        typer.confirm(f"Forget {entries:,} embeddings{models} in {embeddings.path}?", abort=True)
    for file in files:
        file.unlink(missing_ok=True)
    typer.echo(f"{embeddings.clear():,} embeddings{models} forgotten in {embeddings.path}")


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
