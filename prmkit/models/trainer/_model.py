"""The model that a trainer trains: loaded or given, checked against scheme and loss, with adapter and no dropout."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from prmkit.marking.scheme import MarkingScheme
from prmkit.marking.scheme import separator_text, text_ids
from prmkit.models.tokens._loading import adapt_model, auto_class, load_token_model
from prmkit.models.trainer._config import PRMTrainingConfig
from prmkit.models.trainer._target_plan import TargetPlan


def model_to_train(
    model: Any,
    *,
    args: PRMTrainingConfig,
    targets: TargetPlan,
    tokenizer: Any,
    scheme: MarkingScheme,
    peft_config: Any,
    options: dict[str, Any] | None,
) -> Any:
    """Return a model with the vocabulary, the names of its outputs, no dropout and an adapter, as asked for.

    Parameters
    ----------
    model : str, path or transformers model
        A name or folder is loaded; a new head is drawn as ``args.seed`` says.
    args : PRMTrainingConfig
    targets : TargetPlan
    tokenizer : transformers tokenizer
        Prepared for the scheme.
    scheme : MarkingScheme
    peft_config : peft.PeftConfig or None
    options : dict or None
        Settings of the configuration of a model that is loaded.

    Raises
    ------
    ValueError
        If the model has another head than scheme and loss need, or an adapter's base would not be found again.
    """
    if isinstance(model, str) or hasattr(model, "__fspath__"):
        if peft_config is not None and (options or args.initialization == "random"):
            raise ValueError(
                "an adapter is read together with the model it was trained on, as published: leave out model_options "
                "and initialization='random'"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(args.seed)
            model = load_token_model(
                model, scheme, targets.head_size, initialization=args.initialization, options=options
            )
    _check_head(model, scheme, targets.head_size)
    n_new = adapt_model(model, tokenizer, scheme)
    if not scheme.reads_language_model:
        model.config.id2label = dict(enumerate(targets.output_names))
        model.config.label2id = {name: i for i, name in enumerate(targets.output_names)}
    if peft_config is not None:
        new_ids = set(range(len(tokenizer) - n_new, len(tokenizer)))
        if (
            scheme.name == "special_token"
        ):  # its embedding may exist, as one of the spare ones of published models
            new_ids |= set(text_ids(tokenizer, separator_text(tokenizer, scheme)))
        model = _with_adapter(model, peft_config, sorted(new_ids))
    if args.disable_dropout:
        disable_dropout(model)
    return model


def adapted_anew(model_init: Callable[..., Any], adapt: Callable[[Any], Any], trial: Any = None) -> Any:
    """Call a ``model_init``, with the trial if it takes one, and adapt what it returns."""
    return adapt(model_init(trial) if signature(model_init).parameters else model_init())


def disable_dropout(model: Any) -> None:
    """Set the probability of every dropout to zero, also where attention reads it from a number."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if name.endswith("dropout") and isinstance(value, float):
                setattr(module, name, 0.0)


def _check_head(model: Any, scheme: MarkingScheme, n_outputs: int) -> None:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    kind, expected = type(inner).__name__, auto_class(scheme)
    has_vocabulary = inner.get_output_embeddings() is not None
    other_task = "For" in kind and kind.rpartition("For")[2] != expected.rpartition("For")[2]
    if has_vocabulary != scheme.reads_language_model or other_task:
        raise ValueError(
            f"the model is a {kind}, and scheme={scheme.name!r} needs one of {expected}: pass its name or folder, or "
            f"load it with {expected}.from_pretrained"
        )
    if not scheme.reads_language_model and inner.config.num_labels != n_outputs:
        raise ValueError(
            f"the model has {inner.config.num_labels} outputs, and labels and loss need {n_outputs}: pass its name or "
            f"folder, or load it with num_labels={n_outputs}"
        )


def _with_adapter(model: Any, peft_config: Any, new_ids: list[int]) -> Any:
    """Wrap a model with an adapter that also trains and saves the new head and the embeddings of new tokens.

    Raises
    ------
    ImportError
        If peft is not installed.

    Warns
    -----
    UserWarning
        If the model has no name, so that the saved adapter cannot say what it belongs to.
    """
    try:
        from peft import get_peft_model
    except ImportError as error:
        raise ImportError("peft_config needs peft: pip install 'prmkit[peft]'") from error
    base = getattr(model, "name_or_path", None)
    if not base:
        warnings.warn(
            "the model object has no name, so the saved adapter will not know its base and cannot be read back by "
            "itself: pass the model's name or folder; or save the merged model after training, trainer.model = "
            "trainer.model.merge_and_unload(), then trainer.save_model(another_folder)",
            stacklevel=2,
        )
    elif (folder := Path(base).expanduser()).is_dir():
        model.name_or_path = str(folder.resolve())  # found from any working directory
    peft_config = copy.copy(peft_config)  # the caller's stays as it is
    whole = set(peft_config.modules_to_save or ())
    whole |= {name for name, _ in model.named_children() if name in ("classifier", "score")}
    if new_ids:
        table = model.get_input_embeddings()
        name = next(name for name, module in model.named_modules() if module is table).rpartition(".")[2]
        if hasattr(peft_config, "trainable_token_indices"):
            peft_config.trainable_token_indices = {name: new_ids}
        else:  # other adapters, and older releases of peft, train all embeddings or none
            whole.add(name)
    peft_config.modules_to_save = sorted(whole) or None
    return get_peft_model(model, peft_config)
