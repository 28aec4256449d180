"""``prmkit fit``: the default classifier from labelled steps, saved, with a report on problems kept from training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from prmkit.data import StepDataset


def fit(
    context: typer.Context,
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            show_default=False,
            help="Files (JSON lines, JSON, CSV, Parquet or Arrow, also compressed), folders, patterns in quotes, URLs, "
            "or the name owner/name of a Hugging Face data set. All have one format.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="MODEL", show_default=False, help="Folder to write the model to.")
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            autocompletion=complete_format,
            show_default=False,
            help="The format of DATA, one of those below. By default the first records tell it.",
        ),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields",
            metavar="NAME=FIELD,...",
            show_default=False,
            help="The field of each part, where DATA has no known format, as in prmkit convert.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="An option of the format, as its loader in Python has it: threshold=0.5 (stepwise), phase=2 "
            '(prm800k), label_map=\'{"bad": -1, "good": 1}\' (flat).',
        ),
    ] = None,
    on_error: OnErrorFlag = "raise",
    limit: LimitFlag = None,
    split: SplitFlag = None,
    label_order: LabelOrderFlag = None,
    eval_data: Annotated[
        str | None,
        typer.Option(
            "--eval-data", metavar="DATA", show_default=False, help="Data to judge the model on, read as DATA is."
        ),
    ] = None,
    eval_fraction: Annotated[
        float,
        typer.Option(
            "--eval-fraction",
            metavar="SHARE",
            help="Without --eval-data: share of the problems that is kept from training and judged. With 0 everything "
            "is learnt.",
        ),
    ] = 0.1,
    random_state: Annotated[
        int, typer.Option("--seed", metavar="NUMBER", help="Seed of the classifier and of the split by problem.")
    ] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace MODEL if a classifier is there.")] = False,
) -> None:
    """Fit the default classifier, PRMClassifier, to labelled steps, and save it.

    It learns on a processor in seconds to minutes. One problem in ten is kept from training, and the report says how
    good the model is on these, beside trivial baselines. To fine-tune a language model, see prmkit train.

    PRM800K, where every labelled step counts:
      prmkit fit phase2_train.jsonl --out my-model

    Several files, judged on another one:
      prmkit fit part-1.jsonl part-2.jsonl --eval-data test.jsonl --out my-model

    The model is then used by prmkit evaluate my-model, or in Python by PRMClassifier.load("my-model").
    """
    with in_words(flags_of(context, format="--from {}"), f"interrupted: nothing was written to {out}"):
        _check(out, overwrite, eval_fraction)
        named = None if fields is None else fields_of(fields)
        settings = {"fields": named, "on_error": on_error, "limit": limit, "split": split, **options_of(option)}
        options = {name: value for name, value in settings.items() if value is not None}
        train = _read(data, from_, options)
        test = None
        if eval_data is not None:
            test = _read([eval_data], from_, options)
        elif eval_fraction:
            train, test = keep_problems(train, eval_fraction, random_state)
        _fit(train, test, label_order, random_state, out)


def _check(out: Path, overwrite: bool, eval_fraction: float) -> None:
    """Raise for an output that cannot be written, and a share that is none, before minutes go into the fit."""
    from prmkit.saving.folder import check_replaceable

    if not 0 <= eval_fraction < 1:
        raise ValueError(f"--eval-fraction is {eval_fraction}, expected a share from 0 to below 1")
    check_replaceable(out, "PRMClassifier")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} is there already: pass --overwrite, or choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)


def _read(sources: list[str], from_: str | None, options: dict[str, Any]) -> StepDataset:
    """Read labelled steps, and say what was read."""
    from prmkit.data import load
    from prmkit.data.formats.registry import recognise

    source = sources[0] if len(sources) == 1 else sources
    name = from_
    if name is None and "fields" not in options:
        name = recognise(source, split=options.get("split"))
    # Every labelled step counts, not only the solution that a record follows.
    views: dict[str, Any] = {"view": "prefixes"} if name == "prm800k" else {}
    dataset = load(source, format=name, **views, **options)
    for line in dataset.description.strip().splitlines():
        if not line.endswith(": 0"):
            say(f"read: {line}")
    return dataset


def keep_problems(rows: StepDataset, share: float, seed: int) -> tuple[StepDataset, StepDataset]:
    """Return the rows to learn from, and those of a share of the problems, which are kept for evaluation."""
    from prmkit.data.problem_keys import problem_keys

    n_problems = len(set(problem_keys(rows.solutions)))
    if n_problems < 2:
        raise ValueError(
            "all rows have one problem: none can be kept for evaluation. Pass --eval-fraction 0, or --eval-data"
        )
    # A small share of few problems is still one problem.
    share = min(max(share, 1 / n_problems), 1 - 1 / n_problems)
    learn, kept = rows.split_by_problem(1 - share, share, random_state=seed)
    counts = [len(set(problem_keys(part.solutions))) for part in (learn, kept)]
    say(f"split by problem: {counts[0]:,} problems to learn from, {counts[1]:,} to evaluate on")
    return learn, kept


def _fit(train: StepDataset, test: StepDataset | None, order: str | None, seed: int, out: Path) -> None:
    from prmkit import PRMClassifier
    from prmkit.metrics import step_report

    label_order = None if order is None else _labels(order, train)
    classifier = PRMClassifier(label_order=label_order, random_state=seed).fit(train.X, train.y)
    report = classifier.view_report_
    for view, kept in zip(report["view"], report["kept"], strict=True):
        say(f"view of a step: {view}, {'kept' if kept else 'left out'}: {report.attrs['reasons'][view]}")
    if test is None:
        say("no report: --eval-fraction 0.1 or --eval-data DATA would say how good the model is")
    else:
        proba, predicted = classifier.predict_proba(test.X), classifier.predict(test.X)
        report = step_report(
            test.y,
            proba,
            classes=classifier.classes_.tolist(),
            label_order=label_order,
            steps=test.X,
            y_pred=predicted,
            reference=(train.X, train.y),
        )
        say(f"\n{report}\n")
    classifier.save(out)
    say(
        f"written: {out}. To score with it in Python:\n\n"
        "    from prmkit import PRMClassifier, Solution\n"
        f"    print(PRMClassifier.load({str(out)!r}).score_solutions("
        '[Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])[0])'
    )


def _labels(typed: str, data: StepDataset) -> list[Any]:
    """Return typed labels as those of the data, which may be numbers."""
    known = {str(label): label for label in set(data.y.tolist())}
    texts = json.loads(typed) if typed.startswith("[") else typed.split(",")
    return [known.get(str(text).strip(), text) for text in texts]
