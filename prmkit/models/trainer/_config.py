"""The settings of a training run: those of transformers, and the few that a process reward model adds."""
# ruff: noqa: RUF009 (_setting returns a dataclass field)

from __future__ import annotations

import ast
import json
import os
import re
import warnings
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import cleandoc
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from transformers import PreTrainedModel, TrainingArguments

from prmkit.marking.scheme import MarkingScheme
from prmkit.models.losses._registry import loss_names, objective_weights
from prmkit.utils.environment import fast_bfloat16

SchemeName = Literal["separator", "special_token", "reward_tokens", "prefix"]
NeutralPolicy = Literal["positive", "negative", "drop"]
TooLong = Literal["drop", "raise"]
Initialization = Literal["pretrained", "random"]
if TYPE_CHECKING:
    Scheme: TypeAlias = SchemeName | MarkingScheme
else:
    # A parser of transformers makes a flag of it, which takes a name.
    Scheme = SchemeName

_LOWER_IS_BETTER = ("brier", "ece")
# Its attention fills with float32's smallest number, which half precision does not have.
_FLOAT32_ONLY = ("deberta",)
_MAPPINGS = ("loss_options", "extra_targets", "model_kwargs", "model_init_kwargs")
_TOKENS_PER_BATCH = 8192
_BATCH_SIZE = 8


def _setting(default: Any, metavar: str) -> Any:
    """Return a field with the name of its value, for the help of a command line."""
    return field(default=default, metadata={"metavar": metavar})


@dataclass
class PRMTrainingConfig(TrainingArguments):
    r"""Settings of :class:`PRMTrainer`. It takes every setting of ``transformers.TrainingArguments`` too.

    Parameters
    ----------
    learning_rate : float, default=1e-5
        Largest learning rate. 1e-5 suits language models. Small encoders and adapters need about 1e-4.
    logging_steps : float, default=10
        Updates between two logs.
    gradient_checkpointing : bool, default=True
        Whether to compute activations twice, to save memory. Without effect, with a warning, for a model that cannot,
        such as ALBERT or MPNet.
    bf16 : bool or None, default=None
        Whether to compute in bfloat16. If None, a GPU that can does. True without such a GPU falls back to float32,
        with a warning. With ``use_cpu=True`` the CPU computes in bfloat16.
    per_device_train_batch_size : int or None, default=None
        Solutions per device and forward pass, as in transformers and TRL. If None, ``tokens_per_batch`` decides, and a
        stream has batches of 8.
    tokens_per_batch : int or None, default=None
        Tokens per device and forward pass, padding included. Solutions of similar length go together. If None, it is
        8192, unless ``per_device_train_batch_size`` or an order of the rows (``train_sampling_strategy``) is set. If
        the size is set too, the tokens decide, with a warning, except for a stream.
    step_separator : str or None, default=None
        Text that closes a step. The score of the step is read at its last token. If None, it is a line break, or the
        tokenizer's own separator if the tokenizer drops white space, as BERT's does, or ``"[PRM]"`` with
        ``scheme="special_token"``.
    scheme : {"separator", "special_token", "reward_tokens", "prefix"} or MarkingScheme, default="separator"
        How steps are marked. ``"separator"``: a classifier at the end of each step. ``"special_token"``: the same at a
        token that is added to the vocabulary. ``"reward_tokens"``: a language model's logits of two or three tokens.
        ``"prefix"``: one row per step, for models that cannot be kept from looking ahead. A
        :class:`~prmkit.marking.MarkingScheme` says it in full, with a text around each step for instance, and replaces
        ``step_separator``, ``reward_tokens`` and ``max_prompt_length``.
    reward_tokens : list of str or None, default=None
        One token per class, worst first, for ``scheme="reward_tokens"``. If None, ``"-,+"``, or ``"-,0,+"`` for three
        classes. A text with commas is read as a list.
    loss : str, default="cross_entropy"
        Name of a loss that :func:`prmkit.models.losses.get_loss` knows.
    loss_options : dict or None, default=None
        Options of the loss, such as ``{"zeta": 4}`` or ``{"class_weight": [2, 1, 1]}`` (worst class first).
    outcome_weight : float, default=0.0
        Weight of a further loss: whether the final answer of a solution is right, read at its last step.
        ``Solution.meta["final_answer_correct"]``, or the column ``final_answer_correct`` of rows, says it. A solution
        without any labelled step is learnt from too.
    extra_targets : dict or None, default=None
        Further targets of steps with the weights of their losses, such as ``{"error_type": 0.2}``.
        ``Solution.meta["error_type"]``, or the column of that name, is a list with a value per step.
    neutral : {"positive", "negative", "drop"}, default="positive"
        How a neutral step counts in a loss that knows only right and wrong.
    label_order : list or None, default=None
        Labels from worst to best. It is needed where the data does not say which label is worst. A text with commas,
        such as ``"-1,0,1"``, is read as a list.
    max_length : int or None, default=1024
        Most tokens of problem and steps. Trailing steps that do not fit are left out whole, and counted.
    max_completion_length : int or None, default=None
        Most tokens of the steps alone.
    too_long : {"drop", "raise"}, default="drop"
        Whether trailing steps that do not fit, and rows whose prompt alone is too long, are left out and counted, or
        raise an error.
    max_prompt_length : int or None, default=None
        Most tokens of the problem. A longer problem loses its beginning, in scoring too.
    train_on_last_step_only : bool, default=False
        Whether only the last labelled step of each solution is learnt.
    disable_dropout : bool, default=True
        Whether to train without dropout.
    dataset_num_proc : int or None, default=None
        Number of processes that tokenise.
    initialization : {"pretrained", "random"}, default="pretrained"
        Whether a model given by name keeps its weights.
    model_kwargs : dict or None, default=None
        Settings for loading a model given by name: ``dtype`` and ``attn_implementation``, and fields of its
        configuration to change, such as ``{"num_hidden_layers": 2}``.
    model_init_kwargs : dict or None, default=None
        TRL's name of ``model_kwargs``.
    metric_for_best_model : str or None, default=None
        A key of the evaluation, such as "auroc". For "loss", "brier" and "ece" the lowest value is best.

    Notes
    -----
    As in TRL's trainer, the defaults are ``learning_rate=1e-5``, ``logging_steps=10`` and
    ``gradient_checkpointing=True``.

    Examples
    --------
    >>> config = PRMTrainingConfig(output_dir="prm", loss="rank", loss_options={"zeta": 2.0})
    >>> config.max_length, config.learning_rate
    (1024, 1e-05)
    """

    # transformers reads these from JSON text, so that they can be typed on a command line.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, *_MAPPINGS]

    learning_rate: float = field(default=1e-5)
    logging_steps: float = field(default=10)
    gradient_checkpointing: bool = field(default=True)
    bf16: bool | None = field(default=None)  # type: ignore[assignment]
    per_device_train_batch_size: int | None = field(default=None)  # type: ignore[assignment]
    tokens_per_batch: int | None = _setting(None, "TOKENS")
    step_separator: str | None = _setting(None, "TEXT")
    scheme: Scheme = field(default="separator")
    reward_tokens: list[str] | str | None = _setting(None, "WORST,…,BEST")
    loss: str = _setting("cross_entropy", "NAME")
    loss_options: dict[str, Any] | str | None = _setting(None, "JSON")
    outcome_weight: float = field(default=0.0)
    extra_targets: dict[str, float] | str | None = _setting(None, "JSON")
    neutral: NeutralPolicy = field(default="positive")
    label_order: list[Any] | str | None = _setting(None, "WORST,…,BEST")
    max_length: int | None = _setting(1024, "TOKENS")
    max_completion_length: int | None = _setting(None, "TOKENS")
    too_long: TooLong = field(default="drop")
    max_prompt_length: int | None = _setting(None, "TOKENS")
    train_on_last_step_only: bool = field(default=False)
    disable_dropout: bool = field(default=True)
    dataset_num_proc: int | None = field(default=None)
    initialization: Initialization = field(default="pretrained")
    model_kwargs: dict[str, Any] | str | None = _setting(None, "JSON")
    model_init_kwargs: dict[str, Any] | str | None = _setting(None, "JSON")

    def __post_init__(self) -> None:
        self._read_texts()
        self._check_choices()
        self._choose_batches()
        self._refuse_settings_without_effect()
        self._choose_precision()
        accelerators = getattr(torch, "accelerator", torch.cuda)  # torch.accelerator came with 2.6
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not accelerators.is_available():
            # Otherwise each process would take itself for the only one.
            self.use_cpu = True
        # The collator knows its columns.
        self.remove_unused_columns = False
        self.label_names = ["labels"]
        if self.gradient_checkpointing and self.gradient_checkpointing_kwargs is None:
            self.gradient_checkpointing_kwargs = {"use_reentrant": False}
        self._mirror_new_names()
        if self.use_cpu or not torch.cuda.is_available():
            self.dataloader_pin_memory = False
        if self.greater_is_better is None and str(self.metric_for_best_model).endswith(_LOWER_IS_BETTER):
            self.greater_is_better = False
        super().__post_init__()  # type: ignore[no-untyped-call]
        # Batches of a stream differ in length, so one process cannot cut a batch for all.
        if getattr(self.accelerator_config, "dispatch_batches", False) is None:
            self.accelerator_config.dispatch_batches = False  # type: ignore[union-attr]
        for name in ("dispatch_batches", "split_batches"):
            if self.tokens_per_batch is not None and getattr(self.accelerator_config, name, False):
                raise ValueError(
                    f"accelerator_config: {name}=True divides batches again that tokens_per_batch has divided among "
                    f"the processes: leave {name} out, or set per_device_train_batch_size"
                )
        n_found = super().n_gpu
        if n_found > 1:
            warnings.warn(
                f"{n_found} GPUs, and this process uses one: start a process for each, with accelerate launch or "
                f"torchrun --nproc_per_node {n_found}",
                stacklevel=3,
            )

    def _read_texts(self) -> None:
        """Turn what a command line gives as text into lists and dictionaries."""
        if isinstance(self.reward_tokens, str):
            self.reward_tokens = [str(token) for token in _as_list(self.reward_tokens, values=False)]
        if isinstance(self.label_order, str):
            self.label_order = _as_list(self.label_order)
        for name in _MAPPINGS:
            value = getattr(self, name)
            if isinstance(value, str):
                setattr(self, name, _as_mapping(value, name))
        if self.model_init_kwargs is not None:
            if self.model_kwargs is not None:
                raise ValueError("model_kwargs and model_init_kwargs are two names of one setting: pass model_kwargs")
            self.model_kwargs, self.model_init_kwargs = self.model_init_kwargs, None
        self.loss = self.loss.replace("-", "_")

    def _check_choices(self) -> None:
        for name, choices in (
            *([] if isinstance(self.scheme, MarkingScheme) else [("scheme", get_args(SchemeName))]),
            ("loss", loss_names()),
            ("neutral", get_args(NeutralPolicy)),
            ("too_long", get_args(TooLong)),
            ("initialization", get_args(Initialization)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(map(repr, choices))}")
        if isinstance(self.scheme, MarkingScheme):
            for name in ("step_separator", "reward_tokens", "max_prompt_length"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} beside scheme=MarkingScheme(…): set {name} in the scheme alone")
        _ = self.objectives  # wrong weights are an error before anything is read
        if self.step_separator == "":
            raise ValueError("step_separator is '', which has no token: choose a text, such as ' #'")
        for name in ("max_length", "max_prompt_length", "max_completion_length", "tokens_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected a number of tokens, or None")

    def _choose_batches(self) -> None:
        """Fixed batches if their size or order is set; otherwise a budget of tokens."""
        size, order = self.per_device_train_batch_size, getattr(self, "train_sampling_strategy", "random")
        in_own_order = order not in ("random", "group_by_length")
        if self.tokens_per_batch is None:
            self.tokens_per_batch = _TOKENS_PER_BATCH if size is None and not in_own_order else None
        elif in_own_order:
            raise ValueError(
                f"train_sampling_strategy={order!r} orders rows, and tokens_per_batch={self.tokens_per_batch} makes "
                "batches of its own: leave one of them out"
            )
        # A copy of the settings brings the usual size too.
        elif size not in (None, _BATCH_SIZE):
            warnings.warn(
                f"tokens_per_batch={self.tokens_per_batch} decides how many solutions a batch holds, and "
                f"per_device_train_batch_size={size} is for a stream alone: leave one of them out",
                stacklevel=5,
            )
        self.per_device_train_batch_size = _BATCH_SIZE if size is None else size

    def _refuse_settings_without_effect(self) -> None:
        """Name the settings of transformers that a step loss, or the trainer's own batches, cannot honour."""
        if self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor={self.label_smoothing_factor} has no effect on the losses of steps: leave it "
                "out, or give labels that are probabilities and a loss that takes them, such as 'bce'"
            )
        if self.label_names not in (None, ["labels"]):
            raise ValueError(f"label_names={self.label_names}, but the labels are the column 'labels': leave it out")
        if getattr(self, "length_column_name", "length") != "length":
            warnings.warn("length_column_name is not read: the lengths are those of the tokens", stacklevel=5)

    def _choose_precision(self) -> None:
        if self.use_cpu and self.bf16:
            return
        fast = _computes_in_bfloat16() and not self.use_cpu
        if self.bf16 and not fast:
            warnings.warn("bf16=True, but no GPU here computes in bfloat16: training in float32", stacklevel=5)
        self.bf16 = fast and not self.fp16 and self.bf16 is not False

    def _mirror_new_names(self) -> None:
        """Set transformers' new names of gradient checkpointing, or it would warn of the old ones."""
        for suffix in ("", "_kwargs"):
            new = f"activation_checkpointing{suffix}"
            if getattr(self, new, True) is None:
                setattr(self, new, getattr(self, f"gradient_checkpointing{suffix}"))

    def fit_model(self, model: PreTrainedModel) -> None:
        """Leave out what a model cannot do: half precision, or activation checkpointing. A warning says so.

        A warning says also what the trainer does otherwise on several devices.

        Parameters
        ----------
        model : PreTrainedModel
            Model to train.
        """
        if not self.average_tokens_across_devices and self.world_size > 1:
            warnings.warn(
                "average_tokens_across_devices=False is not read: the loss of an update is always the mean over the "
                "targets of all devices",
                stacklevel=3,
            )
        model_type = str(model.config.model_type)
        if self.gradient_checkpointing and not getattr(model, "supports_gradient_checkpointing", True):
            warnings.warn(
                f"a {model_type} has no activation checkpointing: training without, which takes more memory. "
                "gradient_checkpointing=False says so without this warning",
                stacklevel=3,
            )
            self.gradient_checkpointing = False
            self.activation_checkpointing = False
        if model_type in _FLOAT32_ONLY and (self.bf16 or self.fp16):
            warnings.warn(f"a {model_type} cannot be trained in half precision: training in float32", stacklevel=3)
            self.bf16 = self.fp16 = False
            self.mixed_precision = "no"

    @property
    def n_gpu(self) -> int:
        """GPUs of this process, at most one: transformers would spread a batch over several in one process."""
        return min(1, int(super().n_gpu))

    @property
    def objectives(self) -> dict[str, float]:
        """What is learnt beside the labels of the steps, by name, with the weight of its loss."""
        return objective_weights(self.outcome_weight, self.extra_targets)  # type: ignore[arg-type]

    def marking(self, n_classes: int) -> MarkingScheme:
        """Return the marking scheme of these settings.

        Parameters
        ----------
        n_classes : int
            Number of classes that the model tells apart.

        Returns
        -------
        MarkingScheme
            The scheme, with a reward token per class where it has such tokens.

        Raises
        ------
        ValueError
            If ``reward_tokens`` are not as many as the classes.
        """
        given = self.scheme if isinstance(self.scheme, MarkingScheme) else None
        tokens = None
        if self.scheme_name == "reward_tokens":
            default = ("-", "+") if n_classes == 2 else ("-", "0", "+")
            tokens = tuple((self.reward_tokens if given is None else given.reward_tokens) or default)
            if len(tokens) != n_classes:
                raise ValueError(f"reward_tokens={list(tokens)} for {n_classes} classes: one per class, worst first")
        if given is not None:
            return replace(given, reward_tokens=tokens)
        return MarkingScheme(
            self.scheme_name,
            step_separator=self.step_separator,
            reward_tokens=tokens,
            max_prompt_length=self.max_prompt_length,
        )

    @property
    def scheme_name(self) -> str:
        """Name of the marking scheme."""
        return self.scheme.name if isinstance(self.scheme, MarkingScheme) else self.scheme

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON holds them, as transformers does.

        Returns
        -------
        dict
            Name and value of each setting.
        """
        settings: dict[str, Any] = super().to_dict()  # type: ignore[no-untyped-call]
        if isinstance(self.scheme, MarkingScheme):
            settings["scheme"] = asdict(self.scheme)
        return settings


def _describe(config: type[PRMTrainingConfig]) -> None:
    """Give each field the description in the docstring as its help, which a parser of transformers shows."""
    # Python 3.13 has taken the indentation of the docstring away already.
    text = re.sub(r"\n {4,}", " ", cleandoc(config.__doc__ or "").replace("``", ""))
    descriptions = dict(re.findall(r"\n(\w+) : [^\n]*? (?:default=\S+|optional) (.+)", text))
    descriptions["loss"] += f" One of {', '.join(loss_names())}."
    for setting in fields(config):
        # Inherited fields are those of transformers, which stay as they are.
        if setting.name in config.__annotations__:
            help_text = descriptions[setting.name].strip()
            setting.metadata = MappingProxyType({**setting.metadata, "help": help_text})


_describe(PRMTrainingConfig)
PRMConfig = PRMTrainingConfig
"""TRL's name of :class:`PRMTrainingConfig`, so that its scripts change one line."""


def _as_list(text: str, *, values: bool = True) -> list[Any]:
    """Read a list written as JSON, as in Python, or with commas.

    >>> _as_list("-1,0,1"), _as_list("-,+"), _as_list('["bad", "good"]'), _as_list("bad, good")
    ([-1, 0, 1], ['-', '+'], ['bad', 'good'], ['bad', 'good'])
    """
    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = ast.literal_eval(text)
        return value if isinstance(value, list) else [value]
    parts = [part.strip() for part in text.split(",")]
    return [_value(part) for part in parts] if values else parts


def _value(text: str) -> Any:
    try:
        return json.loads({"True": "true", "False": "false"}.get(text, text))
    except ValueError:
        return text


def _as_mapping(text: str, name: str) -> dict[str, Any]:
    """Read a dictionary written as JSON, such as ``{"zeta": 2}``."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f'{name} is {text}, expected JSON such as {{"name": 2}}')
    return value


def _computes_in_bfloat16() -> bool:
    return torch.cuda.is_available() and fast_bfloat16("cuda")
