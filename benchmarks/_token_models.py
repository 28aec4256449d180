"""Small token-level models to measure on: a tokenizer learnt on the data, and weights drawn at random."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prmkit.features.passes.model_files import load_tokenizer, token_limit
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.tokens.model_folder import (
    ModelDescription,
    adapt_model,
    load_token_model,
    make_readout,
    write_description,
)

ENCODER = "all-MiniLM-L6-v2"


def learn_tokenizer(texts: Iterable[str], vocab_size: int = 32_000) -> Any:
    """Learn a byte-level BPE tokenizer in which a line break is always a token of its own.

    So the tokens of a text are those of its lines one by one, and what is tokenised at once, as a pipeline does, is
    what is tokenised step by step.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    lines_apart = pre_tokenizers.Split("\n", "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([lines_apart, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", model_max_length=4096)


def language_model(
    tokenizer: Any, *, kind: str = "llama", vocab_size: int = 32_000, seed: int = 0, **options: Any
) -> Any:
    """Draw a decoder-only model that classifies tokens into two classes; by default 6 layers of width 384.

    Not Qwen2 by default: beside its configuration transformers 5 rebuilds any tokenizer as Qwen2's own.
    """
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    size = {
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    }
    config = AutoConfig.for_model(
        kind,
        vocab_size=vocab_size,
        num_labels=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **{**size, **options},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForTokenClassification.from_config(config, dtype=torch.float32).eval()


def wide_language_model(tokenizer: Any, width: int, n_layers: int) -> Any:
    """Draw a model with larger weights than usual, or every score is nearly 1/2 and equality says little."""
    return language_model(
        tokenizer,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=n_layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        initializer_range=0.1,
    )


def encoder(seed: int = 0) -> tuple[Any, Any]:
    """Load the MiniLM BERT with a new head of two classes, and its tokenizer."""
    import torch

    tokenizer = load_tokenizer(ENCODER)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return load_token_model(ENCODER, MarkingScheme(), 2)[0].eval(), tokenizer


def save_for_prmkit(model: Any, tokenizer: Any, scheme: MarkingScheme, folder: str | Path) -> None:
    """Write a token classifier as prmkit saves it, ready for ``pipeline`` and ``PRMClassifier.from_pretrained``."""
    adapt_model(model, tokenizer, scheme)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    description = ModelDescription.of(
        scheme=scheme,
        tokenizer=tokenizer,
        readout=make_readout(model, tokenizer, scheme, "classes"),
        classes=(0, 1),
        loss="cross_entropy",
        max_length=token_limit(model, None),
    )
    write_description(folder, description)
