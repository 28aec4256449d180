"""``prmkit score``: the solutions of a source of any size, scored into a Parquet file, from a terminal."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from prmkit.cli._terminal import (
    BlockStepsFlag,
    EngineFlag,
    FieldsFlag,
    FromFlag,
    LabelOrderFlag,
    LimitFlag,
    OnErrorFlag,
    OptionFlag,
    ResumeFlag,
    SplitFlag,
    WorkersFlag,
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
    from_: FromFlag = None,
    fields: FieldsFlag = None,
    option: OptionFlag = None,
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
    resume: ResumeFlag = True,
    engine: EngineFlag = "local",
    n_workers: WorkersFlag = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            metavar="NUMBER",
            show_default=False,
            help="Tokens in a batch of a language model. Fewer take less memory.",
        ),
    ] = None,
    block_steps: BlockStepsFlag = 4096,
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
