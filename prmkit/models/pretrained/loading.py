"""Existing process reward models become fitted heads: folders that prmkit wrote, and published layouts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import safe_open

from prmkit.features.encoding.model_path import resolve_model
from prmkit.features.passes.model_files import damage_named, load_tokenizer, token_limit
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.pretrained._presets import OWN, PRESETS, Preset, get_preset
from prmkit.models.pretrained._published import load_published, order_outputs
from prmkit.models.tokens.model_folder import (
    adapt_model,
    check_tokenizer,
    load_objectives,
    load_token_model,
    make_readout,
    read_description,
)
from prmkit.models.tokens.scoring_pass import TokenScorer, add_objectives
from prmkit.utils.environment import import_optional, kept_generators

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Precision = str | torch.dtype

# The parameters of TokenPRM that say how a solution is written. A scheme has them by the same names.
_SETTINGS = ("step_separator", "reward_tokens", "max_prompt_length")
# Users of a layout chose these by themselves, and no file of theirs records them.
_CHOSEN_IN_TRAINING = {"trl": ("step_separator", "max_prompt_length"), OWN: ("max_prompt_length",)}


@dataclass(frozen=True)
class ExistingModel:
    """A model that was trained before, and the loss to go on training with."""

    scorer: TokenScorer
    loss: str

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of ``TokenPRM`` that the model was trained with."""
        return {**_scheme_parameters(self.scorer.scheme), "max_length": self.scorer.max_length, "loss": self.loss}

    def check_classes(self, classes: Sequence[object] | None) -> tuple[Any, ...]:
        """Return the labels of the outputs, worst first, which ``classes`` may rename."""
        own = self.scorer.classes
        order = own if classes is None else tuple(classes)
        if len(order) != len(own) or len(set(order)) < len(order):
            raise ValueError(
                f"classes={list(order)!r} for a model that tells {len(own)} classes apart, worst first: {list(own)}"
            )
        return order


def load_existing(
    name: str | Path,
    layout: str | MarkingScheme | None,
    dtype: Precision | None,
    options: Mapping[str, Any],
    classes: Sequence[object] | None = None,
) -> ExistingModel:
    """Read a model, in a published layout or as prmkit wrote it. Options that contradict its training are refused."""
    settings = {key: options[key] for key in _SETTINGS if options.get(key) is not None}
    if layout is None:
        model = _load_own(name, dtype, settings)
    else:
        model = _load_published(name, get_preset(layout), dtype, settings, classes)
    limits = [model.scorer.max_length, options.get("max_length")]
    max_length = min((limit for limit in limits if limit is not None), default=None)
    return replace(model, scorer=replace(model.scorer, max_length=max_length))


def load_scorer(folder: str | Path) -> TokenScorer:
    """Read the model, tokenizer and scheme of a folder that prmkit wrote."""
    return load_existing(folder, None, None, {}).scorer


def _with_settings(
    scheme: MarkingScheme, settings: Mapping[str, Any], name: str | Path, *, free: Sequence[str] = ()
) -> MarkingScheme:
    """Apply the settings that may be chosen. The others must be those that the model was trained with."""
    for key, value in settings.items():
        setting: Any = value if isinstance(value, str | int) else tuple(value)
        trained_with = getattr(scheme, key)
        if setting != trained_with and key not in free:
            raise ValueError(f"{key}={value!r} for {name}, which was trained with {trained_with!r}: leave {key} out")
        scheme = replace(scheme, **{key: setting})
    return scheme


def _scheme_parameters(scheme: MarkingScheme) -> dict[str, Any]:
    """Return the parameters of ``TokenPRM`` that stand for a scheme: name and settings, or the scheme as a whole."""
    settings = {key: getattr(scheme, key) for key in _SETTINGS}
    if MarkingScheme(scheme.name, **settings) == scheme:
        return {"scheme": scheme.name, **settings}
    return {"scheme": scheme, **dict.fromkeys(_SETTINGS)}


def _load_published(
    name: str | Path,
    preset: Preset,
    dtype: Precision | None,
    settings: Mapping[str, Any],
    asked: Sequence[object] | None,
) -> ExistingModel:
    free = _CHOSEN_IN_TRAINING.get(preset.name, ())
    scheme = _with_settings(preset.scheme, settings, name, free=free)
    with damage_named(resolve_model(name)):
        model, tokenizer = load_published(name, replace(preset, scheme=scheme), dtype=dtype)
    labels = preset.classes
    if preset.kind == "classifier":
        labels = order_outputs(cast("PreTrainedModel", model), preset, asked, name)
    has_one_output = preset.head is not None and preset.head.n_outputs == 1
    scorer = TokenScorer(
        model=model,
        tokenizer=tokenizer,
        scheme=scheme,
        readout=make_readout(model, tokenizer, scheme, "reward" if has_one_output else "classes"),
        max_length=token_limit(model, None),
        classes=labels,
    )
    return ExistingModel(scorer, "cross_entropy")


def _load_own(name: str | Path, dtype: Precision | None, settings: Mapping[str, Any]) -> ExistingModel:
    folder = Path(name).expanduser()
    if not (folder / "adapter_config.json").is_file():
        folder = resolve_model(name)
    is_adapter = (folder / "adapter_config.json").is_file()
    description = read_description(folder)
    if description is None:
        raise ValueError(
            f"{name} holds no language model that prmkit trained (no prmkit.json). For a published model pass layout=, "
            f"one of {', '.join(sorted(PRESETS))}. For a folder of PRMClassifier.save, type load_model({str(name)!r})"
        )
    scheme = _with_settings(description.scheme, settings, name)
    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer, description, folder)
    reads_reward = description.reads == "reward" and not scheme.reads_language_model
    width = 1 if reads_reward else len(description.classes)
    objectives = description.objectives or {}
    if is_adapter:
        model = _load_adapter(folder, tokenizer, scheme, width, dtype or description.dtype or "auto", objectives)
    else:
        model, _ = load_token_model(folder, scheme, width, dtype=dtype or "auto", whole=True)
        if objectives:
            add_objectives(model, objectives)
            load_objectives(model, folder)
    readout = make_readout(model, tokenizer, scheme, description.reads).for_scoring()
    scorer = TokenScorer(
        model=model,
        tokenizer=tokenizer,
        scheme=scheme,
        readout=readout,
        max_length=description.max_length,
        classes=description.classes,
        objectives=objectives,
    )
    return ExistingModel(scorer, description.loss)


def _load_adapter(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    scheme: MarkingScheme,
    width: int,
    dtype: Precision,
    objectives: Mapping[str, Sequence[Any]],
) -> PreTrainedModel:
    """Load the base model that an adapter names, and merge the adapter into it."""
    file, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ValueError(
            f"{folder} holds no {weights.name}: save the adapter as safetensors, pickled weights are not read"
        )
    base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"{file} names no base model: the adapter was trained on a model object. Write its folder or name there as "
            "base_model_name_or_path; or, where it was trained, save the merged model: trainer.model = "
            "trainer.model.merge_and_unload(); trainer.save_model(another_folder)"
        )
    PeftModel = import_optional("peft", f"the adapter in {folder}").PeftModel
    try:
        # What is drawn here is overwritten, and the caller's generator stays as it was.
        with kept_generators():
            model, random = load_token_model(base, scheme, width, dtype=dtype)
            adapt_model(model, tokenizer, scheme)
            if objectives:
                random = (*random, *add_objectives(model, objectives))
            with damage_named(folder):
                with safe_open(weights, framework="pt") as opened:
                    held = set(opened.keys())
                if lacking := [name for name in random if f"base_model.model.{name}" not in held]:
                    raise ValueError(f"none of them holds {lacking[0]}, so its scores would be random: train it again")
                adapted = PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"the adapter in {folder} does not load onto its base {base}: {error}") from error
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged
