"""What ``prmkit train`` says: one bar while it learns; then what was cut, how good it is, how to score with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from prmkit.models.trainer.progress import TrainingBar, evaluation_report, metric_names
from prmkit.utils.log_silence import quiet_loading, quiet_mapping

_SHOWN = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC of {worst}",
    "average_precision": "average precision of {worst}",
    "brier": "Brier score (lower is better)",
    "ece": "calibration error (lower is better)",
}
_LOGGED = {"eval_loss": "loss", "eval_accuracy": "accuracy", "eval_auroc": "AUROC"}


class TalkingBar(TrainingBar):
    """The bar of a run, and each evaluation on a line of its own; without a terminal one line per log."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show the loss beside the bar, and every evaluation on a line of its own."""
        super().on_log(args, state, control, logs, **kwargs)
        logs = logs or {}
        found = ", ".join(f"{name} {logs[key]:.4f}" for key, name in _LOGGED.items() if key in logs)
        if "loss" in logs:
            found = f"loss {float(logs['loss']):.4f}" if self._bar.disable else ""
        elif found:
            found = f"evaluation: {found}"
        if found and state.is_world_process_zero:
            self._bar.write(f"update {state.global_step} of {state.max_steps}: {found}", file=_stderr())


def _stderr() -> Any:
    return sys.stderr


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' bars and warnings to themselves; those of prmkit become notes."""
    import warnings

    def note(message: Any, *_: Any, **__: Any) -> None:
        text = str(message)
        if "labelled steps do not fit" not in text:  # said at the end, with all counts
            typer.echo(f"note: {text}", err=True)

    with warnings.catch_warnings(), quiet_loading(), quiet_mapping():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"prmkit\.")
        warnings.showwarning = note
        yield


def counted(trainer: Any) -> str:
    """Say what became of the training rows."""
    report = trainer.row_report
    if report is None:
        return "rows: read from a stream while training, not counted"
    if report.n_lost_steps or report.n_without_target:
        return f"rows: {report}"
    return f"rows: {report.n_rows:,} with {report.n_steps:,} labelled steps; nothing was cut"


def quality(trainer: Any, predicted: Any) -> str:
    """Return the final evaluation as a table, the majority class beside the model."""
    report = evaluation_report(predicted, targets=trainer.targets)
    worst = trainer.targets.output_classes[0]
    n_solutions = len(trainer.eval_dataset)
    lines = [
        f"evaluation on {report.n_steps:,} steps in {n_solutions:,} rows, after the last update",
        f"{'':36}{'model':>8}{'majority':>10}",
    ]
    for name in metric_names(trainer.targets):
        values = [_shown(report.metrics[who][name].value) for who in ("model", "majority")]
        lines.append(f"{_SHOWN[name].format(worst=worst):36}{values[0]:>8}{values[1]:>10}")
    if len(metric_names(trainer.targets)) == 2:
        lines.append("The loss ranks steps: rewards are no probabilities, so only their order is judged.")
    return "\n".join(lines)


def how_to_score(folder: Path) -> str:
    """Return the two lines of Python that score with a trained model."""
    return (
        f"The model is in {folder}. To score with it:\n\n"
        "    from prmkit import PRMClassifier, Solution\n"
        f'    print(PRMClassifier.from_pretrained("{folder}").score_solutions('
        '[Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])[0])'
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
