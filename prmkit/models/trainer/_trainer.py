"""The trainer of process reward models: transformers' own, with marked rows and exact averages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from inspect import signature
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import seed_worker

from prmkit.features.passes.model_files import load_tokenizer, token_limit
from prmkit.marking.encoding import prepare_tokenizer
from prmkit.marking.scheme import separator_text
from prmkit.models.losses import get_loss
from prmkit.models.tokens.model_folder import ModelDescription, make_readout, write_description
from prmkit.models.tokens.scoring_pass import marked_objectives, marked_outputs
from prmkit.models.trainer._batches import Collator, TokenBudgetSampler
from prmkit.models.trainer._checkpoints import check_checkpoint, last_checkpoint, model_card
from prmkit.models.trainer._config import PRMTrainingConfig
from prmkit.models.trainer._model import model_to_train
from prmkit.models.trainer._objectives import find_objectives
from prmkit.models.trainer._rows import RowReport, readable_data, row_lengths, training_rows
from prmkit.models.trainer._targets import TargetPlan, find_classes
from prmkit.models.trainer.progress import step_metrics
from prmkit.utils.environment import safe_after_fork

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import DataCollator, EvalPrediction, PreTrainedTokenizerBase, TrainerCallback
    from transformers.trainer_utils import EvalLoopOutput, TrainOutput

    from prmkit.models.trainer._targets import Rows, TrainingData

    Batch: TypeAlias = dict[str, Tensor]


_FURTHER = get_loss("cross_entropy")
"""The loss of every further objective."""


class PRMTrainer(Trainer):
    """Fine-tune a transformers model as a process reward model.

    This is a thin class over ``transformers.Trainer``. Checkpoints, resuming, logging, callbacks, several devices and
    the rest work as documented there. It takes the place of TRL's trainer of the same name.

    Parameters
    ----------
    model : str, path or PreTrainedModel
        Model to train. A name or folder is loaded with the head that the scheme needs. A model object needs
        ``processing_class``.
    args : PRMTrainingConfig
        Settings of the run.
    data_collator : callable, optional
        As in ``transformers.Trainer``. By default :class:`RewardDataCollator`, which pads rows on the right.
    train_dataset : stepwise data set, StepDataset, list of rows, data frame, or pre-tokenised data set
        Data to learn from. Stepwise rows hold ``prompt``, ``completions`` and ``labels`` (bool, 0/1, or floats in
        [0, 1] as soft targets). Pre-tokenised rows hold ``input_ids`` and ``labels``, one per token. A streamed data
        set needs ``max_steps``. Rows in another format, such as sdiehl/prm's or ``text`` and ``label``, are read by
        :func:`prmkit.data.load`.
    eval_dataset : as ``train_dataset``, or a dict of such
        Data to evaluate on. ``evaluate`` and ``predict`` take the same kinds of data.
    processing_class : tokenizer, optional
        Tokenizer. By default the one beside the model that ``model`` names.
    model_init : callable, optional
        As in ``transformers.Trainer``: makes the model anew for each call of ``train``.
    compute_metrics : callable, optional
        Function of an evaluation's predictions and labels, as in ``transformers.Trainer``. Predictions stand at the
        marked steps, in the shape (n_solutions, max_steps, n_classes), or (n_solutions, max_steps) for rewards. Labels
        are -100 where there is no step. By default: the step metrics of :mod:`prmkit.metrics`, beside the majority
        baseline.
    callbacks, optimizers, preprocess_logits_for_metrics : optional
        As in ``transformers.Trainer``.
    peft_config : peft.PeftConfig, optional
        Adapter to train. The new head, and the embeddings of added tokens, are trained and saved with it.

    Attributes
    ----------
    scheme : MarkingScheme
        How steps are marked.
    classes : tuple or None
        Labels, worst first, in the order of the model's outputs. None for soft labels.
    objectives : tuple of Objective
        Objectives beside the labels of the steps, with their weights and classes.
    row_report : RowReport or None
        How many rows and steps of the training data were cut.

    Raises
    ------
    ValueError
        If no solution keeps a label, if labels, loss, scheme and model do not
        fit together, or if the model looks ahead and cannot be kept from it.
    FloatingPointError
        While training, if the loss is not finite.

    Notes
    -----
    The loss of an update, and of an evaluation, is the exact mean over its targets, for any number of accumulated
    batches and of processes. Each process uses one GPU. To use several, start a process for each, with
    ``accelerate launch`` or ``torchrun``. A causal model with ``scheme="separator"`` gives the same scores in
    ``transformers.pipeline``. An encoder does not, because its attention there is not block-causal and lets a step see
    the later ones. Score with :meth:`prmkit.PRMClassifier.from_pretrained`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from prmkit.data import make_arithmetic_solutions
    >>> args = PRMTrainingConfig(output_dir=mkdtemp(), max_steps=1, save_strategy="no", disable_tqdm=True)
    >>> trainer = PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=make_arithmetic_solutions(4, 1, random_state=0))
    >>> trainer.classes
    (-1, 0, 1)
    """

    args: PRMTrainingConfig

    def __init__(
        self,
        model: str | PathLike[str] | PreTrainedModel | None = None,
        args: PRMTrainingConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: TrainingData | None = None,
        eval_dataset: TrainingData | dict[str, TrainingData] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        model_init: Callable[..., PreTrainedModel] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Optimizer | None, LambdaLR | None] = (None, None),
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        peft_config: PeftConfig | None = None,
    ) -> None:
        args = PRMTrainingConfig() if args is None else args
        if not isinstance(args, PRMTrainingConfig):
            raise TypeError(f"args is {type(args).__name__}, expected PRMTrainingConfig")
        if model is None and model_init is None:
            raise ValueError("pass a model or a model_init")
        if processing_class is not None:
            tokenizer = processing_class
        elif isinstance(model, (str, PathLike)):
            tokenizer = load_tokenizer(str(model))
        else:
            raise ValueError("a model object comes without its tokenizer: pass it as processing_class")
        train_dataset = None if train_dataset is None else readable_data(train_dataset)
        evaluated = eval_dataset if isinstance(eval_dataset, dict) else {"": eval_dataset}
        first = next(iter(evaluated.values())) if train_dataset is None else train_dataset
        first = readable_data(first)
        self.classes = find_classes(first, args.label_order)
        self.targets = TargetPlan.of(args, self.classes)
        self.objectives = find_objectives(args.objectives, args.scheme_name, first) if args.objectives else ()
        self.scheme = args.marking(self.targets.n_outputs)
        prepare_tokenizer(tokenizer, self.scheme)
        self.scheme = replace(self.scheme, step_separator=separator_text(tokenizer, self.scheme))
        self.step_loss = self.targets.loss(tokenizer, self.scheme)
        prepare = partial(
            model_to_train,
            args=args,
            targets=self.targets,
            tokenizer=tokenizer,
            scheme=self.scheme,
            peft_config=peft_config,
            objectives={one.name: list(one.classes) for one in self.objectives},
        )
        if model is not None:
            model = probe = prepare(model)
        else:
            model_init = partial(_prepared_anew, model_init, prepare)  # type: ignore[arg-type]
            probe = model_init()
        self.readout = make_readout(probe, tokenizer, self.scheme, self.step_loss.reads)
        args.fit_model(probe)
        self.max_tokens = token_limit(probe, args.max_length)
        self._tokenizer = tokenizer
        self.row_report: RowReport | None = None
        if train_dataset is not None:
            train_dataset, self.row_report = self._rows(args, train_dataset, is_eval=False)
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: self._rows(args, part)[0] for name, part in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = self._rows(args, eval_dataset)[0]
        others = tuple(one.column for one in self.objectives)
        if data_collator is None or isinstance(data_collator, Collator):
            soft, blocks = self.classes is None, self.readout.by_blocks
            data_collator = Collator(tokenizer.pad_token_id, soft=soft, with_blocks=blocks, others=others)
        elif others:
            raise ValueError(
                "a data_collator of your own does not know the columns of outcome_weight and extra_targets: leave it "
                "out, or leave them out"
            )
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            model_init=model_init,
            compute_metrics=compute_metrics or partial(step_metrics, targets=self.targets),
            callbacks=callbacks,
            optimizers=optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        self._evaluated = torch.zeros(2, 1 + len(others), dtype=torch.float64)
        # compute_loss divides by the count of the whole update. transformers has a new name for that, and an old one.
        self.loss_is_scaled_for_ga = self.model_accepts_loss_kwargs = True

    def _rows(
        self, args: PRMTrainingConfig, dataset: TrainingData, *, is_eval: bool = True
    ) -> tuple[Rows, RowReport | None]:
        """Return the rows of a data set that have targets, and the report on truncation."""
        rows, report = training_rows(
            readable_data(dataset),
            self._tokenizer,
            self.scheme,
            classes=self.classes,
            max_length=self.max_tokens,
            max_completion_length=args.max_completion_length,
            last_step_only=args.train_on_last_step_only,
            too_long=args.too_long,
            is_eval=is_eval,
            num_proc=args.dataset_num_proc,
            objectives=self.objectives,
        )
        return self.targets.keep_rows(rows, [one.column for one in self.objectives]), report

    def _outputs(self, model: torch.nn.Module, inputs: Batch) -> tuple[Tensor, list[Tensor]]:
        """Return the outputs of the steps, and those of each further objective, of one forward pass."""
        if not self.objectives:
            return marked_outputs(model, inputs, self.readout), []
        outputs, logits = marked_objectives(model, inputs, self.readout)
        return outputs, list(torch.split(logits, [len(one.classes) for one in self.objectives], dim=-1))

    def _totals(self, outputs: Tensor, others: list[Tensor], inputs: Batch) -> list[Tensor]:
        """Return the sum of the loss of the steps, and of each further objective."""
        codes = inputs["objectives"].unbind(-1) if others else ()
        return [
            self.step_loss.total(outputs, self.targets.of_labels(inputs["labels"])),
            *map(_FURTHER.total, others, codes),
        ]

    def _counts(self, inputs: Batch) -> Tensor:
        """Return how many targets the steps have in a batch, and each further objective."""
        codes = inputs["objectives"].unbind(-1) if self.objectives else ()
        return torch.stack(
            [self.step_loss.count(self.targets.of_labels(inputs["labels"])), *map(_FURTHER.count, codes)]
        )

    @safe_after_fork()
    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train, as in transformers.

        Parameters
        ----------
        resume_from_checkpoint : str or bool, optional
            Checkpoint to go on from. True is the newest checkpoint that was written to its end. If None, the setting of
            the same name says it.
        *args, **kwargs
            Arguments of ``transformers.Trainer.train``.

        Returns
        -------
        TrainOutput
            Number of updates, training loss and metrics.
        """
        if resume_from_checkpoint is None:
            asked = self.args.resume_from_checkpoint
            resume_from_checkpoint = True if str(asked).lower() == "true" else asked
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(str(self.args.output_dir))
        if resume_from_checkpoint:
            check_checkpoint(str(resume_from_checkpoint), self.describe())
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the loss of one forward pass, as its share in the mean over the whole update.

        Parameters
        ----------
        model, inputs, return_outputs, num_items_in_batch
            As in ``transformers.Trainer``. Items are targets, counted on all devices, in a tensor with the number of
            each objective if there are further ones.

        Returns
        -------
        Tensor, or tuple of (Tensor, Tensor)
            The loss, and the outputs if asked for.
        """
        outputs, others = self._outputs(model, inputs)
        totals = self._totals(outputs, others, inputs)
        # Gradients are averaged over the processes, so each share is multiplied by their number.
        own = num_items_in_batch is None
        counts = self._counts(inputs) if own else torch.as_tensor(num_items_in_batch)
        counts = counts.to(outputs.device).reshape(-1)
        scale = 1 if own else self.accelerator.num_processes
        weights = [1.0, *(one.weight for one in self.objectives)]
        loss = sum(
            (
                weight * (total / torch.where(count > 0, count, 1)) * scale
                for weight, total, count in zip(weights, totals, counts, strict=True)
            ),
            start=torch.zeros((), device=outputs.device),
        )
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the training loss is {loss.item()}: lower learning_rate, or look at the model")
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device | None = None
    ) -> tuple[list[Batch], Tensor | None]:
        """Return the batches of one update, and the number of targets in them on all devices.

        Parameters
        ----------
        epoch_iterator, num_batches, device
            As in ``transformers.Trainer``.

        Returns
        -------
        tuple
            The batches and the count. The list is empty when the data of any process has ended.
        """
        batches = list(islice(epoch_iterator, num_batches))
        own = torch.zeros(1, 2 + len(self.objectives))
        for batch in batches:
            own[0, :-1] += self._counts(batch).cpu()
        own[0, -1] = len(batches)
        gathered = self.accelerator.gather(own.to(self.args.device))
        count, n_batches = gathered[:, :-1].sum(dim=0), gathered[:, -1]
        # A stream may end sooner on one process. No other may then wait for it.
        if n_batches.min() < n_batches.max():
            return [], None
        if not batches:
            return batches, None
        if not count.sum() > 0:
            raise ValueError("no step of this update has a target: look at the labels, or at class_weight")
        return batches, count if self.objectives else count[0]

    def prediction_step(
        self, model: torch.nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Predict at the marked steps of one batch, and add to the exact losses of the evaluation.

        Parameters
        ----------
        model, inputs, prediction_loss_only, ignore_keys
            As in ``transformers.Trainer``.

        Returns
        -------
        tuple of (Tensor, Tensor or None, Tensor or None)
            Loss, outputs and labels.
        """
        inputs = self._prepare_inputs(inputs)
        counted = {
            name: self._without_repeated(codes) if name in ("labels", "objectives") else codes
            for name, codes in inputs.items()
        }
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs, others = self._outputs(model, inputs)
            totals, counts = torch.stack(self._totals(outputs, others, counted)), self._counts(counted)
        self._evaluated += torch.stack([totals.double(), counts.double()]).cpu()
        loss = totals[0] / counts[0].clamp(min=1)
        if prediction_loss_only:
            return loss, None, None
        if self.readout.reads == "vocabulary":
            outputs = outputs[..., list(self.readout.token_ids or ())]
        return loss, outputs, inputs["labels"]

    def _without_repeated(self, labels: Tensor) -> Tensor:
        """Return the labels of an evaluation batch, -100 in rows that only fill up the last batch of all processes."""
        state = self.accelerator.gradient_state
        if self.accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return labels
        n_own = state.remainder - self.accelerator.process_index * len(labels)
        row = torch.arange(len(labels), device=labels.device)
        return torch.where((row < n_own).reshape(-1, *[1] * (labels.ndim - 1)), labels, -100)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate as in transformers, with each loss averaged over all its targets and not over batches.

        ``eval_loss`` is that of the steps. ``eval_outcome_loss`` and its like stand beside it.

        Parameters
        ----------
        dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            As in ``transformers.Trainer``.

        Returns
        -------
        EvalLoopOutput
            Predictions, labels and metrics.
        """
        self._evaluated.zero_()
        arguments = (dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        output = super().evaluation_loop(*arguments)
        on_device = self._evaluated.to(self.args.device, torch.float32)[None]
        names = ["loss", *(f"{one.name}_loss" for one in self.objectives)]
        for name, total, count in zip(names, *self.accelerator.gather(on_device).sum(dim=0).tolist(), strict=True):
            if output.metrics is not None and count > 0:
                output.metrics[f"{metric_key_prefix}_{name}"] = total / count
        return output

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return batches of solutions of similar length under a budget of tokens, or fixed batches without a budget.

        Returns
        -------
        DataLoader
            Batches of this process. Processes and accumulated batches see in one update the rows that a single process
            would see in as many batches.
        """
        args, dataset = self.args, self.train_dataset
        if args.tokens_per_batch is None or dataset is None or not hasattr(dataset, "__len__"):
            return super().get_train_dataloader()
        # Less than 1 after transformers found the memory full and halved its batch size.
        share = self._train_batch_size / args.train_batch_size
        sampler = TokenBudgetSampler(
            row_lengths(dataset),
            max(1, int(args.tokens_per_batch * share)),
            seed=args.seed if args.data_seed is None else args.data_seed,
            batches_per_step=args.world_size * args.gradient_accumulation_steps,
            n_processes=args.world_size,
            process=args.process_index,
        )
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
            **_loader_settings(args),
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        shard: Any = getattr(prepared, "batch_sampler", None)
        # The sampler knows its process, so accelerate must not divide the batches again.
        if getattr(shard, "batch_sampler", None) is sampler:
            shard.num_processes, shard.process_index = 1, 0
            # A resumed run asks the wrapper.
            shard.set_epoch = sampler.set_epoch
        return prepared

    def get_eval_dataloader(self, eval_dataset: str | TrainingData | None = None) -> DataLoader[Any]:
        """Return batches to evaluate on, as in transformers. Rows are tokenised if they are not yet.

        Parameters
        ----------
        eval_dataset : str or data set, optional
            Data, or the name of one of several evaluation sets. By default the trainer's own.

        Returns
        -------
        DataLoader
            Batches of this process.
        """
        own = eval_dataset is None or isinstance(eval_dataset, str) or eval_dataset is self.eval_dataset
        rows: Any = eval_dataset if own else self._rows(self.args, eval_dataset)[0]
        return super().get_eval_dataloader(rows)

    def get_test_dataloader(self, test_dataset: TrainingData) -> DataLoader[Any]:
        """Return batches to predict for, as in transformers. Rows are tokenised if they are not yet.

        Parameters
        ----------
        test_dataset : data set
            Data in any form that the trainer takes.

        Returns
        -------
        DataLoader
            Batches of this process.
        """
        return super().get_test_dataloader(self._rows(self.args, test_dataset)[0])

    def create_model_card(  # type: ignore[override]
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | Iterable[str] | None = None,
        license: str | None = None,  # noqa: A002
        language: str | None = None,
    ) -> None:
        """Write ``README.md`` beside the model: how it marks steps, and how to score with it.

        Parameters
        ----------
        model_name, dataset_name, tags, license, language : optional
            Title of the card, name of the data on the hub, tags to add, license of the model, language of the data.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        base = str(getattr(self.accelerator.unwrap_model(self.model).config, "_name_or_path", "") or "")
        text = model_card(
            self.describe(),
            self._tokenizer,
            self.readout,
            self.accelerator.unwrap_model(self.model).config,
            name=model_name or self.hub_model_id or folder.resolve().name,
            source=self.hub_model_id or model_name or folder.resolve().name,
            is_adapter=hasattr(self.model, "peft_config"),
            tags=tags,
            # A local folder says nothing to others. An empty name counts as the current folder.
            base_model=None if Path(base).exists() else base,
            datasets=dataset_name,
            license=license,
            language=language,
        )
        (folder / "README.md").write_text(text, encoding="utf-8")

    def describe(self) -> ModelDescription:
        """Return the settings that scoring needs beside the weights. They are saved with every checkpoint.

        Returns
        -------
        ModelDescription
            Scheme, classes, loss and versions.
        """
        model: Any = self.model
        return ModelDescription.of(
            scheme=self.scheme,
            tokenizer=self._tokenizer,
            readout=self.readout,
            classes=self.targets.output_classes,
            loss=self.step_loss.name,
            max_length=self.max_tokens,
            loss_options=self.targets.loss_options,
            dtype=str(model.dtype).removeprefix("torch."),
            objectives={one.name: one.classes for one in self.objectives},
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            write_description(str(output_dir or self.args.output_dir), self.describe())

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # transformers copies only the files that it knows.
        if self.is_world_process_zero():
            write_description(str(self.args.output_dir), self.describe())
            self.create_model_card()
        super()._push_from_checkpoint(checkpoint_folder)


def _loader_settings(args: PRMTrainingConfig) -> dict[str, Any]:
    """Return settings of the data loader that older releases of transformers do not have."""
    names = ("multiprocessing_context", "in_order")
    return {name: getattr(args, f"dataloader_{name}") for name in names if hasattr(args, f"dataloader_{name}")}


def _prepared_anew(
    model_init: Callable[..., PreTrainedModel],
    prepare: Callable[[PreTrainedModel], PreTrainedModel],
    trial: object = None,
) -> PreTrainedModel:
    """Call a ``model_init``, with the trial of a search if it takes one, and prepare the model it returns."""
    return prepare(model_init(trial) if signature(model_init).parameters else model_init())
