"""The main job: read, split by problem, cross-validate, fit, report, and score reasoning paths."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rich.console import Console
from sklearn.base import clone
from tqdm.auto import tqdm

from prmkit import PRMClassifier, StepDataset, StratifiedProblemKFold, load_prm800k
from prmkit.data import Solution, make_arithmetic_solutions
from prmkit.metrics import StepReport, StepReportDisplay, step_report
from prmkit.scoring import PathDisplay, ScoredSolution


def run(
    *, data: Path | None = None, out: Path, folds: int = 5, limit: int | None = None, show: int = 3, seed: int = 0
) -> None:
    """Run every stage, saying which, and leave plots and the model in ``out``."""
    console = Console(highlight=False)
    start = time.perf_counter()

    def stage(title: str) -> None:
        console.print(f"\n[bold]{title}[/bold]  [dim]{time.perf_counter() - start:.0f} s[/dim]")

    stage("1. Read labelled steps")
    dataset = read(data, limit, seed)
    console.print(dataset.description.strip(), markup=False)
    console.print(repr(dataset), markup=False)

    stage("2. Keep a fifth of the problems for the test")
    train, test = dataset.split_by_problem(0.8, 0.2, random_state=seed)
    console.print(
        f"{len(train.X)} steps of {n_problems(train)} problems to learn from, "
        f"{len(test.X)} of {n_problems(test)} to test on"
    )

    classifier = PRMClassifier(random_state=seed)
    stage(f"3. Cross-validate {classifier!r} by problem, {folds} folds")
    print(cross_validate(classifier, train, folds))

    stage("4. Fit on all training problems, report on the test problems")
    classifier.fit(train.X, train.y)
    proba, labels = classifier.predict_proba(test.X), classifier.predict(test.X)
    print(step_report(test.y, proba, y_pred=labels, classes=classifier.classes_.tolist(), steps=test.X))

    stage("5. Score reasoning paths of the test problems")
    scored = classifier.score_solutions(interesting(test, show))
    for path in scored:
        print(f"\n{path}")  # coloured on a terminal

    stage("6. Save")
    save(classifier, scored, test, out, console)
    stage("Done")


def read(data: Path | None, limit: int | None, seed: int) -> StepDataset:
    """Load PRM800K, or make word problems."""
    if data is None:
        return make_arithmetic_solutions(150, 3, random_state=seed)
    return load_prm800k(data, limit=limit)


def n_problems(dataset: StepDataset) -> int:
    """Count distinct problems."""
    return len(np.unique(dataset.groups))


def cross_validate(classifier: PRMClassifier, train: StepDataset, folds: int) -> StepReport:
    """Report on predictions for problems that the model of the fold has not seen."""
    classes = np.unique(train.y)
    proba, labels = np.zeros((len(train.y), len(classes))), train.y.copy()
    splits = StratifiedProblemKFold(folds).split(train.X, train.y)
    for learn, check in tqdm(splits, total=folds, desc="folds", disable=None):
        model = clone(classifier).fit(*train[learn])
        X = train[check].X
        proba[np.ix_(check, np.searchsorted(classes, model.classes_))] = model.predict_proba(X)
        labels[check] = model.predict(X)
    return step_report(train.y, proba, y_pred=labels, classes=classes.tolist(), steps=train.X)


def interesting(test: StepDataset, n: int) -> list[Solution]:
    """Pick solutions of distinct problems, with and without an error, of ordinary length."""
    chosen: list[Solution] = []
    wanted = [True, False] * n
    for solution, first_error in zip(test.solutions, test.first_errors or [], strict=True):
        if len(chosen) == n:
            break
        is_new = solution.problem not in {other.problem for other in chosen}
        has_error = None if first_error is None else first_error >= 0
        if is_new and 3 <= solution.n_steps <= 12 and has_error == wanted[len(chosen)]:
            chosen.append(solution)
    return chosen


def save(
    classifier: PRMClassifier, scored: list[ScoredSolution], test: StepDataset, out: Path, console: Console
) -> None:
    """Write plots and the model; say which extra is missing for what cannot be written."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        if scored:
            PathDisplay.from_scored(scored).figure_.savefig(out / "paths.png", dpi=150)
            console.print(f"wrote {out / 'paths.png'}: risks and first-error distributions of the paths above")
        display = StepReportDisplay.from_estimator(classifier, test.X, test.y)
        display.figure_.savefig(out / "report.png", dpi=150)  # type: ignore[union-attr]
        console.print(f"wrote {out / 'report.png'}: the test report beside its baselines", markup=False)
    except ImportError as error:
        console.print(f"no plots: {error}", style="yellow", markup=False)
    try:
        classifier.save(out / "model")
        console.print(f"wrote {out / 'model'}: read it with PRMClassifier.load({str(out / 'model')!r})", markup=False)
    except ImportError as error:
        console.print(f"model not saved: {error}", style="yellow", markup=False)
