"""``prmkit evaluate``: models on benchmarks, from a terminal."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from prmkit.cli._terminal import LimitFlag, ListsFormats, fields_of, flags_of, in_words, options_of

_OTHERS = {
    "layout": "MODEL as LAYOUT:MODEL",
    "on_error": "--option on_error={}",
    "format": "a KIND in front, KIND:PATH, such as {}:PATH",
    "overwrite": "--overwrite",
    "by": "--on bon-{}:PATH",
    "contradictions": "--option contradictions={}",
}
"""How settings are typed that are no flags of this command."""


_TYPED = "prmkit.typed"


class SeveralAfterOn(ListsFormats):
    """A command whose option ``--on`` takes all values up to the next option, since a shell expands patterns so."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option in front of each of its values."""
        ctx.meta[_TYPED] = list(args)
        spread: list[str] = []
        inside = False
        for i, argument in enumerate(args):
            if argument.startswith("-"):
                inside = argument == "--on"
            elif inside and args[i - 1] != "--on":
                spread.append("--on")
            spread.append(argument)
        return super().parse_args(ctx, spread)


def evaluate(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            show_default=False,
            help="A model is a folder that prmkit saved, a folder or Hugging Face name of an existing PRM, or a file "
            "of step scores that ends in .jsonl. An existing PRM may need its layout in front (skywork:FOLDER). "
            "NAME=MODEL names it.",
        ),
    ],
    on: Annotated[
        list[str],
        typer.Option(
            "--on",
            metavar="KIND:PATH",
            show_default=False,
            help="The data to evaluate on. Several may follow one --on, or --on may come several times. KIND is a "
            "format listed below, or bbm, which is short for big_bench_mistake. bon stands for sampled solutions with "
            "a step per line, bon-paragraph for a step per paragraph, bon-enumeration for a step per 'Step 1:', "
            "bon-sentence for a step per sentence. Without KIND, the first records tell it. NAME=KIND:PATH gives the "
            "data a name.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", show_default=False, help="Folder to write the report to.")
    ],
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the report of another run in FOLDER. Without it, only the same run is done again there. "
            "Stored scores are kept.",
        ),
    ] = False,
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields",
            metavar="NAME=FIELD,...",
            show_default=False,
            help="The field of each part, for the data after --on that have no KIND: problem, steps, and labels or "
            "first_error. A field is a dotted path, such as steps=response.steps.text. For a table with one step per "
            "row: problem, step, order, label. For sampled solutions: problem, "
            "steps or text, and correct or reference (the right answer), also answer, id, generator. Or, also as "
            "bon:PATH: problem, candidates, answer, correct.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="An option of the reader of these data, or of all data without --fields: labels=binary (or rating, "
            "soft) says what numbers mean, base=1 that the first step is 1.",
        ),
    ] = None,
    limit: LimitFlag = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="FOLDER",
            help="Folder that stores the scores while the models run, so that nothing is scored twice. "
            "Default: OUT/scores.",
            show_default=False,
        ),
    ] = None,
    threshold_data: Annotated[
        str | None,
        typer.Option(
            "--threshold-data",
            metavar="KIND:PATH",
            help="The data that choose thresholds: one of --on, or other data. Default: each half of a benchmark's "
            "problems is judged with the threshold that the other half chose.",
        ),
    ] = None,
    trained_on: Annotated[
        str,
        typer.Option(
            "--trained-on",
            metavar="exclude|keep",
            help="Whether to leave out the problems that a model was trained on, if they are known, or to keep them.",
        ),
    ] = "exclude",
    quoted: Annotated[
        bool, typer.Option("--quoted", help="Show published numbers beside the results, with their source.")
    ] = False,
    n_resamples: Annotated[
        int, typer.Option("--resamples", metavar="NUMBER", help="Number of resamples, for the 95% intervals.")
    ] = 1000,
    n_jobs: Annotated[
        int, typer.Option("--jobs", metavar="NUMBER", help="Processes that make the tables, one benchmark each.")
    ] = 1,
    random_state: Annotated[
        int, typer.Option("--seed", metavar="NUMBER", help="Seed of the resamples and of the halves.")
    ] = 0,
) -> None:
    """Evaluate models on benchmarks, beside trivial baselines.

    Every number has a 95% interval by problem. FOLDER gets report.html (one file that needs no
    network, with every solution), results.json, results.md and run.json. If a run is killed, type
    the same again: it goes on with the next solutions.

    A model that prmkit saved, on two parts of ProcessBench:
      prmkit evaluate my-model --on processbench:gsm8k.json processbench:math.json --out report

    Two models side by side, with published numbers:
      prmkit evaluate small=my-model large=rlhflow:RLHFlow/Llama3.1-8B-PRM-Deepseek-Data
      --on gsm8k=processbench:gsm8k.json math=processbench:math.json --quoted --out report

    To choose all thresholds on GSM8K, as ProcessBench's paper does, add: --threshold-data gsm8k

    Scores made elsewhere, one line per solution, {"id": "gsm8k-7", "rewards": [0.98, 0.12]}:
      prmkit evaluate scores.jsonl --on processbench:gsm8k.json --out report

    Best of N of sampled solutions:
      prmkit evaluate my-model --on bon:samples.jsonl --out report

    Rows with fields of their own, the first 100 of them:
      prmkit evaluate my-model --on mine=rows.jsonl --limit 100 --out report
      --fields problem=question,steps=steps.text,labels=steps.good --option labels=binary

    Best of N of samples with fields of their own, one per line or several:
      prmkit evaluate my-model --on samples.jsonl --out report
      --fields problem=question,text=response,reference=gold
    """
    from prmkit.evaluation import evaluate as run

    with in_words(
        flags_of(context, **_OTHERS), f"interrupted: the scores so far are stored in {work or out / 'scores'}"
    ):
        result = run(
            models,
            on,
            fields=None if fields is None else fields_of(fields),
            options=options_of(option),
            limit=limit,
            out=out,
            overwrite=overwrite,
            work=work,
            threshold_data=threshold_data,
            trained_on=trained_on,
            quoted=quoted,
            n_resamples=n_resamples,
            n_jobs=n_jobs,
            random_state=random_state,
            command=shlex.join(["prmkit", "evaluate", *context.meta[_TYPED]]),
        )
    typer.echo(result.to_markdown())
    typer.echo(f"written: {out / 'report.html'}, results.json, results.md, run.json")
