"""The run of PRMTrainer behind ``TokenPRM.fit``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from transformers import PrinterCallback

from prmkit.data.dataset import StepDataset
from prmkit.data.solution import Solution, Step, iter_solutions
from prmkit.models.tokens.model_folder import load_tokenizer
from prmkit.models.tokens.scoring_pass import TokenScorer
from prmkit.models.trainer._config import PRMTrainingConfig
from prmkit.models.trainer._trainer import PRMTrainer
from prmkit.models.trainer.progress import TrainingBar
from prmkit.utils.environment import best_device, fast_bfloat16, kept_generators, quiet_mapping

if TYPE_CHECKING:
    from prmkit.models.tokens.token_prm import TokenPRM

# These parameters are settings of PRMTrainingConfig too, by the same names and with the same meanings.
_TRAINING_SETTINGS = (
    "scheme",
    "step_separator",
    "loss",
    "loss_options",
    "outcome_weight",
    "extra_targets",
    "neutral",
    "initialization",
    "model_kwargs",
    "max_length",
    "max_prompt_length",
    "num_train_epochs",
    "learning_rate",
    "weight_decay",
    "warmup_steps",
    "tokens_per_batch",
)


def fine_tune(
    head: TokenPRM,
    steps: list[Step],
    y: npt.NDArray[Any],
    order: tuple[Any, ...],
    seed: int,
    others: Sequence[Solution],
) -> tuple[TokenScorer, list[float]]:
    """Run the trainer in a temporary folder, and return its model and the logged losses.

    ``others`` are solutions without a labelled step.
    """
    place = head.device or best_device()
    labelled = [solution for solution, _, _ in iter_solutions(steps)]
    data = StepDataset(steps, y, solutions=[*labelled, *others])
    with tempfile.TemporaryDirectory() as folder, kept_generators():
        config = PRMTrainingConfig(
            output_dir=folder,
            **{name: getattr(head, name) for name in _TRAINING_SETTINGS},
            reward_tokens=None if head.reward_tokens is None else list(head.reward_tokens),
            label_order=list(order),
            too_long="raise" if head.too_long == "raise" else "drop",
            gradient_checkpointing=False,
            use_cpu=place == "cpu",
            bf16=head.dtype == "bfloat16" or (head.dtype is None and fast_bfloat16(place)),
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
                train_dataset=data,
                processing_class=tokenizer,
                callbacks=[TrainingBar(shown=head.show_progress, delay=2)],
            )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        # Scores are computed in float32, so autocast is taken off the model.
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        model.cpu().eval()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    scorer = TokenScorer(
        model=model,
        tokenizer=tokenizer,
        scheme=trainer.scheme,
        readout=trainer.readout.for_scoring(),
        max_length=trainer.max_tokens,
        classes=trainer.targets.output_classes,
        objectives={one.name: one.classes for one in trainer.objectives},
    )
    return scorer, losses
