"""The model that a trainer trains: loaded or passed in, checked against scheme and loss, perhaps with an adapter."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from prmkit.marking.scheme import MarkingScheme, separator_text, text_ids
from prmkit.models.tokens.model_folder import (
    AUTO_CLASSES,
    adapt_model,
    in_head,
    load_objectives,
    load_token_model,
    read_description,
)
from prmkit.models.tokens.scoring_pass import OBJECTIVES, add_objectives
from prmkit.models.trainer._config import PRMTrainingConfig
from prmkit.models.trainer._targets import TargetPlan
from prmkit.utils.environment import import_optional, kept_generators

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def model_to_train(
    model: str | PathLike[str] | PreTrainedModel,
    *,
    args: PRMTrainingConfig,
    targets: TargetPlan,
    tokenizer: PreTrainedTokenizerBase,
    scheme: MarkingScheme,
    peft_config: PeftConfig | None,
    objectives: Mapping[str, Sequence[Any]],
) -> PreTrainedModel:
    """Return a model with the vocabulary, the output names, no dropout and the adapter of a run.

    A name or folder is loaded, with a new head drawn by ``args.seed``. A model must have the head that scheme and
    loss need. ``objectives`` are the classes of further objectives, by name.
    """
    folder = Path(model).expanduser() if isinstance(model, (str, PathLike)) else None
    if isinstance(model, (str, PathLike)):
        settings = dict(cast("dict[str, Any]", args.model_kwargs or {}))
        if peft_config is not None and (settings or args.initialization == "random"):
            raise ValueError(
                "an adapter is read together with the model it was trained on, as published: leave out model_kwargs "
                "and initialization='random'"
            )
        model, own = _loaded(str(model), settings, args, targets, scheme)
    else:
        own = () if peft_config is None else _not_in_base(model, scheme, targets.head_size)
    _check_head(model, scheme, targets.head_size)
    n_new = adapt_model(model, tokenizer, scheme)
    if objectives:
        if hasattr(model, "get_base_model"):
            raise ValueError(
                f"a model with an adapter has no room for the head of {', '.join(objectives)}: pass its base, and the "
                "adapter as peft_config"
            )
        own = (*own, *add_objectives(model, objectives))
        trained = None if folder is None or args.initialization == "random" else read_description(folder)
        if folder is not None and trained is not None and trained.objectives == objectives:
            load_objectives(model, folder)
    if not scheme.reads_language_model:
        model.config.id2label = dict(enumerate(targets.output_names))
        model.config.label2id = {name: i for i, name in enumerate(targets.output_names)}
    if peft_config is not None:
        new_ids = set(range(len(tokenizer) - n_new, len(tokenizer)))
        # Published models may have the special token already, as one of their spare ones.
        if scheme.name == "special_token":
            new_ids |= set(text_ids(tokenizer, separator_text(tokenizer, scheme)))
        model = _with_adapter(model, peft_config, sorted(new_ids), own)
    if args.disable_dropout:
        disable_dropout(model)
    return model


def _loaded(
    name: str, settings: dict[str, Any], args: PRMTrainingConfig, targets: TargetPlan, scheme: MarkingScheme
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Load a model by name, with the settings of ``model_kwargs`` taken apart, and name its random weights."""
    dtype = settings.pop("dtype", None) or settings.pop("torch_dtype", None) or "float32"
    if (attention := settings.pop("attn_implementation", None)) is not None:
        settings["_attn_implementation"] = attention
    # The caller's generator stays as it was.
    with kept_generators(args.seed):
        return load_token_model(
            name, scheme, targets.head_size, initialization=args.initialization, options=settings or None, dtype=dtype
        )


def disable_dropout(model: Any) -> None:
    """Set the probability of every dropout to zero, also where attention takes it from a number."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if name.endswith("dropout") and isinstance(value, float):
                setattr(module, name, 0.0)


def _check_head(model: PreTrainedModel, scheme: MarkingScheme, n_outputs: int) -> None:
    """Raise ValueError if the model has another head than the scheme reads, or other outputs than the loss needs."""
    inner: Any = model
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    kind, expected = type(inner).__name__, AUTO_CLASSES[scheme.name]
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


def _not_in_base(model: PreTrainedModel, scheme: MarkingScheme, n_outputs: int) -> tuple[str, ...]:
    """Return the weights of a model object that its base, read again, does not give: an adapter must hold them."""
    base = getattr(model, "name_or_path", None)
    if not base or hasattr(model, "get_base_model"):
        return ()
    advice = "save it with model.save_pretrained(folder), with its tokenizer, and pass the folder as model"
    if getattr(model, "is_quantized", False):
        warnings.warn(
            f"the model object is quantised: its saved adapter is read back onto {base} as published, and scores "
            "differ from those in training",
            stacklevel=3,
        )
        return tuple(name for name in model.state_dict() if in_head(model, name))
    try:
        with kept_generators(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read, random = load_token_model(base, scheme, n_outputs, dtype=model.dtype)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"an adapter is read back onto its base, and {base} cannot be read: {error}; {advice}"
        ) from error
    found, expected = model.state_dict(), read.state_dict()
    changed = {
        name
        for name in found.keys() | expected.keys()
        if name not in found or name not in expected or not torch.equal(found[name].cpu(), expected[name])
    }
    if beyond := sorted(name for name in changed if not in_head(model, name)):
        raise ValueError(
            f"the model object is not its base {base}: {len(beyond)} weights differ, such as {beyond[0]}. An adapter "
            f"is read back onto the base: {advice}"
        )
    return (*random, *sorted(changed))


def _with_adapter(
    model: PreTrainedModel, peft_config: PeftConfig, new_ids: list[int], own: tuple[str, ...]
) -> PreTrainedModel:
    """Wrap a model with an adapter that also trains and saves the new head and the embeddings of new tokens.

    ``own`` are weights that the base does not give. They would be random when the adapter is read back. If the model
    has no name, a warning says that the saved adapter cannot tell what it belongs to.
    """
    if getattr(peft_config, "is_prompt_learning", False):
        raise ValueError(
            f"a {type(peft_config).__name__} adds tokens to the text, and the places of steps would move: choose an "
            "adapter of weights, such as peft.LoraConfig()"
        )
    # The caller's configuration stays as it is.
    settings: Any = copy.copy(peft_config)
    get_peft_model = import_optional("peft", "peft_config").get_peft_model
    base = getattr(model, "name_or_path", None)
    if not base:
        warnings.warn(
            "the model object has no name, so the saved adapter will not know its base and cannot be read back by "
            "itself: pass the model's name or folder; or save the merged model after training, trainer.model = "
            "trainer.model.merge_and_unload(), then trainer.save_model(another_folder)",
            stacklevel=2,
        )
    elif (folder := Path(base).expanduser()).is_dir():
        # Then it is found from any working directory.
        model.name_or_path = str(folder.resolve())
    fully_trained = set(settings.modules_to_save or ())
    head = (
        name for name, _ in model.named_parameters() if name.startswith(("classifier.", "score.", f"{OBJECTIVES}."))
    )
    fully_trained |= {_module_to_save(model, name) for name in (*own, *head)}
    if new_ids:
        table = model.get_input_embeddings()
        name = next(name for name, module in model.named_modules() if module is table).rpartition(".")[2]
        if hasattr(settings, "trainable_token_indices"):
            settings.trainable_token_indices = {name: new_ids}
        else:
            # Other adapters, and older releases of peft, train all embeddings or none.
            fully_trained.add(name)
    settings.modules_to_save = sorted(fully_trained) or None
    return cast("PreTrainedModel", get_peft_model(model, settings))


def _module_to_save(model: PreTrainedModel, weight: str) -> str:
    """Return the module that holds a weight. Kinds of adapters other than LoRA can save no larger one."""
    module = weight.rpartition(".")[0]
    if not module:
        raise ValueError(
            f"{weight} of a {type(model).__name__} is new and no module of its own, so an adapter cannot hold it: "
            "train without peft_config, or choose another scheme"
        )
    return module
