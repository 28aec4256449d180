"""``prmkit evaluate``: models on benchmarks, from a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prmkit.cli._terminal import ListsFormats, fail


class SeveralAfterOn(ListsFormats):
    """A command whose option ``--on`` takes all values up to the next option, as the patterns of a shell give them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option in front of each of its values."""
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
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            show_default=False,
            help="A folder that PRMClassifier.save wrote; a folder or Hugging Face name of an existing PRM, with its "
            "layout in front where it needs one (skywork:FOLDER); or a file of step scores that ends in .jsonl. "
            "NAME=MODEL names it.",
        ),
    ],
    on: Annotated[
        list[str],
        typer.Option(
            "--on",
            metavar="KIND:PATH",
            show_default=False,
            help="The data to evaluate on. Several may follow one --on, or --on may come several times. KIND is one of "
            "the formats below, bbm (short for big_bench_mistake), or bon: sampled solutions for best-of-N, one step "
            "per line (bon-paragraph, bon-step: per paragraph, per 'Step 1:'). Without KIND, the first records tell "
            "it. NAME=KIND:PATH gives the data a name.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", show_default=False, help="Where the report goes."),
    ],
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="FOLDER",
            help="Where scores are kept as they are made, so that nothing is scored twice. Default: OUT/scores.",
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
            help="What to do with problems that a model was trained on, where that is known.",
        ),
    ] = "exclude",
    quoted: Annotated[
        bool, typer.Option("--quoted", help="Put published numbers beside, marked and with their source.")
    ] = False,
    n_resamples: Annotated[
        int, typer.Option("--resamples", metavar="NUMBER", help="Of problems, for the 95% intervals.")
    ] = 1000,
    n_jobs: Annotated[
        int, typer.Option("--jobs", metavar="NUMBER", help="Processes for the tables, one benchmark each.")
    ] = 1,
    random_state: Annotated[
        int, typer.Option("--seed", metavar="NUMBER", help="Of resamples and halves.")
    ] = 0,
) -> None:
    """Evaluate models, named first, on benchmarks, beside trivial baselines.

    Every number has a 95% interval by problem. FOLDER gets report.html (one file that needs no
    network, with every solution), results.json, results.md and run.json. A run that was killed
    goes on where it was: type the same again.

    A model that prmkit saved, on two parts of ProcessBench:
      prmkit evaluate my-model --on processbench:gsm8k.json processbench:math.json --out report

    Two models side by side, beside published numbers:
      prmkit evaluate small=my-model large=rlhflow:RLHFlow/Llama3.1-8B-PRM-Deepseek-Data
      --on gsm8k=processbench:gsm8k.json math=processbench:math.json --quoted --out report

    The same, where GSM8K chooses all thresholds as in ProcessBench's paper: --threshold-data gsm8k

    Scores made elsewhere, one line per solution, {"id": "gsm8k-7", "rewards": [0.98, 0.12]}:
      prmkit evaluate scores.jsonl --on processbench:gsm8k.json --out report

    Best of N of sampled solutions:
      prmkit evaluate my-model --on bon:samples.jsonl --out report
    """
    from prmkit.evaluation import evaluate as run

    try:
        found = run(
            models,
            on,
            out=out,
            work=work,
            threshold_data=threshold_data,
            trained_on=trained_on,
            quoted=quoted,
            n_resamples=n_resamples,
            n_jobs=n_jobs,
            random_state=random_state,
        )
    except (OSError, ValueError, TypeError, ImportError) as error:
        fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        fail(f"interrupted: the scores made so far are kept in {work or out / 'scores'}", code=130)
    typer.echo(found.to_markdown())
    typer.echo(f"written: {out / 'report.html'}, results.json, results.md, run.json")
