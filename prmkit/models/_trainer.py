"""The trainer of process reward models: transformers' own, with marked rows and exact averages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer

from prmkit.features._tokens import prepare_tokenizer
from prmkit.models._model_card import write_model_card
from prmkit.models._model_files import ModelDescription, write_description
from prmkit.models._readout import marked_outputs
from prmkit.models._stepwise import find_classes, tokenize_row
from prmkit.models._target_plan import TargetPlan
from prmkit.models._token_batches import Collator, TokenBudgetSampler
from prmkit.models._token_models import (
    adapted,
    load_token_model,
    load_tokenizer,
    make_readout,
    token_limit,
)
from prmkit.models._token_rows import RowReport, row_lengths, training_rows
from prmkit.models._trainer_config import PRMTrainingConfig
from prmkit.models._trainer_metrics import step_metrics


class PRMTrainer(Trainer):
    """Fine-tune a transformers model as a process reward model.

    A thin class over ``transformers.Trainer``: checkpoints, resuming, logging, callbacks, several devices and the rest
    work as documented there. It takes the place of TRL's trainer of the same name.

    Parameters
    ----------
    model : str, path or PreTrainedModel
        A name or folder is loaded with the head that the scheme needs. A model object needs ``processing_class``.
    args : PRMTrainingConfig
    train_dataset : stepwise data set, StepDataset, list of rows, or pre-tokenised data set
        Stepwise rows hold ``prompt``, ``completions`` and ``labels`` (bool, 0/1, or floats in [0, 1] as soft targets).
        Pre-tokenised rows hold ``input_ids`` and ``labels``, one per token. A streamed data set needs ``max_steps``.
    eval_dataset : as ``train_dataset``, or a dict of such
    processing_class : tokenizer, optional
        None: the one beside the model that ``model`` names.
    data_collator, model_init, compute_metrics, callbacks, optimizers, preprocess_logits_for_metrics
        As in ``transformers.Trainer``. ``compute_metrics`` gets the predictions at the marked steps, of shape
        (n_solutions, max_steps, n_classes), or (n_solutions, max_steps) for rewards, and labels alike, -100 where there
        is no step. By default: the step metrics of :mod:`prmkit.metrics`, beside the majority baseline.
    peft_config : peft.PeftConfig, optional
        Train an adapter; the new head, and the embeddings where a marker was added, are trained whole.
    model_options : dict, optional
        Settings of the configuration to change in a model given by name, such as ``{"num_hidden_layers": 2}``.

    Attributes
    ----------
    scheme : MarkingScheme
    classes : tuple or None
        Labels, worst first, in the order of the model's outputs; None for soft labels.
    row_report : RowReport or None
        What truncation took from the training data.

    Raises
    ------
    ValueError
        If no solution keeps a label, if a prompt leaves no room for a step, if labels, loss and scheme do not fit
        together, or if the model looks ahead and cannot be kept from it.

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.models import PRMTrainer, PRMTrainingConfig
    >>> args = PRMTrainingConfig(output_dir="prm", max_steps=1, save_strategy="no", disable_tqdm=True)
    >>> trainer = PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=make_arithmetic_solutions(4, 1, random_state=0))
    >>> trainer.classes
    (-1, 0, 1)
    """

    tokenize_row = staticmethod(tokenize_row)
    args: PRMTrainingConfig

    def __init__(
        self,
        model: Any = None,
        args: PRMTrainingConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., PreTrainedModel] | None = None,
        compute_metrics: Callable[[Any], dict[str, float]] | None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        preprocess_logits_for_metrics: Any = None,
        peft_config: Any = None,
        model_options: dict[str, Any] | None = None,
    ):
        args = PRMTrainingConfig() if args is None else args
        if not isinstance(args, PRMTrainingConfig):
            raise TypeError(f"args is {type(args).__name__}, expected PRMTrainingConfig")
        named = isinstance(model, str) or hasattr(model, "__fspath__")
        if processing_class is None and not named:
            raise ValueError("a model object comes without its tokenizer: pass it as processing_class")
        if processing_class is None:
            processing_class = load_tokenizer(model)
        self.classes = find_classes(
            train_dataset if train_dataset is not None else eval_dataset, args.label_order
        )
        self.targets = TargetPlan.of(args, self.classes)
        self.scheme = args.marking(self.targets.n_outputs)
        prepare_tokenizer(processing_class, self.scheme)
        self.step_loss = self.targets.loss(processing_class, self.scheme)
        if named:
            with torch.random.fork_rng():
                torch.manual_seed(args.seed)
                model = load_token_model(
                    model,
                    self.scheme,
                    self.targets.head_size,
                    initialization=args.initialization,
                    options=model_options,
                )
        adapt = partial(
            adapted,
            tokenizer=processing_class,
            scheme=self.scheme,
            names=self.targets.output_names,
            without_dropout=args.disable_dropout,
            peft_config=peft_config,
        )
        if model is not None:
            model = adapt(model)
        elif model_init is not None:
            model_init = partial(_adapted_anew, model_init, adapt)
        else:
            raise ValueError("pass a model or a model_init")
        probe = model if model_init is None else model_init()
        self.readout = make_readout(probe, processing_class, self.scheme, self.step_loss.reads)
        self.max_tokens = token_limit(probe, args.max_length)
        self.row_report: RowReport | None = None
        rows = partial(self._rows, args, processing_class)
        if train_dataset is not None:
            train_dataset, self.row_report = rows(train_dataset, is_eval=False)
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: rows(part, is_eval=True)[0] for name, part in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = rows(eval_dataset, is_eval=True)[0]
        if data_collator is None:
            soft, blocks = self.classes is None, self.readout.by_blocks
            data_collator = Collator(processing_class.pad_token_id, soft=soft, with_blocks=blocks)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            model_init=model_init,
            compute_metrics=compute_metrics or partial(step_metrics, targets=self.targets),
            callbacks=callbacks,
            optimizers=optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        self._evaluated = torch.zeros(2, dtype=torch.float64)
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the count of the whole update

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of one forward pass, as its share in the mean over the whole update: all passes, all devices."""
        outputs = marked_outputs(model, inputs, self.readout)
        labels = self.targets.of_labels(inputs["labels"])
        total = self.step_loss.total(outputs, labels)
        count = self.step_loss.count(labels).to(total) if num_items_in_batch is None else num_items_in_batch
        if not torch.isfinite(total):
            raise FloatingPointError(
                f"the training loss is {total.item()}: lower learning_rate, or look at the model"
            )
        loss = total / count
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over the processes
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Return the batches of one update, and on all devices the count of what its loss averages over."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        counts = [self.step_loss.count(self.targets.of_labels(batch["labels"])) for batch in batches]
        count = torch.stack(counts).sum().to(device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count.reshape(1)).sum()
        if not count > 0:
            raise ValueError("no step of this update has a target: look at the labels, or at neutral='drop'")
        return batches, count

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Predict at the marked steps of one batch, and add to the exact loss of the evaluation."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = marked_outputs(model, inputs, self.readout)
            labels = self.targets.of_labels(inputs["labels"])
            total, count = self.step_loss.total(outputs, labels), self.step_loss.count(labels)
        self._evaluated += torch.stack([total.double(), count.to(total).double()]).cpu()
        loss = total / count.clamp(min=1)
        if self.readout.reads == "vocabulary":
            outputs = outputs[..., list(self.readout.token_ids or ())]
        return (
            loss,
            None if prediction_loss_only else outputs,
            None if prediction_loss_only else inputs["labels"],
        )

    def evaluation_loop(
        self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> Any:
        """As in transformers, with the loss averaged over all targets and not over batches."""
        self._evaluated = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        both = self._evaluated.to(self.args.device, torch.float32)[None]
        total, count = self.accelerator.gather(both).sum(dim=0).tolist()
        if output.metrics is not None and count > 0:
            output.metrics[f"{metric_key_prefix}_loss"] = total / count
        return output

    def get_train_dataloader(self) -> DataLoader:
        """Return batches of solutions of like length under a budget of tokens; fixed batches without a budget."""
        dataset, args = self.train_dataset, self.args
        if args.tokens_per_batch is None or dataset is None or not hasattr(dataset, "__len__"):
            return super().get_train_dataloader()
        sampler = TokenBudgetSampler(
            row_lengths(dataset),
            args.tokens_per_batch,
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
        )
        prepared = self.accelerator.prepare(loader)
        shard: Any = getattr(prepared, "batch_sampler", None)
        if getattr(shard, "batch_sampler", None) is sampler:  # it knows its process: do not divide again
            shard.num_processes, shard.process_index = 1, 0
            shard.set_epoch = sampler.set_epoch  # a resumed run asks the wrapper
        return prepared

    def create_model_card(  # type: ignore[override]
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: Any = None,
        **_ignored: Any,
    ) -> None:
        """Write ``README.md`` beside the model: what it is, how it marks steps, how to score with it."""
        if self.is_world_process_zero():
            write_model_card(self, model_name, dataset_name, tags)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            write_description(str(output_dir or self.args.output_dir), self.describe())

    def describe(self) -> ModelDescription:
        """Return what scoring needs to know beside the weights; it is saved with every checkpoint."""
        return ModelDescription.of(
            scheme=self.scheme,
            tokenizer=self.processing_class,
            readout=self.readout,
            classes=self.targets.output_classes,
            loss=self.step_loss.name,
            max_length=self.max_tokens,
        )

    def _rows(self, args: PRMTrainingConfig, tokenizer: Any, dataset: Any, is_eval: bool) -> Any:
        rows, report = training_rows(
            dataset,
            tokenizer,
            self.scheme,
            classes=self.classes,
            max_length=self.max_tokens,
            max_completion_length=args.max_completion_length,
            last_step_only=args.train_on_last_step_only,
            is_eval=is_eval,
            num_proc=args.dataset_num_proc,
        )
        return self.targets.keep_rows(rows), report


def _adapted_anew(model_init: Callable[..., Any], adapt: Callable[[Any], Any], trial: Any = None) -> Any:
    from inspect import signature

    return adapt(model_init(trial) if signature(model_init).parameters else model_init())
