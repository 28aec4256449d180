"""``prmkit states``: the states of a language model for the solutions of a source, computed once into a folder."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from prmkit.cli._terminal import (
    BlockStepsFlag,
    EngineFlag,
    FieldsFlag,
    FromFlag,
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
    "kind": "kind={}",
    "by": "--option by={}",
    "choose a scheme with chat=None": "leave --chat out",
    "Raise max_length": "Raise --max-length",
    "kind='states' reads": "prmkit states reads",
    " For an encoder pass kind='embeddings'": "",
}
"""How settings are typed whose flags have other names."""


def states(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="Folder or Hugging Face name of a decoder-only language model, such as Qwen/Qwen2.5-Math-1.5B.",
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            show_default=False,
            help="Solutions, with labels or without: a file (JSON lines, JSON, CSV, Parquet or Arrow, also "
            "compressed), a folder, a pattern in quotes, a URL, or the name owner/name of a Hugging Face data set.",
        ),
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", show_default=False, help="Folder to write into. It is made if need be.")
    ],
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="NUMBER,...",
            show_default=False,
            help="Layers to keep: 0 are the embeddings, -1 is the last. By default two in the middle. Who reads the "
            "folder can choose among them, so keep several to search.",
        ),
    ] = None,
    pooling: Annotated[
        str,
        typer.Option(
            "--pooling",
            metavar="mean|last|mean_last|statistics|tokens",
            help="What to make of the tokens of a step. statistics holds mean and last too. tokens keeps them all.",
        ),
    ] = "mean",
    log_probs: Annotated[
        bool, typer.Option("--log-probs", help="Add columns about how likely the tokens are to the model.")
    ] = False,
    chat: Annotated[
        str | None,
        typer.Option("--chat", metavar="answer", help="Write solutions as answers in the chat template of the model."),
    ] = None,
    step_separator: Annotated[
        str | None,
        typer.Option("--step-separator", metavar="TEXT", help="Text that closes a step. Default: a line break."),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", metavar="NUMBER", help="Most tokens of a solution. Default: those it reads."),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="auto|float32|bfloat16|float16", help="Precision of the computation.")
    ] = "auto",
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="cpu|cuda", help="Where to compute. Default: a GPU if there is one."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="NUMBER", help="Size of a batch. A smaller one takes less memory.")
    ] = 64,
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
            help="Read the i-th of n parts of IN, with i from 1 to n. Each may run on a machine of its own. Put their "
            "files into one folder: it is read as a whole.",
        ),
    ] = None,
    resume: ResumeFlag = True,
    engine: EngineFlag = "local",
    n_workers: WorkersFlag = None,
    block_steps: BlockStepsFlag = 4096,
) -> None:
    """Compute what a frozen language model holds at the steps of solutions, once, for classifiers to learn from.

    It takes one pass per solution. Do it where the GPU is, copy the folder, and fit on a laptop, which needs neither
    the language model nor torch. If a run is killed, type the same again: it goes on where it was.

    Two layers of a 1.5B model:
      prmkit states Qwen/Qwen2.5-Math-1.5B train.jsonl states --layer 12,20

    Half of the work on each of two machines, into one folder:
      prmkit states Qwen/Qwen2.5-Math-1.5B big.jsonl states --shard 1/2
      prmkit states Qwen/Qwen2.5-Math-1.5B big.jsonl states --shard 2/2

    Then in Python:
      PRMFeaturizer(kind="states", model="Qwen/Qwen2.5-Math-1.5B", layer=12, states="states")
    """
    kept = f"interrupted: what is computed is kept in {out}, type the same to go on"
    with in_words(flags_of(context, **_OTHERS), kept):
        from prmkit.features import PRMFeaturizer
        from prmkit.marking import MarkingScheme
        from prmkit.scoring import extract_states

        featurizer = PRMFeaturizer(
            kind="states",
            model=model,
            layer=None if layer is None else _layers(layer),
            pooling=pooling,  # type: ignore[arg-type]
            log_probs=log_probs,
            scheme=None if chat is None else MarkingScheme(chat=chat, step_separator=step_separator),
            step_separator=step_separator if chat is None else None,
            max_length=max_length,
            dtype=dtype,  # type: ignore[arg-type]
            device=device,
            batch_size=batch_size,
        )
        folder = extract_states(
            featurizer,
            source,
            out,
            format=from_,
            fields=None if fields is None else fields_of(fields),
            options=options_of(option) or None,
            on_error=on_error,  # type: ignore[arg-type]
            limit=limit,
            split=split,
            engine=engine,  # type: ignore[arg-type]
            shard=shard,
            resume=resume,
            n_workers=n_workers,
            block_steps=block_steps,
            command=shlex.join(["prmkit", *sys.argv[1:]]),
        )
        read = f"PRMFeaturizer(kind='states', model={model!r}, …, states={str(folder)!r})"
        say(f"written: {folder}, to be read by {read}")


def _layers(typed: str) -> list[int]:
    try:
        return [int(number) for number in typed.split(",")]
    except ValueError:
        raise ValueError(f"layer is {typed!r}, expected a number, or several with commas, such as 12,20") from None
