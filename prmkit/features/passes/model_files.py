"""The folder of a transformers model: its tokenizer, its weights and its limit, loaded without running its code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prmkit.features.encoding.model_path import HUB_NAME, resolve_model
from prmkit.marking.scheme import EXAMPLE, text_ids
from prmkit.utils.environment import quiet_loading

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILE = "prmkit.json"
"""Name of the file in which prmkit says how the scores of a model are read."""
_GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
# Their positions start behind the padding index, so two fewer tokens fit.
_PADDED_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer")
_SETTINGS_FILES = ["*.json", "*.txt", "*.model"]
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "tekken.json")


def load_tokenizer(model: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model as it was saved, by local folder or hub name. No code from the model is run.

    ``AutoTokenizer`` takes the usual one of the architecture, which may split a text otherwise than ``tokenizer.json``
    says. Then the file counts.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # A tokenizer alone needs no weights beside it.
    folder = settings_folder(model)
    if not any(next(folder.glob(pattern), None) for pattern in _VOCABULARIES):
        raise ValueError(
            f"{folder} holds no tokenizer: expected tokenizer.json or the vocabulary of an older one. Save it there, "
            f"tokenizer.save_pretrained({str(folder)!r})"
        )
    generic = (folder / FILE).is_file() and _saved_class(folder) in _GENERIC_TOKENIZERS
    if not generic:
        auto: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if _reads_as_saved(auto, folder / "tokenizer.json"):
            return auto
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)
    return tokenizer


def _reads_as_saved(tokenizer: PreTrainedTokenizerBase, file: Path) -> bool:
    """Whether a tokenizer splits texts as the file of its folder says. Without a file there is nothing to compare."""
    from tokenizers import Tokenizer

    if not file.is_file() or getattr(tokenizer, "is_fast", None) is not True:
        return True
    saved = Tokenizer.from_file(str(file))
    saved.no_padding()
    saved.no_truncation()
    texts = (
        EXAMPLE.problem,
        *EXAMPLE.steps,
        "Don't  add 1234567.89 to\n\n\tÄpfel,\n half-way: $x^2 \\le\\frac{1}{2}$ ки. ",
    )
    return all(saved.encode(text, add_special_tokens=False).ids == text_ids(tokenizer, text) for text in texts)


def read_weights(auto: Any, folder: Path, **options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load safetensors by a class of transformers, without running code from the folder.

    The second result tells which weights are missing, unexpected or of another shape. The caller must check it, since
    the library draws missing ones at random.
    """
    safe = {"use_safetensors": True, "trust_remote_code": False, "ignore_mismatched_sizes": True}
    with quiet_loading(), damage_named(folder):
        model, info = auto.from_pretrained(folder, **safe, **options, output_loading_info=True)
    return model, info


def token_limit(model: PreTrainedModel | torch.nn.Module, max_length: int | None) -> int | None:
    """Return the most tokens a row may have: ``max_length``, or the model's positions if they are fewer."""
    config: Any = model.config
    most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if most and config.model_type in _PADDED_POSITIONS:
        most -= 2
    limits = [int(length) for length in (most, max_length) if length]
    return min(limits, default=None)


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Name the file of weights in a folder that cannot be read. The library's error does not."""
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


def settings_folder(model: str | Path) -> Path:
    """Return a folder with configuration and tokenizer. From the hub only these files are fetched."""
    from huggingface_hub import snapshot_download

    folder, name = Path(model).expanduser(), str(model)
    if folder.is_dir():
        return folder
    if isinstance(model, Path) or not HUB_NAME.fullmatch(name) or name.endswith("all-MiniLM-L6-v2"):
        return resolve_model(model)
    names = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    for offline in (True, False):
        for repo in names:
            try:
                snapshot = Path(snapshot_download(repo, allow_patterns=_SETTINGS_FILES, local_files_only=offline))
            except (OSError, ValueError):
                # The name is unknown, private or malformed, or the hub cannot be reached.
                continue
            if not offline or all((snapshot / f"{file}.json").is_file() for file in ("config", "tokenizer_config")):
                return snapshot
    # This raises an error that says what is wrong.
    return resolve_model(model)


def _saved_class(folder: Path) -> str | None:
    config = folder / "tokenizer_config.json"
    return json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") if config.is_file() else None
