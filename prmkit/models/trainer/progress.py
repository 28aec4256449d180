"""The bar of a training run, and the report on an evaluation: step metrics, beside the majority class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm
from transformers import TrainerCallback

from prmkit.metrics import StepReport, step_report
from prmkit.models.tokens.probabilities import ProbabilityMap
from prmkit.models.trainer._targets import IGNORE, TargetPlan

if TYPE_CHECKING:
    from transformers import EvalPrediction, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import PredictionOutput


class TrainingBar(TrainerCallback):
    """A bar over the updates, with the loss beside it. Only the main process shows it, and only on a terminal.

    It appears if training takes longer than ``delay`` seconds.
    """

    def __init__(self, *, shown: bool = True, delay: float = 0) -> None:
        self._shown, self._delay = shown, delay

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start at the update where a resumed run goes on."""
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="update",
            delay=self._delay,
            disable=None if self._shown and state.is_world_process_zero else True,
        )

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Count an update."""
        self._bar.update()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss."""
        if logs and "loss" in logs and not self._bar.disable:
            self._bar.set_postfix(loss=f"{float(logs['loss']):.4f}", refresh=False)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Leave the finished bar."""
        self._bar.close()


_METRICS = ("accuracy", "macro_f1", "auroc", "average_precision", "brier", "ece")


def step_metrics(evaluated: EvalPrediction, *, targets: TargetPlan) -> dict[str, float]:
    """Return step metrics over all targets of an evaluation set, beside the accuracy of the majority class.

    Predictions are logits of shape (n_solutions, max_steps, n_classes), or raw rewards of shape (n_solutions,
    max_steps). Rewards of a ranking loss are no probabilities, so only AUROC and average precision are returned for
    them. Soft labels count as right from 0.5 on. Undefined numbers are left out.
    """
    report = evaluation_report(evaluated, targets=targets).metrics
    values = {name: report["model"][name].value for name in metric_names(targets)}
    if "accuracy" in values:
        values["majority_accuracy"] = report["majority"]["accuracy"].value
    return {name: float(value) for name, value in values.items() if value is not None}


def metric_names(targets: TargetPlan) -> tuple[str, ...]:
    """Return the metrics of a report that mean something for outputs trained with this loss."""
    return ("auroc", "average_precision") if targets.ranks else _METRICS


def evaluation_report(evaluated: EvalPrediction | PredictionOutput, *, targets: TargetPlan) -> StepReport:
    """Return the whole report that :func:`step_metrics` takes its numbers from, the majority class beside the model."""
    import torch

    batches: list[Any] = [(evaluated.predictions, evaluated.label_ids)]
    if isinstance(evaluated.predictions, list):  # eval_do_concat_batches=False
        batches = list(zip(evaluated.predictions, evaluated.label_ids, strict=True))
    rows = [(np.asarray(o), targets.of_labels(torch.from_numpy(np.asarray(labels))).numpy()) for o, labels in batches]
    outputs = np.concatenate([output[codes != IGNORE] for output, codes in rows])
    codes = np.concatenate([codes[codes != IGNORE] for _, codes in rows])
    if targets.classes is None:
        codes = codes >= 0.5
    proba = ProbabilityMap.uncalibrated("reward" if outputs.ndim == 1 else "classes")(outputs)
    classes = list(range(proba.shape[1]))
    return step_report(codes.astype(int), proba, classes=classes, label_order=classes)
