"""Converted models: what they compute, the files that keep them beside the cache, and the proof that they are right."""

from __future__ import annotations

import hashlib
import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.features.encoding.backends.backend import EncoderModel, Tokens, pooled
from prmkit.features.encoding.text_tokens import TextTokens
from prmkit.utils.environment import installed_version
from prmkit.utils.files import replacing

if TYPE_CHECKING:
    import torch

_FOLDER, _ENDING = "converted-v1", ".model"
# All kept files together. The ones that were not used for longest are deleted first.
_MOST_BYTES = 4 * 1024**3
_HASH_BYTES = 32
# Two texts of unlike length, so that one has padding. The second pair has another shape than the conversion saw.
_TRACED = ("3 * 4 = 12.", "So 2 + 12 = 14, and the answer is 14.")
_PROBES = ("We add.", "Let x be 7. Then 3 x + 2 = 23, which is what the problem says, so x is 7.", "x = 7")
_LEAST_COSINE = 0.9999


class CannotConvertError(RuntimeError):
    """A model that a backend cannot run. Torch can."""


def input_names(model: EncoderModel) -> list[str]:
    """Return the tokens that the model's first module takes. Raise if it is no model of transformers."""
    inner = getattr(model.network[0], "auto_model", None)
    if inner is None:
        raise CannotConvertError(f"its first module is {type(model.network[0]).__name__}, expected Transformer")
    taken = inspect.signature(inner.forward).parameters
    tokens = _probe(model, _TRACED)
    return [name for name in tokens if name in taken]


def token_module(model: EncoderModel, names: Sequence[str]) -> torch.nn.Module:
    """Return a module from tokens, in the order of ``names``, to token embeddings."""
    import torch

    class _TokenEmbeddings(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            network: Any = model.network
            self.inner = network[0].auto_model

        def forward(self, *tokens: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(**dict(zip(names, tokens, strict=True)), return_dict=True)[0]
            return found

    return _TokenEmbeddings().eval()


def example(model: EncoderModel, names: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """Return tokens to convert the model with, padded in one row."""
    import torch

    tokens = _probe(model, _TRACED)
    return tuple(torch.from_numpy(tokens[name]) for name in names)


def check_conversion(model: EncoderModel, run: Callable[[Tokens], npt.NDArray[np.float32]]) -> None:
    """Raise if a converted model gives other vectors than torch. A conversion may freeze what it saw."""
    import torch

    tokens = _probe(model, _PROBES)
    with torch.inference_mode():
        features: Any = {name: torch.from_numpy(table) for name, table in tokens.items()}
        embeddings = model.network[0]({**features, **model.extras})["token_embeddings"]
        expected = pooled(model, features, embeddings)
    worst = float(cosines(run(tokens), expected).min())
    if not worst >= _LEAST_COSINE:
        raise CannotConvertError(
            f"a vector has a cosine of {worst:.4f} with torch's, expected at least {_LEAST_COSINE}"
        )


def cosines(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the cosine of each row with its expected one. Equal rows of zeros count as alike."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    same = (found == expected).all(axis=1)
    products: npt.NDArray[np.float64] = (found * expected).sum(axis=1)
    return np.where(same, 1.0, products / np.where(norms == 0, np.nan, norms))


def run_and_pool(
    model: EncoderModel, tokens: Tokens, infer: Callable[[Tokens], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Return the vectors of a batch: token embeddings by ``infer``, the modules after them by torch in float32."""
    import torch

    embeddings = torch.from_numpy(infer(tokens))
    return pooled(model, {name: torch.from_numpy(table) for name, table in tokens.items()}, embeddings)


def kept(
    model: EncoderModel, kind: str, packages: Sequence[str], make: Callable[[], bytes], options: str = ""
) -> bytes:
    """Return a converted model: from its file if this is whole, else made, and kept if there is room.

    The file's name covers the weights, the options and the versions of all that took part. It appears whole or not at
    all, and its first bytes are a checksum, so other processes and damage do no harm. What is read is data alone.
    """
    used = {
        name: installed_version(name)
        for name in ("prmkit", "torch", "transformers", "sentence-transformers", *packages)
    }
    key = hashlib.blake2b(
        repr((model.digest, kind, options, sorted(used.items()))).encode(), digest_size=16
    ).hexdigest()
    path = model.folder / _FOLDER / f"{kind}-{key}{_ENDING}"
    content = _read(path)
    if content is None:
        try:
            with warnings.catch_warnings():
                # A tracer warns of every branch. What comes of it is checked.
                warnings.simplefilter("ignore")
                content = make()
        except ImportError:
            raise
        except Exception as error:  # whatever a converter raises, which may be anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CannotConvertError(f"{_architecture(model)} cannot be converted: {reason}") from error
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                unfinished.write_bytes(hashlib.sha256(content).digest() + content)
            _make_room(path)
        except OSError as error:
            warnings.warn(
                f"the converted model cannot be kept at {path} ({error}): it is converted again in every process. Set "
                "PRMKIT_CACHE_DIR to a folder that can be written, with room for it.",
                stacklevel=2,
            )
    return content


def converted_files(folder: Path) -> list[Path]:
    """Return the files of the converted models that are kept in a cache's folder, the latest used one last."""
    return [file for _, file in sorted((file.stat().st_mtime_ns, file) for file in _files(folder / _FOLDER))]


def _architecture(model: EncoderModel) -> str:
    return type(getattr(model.network[0], "auto_model", model.network[0])).__name__


def _files(folder: Path) -> list[Path]:
    return [*folder.glob(f"*{_ENDING}")]


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        if not path.is_file():
            return None
        content = path.read_bytes()  # a folder that can only be read
    whole = hashlib.sha256(memoryview(content)[_HASH_BYTES:]).digest() == content[:_HASH_BYTES]
    return content[_HASH_BYTES:] if whole else None


def _make_room(newest: Path) -> None:
    files = converted_files(newest.parent.parent)
    total = sum(file.stat().st_size for file in files)
    for file in files:
        if total <= _MOST_BYTES:
            return
        if file != newest:
            total -= file.stat().st_size
            file.unlink(missing_ok=True)


def _probe(model: EncoderModel, texts: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
    limit = model.network.max_seq_length
    tokens = TextTokens.of(model.network, list(texts), limit)
    if tokens is None:
        raise CannotConvertError("it has no tokens in rows")
    return tokens.batch(np.arange(len(texts)), len(texts), int(tokens.lengths.max()))
