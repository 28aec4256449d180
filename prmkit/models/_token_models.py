"""A transformers model and its tokenizer, made ready for a marking scheme: head, vocabulary, padding, dropout."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prmkit.features._marking import MarkingScheme
from prmkit.features._model_path import resolve_model
from prmkit.features._tokens import prepare_tokenizer, reward_token_ids
from prmkit.models._block_causal import check_block_causal, is_causal
from prmkit.models._readout import Readout
from prmkit.utils._quiet import quiet_loading

_AUTO_CLASSES = {
    "separator": "AutoModelForTokenClassification",
    "special_token": "AutoModelForTokenClassification",
    "reward_tokens": "AutoModelForCausalLM",
    "prefix": "AutoModelForSequenceClassification",
}
_HEADS = ("classifier", "score", "pooler", "head", "pre_classifier", "sequence_summary", "dropout", "dense")


def load_tokenizer(model: str | Path) -> Any:
    """Load the tokenizer of a model, by local folder or hub name; no code from it is run."""
    from transformers import AutoTokenizer

    folder = Path(model).expanduser()  # a tokenizer alone needs no weights beside it
    return AutoTokenizer.from_pretrained(folder if folder.is_dir() else resolve_model(model))


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
    options : mapping, optional
        Fields of the model's configuration to change, such as ``num_hidden_layers``.
    dtype : str or torch.dtype
        Precision of the weights; "auto": that of the checkpoint.
    whole : bool
        Whether the checkpoint must have the head too.

    Raises
    ------
    ValueError
        If the checkpoint lacks weights, other than the head's.
    """
    import torch
    import transformers

    folder = resolve_model(name)
    head = {} if scheme.reads_language_model else {"num_labels": n_outputs}
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **head)
    for key, value in (options or {}).items():
        if not hasattr(config, key):
            raise ValueError(f"a {config.model_type} has no setting {key!r}")
        setattr(config, key, value)
    auto = getattr(transformers, _AUTO_CLASSES[scheme.name])
    if initialization == "random":
        return auto.from_config(config, dtype=getattr(torch, str(dtype)))
    with quiet_loading():
        model, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    heads = () if whole else _HEADS
    lost = sorted(key for key in info["missing_keys"] if not set(key.split(".")) & set(heads))
    if lost:
        raise ValueError(
            f"{name} lacks {len(lost)} weights of a {type(model).__name__}, such as {lost[0]}: choose another "
            f"model or scheme, or initialization='random'"
        )
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


def adapted(
    model: Any,
    *,
    tokenizer: Any,
    scheme: MarkingScheme,
    names: list[str],
    without_dropout: bool,
    peft_config: Any,
) -> Any:
    """Return a model with the vocabulary, the names of its outputs, no dropout and an adapter, as asked for."""
    n_new = adapt_model(model, tokenizer, scheme)
    if not scheme.reads_language_model:
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: i for i, name in enumerate(names)}
    if peft_config is not None:
        model = with_adapter(model, peft_config, n_new)
    if without_dropout:
        disable_dropout(model)
    return model


def with_adapter(model: Any, peft_config: Any, n_new: int) -> Any:
    """Wrap a model with an adapter that also trains and saves the new head and, where there are, new embeddings.

    Raises
    ------
    ImportError
        If peft is not installed.
    """
    try:
        from peft import get_peft_model
    except ImportError as error:
        raise ImportError("peft_config needs peft: pip install 'prmkit[peft]'") from error
    peft_config = copy.copy(peft_config)  # the caller's stays as it is
    whole = set(peft_config.modules_to_save or ())
    whole |= {name for name, _ in model.named_children() if name in ("classifier", "score")}
    if n_new:
        table = model.get_input_embeddings()
        whole.add(next(name for name, module in model.named_modules() if module is table).rpartition(".")[2])
    peft_config.modules_to_save = sorted(whole) or None
    return get_peft_model(model, peft_config)


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


def disable_dropout(model: Any) -> None:
    """Set the probability of every dropout layer to zero."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _no_grad() -> Any:
    import torch

    return torch.no_grad()
