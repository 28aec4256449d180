"""Fine-tuning for TokenPRM: the trainer in a folder that goes away, and the caller's generators untouched."""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit
from transformers import PrinterCallback

from prmkit.data.dataset import StepDataset
from prmkit.data.solution import Step, problem_groups
from prmkit.models.tokens._loading import load_tokenizer
from prmkit.models.tokens.links import Link, as_rewards
from prmkit.models.tokens.scorer import TokenScorer
from prmkit.models.trainer._config import PRMTrainingConfig
from prmkit.models.trainer._targets import TargetPlan
from prmkit.models.trainer._trainer import PRMTrainer
from prmkit.models.trainer.progress import TrainingBar
from prmkit.utils.hardware import best_device, has_bfloat16
from prmkit.utils.log_silence import quiet_mapping

_LOG_ODDS = ("bce", "mse", "soft_cross_entropy")  # what they put out turns into a probability by itself
_FEWEST_PROBLEMS = 10
"""With fewer, calibrating on what was learnt is better than on next to nothing."""


@dataclass(frozen=True)
class Learnt:
    """A fine-tuned model, how its outputs become probabilities, and the losses on the way."""

    scorer: TokenScorer
    link: Link
    loss_curve: list[float]


def fine_tune(
    head: Any, steps: list[Step], y: np.ndarray, order: tuple[Any, ...], rng: np.random.RandomState
) -> Learnt:
    """Fine-tune as the parameters of a ``TokenPRM`` say.

    Parameters
    ----------
    head : TokenPRM
    steps : list of Step
    y : ndarray of shape (n_steps,)
    order : tuple
        The classes, worst first.
    rng : RandomState

    Warns
    -----
    UserWarning
        If probabilities are calibrated on the very problems that were learnt.
    """
    codes, n_classes = np.array([order.index(label) for label in y.tolist()]), len(order)
    learn = np.arange(len(steps))
    judged = learn
    plan = TargetPlan(order, head.loss, head.loss_options or {}, head.neutral)
    calibrate = plan.is_binary and (n_classes > 2 or head.loss not in _LOG_ODDS)
    if calibrate:
        learn, judged = _held_out(steps, codes, head.validation_fraction, rng)
    scorer, losses = _train(head, [steps[i] for i in learn], y[learn], order, int(rng.randint(2**31 - 1)))
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


def _held_out(
    steps: list[Step], codes: np.ndarray, fraction: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Part the rows by problem, every class on either side; where that cannot be, both parts are all rows."""
    groups, n_classes = problem_groups(steps), len(np.unique(codes))
    n_problems = len(np.unique(groups))
    if n_problems >= _FEWEST_PROBLEMS:
        splitter = GroupShuffleSplit(20, test_size=fraction, random_state=rng)
        for first, second in splitter.split(codes, groups=groups):
            if len(np.unique(codes[first])) == len(np.unique(codes[second])) == n_classes:
                return first, second
    warnings.warn(
        f"{n_problems} problems are too few to hold some out with every class: the probabilities are calibrated on "
        "what was learnt, and will be too sure. Give more problems, or choose loss='cross_entropy'",
        stacklevel=5,
    )
    return np.arange(len(steps)), np.arange(len(steps))


def _train(
    head: Any, steps: list[Step], y: np.ndarray, order: tuple[Any, ...], seed: int
) -> tuple[TokenScorer, list[float]]:
    place = head.device or best_device()
    with tempfile.TemporaryDirectory() as folder, _generators_kept():
        config = PRMTrainingConfig(
            output_dir=folder,
            scheme=head.scheme,
            step_separator=head.step_separator,
            reward_tokens=None if head.reward_tokens is None else list(head.reward_tokens),
            loss=head.loss,
            loss_options=head.loss_options,
            neutral=head.neutral,
            label_order=list(order),
            initialization=head.initialization,
            model_kwargs=head.model_kwargs,
            max_length=head.max_length,
            max_prompt_length=head.max_prompt_length,
            too_long="drop" if head.too_long == "nan" else head.too_long,
            num_train_epochs=head.num_train_epochs,
            learning_rate=head.learning_rate,
            weight_decay=head.weight_decay,
            warmup_steps=head.warmup_steps,
            tokens_per_batch=head.tokens_per_batch,
            gradient_checkpointing=False,
            use_cpu=place == "cpu",
            bf16=head.dtype == "bfloat16" or (head.dtype is None and has_bfloat16(place)),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        )
        tokenizer = load_tokenizer(head.model)
        with quiet_mapping():
            trainer = PRMTrainer(
                head.model,
                config,
                train_dataset=StepDataset(steps, y),
                processing_class=tokenizer,
                callbacks=[TrainingBar(shown=head.show_progress, delay=2)],
            )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model: Any = trainer.accelerator.unwrap_model(
            trainer.model, keep_fp32_wrapper=False
        )  # no autocast in use
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
