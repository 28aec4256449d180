"""Fine-tuning for TokenPRM: the trainer in a folder that goes away, and the caller's generators untouched."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback

from prmkit.data._dataset import StepDataset
from prmkit.data._solution import Step, problem_groups
from prmkit.models._links import Link, as_rewards
from prmkit.models._token_models import load_tokenizer
from prmkit.models._token_scorer import TokenScorer
from prmkit.models._trainer import PRMTrainer
from prmkit.models._trainer_config import PRMTrainingConfig
from prmkit.models.losses import get_loss
from prmkit.utils._quiet import quiet_mapping

_LOG_ODDS = ("bce", "mse", "soft_cross_entropy")  # what they put out turns into a probability by itself


@dataclass(frozen=True)
class Learnt:
    """A fine-tuned model, how its outputs become probabilities, and the losses on the way."""

    scorer: TokenScorer
    link: Link
    loss_curve: list[float]


def fine_tune(
    head: Any, steps: list[Step], codes: np.ndarray, n_classes: int, rng: np.random.RandomState
) -> Learnt:
    """Fine-tune as the parameters of a ``TokenPRM`` say.

    Parameters
    ----------
    head : TokenPRM
    steps : list of Step
    codes : ndarray of int of shape (n_steps,)
        Class of each step, the worst is 0.
    n_classes : int
    rng : RandomState
    """
    learn = np.arange(len(steps))
    judged = learn
    binary = head.loss == "soft_cross_entropy" or get_loss(head.loss, **_needed(head)).reads == "reward"
    calibrate = binary and (n_classes > 2 or head.loss not in _LOG_ODDS)
    groups = problem_groups(steps)
    if calibrate and len(np.unique(groups)) >= 10:  # with fewer: better on what was learnt than not at all
        splitter = GroupShuffleSplit(1, test_size=head.validation_fraction, random_state=rng)
        first, second = next(splitter.split(codes, groups=groups))
        if len(np.unique(codes[first])) == len(np.unique(codes[second])) == n_classes:
            learn, judged = first, second
    scorer, losses = _train(
        head, [steps[i] for i in learn], codes[learn], n_classes, int(rng.randint(2**31 - 1))
    )
    if not calibrate:
        return Learnt(scorer, Link("sigmoid" if scorer.readout.reads == "reward" else "softmax"), losses)
    rewards = as_rewards(
        scorer.outputs(
            [steps[i] for i in judged],
            too_long="nan",
            tokens_per_batch=head.tokens_per_batch,
            device=head.device,
            show_progress=False,
        )
    )
    known = ~np.isnan(rewards)
    return Learnt(scorer, Link.calibrated(rewards[known], codes[judged][known], n_classes), losses)


def _needed(head: Any) -> dict[str, Any]:
    """Options without which the loss cannot even be looked at."""
    ids = {"token_ids": [0, 1]} if head.loss == "reward_token" else {}
    return {**ids, **(head.loss_options or {})}


def _train(
    head: Any, steps: list[Step], codes: np.ndarray, n_classes: int, seed: int
) -> tuple[TokenScorer, list[float]]:
    with tempfile.TemporaryDirectory() as folder, _generators_kept():
        config = PRMTrainingConfig(
            output_dir=folder,
            scheme=head.scheme,
            step_separator=head.step_separator,
            reward_tokens=None if head.reward_tokens is None else list(head.reward_tokens),
            loss=head.loss,
            loss_options=head.loss_options,
            neutral=head.neutral,
            label_order=list(range(n_classes)),
            initialization=head.initialization,
            max_length=head.max_length,
            num_train_epochs=head.max_epochs,
            learning_rate=head.learning_rate,
            weight_decay=head.weight_decay,
            warmup_steps=head.warmup,
            tokens_per_batch=head.tokens_per_batch,
            gradient_checkpointing=False,
            use_cpu=head.device == "cpu",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        )
        tokenizer = load_tokenizer(head.backbone)
        with quiet_mapping():
            trainer = PRMTrainer(
                head.backbone,
                config,
                train_dataset=StepDataset(steps, codes),
                processing_class=tokenizer,
                callbacks=[_Bar(head.show_progress)],
                model_options=head.backbone_options,
            )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model: Any = trainer.model
        model.cpu().eval()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    scorer = TokenScorer(
        model=model,
        tokenizer=tokenizer,
        scheme=trainer.scheme,
        readout=trainer.readout.for_scoring(),
        max_length=trainer.max_tokens,
        classes=trainer.targets.output_classes,
    )
    return scorer, losses


class _Bar(TrainerCallback):
    """A progress bar on a terminal when training takes more than a moment."""

    def __init__(self, shown: bool):
        self._shown = shown

    def on_train_begin(self, args, state, control, **kwargs):
        self._bar = tqdm(
            total=state.max_steps,
            desc="training",
            unit="update",
            delay=2,
            disable=None if self._shown else True,
        )

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self._bar.set_postfix(loss=f"{logs['loss']:.4f}", refresh=False)

    def on_step_end(self, args, state, control, **kwargs):
        self._bar.update()

    def on_train_end(self, args, state, control, **kwargs):
        self._bar.close()


@contextmanager
def _generators_kept() -> Iterator[None]:
    """The trainer seeds every global generator: put them back afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
