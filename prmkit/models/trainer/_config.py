"""The settings of a training run: those of transformers, and the few that a process reward model adds."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from prmkit.marking.scheme import SCHEMES, MarkingScheme
from prmkit.models.losses._registry import loss_names
from prmkit.utils.hardware import has_bfloat16

_RENAMED = {
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
}
_LOWER_IS_BETTER = ("brier", "ece")
_FLOAT32_ONLY = ("deberta",)  # its attention fills with float32's smallest number
NEUTRAL = ("positive", "negative", "drop")


class _ByDefault(str):
    """A default that can be told from the same text given on purpose."""


_LINE_BREAK = _ByDefault("\n")


@dataclass
class PRMTrainingConfig(TrainingArguments):
    r"""Settings of :class:`PRMTrainer`; everything of ``transformers.TrainingArguments`` can be set too.

    Parameters
    ----------
    step_separator : str, default="\n"
        What closes a step, and where its score is read. Left at its default it becomes the tokenizer's own separator
        where that drops white space, as BERT's does, and ``"[PRM]"`` with ``scheme="special_token"``.
    scheme : {"separator", "special_token", "reward_tokens", "prefix"}, default="separator"
        See :class:`prmkit.marking.MarkingScheme`.
    reward_tokens : list of str or None, default=None
        One token per class, worst first; only for ``scheme="reward_tokens"``, None there: ``["-", "+"]``, or
        ``["-", "0", "+"]`` for three classes.
    loss : str, default="cross_entropy"
        A key of :func:`prmkit.models.losses.get_loss`.
    loss_options : dict or None, default=None
        Options of the loss, such as ``{"zeta": 2.0}``.
    neutral : {"positive", "negative", "drop"}, default="positive"
        What a neutral step counts as in a loss that knows right and wrong alone.
    label_order : list or None, default=None
        Labels from worst to best; needed where the data does not say it, such as ratings -1, 0, 1.
    max_length : int or None, default=1024
        Tokens of problem and steps; trailing steps that do not fit are left out whole, and counted.
    max_completion_length : int or None, default=None
        Tokens of the steps alone.
    max_prompt_length : int or None, default=None
        Tokens of the problem; a longer one loses its beginning, in scoring too.
    too_long : {"drop", "raise"}, default="drop"
        What becomes of trailing steps that do not fit: left out and counted, or an error.
    train_on_last_step_only : bool, default=False
    disable_dropout : bool, default=True
    dataset_num_proc : int or None, default=None
        Processes that tokenise.
    tokens_per_batch : int or None, default=8192
        Padded tokens per device and forward pass; solutions of like length go together. None: fixed batches of
        ``per_device_train_batch_size`` solutions, as in TRL; on several processes accelerate
        then fills an uneven last batch with repeated rows.
    initialization : {"pretrained", "random"}, default="pretrained"
        Whether a model given by name keeps its weights.
    bf16 : bool or None, default=None
        None: bfloat16 on a GPU that computes in it. True without one falls back to float32, with a warning; with
        ``use_cpu=True`` the CPU computes in it.
    metric_for_best_model : str or None, default=None
        A key of the evaluation, such as "auroc"; of "loss", "brier" and "ece" the lowest is best.

    Notes
    -----
    As in TRL's trainer: ``learning_rate=1e-5``, ``logging_steps=10``, ``gradient_checkpointing=True``. A process uses
    one GPU: for several start one each, with ``accelerate launch`` or ``torchrun``.

    Examples
    --------
    >>> config = PRMTrainingConfig(output_dir="prm", loss="rank", loss_options={"zeta": 2.0})
    >>> config.max_length, config.learning_rate
    (1024, 1e-05)
    """

    learning_rate: float = field(default=1e-5, metadata={"help": "Largest learning rate."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between two logs."})
    gradient_checkpointing: bool = field(
        default=True, metadata={"help": "Compute activations twice to save memory."}
    )
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "bfloat16; by default where the hardware computes in it."}
    )
    step_separator: str | None = field(default=_LINE_BREAK, metadata={"help": "What closes a step."})
    scheme: str = field(default="separator", metadata={"help": "How steps are marked."})
    reward_tokens: list[str] | None = field(
        default=None, metadata={"help": "One token per class, worst first."}
    )
    loss: str = field(default="cross_entropy", metadata={"help": "Name of the loss."})
    loss_options: dict[str, Any] | None = field(default=None, metadata={"help": "Options of the loss."})
    neutral: str = field(
        default="positive", metadata={"help": "What a neutral step counts as in a binary loss."}
    )
    label_order: list[Any] | None = field(default=None, metadata={"help": "Labels from worst to best."})
    max_length: int | None = field(default=1024, metadata={"help": "Tokens of problem and steps."})
    max_completion_length: int | None = field(default=None, metadata={"help": "Tokens of the steps."})
    too_long: str = field(default="drop", metadata={"help": "drop or raise."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Tokens of the problem."})
    train_on_last_step_only: bool = field(
        default=False, metadata={"help": "Learn from the last step of each solution alone."}
    )
    disable_dropout: bool = field(default=True, metadata={"help": "Train without dropout."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that tokenise."})
    tokens_per_batch: int | None = field(
        default=8192, metadata={"help": "Padded tokens per device and pass."}
    )
    initialization: str = field(default="pretrained", metadata={"help": "pretrained or random."})

    def __post_init__(self) -> None:
        self._check_choices()
        self._choose_precision()
        accelerators = getattr(torch, "accelerator", torch.cuda)  # torch.accelerator came with 2.6
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not accelerators.is_available():
            self.use_cpu = True  # or each process would take itself for the only one
        self.remove_unused_columns = False  # the collator knows its columns
        self.label_names = ["labels"]
        if self.gradient_checkpointing and self.gradient_checkpointing_kwargs is None:
            self.gradient_checkpointing_kwargs = {"use_reentrant": False}
        for new, old in _RENAMED.items():  # transformers' new names, where it has them already
            if getattr(self, new, self) is None:
                setattr(self, new, getattr(self, old))
        if self.use_cpu or not torch.cuda.is_available():
            self.dataloader_pin_memory = False
        if self.greater_is_better is None and str(self.metric_for_best_model).endswith(_LOWER_IS_BETTER):
            self.greater_is_better = False
        super().__post_init__()
        settings: Any = self.accelerator_config
        if (
            settings.dispatch_batches is None
        ):  # batches of a stream differ in length, and cannot be cut in parts
            settings.dispatch_batches = False
        n_found = super().n_gpu
        if n_found > 1:
            warnings.warn(
                f"{n_found} GPUs, and this process uses one: start a process for each, with accelerate launch or "
                f"torchrun --nproc_per_node {n_found}",
                stacklevel=3,
            )

    def _check_choices(self) -> None:
        for name, known in (
            ("scheme", SCHEMES),
            ("loss", loss_names()),
            ("neutral", NEUTRAL),
            ("too_long", ("drop", "raise")),
            ("initialization", ("pretrained", "random")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, expected one of {', '.join(map(repr, known))}"
                )
        if self.step_separator == "":
            raise ValueError("step_separator is '', which no token stands for: choose a text, such as ' #'")
        for name in ("max_length", "max_prompt_length", "max_completion_length", "tokens_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected a number of tokens, or None")

    def _choose_precision(self) -> None:
        if self.use_cpu and self.bf16:
            return
        fast = _computes_in_bfloat16() and not self.use_cpu
        if self.bf16 and not fast:
            warnings.warn(
                "bf16=True, but no GPU here computes in bfloat16: training in float32", stacklevel=5
            )
        self.bf16 = fast and not self.fp16 and self.bf16 is not False

    def fit_precision(self, model_type: str) -> None:
        """Train in float32 where a kind of model cannot compute in less."""
        if model_type in _FLOAT32_ONLY and (self.bf16 or self.fp16):
            warnings.warn(
                f"a {model_type} cannot be trained in half precision: training in float32", stacklevel=3
            )
            self.bf16 = self.fp16 = False
            self.mixed_precision = "no"

    @property
    def n_gpu(self) -> int:
        """GPUs of this process, at most one: transformers would spread a batch over several in one process."""
        return min(1, super().n_gpu)

    def marking(self, n_classes: int) -> MarkingScheme:
        """Return the marking scheme that these settings name."""
        tokens = None
        if self.scheme == "reward_tokens":
            default = ("-", "+") if n_classes == 2 else ("-", "0", "+")
            tokens = tuple(self.reward_tokens or default)
            if len(tokens) != n_classes:
                raise ValueError(
                    f"reward_tokens={list(tokens)} for {n_classes} classes: one per class, worst first"
                )
        return MarkingScheme(
            self.scheme,
            step_separator=None if isinstance(self.step_separator, _ByDefault) else self.step_separator,
            reward_tokens=tokens,
            max_prompt_length=self.max_prompt_length,
        )


def _computes_in_bfloat16() -> bool:
    return torch.cuda.is_available() and has_bfloat16("cuda")
