"""The trainer of process reward models: transformers' own, with marked rows and exact averages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer

from prmkit.marking.encoding import prepare_tokenizer
from prmkit.marking.scheme import separator_text
from prmkit.models.tokens._loading import load_tokenizer, make_readout, token_limit
from prmkit.models.tokens._model_files import ModelDescription, write_description
from prmkit.models.tokens._one_pass import marked_outputs
from prmkit.models.trainer._batches import Collator, budget_loader, row_maker, without_repeated
from prmkit.models.trainer._checkpoints import check_checkpoint, last_checkpoint, write_model_card
from prmkit.models.trainer._config import PRMTrainingConfig
from prmkit.models.trainer._model import adapted_anew, model_to_train
from prmkit.models.trainer._rows import RowReport
from prmkit.models.trainer._target_plan import TargetPlan
from prmkit.models.trainer.progress import step_metrics
from prmkit.models.trainer.stepwise import find_classes, tokenize_row


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
        So too what is passed to ``evaluate`` and ``predict``.
    processing_class : tokenizer, optional
        None: the one beside the model that ``model`` names.
    data_collator, model_init, compute_metrics, callbacks, optimizers, preprocess_logits_for_metrics
        As in ``transformers.Trainer``. ``compute_metrics`` gets the predictions at the marked steps, of shape
        (n_solutions, max_steps, n_classes), or (n_solutions, max_steps) for rewards, and labels alike, -100 where there
        is no step. By default: the step metrics of :mod:`prmkit.metrics`, beside the majority baseline.
    peft_config : peft.PeftConfig, optional
        Train an adapter; the new head, and the embeddings of added tokens, are trained and saved with it.
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
        If no solution keeps a label, if a prompt leaves no room for a step, if labels, loss, scheme and model do not
        fit together, or if the model looks ahead and cannot be kept from it.
    FloatingPointError
        While training, if the loss is not finite.

    Notes
    -----
    The loss of an update, and of an evaluation, is the exact mean over its targets, whatever the number of accumulated
    batches and of processes. Each process uses one GPU: for several start one each, with ``accelerate launch`` or
    ``torchrun``. A causal model with ``scheme="separator"`` can be used in ``transformers.pipeline`` with the same
    scores; an encoder can't, for its attention there is not block-causal and lets a step see the later ones: score with
    :meth:`prmkit.PRMClassifier.from_pretrained`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from prmkit.data import make_arithmetic_solutions
    >>> args = PRMTrainingConfig(output_dir=mkdtemp(), max_steps=1, save_strategy="no", disable_tqdm=True)
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
        tokenizer = load_tokenizer(model) if processing_class is None else processing_class
        several = isinstance(eval_dataset, dict)
        evaluated = list(eval_dataset.values()) if several else [eval_dataset]
        self.classes = find_classes(
            evaluated[0] if train_dataset is None else train_dataset, args.label_order
        )
        self.targets = TargetPlan.of(args, self.classes)
        self.scheme = args.marking(self.targets.n_outputs)
        prepare_tokenizer(tokenizer, self.scheme)
        self.scheme = replace(self.scheme, step_separator=separator_text(tokenizer, self.scheme))
        self.step_loss = self.targets.loss(tokenizer, self.scheme)
        adapt = partial(
            model_to_train,
            args=args,
            targets=self.targets,
            tokenizer=tokenizer,
            scheme=self.scheme,
            peft_config=peft_config,
            options=model_options,
        )
        if model is not None:
            model = adapt(model)
        elif model_init is not None:
            model_init = partial(adapted_anew, model_init, adapt)
        else:
            raise ValueError("pass a model or a model_init")
        probe = model if model_init is None else model_init()
        self.readout = make_readout(probe, tokenizer, self.scheme, self.step_loss.reads)
        args.fit_precision(probe.config.model_type)
        self.max_tokens = token_limit(probe, args.max_length)
        self._as_rows = row_maker(args, self.targets, tokenizer, self.scheme, self.max_tokens)
        self.row_report: RowReport | None = None
        if train_dataset is not None:
            train_dataset, self.row_report = self._as_rows(train_dataset, is_eval=False)
        if several:
            eval_dataset = {name: self._as_rows(part)[0] for name, part in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = self._as_rows(eval_dataset)[0]
        if data_collator is None:
            soft, blocks = self.classes is None, self.readout.by_blocks
            data_collator = Collator(tokenizer.pad_token_id, soft=soft, with_blocks=blocks)
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
        self._evaluated = torch.zeros(2, dtype=torch.float64)
        # compute_loss divides by the count of the whole update: by transformers' new name for that, and its old one
        self.loss_is_scaled_for_ga = self.model_accepts_loss_kwargs = True

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; True resumes from the newest checkpoint that was written to its end."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(str(self.args.output_dir))
        if resume_from_checkpoint:
            check_checkpoint(resume_from_checkpoint, self.describe())
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of one forward pass, as its share in the mean over the whole update: all passes, all devices."""
        outputs = marked_outputs(model, inputs, self.readout)
        labels = self.targets.of_labels(inputs["labels"])
        total = self.step_loss.total(outputs, labels)
        if not torch.isfinite(total):
            raise FloatingPointError(
                f"the training loss is {total.item()}: lower learning_rate, or look at the model"
            )
        if num_items_in_batch is None:
            loss = total / self.step_loss.count(labels).clamp(min=1).to(total)
        else:  # gradients are averaged over the processes
            loss = total / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any = None) -> Any:
        """Return the batches of one update, and on all devices the count of what its loss averages over."""
        batches = list(islice(epoch_iterator, num_batches))
        counts = [self.step_loss.count(self.targets.of_labels(batch["labels"])).cpu() for batch in batches]
        own = torch.tensor([[sum(counts), len(batches)]], device=self.args.device)
        count, n_batches = self.accelerator.gather(own).unbind(dim=1)
        if n_batches.min() < n_batches.max():  # a stream that ends sooner on one process: none waits for it
            return [], None
        if not batches:
            return batches, None
        if not count.sum() > 0:
            raise ValueError("no step of this update has a target: look at the labels, or at class_weight")
        return batches, count.sum()

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Predict at the marked steps of one batch, and add to the exact loss of the evaluation."""
        inputs = self._prepare_inputs(inputs)
        labels = self.targets.of_labels(without_repeated(inputs["labels"], self.accelerator))
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = marked_outputs(model, inputs, self.readout)
            total, count = self.step_loss.total(outputs, labels), self.step_loss.count(labels)
        self._evaluated += torch.stack([total.double(), count.to(total).double()]).cpu()
        loss = total / count.clamp(min=1)
        if prediction_loss_only:
            return loss, None, None
        if self.readout.reads == "vocabulary":
            outputs = outputs[..., list(self.readout.token_ids or ())]
        return loss, outputs, inputs["labels"]

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """As in transformers, with the loss averaged over all targets and not over batches."""
        self._evaluated = torch.zeros(2, dtype=torch.float64)
        arguments = (dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        output = super().evaluation_loop(*arguments)
        both = self._evaluated.to(self.args.device, torch.float32)[None]
        total, count = self.accelerator.gather(both).sum(dim=0).tolist()
        if output.metrics is not None and count > 0:
            output.metrics[f"{metric_key_prefix}_loss"] = total / count
        return output

    def get_train_dataloader(self) -> DataLoader:
        """Return batches of solutions of like length under a budget of tokens; fixed batches without a budget."""
        budget = self.args.tokens_per_batch
        if budget is None or self.train_dataset is None or not hasattr(self.train_dataset, "__len__"):
            return super().get_train_dataloader()
        share = self._train_batch_size / self.args.train_batch_size  # less than 1 where memory has run out
        return budget_loader(self, max(1, int(budget * share)))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As in transformers; rows that are not tokenised yet are."""
        known = eval_dataset is None or isinstance(eval_dataset, str) or eval_dataset is self.eval_dataset
        return super().get_eval_dataloader(eval_dataset if known else self._as_rows(eval_dataset)[0])

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """As in transformers; rows that are not tokenised yet are."""
        return super().get_test_dataloader(self._as_rows(test_dataset)[0])

    def create_model_card(  # type: ignore[override]
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | Iterable[str] | None = None,
        license: str | None = None,  # noqa: A002
        language: str | None = None,
    ) -> None:
        """Write ``README.md`` beside the model: what it is, how it marks steps, how to score with it."""
        if self.is_world_process_zero():
            write_model_card(self, model_name, dataset_name, tags, license, language)

    def describe(self) -> ModelDescription:
        """Return what scoring needs to know beside the weights; it is saved with every checkpoint."""
        return ModelDescription.of(
            scheme=self.scheme,
            tokenizer=self.processing_class,
            readout=self.readout,
            classes=self.targets.output_classes,
            loss=self.step_loss.name,
            max_length=self.max_tokens,
            loss_options=self.args.loss_options,
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            write_description(str(output_dir or self.args.output_dir), self.describe())

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero():  # transformers copies only the files that it knows
            write_description(str(self.args.output_dir), self.describe())
            self.create_model_card()
        super()._push_from_checkpoint(checkpoint_folder)
