"""A published PRM becomes a model that answers with logits per token, without running any code that came with it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import nn
from transformers.modeling_outputs import TokenClassifierOutput

from prmkit.features.encoding.model_path import resolve_model
from prmkit.marking.encoding import prepare_tokenizer
from prmkit.models.pretrained._presets import PRESETS, HeadLayout, Preset
from prmkit.utils.log_silence import quiet_loading

if TYPE_CHECKING:
    import torch


class ValueHeadModel(nn.Module):
    """A transformer, and a head that scores each of its last hidden states.

    Parameters
    ----------
    backbone : transformers model without a head
    score : Module
        From (…, hidden size) to (…, number of outputs).

    Attributes
    ----------
    config : transformers configuration of the backbone
    """

    def __init__(self, backbone: Any, score: nn.Module):
        super().__init__()
        self.config = backbone.config
        self.backbone = backbone
        self.score = score

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> TokenClassifierOutput:
        """Return ``logits`` of shape (batch, n_tokens, n_outputs); further arguments go to the backbone."""
        kwargs.setdefault("use_cache", False)  # keys and values of a finished text are of no use
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return TokenClassifierOutput(logits=self.score(output.last_hidden_state))

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of the tokens."""
        return self.backbone.get_input_embeddings()


def read_head(
    folder: Path, files: Mapping[str, Path], head: HeadLayout, keys: Collection[str], hidden_size: int
) -> nn.Sequential:
    """Build a head from its weights in a checkpoint.

    Parameters
    ----------
    folder : Path
        Of the checkpoint, for the errors.
    files : mapping of str to Path
        The file of each weight.
    head : HeadLayout
    keys : collection of str
        The weights of the head.
    hidden_size : int
        Features of the first layer.

    Raises
    ------
    ValueError
        If a layer does not fit what comes before it, or the last one has another number of outputs.
    """
    weights = {}
    for key in keys:
        with safe_open(files[key], framework="pt") as opened:
            weights[key] = opened.get_tensor(key)
    modules: list[nn.Module] = []
    width = hidden_size
    for layer in head.layers:
        weight, bias = weights[f"{layer}.weight"], weights.get(f"{layer}.bias")
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        linear.weight = nn.Parameter(weight)
        if bias is not None:
            linear.bias = nn.Parameter(bias)
        if weight.shape[1] != width:
            raise ValueError(f"{layer}.weight of {folder} reads {weight.shape[1]} features, expected {width}")
        width = weight.shape[0]
        modules += [linear, nn.ReLU()]
    if width != head.n_outputs:
        raise ValueError(
            f"{head.layers[-1]}.weight of {folder} has {width} outputs, expected {head.n_outputs}: choose the preset "
            "of this head, or convert the checkpoint"
        )
    return nn.Sequential(*modules[:-1])


_AUTO_CLASSES = {"token_classifier": "AutoModelForTokenClassification", "causal_lm": "AutoModelForCausalLM"}
_CLASSIFIER_KEYS = frozenset({"score.weight", "classifier.weight"})


def load_published(
    name_or_path: str | Path,
    preset: Preset,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> tuple[Any, Any]:
    """Load a PRM saved in a published layout, and its tokenizer.

    Only safetensors are read, and no code of the checkpoint is run: its transformer is taken for the library's own of
    the same ``model_type``, whatever ``auto_map`` names.

    Parameters
    ----------
    name_or_path : str or Path
        A local folder, or a name on the Hugging Face hub.
    preset : Preset
        The layout, from :func:`prmkit.models.pretrained._presets.get_preset`.
    dtype : str or torch.dtype, optional
        Precision of the weights. None: the one that the checkpoint's configuration names.
    device : str or torch.device, optional
        Where the model goes; None: the CPU.

    Returns
    -------
    model : Module
        In evaluation mode. ``model(input_ids, attention_mask).logits`` has shape (batch, n_tokens, n_outputs): classes
        in the order of ``preset.classes``, one raw reward, or, for a causal language model, the vocabulary.
    tokenizer : transformers tokenizer
        With the step marker and a padding token.

    Raises
    ------
    OSError
        If there is no such model.
    ValueError
        If the weights are pickled, of another layout or incomplete, if the architecture is none of the library's, or if
        the tokenizer lacks the step marker.

    Examples
    --------
    >>> from prmkit.models.pretrained._presets import get_preset
    >>> load_published("./no-such-folder", get_preset("trl"))
    Traceback (most recent call last):
    ...
    FileNotFoundError: no folder at ./no-such-folder. ...
    """
    from transformers import AutoTokenizer

    folder = resolve_model(name_or_path)
    files = _weight_files(folder)
    config = _read_config(folder)
    kind = "auto" if dtype is None else dtype
    if preset.head is None:
        model = _load_whole(folder, files, config, preset, kind)
    else:
        model = _load_with_head(folder, files, config, preset, preset.head, kind)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not preset.bos:
        tokenizer.add_bos_token = False
    _check_marker(tokenizer, preset, folder, model.get_input_embeddings().weight.shape[0])
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


def _read_config(folder: Path) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ValueError(
            f"{folder / 'config.json'} has model_type {kind!r}, which is none of the library's: it would need code "
            "of its own, which is never run. Published PRMs are of a known type, such as qwen2, llama or mistral"
        )
    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _load_whole(folder: Path, files: Mapping[str, Path], config: Any, preset: Preset, dtype: Any) -> Any:
    """Load a layout that the library has a class for."""
    import transformers

    auto = getattr(transformers, _AUTO_CLASSES[preset.kind])
    heads = {key for key in files if _resembling([key])}  # refused before gigabytes are read
    if preset.kind == "causal_lm" and heads:
        raise ValueError(_wrong_layout(folder, preset, files, f"it has a scoring head, {min(heads)}"))
    if preset.kind == "token_classifier":
        if not _CLASSIFIER_KEYS & set(files):
            raise ValueError(
                _wrong_layout(folder, preset, files, "it has no score.weight or classifier.weight")
            )
        if config.num_labels != len(preset.classes):
            raise ValueError(
                f"{folder} has {config.num_labels} labels, and preset {preset.name!r} reads {len(preset.classes)}: "
                f"{preset.classes}"
            )
    model, info = _from_pretrained(auto, folder, config, dtype)
    unknown = sorted(info["unexpected_keys"])
    if unknown:
        raise ValueError(_wrong_layout(folder, preset, files, f"{type(model).__name__} has no {unknown[0]}"))
    return model


def _load_with_head(
    folder: Path, files: Mapping[str, Path], config: Any, preset: Preset, head: HeadLayout, dtype: Any
) -> ValueHeadModel:
    """Load a bare transformer from under its prefix, and the head by its keys."""
    from transformers import AutoModel

    biases = {f"{layer}.bias" for layer in head.layers}
    wanted = {f"{layer}.weight" for layer in head.layers} | (biases if head.bias else set())
    optional = biases if head.bias is None else set()
    missing = sorted(wanted - set(files))
    if missing:
        raise ValueError(_wrong_layout(folder, preset, files, f"it has no {missing[0]}"))
    prefix = next((start for start in head.backbones if any(key.startswith(start) for key in files)), None)
    if prefix is None:
        raise ValueError(
            _wrong_layout(folder, preset, files, f"no weight starts with {' or '.join(head.backbones)}")
        )
    ours = wanted | (optional & set(files))
    unknown = sorted(
        key for key in files if key not in ours and not key.startswith(prefix) and "lm_head." not in key
    )
    if unknown:
        raise ValueError(_wrong_layout(folder, preset, files, f"it has {unknown[0]} besides"))

    vocabulary = _shape(files, f"{prefix}embed_tokens.weight")
    if vocabulary:  # a base model's configuration does not count the tokens that were added in training
        config.vocab_size = vocabulary[0]
    backbone, _ = _from_pretrained(
        AutoModel, folder, config, dtype, key_mapping={f"^{re.escape(prefix)}": ""}
    )
    score = read_head(folder, files, head, ours, config.hidden_size)
    return ValueHeadModel(backbone, score.to(backbone.dtype))


def _from_pretrained(auto: Any, folder: Path, config: Any, dtype: Any, **options: Any) -> tuple[Any, Any]:
    """Load by the library; a weight that is missing or of another shape would be random, and is an error here."""
    with quiet_loading():
        model, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    lost = sorted(info["missing_keys"])
    if lost:
        raise ValueError(
            f"{folder} lacks {len(lost)} weights of a {type(model).__name__}, such as {lost[0]}: the checkpoint is "
            "incomplete or of another layout"
        )
    for key, found, expected in info["mismatched_keys"]:
        raise ValueError(
            f"{key} of {folder} has shape {tuple(found)}, its config.json says {tuple(expected)}: they are not of the "
            "same model"
        )
    return model, info


def _shape(files: Mapping[str, Path], key: str) -> list[int] | None:
    if key not in files:
        return None
    with safe_open(files[key], framework="pt") as opened:
        return opened.get_slice(key).get_shape()


def _wrong_layout(folder: Path, preset: Preset, files: Mapping[str, Path], what: str) -> str:
    names = _resembling(files) or [other.name for other in PRESETS.values() if other.kind == "causal_lm"]
    hint = (
        f"it looks like {' or '.join(names)}" if preset.name not in names else "the checkpoint is incomplete"
    )
    return f"{folder} is not in the layout of preset {preset.name!r}: {what}; {hint}"


def _resembling(keys: Collection[str]) -> list[str]:
    """Return the presets whose scoring head these weights name."""
    found = [
        preset.name
        for preset in PRESETS.values()
        if preset.head is not None
        and any(key.startswith(f"{layer}.") for layer in preset.head.layers for key in keys)
    ]
    return found or (["trl"] if _CLASSIFIER_KEYS & set(keys) else [])


def _check_marker(tokenizer: Any, preset: Preset, folder: Path, rows: int) -> None:
    """Refuse a tokenizer that does not know the marker, unless the weights end with the very token to be added."""
    if preset.scheme.name != "special_token" or preset.scheme.step_separator in tokenizer.get_vocab():
        return
    if rows != len(tokenizer) + 1:
        raise ValueError(
            f"the tokenizer of {folder} has no {preset.scheme.step_separator} ({len(tokenizer)} tokens, and {rows} rows of "
            f"embeddings): preset {preset.name!r} needs the tokenizer that the model was trained with"
        )
