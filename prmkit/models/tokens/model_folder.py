"""A token-level model as a folder: weights, tokenizer, and prmkit.json, which says how its scores are read."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prmkit.features.encoding.model_path import resolve_model
from prmkit.features.passes.block_causal import check_block_causal, is_causal, unwrapped
from prmkit.features.passes.model_files import FILE, read_weights, settings_folder
from prmkit.marking.encoding import fingerprint, prepare_tokenizer, reward_token_ids
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.tokens.scoring_pass import OBJECTIVES, Readout, TokenScorer
from prmkit.utils.environment import installed_version, quiet_loading
from prmkit.utils.files import writing

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_FORMAT = 2
# Format 1, of prmkit before its first release, had other names for two fields of the scheme.
_RENAMED = {"marker": "step_separator", "max_problem_length": "max_prompt_length"}

# transformers' classes of the models that each scheme needs.
AUTO_CLASSES = {
    "separator": "AutoModelForTokenClassification",
    "special_token": "AutoModelForTokenClassification",
    "reward_tokens": "AutoModelForCausalLM",
    "prefix": "AutoModelForSequenceClassification",
}
_HEADS = {"classifier", "score", "pooler", "head", "pre_classifier", "sequence_summary"}


@dataclass(frozen=True)
class ModelDescription:
    """All that scoring needs to know of a token-level model, beside its weights and tokenizer.

    ``classes`` are the labels of the outputs, worst first. ``reads`` and ``by_blocks`` are those of :class:`Readout`.
    ``fingerprint`` tells on loading if the tokenizer encodes a text in another way than when the model was saved.
    ``versions`` are those of the libraries that wrote the model. ``dtype`` is the precision of the weights in training,
    which the base of an adapter does not tell. ``objectives`` are the classes of further objectives, by name.
    """

    scheme: MarkingScheme
    classes: tuple[Any, ...]
    loss: str
    reads: str
    by_blocks: bool
    max_length: int | None
    fingerprint: str
    versions: dict[str, str | None]
    loss_options: dict[str, Any] | None = None
    dtype: str | None = None
    objectives: dict[str, list[Any]] | None = None

    @classmethod
    def of(
        cls,
        *,
        scheme: MarkingScheme,
        tokenizer: PreTrainedTokenizerBase,
        readout: Readout,
        classes: tuple[Any, ...],
        loss: str,
        max_length: int | None,
        loss_options: Mapping[str, Any] | None = None,
        dtype: str | None = None,
        objectives: Mapping[str, Sequence[Any]] | None = None,
    ) -> ModelDescription:
        """Describe a model, with the versions in use."""
        return cls(
            scheme=scheme,
            classes=classes,
            loss=loss,
            reads=readout.reads,
            by_blocks=readout.by_blocks,
            max_length=max_length,
            fingerprint=fingerprint(tokenizer, scheme),
            versions={name: installed_version(name) for name in ("prmkit", "torch", "transformers", "tokenizers")},
            loss_options=None if not loss_options else json.loads(json.dumps(loss_options)),
            dtype=dtype,
            objectives={name: list(labels) for name, labels in objectives.items()} if objectives else None,
        )


def write_description(folder: str | Path, description: ModelDescription) -> None:
    """Write ``prmkit.json`` into a model's folder, whole or not at all."""
    classes = [label.item() if hasattr(label, "item") else label for label in description.classes]
    fields = {"format": _FORMAT, **asdict(description), "classes": classes}
    with writing(Path(folder) / FILE) as add:
        add(json.dumps(fields, indent=1))


def read_description(folder: str | Path) -> ModelDescription | None:
    """Read ``prmkit.json`` from a model's folder, or return None if there is none."""
    file = Path(folder) / FILE
    if not file.is_file():
        return None
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        file_format = fields.pop("format")
        if file_format not in (1, _FORMAT):
            raise ValueError(f"format {file_format}, this prmkit reads 1 to {_FORMAT}")
        scheme = {_RENAMED.get(name, name): value for name, value in fields["scheme"].items()}
        fields["scheme"] = MarkingScheme(**scheme)
        description = ModelDescription(**fields)
        return replace(description, classes=tuple(description.classes))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): save the model again, or pass layout=…") from error


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, description: ModelDescription, folder: str | Path) -> None:
    """Raise ValueError unless the tokenizer encodes a text as it did when the model was saved."""
    if fingerprint(tokenizer, description.scheme) != description.fingerprint:
        raise ValueError(
            f"the tokenizer in {folder} encodes a text otherwise than when the model was saved (with tokenizers "
            f"{description.versions.get('tokenizers')}): its scores would mean nothing. Restore the tokenizer's files"
        )


def save_scorer(scorer: TokenScorer, folder: str | Path, *, loss: str) -> None:
    """Write model, tokenizer and description to a folder that transformers can read too."""
    save = getattr(scorer.model, "save_pretrained", None)
    if save is None:
        raise ValueError(
            "this model is in a published layout of its own, and its weights are not copied: keep its folder, and read "
            "it with PRMClassifier.from_pretrained(folder, layout=…)"
        )
    with quiet_loading():
        save(folder)
    scorer.tokenizer.save_pretrained(folder)
    description = ModelDescription.of(
        scheme=scorer.scheme,
        tokenizer=scorer.tokenizer,
        readout=scorer.readout,
        classes=scorer.classes,
        loss=loss,
        max_length=scorer.max_length,
        objectives=scorer.objectives,
    )
    write_description(folder, description)


def load_token_model(
    name: str | Path,
    scheme: MarkingScheme,
    n_outputs: int,
    *,
    initialization: str = "pretrained",
    options: Mapping[str, Any] | None = None,
    dtype: str | torch.dtype = "float32",
    whole: bool = False,
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Load the model with the head that a scheme needs, on the CPU. Return it with the names of its random weights.

    ``n_outputs`` is the number of classes, or 1 for a raw reward (no meaning for ``"reward_tokens"``). ``options``
    are fields of its configuration to change. ``initialization="random"`` needs a configuration only. ``whole`` says
    that the head must be in the checkpoint too. A new head is drawn from torch's generator, so fork the generator
    around this call. A ValueError names weights that lack or do not fit.
    """
    import torch
    from transformers import AutoConfig

    if (Path(name).expanduser() / "adapter_config.json").is_file():
        raise ValueError(
            f"{name} holds an adapter, which can score but is no model to train: where it was trained, save the merged "
            "model, trainer.model = trainer.model.merge_and_unload(); trainer.save_model(another_folder)"
        )
    is_new = initialization == "random"
    folder = settings_folder(name) if is_new else resolve_model(name)
    head = {} if scheme.reads_language_model else {"num_labels": n_outputs}
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **head)
    for key, value in (options or {}).items():
        if not hasattr(config, key):
            raise ValueError(f"a {config.model_type} has no setting {key!r}")
        setattr(config, key, value)
    kind = model_class(config, scheme)
    if is_new:
        make = getattr(kind, "from_config", None) or kind._from_config
        new_model: PreTrainedModel = make(config, dtype=getattr(torch, str(dtype).removeprefix("torch.")))
        return new_model, tuple(new_model.state_dict())
    model, info = read_weights(kind, folder, config=config, dtype=dtype)
    return model, _random_weights(name, model, info, whole, scheme)


def model_class(config: PreTrainedConfig, scheme: MarkingScheme) -> Any:
    """Return the class that loads a model for a scheme: transformers' own, or a token classifier of prmkit's.

    A ValueError names the schemes that the architecture can have.
    """
    import transformers

    from prmkit.models.tokens._classifier_head import token_classifier

    config_class: Any = type(config)

    def found(name: str) -> Any:
        auto = getattr(transformers, AUTO_CLASSES[name])
        if config_class in auto._model_mapping:
            return auto
        return token_classifier(config_class) if AUTO_CLASSES[name].endswith("TokenClassification") else None

    kind = found(scheme.name)
    if kind is None:
        choices = [f"scheme={name!r}" for name in AUTO_CLASSES if found(name) is not None] + ["another model"]
        raise ValueError(
            f"scheme={scheme.name!r} needs an {AUTO_CLASSES[scheme.name]}, and transformers has none for a "
            f"{config.model_type}: choose {' or '.join(choices)}"
        )
    return kind


def adapt_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> int:
    """Make tokenizer and model agree: separator and padding exist, every token has an embedding. Return the new ones'
    number.
    """
    import torch

    prepare_tokenizer(tokenizer, scheme)
    embeddings: Any = model.get_input_embeddings()
    rows = len(embeddings.weight)
    if len(tokenizer) > rows:
        # New rows start as the mean of the old ones.
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]  # type: ignore[no-untyped-call]
            for layer in layers:
                if layer is not None:
                    layer.weight[rows:] = layer.weight[:rows].mean(dim=0)
    model.config.pad_token_id = tokenizer.pad_token_id
    return max(0, len(tokenizer) - rows)


def make_readout(
    model: PreTrainedModel | torch.nn.Module, tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme, reads: str
) -> Readout:
    """Return how the scores of a scheme are read from a model. Raise ValueError if the model would look ahead."""
    if scheme.name == "prefix":
        return Readout("sequence", reads)
    by_blocks = not is_causal(model)
    if scheme.reads_language_model:
        if by_blocks:
            raise ValueError(
                f"reward tokens need a causal language model, {unwrapped(model).config.model_type} is none: choose "
                "scheme='separator'"
            )
        return Readout("language_model", reads, tuple(reward_token_ids(tokenizer, scheme)))
    if by_blocks:
        check_block_causal(model)
    return Readout("tokens", reads, by_blocks=by_blocks)


def load_objectives(model: PreTrainedModel, folder: Path) -> None:
    """Read the layer of further objectives, which transformers passes over, from the folder of a saved model."""
    from safetensors import safe_open

    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            held = [name for name in opened.keys() if name.startswith(f"{OBJECTIVES}.")]  # noqa: SIM118 (no mapping)
            weights |= {name.removeprefix(f"{OBJECTIVES}."): opened.get_tensor(name) for name in held}
    layer: torch.nn.Module = getattr(model, OBJECTIVES)
    if found := set(layer.state_dict()) ^ set(weights):
        raise ValueError(f"{folder} lacks {OBJECTIVES}.{min(found)}, the head of further objectives: save it again")
    layer.load_state_dict(weights)


def in_head(model: PreTrainedModel, weight: str) -> bool:
    """Whether a weight belongs to what a task adds to a transformer, by its name."""
    prefix = model.base_model_prefix
    outside = bool(prefix) and hasattr(model, prefix) and not weight.startswith(f"{prefix}.")
    return outside or not _HEADS.isdisjoint(weight.split("."))


def _random_weights(
    name: str | Path, model: PreTrainedModel, info: Mapping[str, Any], whole: bool, scheme: MarkingScheme
) -> tuple[str, ...]:
    """Return the weights that were drawn at random. Refuse all but those of a head that may be new."""
    kind = type(model).__name__

    def may_be_new(key: str) -> bool:
        return not whole and not scheme.reads_language_model and in_head(model, key)

    advice = "choose another model or scheme, or initialization='random'"
    if missing := sorted(key for key in info["missing_keys"] if not may_be_new(key)):
        raise ValueError(f"{name} lacks {len(missing)} weights of a {kind}, such as {missing[0]}: {advice}")
    head_outputs = None
    for key, shape, expected_shape in sorted(info["mismatched_keys"]):
        if not may_be_new(key):
            raise ValueError(
                f"{key} of {name} has shape {tuple(shape)}, and a {kind} with this configuration needs "
                f"{tuple(expected_shape)}: {advice}"
            )
        head_outputs = shape[0], expected_shape[0]
    if head_outputs:
        warnings.warn(
            f"the head of {name} is drawn anew: found {head_outputs[0]} outputs, labels and loss need "
            f"{head_outputs[1]}",
            stacklevel=4,
        )
    return (*sorted(info["missing_keys"]), *(key for key, _, _ in sorted(info["mismatched_keys"])))
