"""Read a published PRM as a model that answers with logits per token, without running any code that came with it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import safe_open
from torch import nn
from transformers.modeling_outputs import TokenClassifierOutput

from prmkit.data.formats.label_words import rating_of
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.features.encoding.model_path import resolve_model
from prmkit.features.passes.model_files import load_tokenizer, read_weights
from prmkit.marking.encoding import prepare_tokenizer
from prmkit.models.pretrained._presets import PRESETS, HeadLayout, Preset
from prmkit.models.tokens.model_folder import model_class
from prmkit.utils.environment import kept_generators

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_CLASSIFIER_KEYS = frozenset({"score.weight", "classifier.weight"})


class ValueHeadModel(nn.Module):
    """A transformer with a head that scores each of its last hidden states.

    ``config.value_head`` holds the widths of the head, from the hidden size to the number of outputs, and whether
    each layer has a bias. Without a ``backbone``, its weights are random.
    """

    def __init__(self, config: PreTrainedConfig, backbone: nn.Module | None = None) -> None:
        from transformers import AutoModel

        super().__init__()
        self.config = config
        if backbone is None:
            backbone = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        self.backbone = backbone
        layers: list[nn.Module] = []
        for (n_inputs, n_outputs), bias in zip(
            pairwise(config.value_head["widths"]), config.value_head["bias"], strict=True
        ):
            layers += [nn.Linear(n_inputs, n_outputs, bias=bias), nn.ReLU()]
        self.score = nn.Sequential(*layers[:-1])

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> TokenClassifierOutput:
        """Return ``logits`` of shape (batch, n_tokens, n_outputs). Further arguments go to the transformer."""
        # Keys and values of a finished text are of no use.
        kwargs.setdefault("use_cache", False)
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return TokenClassifierOutput(logits=self.score(output.last_hidden_state))

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of the tokens."""
        embeddings: nn.Module = self.backbone.get_input_embeddings()  # type: ignore[operator]
        return embeddings


def load_published(
    name_or_path: str | Path,
    preset: Preset,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> tuple[PreTrainedModel | ValueHeadModel, PreTrainedTokenizerBase]:
    """Load a PRM in a published layout in evaluation mode, and its tokenizer with step separator and padding token.

    Only safetensors are read, and no code of the checkpoint is run. Its transformer is built by the library's class
    for its ``model_type``, whatever ``auto_map`` names. ``model(input_ids, attention_mask).logits`` has shape (batch,
    n_tokens, n_outputs). The outputs are the classes in the order of ``preset.classes``, one raw reward, or the
    vocabulary of a causal language model. A ValueError says why a checkpoint is not in this layout.
    """
    folder = resolve_model(name_or_path)
    files = _weight_files(folder)
    config = _read_config(folder)
    precision = "auto" if dtype is None else dtype
    model: Any
    if preset.head is None:
        model = _load_whole(folder, files, config, preset, precision)
    else:
        model = _load_with_head(folder, files, config, preset, preset.head, precision)
    tokenizer: Any = load_tokenizer(folder)
    if not preset.bos:
        tokenizer.add_bos_token = False
    _check_separator(tokenizer, preset, folder, model.get_input_embeddings().weight.shape[0])
    prepare_tokenizer(tokenizer, preset.scheme)
    return model.to(device or "cpu").eval(), tokenizer


def _weight_files(folder: Path) -> dict[str, Path]:
    """Return the file of each weight."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        with safe_open(single, framework="pt") as opened:
            return dict.fromkeys(opened.keys(), single)
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {key: folder / shard for key, shard in shards.items()}
    raise ValueError(
        f"{folder} holds no weights as model.safetensors or model.safetensors.index.json: rename or convert them"
    )


def _read_config(folder: Path) -> PreTrainedConfig:
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ValueError(
            f"{folder / 'config.json'} has model_type {kind!r}, which is none of the library's: it would need code "
            "of its own, which is never run. Published PRMs are of a known type, such as qwen2, llama or mistral"
        )
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return config


def _load_whole(
    folder: Path, files: Mapping[str, Path], config: PreTrainedConfig, preset: Preset, dtype: str | torch.dtype
) -> PreTrainedModel:
    """Load a layout that the library has a class for."""
    # Another layout is refused before gigabytes are read.
    heads = {key for key in files if _resembling([key])}
    if preset.kind == "causal_lm" and heads:
        raise ValueError(_wrong_layout(folder, preset, files, f"it has a scoring head, {min(heads)}"))
    if preset.kind == "classifier" and preset.scheme.name != "prefix" and not _CLASSIFIER_KEYS & set(files):
        raise ValueError(_wrong_layout(folder, preset, files, "it has no score.weight or classifier.weight"))
    model, unexpected = _from_pretrained(model_class(config, preset.scheme), folder, config=config, dtype=dtype)
    if unexpected:
        raise ValueError(_wrong_layout(folder, preset, files, f"{type(model).__name__} has no {unexpected[0]}"))
    return model


def order_outputs(
    model: PreTrainedModel, preset: Preset, classes: Sequence[object] | None, folder: str | Path
) -> tuple[Any, ...]:
    """Put the outputs of a classifier in order, worst first, as its configuration names them. Return their labels.

    ``LABEL_0`` and ``LABEL_1`` are wrong and right in TRL's layout. Other numbered outputs stand for ``classes``, in
    their order. A ValueError asks for ``classes`` where the names do not tell the order.
    """
    config: Any = model.config
    names, asked = [str(config.id2label[i]) for i in range(config.num_labels)], tuple(classes or ())
    if len(names) < 2:
        raise ValueError(f"{folder} has one output, expected one per class: layout 'skywork' and 'pqm' read rewards")
    if names == [f"LABEL_{i}" for i in range(len(names))]:
        if len(names) == len(preset.classes):
            return preset.classes
        if len(asked) != len(names):
            raise ValueError(
                f"{folder} has {len(names)} outputs without names (LABEL_0, …), and classes={list(asked) or None}: say "
                "what each of them stands for, worst first, classes=[worst, …, best]"
            )
        return asked
    if sorted(map(str, asked)) == sorted(names):
        order, labels = [names.index(str(label)) for label in asked], asked
    else:
        try:
            ratings = [cast("int", rating_of(name, "id2label", None)) for name in names]
        except MalformedRecordError:
            ratings = []
        if len(set(ratings)) < len(names):
            raise ValueError(
                f"the outputs of {folder} are named {names}, which does not tell their order: pass classes= with these "
                "names, worst first"
            )
        order = sorted(range(len(names)), key=ratings.__getitem__)
        labels = preset.classes if len(names) == len(preset.classes) else tuple(names[i] for i in order)
    if order != sorted(order):
        _reorder(model, order)
    return labels


def _reorder(model: PreTrainedModel, order: list[int]) -> None:
    """Put the rows of a classifier's last layer in another order, and their names with them."""
    layers = (module for module in model.modules() if isinstance(module, nn.Linear))
    *_, last = (layer for layer in layers if layer.out_features == len(order))
    with torch.no_grad():
        for value in last.parameters():
            value.copy_(value[order].clone())
    config: Any = model.config
    names = [config.id2label[i] for i in order]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}


def _load_with_head(
    folder: Path,
    files: Mapping[str, Path],
    config: PreTrainedConfig,
    preset: Preset,
    head: HeadLayout,
    dtype: str | torch.dtype,
) -> ValueHeadModel:
    """Load a transformer by the prefix of its weights, and the head by their names."""
    from transformers import AutoModel

    biases = {f"{layer}.bias" for layer in head.layers}
    required = {f"{layer}.weight" for layer in head.layers} | (biases if head.bias else set())
    optional = biases if head.bias is None else set()
    if missing := sorted(required - set(files)):
        raise ValueError(_wrong_layout(folder, preset, files, f"it has no {missing[0]}"))
    prefix = next((start for start in head.backbones if any(key.startswith(start) for key in files)), None)
    if prefix is None:
        raise ValueError(_wrong_layout(folder, preset, files, f"no weight starts with {' or '.join(head.backbones)}"))
    head_keys = required | (optional & set(files))
    unknown = sorted(
        key for key in files if key not in head_keys and not key.startswith(prefix) and "lm_head." not in key
    )
    if unknown:
        raise ValueError(_wrong_layout(folder, preset, files, f"it has {unknown[0]} besides"))
    # A base model's configuration does not count the tokens that were added in training.
    if embeddings := _shape(files, f"{prefix}embed_tokens.weight"):
        config.vocab_size = embeddings[0]
    renamed = {f"^{re.escape(prefix)}": ""}
    backbone, _ = _from_pretrained(AutoModel, folder, config=config, dtype=dtype, key_mapping=renamed)
    weights = _head_weights(files, head, head_keys)
    backbone.config.value_head = _head_widths(folder, head, weights, config.hidden_size)
    # The weights of the new head are drawn, only to be overwritten.
    with kept_generators():
        model = ValueHeadModel(backbone.config, backbone).to(backbone.dtype)
    model.score.load_state_dict(weights)
    return model


def _head_weights(files: Mapping[str, Path], head: HeadLayout, keys: Collection[str]) -> dict[str, torch.Tensor]:
    """Read the weights of a head, by their names in a sequence of linear layers with a ReLU between two."""
    weights = {}
    for i, layer in enumerate(head.layers):
        for kind in ("weight", "bias"):
            if (key := f"{layer}.{kind}") in keys:
                with safe_open(files[key], framework="pt") as opened:
                    weights[f"{2 * i}.{kind}"] = opened.get_tensor(key)
    return weights


def _head_widths(
    folder: Path, head: HeadLayout, weights: Mapping[str, torch.Tensor], hidden_size: int
) -> dict[str, Any]:
    """Return widths and biases of the layers of a head, which must fit together."""
    widths = [hidden_size]
    for i, layer in enumerate(head.layers):
        n_outputs, n_inputs = weights[f"{2 * i}.weight"].shape
        if n_inputs != widths[-1]:
            raise ValueError(f"{layer}.weight of {folder} reads {n_inputs} features, expected {widths[-1]}")
        widths.append(n_outputs)
    if widths[-1] != head.n_outputs:
        raise ValueError(
            f"{head.layers[-1]}.weight of {folder} has {widths[-1]} outputs, expected {head.n_outputs}: choose the "
            "preset of this head, or convert the checkpoint"
        )
    return {"widths": widths, "bias": [f"{2 * i}.bias" in weights for i in range(len(head.layers))]}


def _from_pretrained(auto: Any, folder: Path, **options: Any) -> tuple[PreTrainedModel, list[str]]:
    """Load by the library, and return the names of weights that the model has no place for.

    A weight that is missing or has another shape would be random. Here it is an error.
    """
    model, info = read_weights(auto, folder, **options)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"{folder} lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}: the checkpoint "
            "is incomplete or of another layout"
        )
    for key, shape, expected_shape in sorted(info["mismatched_keys"]):
        raise ValueError(
            f"{key} of {folder} has shape {tuple(shape)}, its config.json says {tuple(expected_shape)}: they are not "
            "of the same model"
        )
    return model, sorted(info["unexpected_keys"])


def _shape(files: Mapping[str, Path], key: str) -> list[int] | None:
    if key not in files:
        return None
    with safe_open(files[key], framework="pt") as opened:
        return list(opened.get_slice(key).get_shape())


def _wrong_layout(folder: Path, preset: Preset, files: Mapping[str, Path], fault: str) -> str:
    """Return the message of a checkpoint in another layout, with the layouts that it resembles."""
    names = _resembling(files) or [other.name for other in PRESETS.values() if other.kind == "causal_lm"]
    hint = f"it looks like {' or '.join(names)}" if preset.name not in names else "the checkpoint is incomplete"
    return f"{folder} is not in the layout of preset {preset.name!r}: {fault}; {hint}"


def _resembling(keys: Collection[str]) -> list[str]:
    """Return the presets whose scoring head has weights of these names."""
    names = [
        preset.name
        for preset in PRESETS.values()
        if preset.head is not None and any(key.startswith(f"{layer}.") for layer in preset.head.layers for key in keys)
    ]
    return names or (["trl"] if _CLASSIFIER_KEYS & set(keys) else [])


def _check_separator(tokenizer: PreTrainedTokenizerBase, preset: Preset, folder: Path, n_embeddings: int) -> None:
    """Refuse a tokenizer without the separator, unless the weights end with the very token to be added."""
    if preset.scheme.name != "special_token" or preset.scheme.step_separator in tokenizer.get_vocab():
        return
    if n_embeddings != len(tokenizer) + 1:
        raise ValueError(
            f"the tokenizer of {folder} has no {preset.scheme.step_separator} ({len(tokenizer)} tokens, and "
            f"{n_embeddings} rows of embeddings): preset {preset.name!r} needs the tokenizer that the model was "
            "trained with"
        )
