"""A model folder becomes a network that is ready to encode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from prmkit.utils._quiet import quiet_loading

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def written_token_limit(folder: Path) -> int | None:
    """Return the token limit that a model's files name, without loading it."""
    # Older versions of the library write it in the first file, newer ones in the second.
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        config = folder / name
        known = json.loads(config.read_text("utf-8")).get(key) if config.is_file() else None
        if known is not None:
            return int(known)
    return None


def load_network(folder: Path, max_length: int | None) -> SentenceTransformer:
    """Load a sentence-transformers model on the CPU in float32, from safetensors and without foreign code.

    Raises
    ------
    ValueError
        If ``max_length`` is not a length that the model takes.
    """
    from sentence_transformers import SentenceTransformer

    with quiet_loading():
        network = SentenceTransformer(
            str(folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    network = network.float().eval()
    if max_length is not None:
        config = getattr(getattr(network[0], "auto_model", None), "config", None)
        positions = getattr(config, "max_position_embeddings", None)
        most = positions and positions - positions % 8  # RoBERTa counts two that it cannot read
        if max_length < 3 or (most and max_length > most):
            raise ValueError(f"max_length is {max_length}, expected 3 to {most or 'any number'} tokens")
        network.max_seq_length = max_length
    return network
