"""``prmkit score``: the solutions of a source of any size, scored into a Parquet file, from a terminal."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from prmkit.cli._terminal import (
    LabelOrderFlag,
    LimitFlag,
    OnErrorFlag,
    SplitFlag,
    complete_format,
    fields_of,
    flags_of,
    in_words,
    options_of,
    say,
)

_OTHERS = {
    "format": "--from {}",
    "resume": "--no-resume",
    "n_workers": "--workers {}",
    "overwrite": "--no-resume",
    "by": "--option by={}",
}
"""How settings are typed whose flags have other names."""


def score(
    context: typer.Context,
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL IN OUT",
            show_default=False,
            help="MODEL is a folder that prmkit saved, or a folder or Hugging Face name of an existing PRM, which may "
            "need its layout in front (skywork:FOLDER). IN is a file (JSON lines, JSON, CSV, Parquet or Arrow, also "
            "compressed), a folder, a pattern in quotes, a URL, or the name owner/name of a Hugging Face data set. "
            "OUT is the file to write, which ends in .parquet. With --merge: OUT alone, or SHARD... OUT.",
        ),
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            autocompletion=complete_format,
            show_default=False,
            help="The format of IN, one of those below, or bon for sampled solutions with a step per line "
            "(bon-paragraph, bon-enumeration, bon-sentence). By default the first records tell it. Rows with a problem "
            "and a list of steps need no labels.",
        ),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields",
            metavar="NAME=FIELD,...",
            show_default=False,
            help="The field of each part, where IN has no known format: problem and steps, perhaps id; or problem and "
            "text, which is cut into steps; or problem and candidates; or, for a table with one step per row, problem, "
            "step, order and solution. A field is a dotted path, such as steps=response.steps.text.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="KEY=VALUE", help="An option of the reader: by=line cuts texts at lines, for example."
        ),
    ] = None,
    on_error: OnErrorFlag = "raise",
    limit: LimitFlag = None,
    split: SplitFlag = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="i/n",
            show_default=False,
            help="Score the i-th of n parts of IN, with i from 1 to n, into OUT-i-of-n.parquet. Each may run on a "
            "machine of its own, and --merge joins them.",
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Join the files of all shards to OUT, in the order of IN.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Whether to go on with what the same command has scored before, or to score all anew and replace OUT.",
        ),
    ] = True,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="local|ray",
            help="Where the model runs: on this machine, or in actors of Ray (the extra ray).",
        ),
    ] = "local",
    n_workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="NUMBER",
            show_default=False,
            help="Processes that score, each of which loads the model. Default: one.",
        ),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            metavar="NUMBER",
            show_default=False,
            help="Tokens in a batch of a language model. Fewer take less memory.",
        ),
    ] = None,
    block_steps: Annotated[
        int,
        typer.Option(
            "--block-steps",
            metavar="NUMBER",
            help="Steps that are scored at once and kept as one part: what a killed run may lose.",
        ),
    ] = 4096,
    label_order: LabelOrderFlag = None,
) -> None:
    """Score the solutions of a source of any size, in constant memory.

    OUT gets one row per solution: id; proba, rewards and risks of each step; min, product, mean and last of the
    rewards; p_no_error; first_error_distribution; n_cut, the number of steps that the model cannot read.

    If a run is killed, type the same again: it goes on where it was, and nothing is lost or doubled.

    A file of solutions, with labels or without:
      prmkit score my-model solutions.jsonl scores.parquet

    Rows with fields of their own, and answers that are one text each:
      prmkit score my-model rows.jsonl scores.parquet
      --fields problem=question,steps=answer.steps
      prmkit score my-model rows.jsonl scores.parquet
      --fields problem=question,text=response --option by=line

    Broken lines are left out and counted:
      prmkit score my-model "data/*.jsonl.gz" scores.parquet --on-error skip

    Half of the work on each of two machines, then one file:
      prmkit score my-model big.jsonl scores.parquet --shard 1/2
      prmkit score my-model big.jsonl scores.parquet --shard 2/2
      prmkit score --merge scores.parquet

    The file is read by pandas.read_parquet("scores.parquet"), polars, DuckDB and others.
    """
    out = places[-1]
    kept = f"interrupted: what is scored is kept in {out}.parts, type the same to go on"
    with in_words(flags_of(context, **_OTHERS), "interrupted: nothing was written" if merge else kept):
        if merge:
            _merge(places[:-1], out, resume)
            return
        if len(places) != 3:
            raise ValueError(f"there are {len(places)} of MODEL, IN and OUT: {' '.join(map(shlex.quote, places))}")
        from prmkit.scoring import score_file

        settings: dict[str, Any] = {
            "format": from_,
            "fields": None if fields is None else fields_of(fields),
            "options": options_of(option) or None,
            "on_error": on_error,
            "limit": limit,
            "split": split,
            "label_order": None if label_order is None else _labels(label_order),
        }
        file = score_file(
            places[0],
            places[1],
            out,
            **settings,
            engine=engine,  # type: ignore[arg-type]
            shard=shard,
            resume=resume,
            batch_tokens=batch_tokens,
            n_workers=n_workers,
            block_steps=block_steps,
            command=shlex.join(["prmkit", *sys.argv[1:]]),
        )
        _tell(file)


def _merge(shards: list[str], out: str, resume: bool) -> None:
    from prmkit.scoring import merge_scores

    _tell(merge_scores(out, shards or None, overwrite=not resume))


def _tell(file: Path) -> None:
    from pyarrow.parquet import read_metadata

    say(f"written: {file}, {read_metadata(file).num_rows:,} solutions")


def _labels(typed: str) -> list[Any]:
    """Return the labels that are typed, numbers where they are some."""
    return [int(label) if label.strip().lstrip("-").isdecimal() else label.strip() for label in typed.split(",")]
