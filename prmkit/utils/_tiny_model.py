"""A random language model of a few kilobytes, with which estimators over states are checked without a download."""

from __future__ import annotations

import tempfile
from functools import lru_cache

# The folders go when the process ends.
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


@lru_cache(maxsize=1)
def tiny_language_model() -> str:
    """Return the folder of a random Llama of four layers, width 32, and a tokenizer of bytes without BOS."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="prmkit-"))
    folder = _FOLDERS[-1].name
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({sign: i for i, sign in enumerate(["<pad>", *alphabet])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(alphabet) + 1,
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=64,
            max_position_embeddings=2048,
            # With the usual 0.02, all steps would get nearly the same states.
            initializer_range=0.3,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder
