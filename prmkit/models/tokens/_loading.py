"""A transformers model and its tokenizer, made ready for a marking scheme: head, vocabulary, padding, readout."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prmkit.features.encoding.model_path import resolve_model
from prmkit.marking.encoding import prepare_tokenizer, reward_token_ids
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.tokens._block_causal import check_block_causal, is_causal
from prmkit.models.tokens._model_files import read_description
from prmkit.models.tokens._one_pass import Readout
from prmkit.utils.log_silence import quiet_loading

_AUTO_CLASSES = {
    "separator": "AutoModelForTokenClassification",
    "special_token": "AutoModelForTokenClassification",
    "reward_tokens": "AutoModelForCausalLM",
    "prefix": "AutoModelForSequenceClassification",
}
_GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
_HEADS = {"classifier", "score", "pooler", "head", "pre_classifier", "sequence_summary"}
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SETTINGS = ["*.json", "*.txt", "*.model"]
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "tekken.json")


def load_tokenizer(model: str | Path) -> Any:
    """Load the tokenizer of a model, by local folder or hub name; no code from it is run.

    Where prmkit saved the folder it is the tokenizer that was saved. ``AutoTokenizer`` would take the one usual for the
    architecture, which may split a text otherwise: for Qwen2 and others it mistrusts what the folder says.

    Raises
    ------
    ValueError
        If the folder has no vocabulary: an empty one would be made up.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = _settings_folder(model)  # a tokenizer alone needs no weights beside it
    if not any(next(folder.glob(pattern), None) for pattern in _VOCABULARIES):
        raise ValueError(
            f"{folder} holds no tokenizer: expected tokenizer.json or the vocabulary of an older one. Save it there, "
            f"tokenizer.save_pretrained({str(folder)!r})"
        )
    if read_description(folder) is not None and _saved_class(folder) in _GENERIC_TOKENIZERS:
        return PreTrainedTokenizerFast.from_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def auto_class(scheme: MarkingScheme) -> str:
    """Name transformers' class of the models that a scheme needs."""
    return _AUTO_CLASSES[scheme.name]


def load_token_model(
    name: str | Path,
    scheme: MarkingScheme,
    n_outputs: int,
    *,
    initialization: str = "pretrained",
    options: Mapping[str, Any] | None = None,
    dtype: Any = "float32",
    whole: bool = False,
) -> Any:
    """Load the model that a scheme needs; a new head draws from torch's generator: fork it around this call.

    Parameters
    ----------
    name : str or Path
        A local folder or a name on the hub.
    scheme : MarkingScheme
    n_outputs : int
        Classes, or 1 for a raw reward. Without meaning for ``"reward_tokens"``.
    initialization : {"pretrained", "random"}
        ``"random"`` needs no weights: a configuration is enough.
    options : mapping, optional
        Fields of the model's configuration to change, such as ``num_hidden_layers``.
    dtype : str or torch.dtype
        Precision of the weights; "auto": that of the checkpoint.
    whole : bool
        Whether the checkpoint must have the head too.

    Raises
    ------
    ValueError
        If the checkpoint lacks weights or has them in another shape, other than the head's; if a file is damaged; if
        the architecture has no such head.

    Warns
    -----
    UserWarning
        If the checkpoint has a head with other outputs.
    """
    import torch
    import transformers

    if (Path(name).expanduser() / "adapter_config.json").is_file():
        raise ValueError(
            f"{name} holds an adapter, which can score but is no model to train: where it was trained, save the merged "
            "model, trainer.model = trainer.model.merge_and_unload(); trainer.save_model(another_folder)"
        )
    is_new = initialization == "random"
    folder = _settings_folder(name) if is_new else resolve_model(name)
    head = {} if scheme.reads_language_model else {"num_labels": n_outputs}
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **head)
    for key, value in (options or {}).items():
        if not hasattr(config, key):
            raise ValueError(f"a {config.model_type} has no setting {key!r}")
        setattr(config, key, value)
    auto = getattr(transformers, auto_class(scheme))
    _check_architecture(config, scheme)
    if is_new:
        return auto.from_config(config, dtype=getattr(torch, str(dtype)))
    with quiet_loading(), damage_named(folder):
        model, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    _check_weights(name, type(model).__name__, info, whole)
    return model


def adapt_model(model: Any, tokenizer: Any, scheme: MarkingScheme) -> int:
    """Make tokenizer and model agree: marker and padding exist, and every token has an embedding.

    Returns
    -------
    int
        How many embeddings are new.
    """
    prepare_tokenizer(tokenizer, scheme)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:  # new rows start as the mean of the old ones
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with _no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                if layer is not None:
                    layer.weight[rows:] = layer.weight[:rows].mean(dim=0)
    model.config.pad_token_id = tokenizer.pad_token_id
    return max(0, len(tokenizer) - rows)


def make_readout(model: Any, tokenizer: Any, scheme: MarkingScheme, reads: str) -> Readout:
    """Say how the scores of a scheme are read from a model.

    Raises
    ------
    ValueError
        If the model looks ahead and its architecture cannot be kept from it.
    """
    if scheme.name == "prefix":
        return Readout("sequence", reads)
    by_blocks = not is_causal(model)
    if scheme.reads_language_model:
        if by_blocks:
            raise ValueError(
                f"reward tokens need a causal language model, {model.config.model_type} is none: "
                "choose scheme='separator'"
            )
        return Readout("language_model", reads, tuple(reward_token_ids(tokenizer, scheme)))
    if by_blocks:
        check_block_causal(model)
    return Readout("tokens", reads, by_blocks=by_blocks)


def token_limit(model: Any, max_length: int | None) -> int | None:
    """Return the most tokens a row may have: ``max_length``, or what the model has positions for if that is less."""
    config = model.config
    most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if most and config.model_type in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "mpnet",
        "xlm-roberta-xl",
        "longformer",
    ):
        most -= 2  # positions start behind the padding index
    known = [length for length in (most, max_length) if length]
    return min(known) if known else None


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Say which file of weights in a folder cannot be read; the library's error does not.

    Raises
    ------
    ValueError
    """
    from safetensors import SafetensorError, safe_open

    try:
        yield
    except SafetensorError as error:
        for file in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(file, framework="pt"):
                    continue
            except SafetensorError as fault:
                raise ValueError(
                    f"{file} is damaged or was cut off ({fault}): copy, download or save it again"
                ) from error
        raise


def _check_weights(name: str | Path, kind: str, info: Mapping[str, Any], whole: bool) -> None:
    """Refuse weights that would be random, other than those of a head that may be new."""

    def may_be_new(key: str) -> bool:
        return not whole and not _HEADS.isdisjoint(key.split("."))

    advice = "choose another model or scheme, or initialization='random'"
    if lost := sorted(key for key in info["missing_keys"] if not may_be_new(key)):
        raise ValueError(f"{name} lacks {len(lost)} weights of a {kind}, such as {lost[0]}: {advice}")
    drawn = None
    for key, found, needed in sorted(info["mismatched_keys"]):
        if not may_be_new(key):
            raise ValueError(
                f"{key} of {name} has shape {tuple(found)}, and a {kind} with this configuration needs "
                f"{tuple(needed)}: {advice}"
            )
        drawn = found[0], needed[0]
    if drawn:
        warnings.warn(
            f"the head of {name} is drawn anew: found {drawn[0]} outputs, labels and loss need {drawn[1]}",
            stacklevel=4,
        )


def _check_architecture(config: Any, scheme: MarkingScheme) -> None:
    """Refuse an architecture that the library has no model with such a head of, naming the schemes that it has."""
    import transformers

    fitting = [
        key
        for key, auto in _AUTO_CLASSES.items()
        if type(config) in getattr(transformers, auto)._model_mapping
    ]
    if scheme.name not in fitting:
        ways_out = [f"scheme={key!r}" for key in fitting] + ["another model"]
        raise ValueError(
            f"scheme={scheme.name!r} needs an {auto_class(scheme)}, and transformers has none for a "
            f"{config.model_type}: choose {' or '.join(ways_out)}"
        )


def _settings_folder(model: str | Path) -> Path:
    """Return a folder with configuration and tokenizer; of a model on the hub only these are fetched."""
    from huggingface_hub import snapshot_download

    folder, name = Path(model).expanduser(), str(model)
    if folder.is_dir():
        return folder
    if isinstance(model, Path) or not _HUB_NAME.fullmatch(name) or name.endswith("all-MiniLM-L6-v2"):
        return resolve_model(model)
    names = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    for offline in (True, False):
        for repo in names:
            try:
                found = Path(snapshot_download(repo, allow_patterns=_SETTINGS, local_files_only=offline))
            except (OSError, ValueError):  # unknown, private, malformed, unreachable
                continue
            if not offline or all(
                (found / f"{file}.json").is_file() for file in ("config", "tokenizer_config")
            ):
                return found
    return resolve_model(model)  # says what is wrong


def _saved_class(folder: Path) -> str | None:
    config = folder / "tokenizer_config.json"
    return json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") if config.is_file() else None


def _no_grad() -> Any:
    import torch

    return torch.no_grad()
