"""What a backend is, which ones there are, and which are installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.utils.environment import missing_package

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Tokens: TypeAlias = "Mapping[str, npt.NDArray[np.int64]]"
"""Arrays of shape (n_rows, n_tokens): ``input_ids``, ``attention_mask``, and others that the model takes."""


class Backend(Protocol):
    """Computes the vectors of a model. Several threads may call it at once, and each call computes on one core."""

    name: str
    dtype: str

    def __call__(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Return one vector per row of tokens, shape (n_rows, dimension)."""


@dataclass(frozen=True)
class EncoderModel:
    """What a backend is made from.

    Parameters
    ----------
    network : SentenceTransformer
        The model, on the CPU and in float32. A backend must leave its weights as they are.
    digest : str
        Hash of the model's files. A converted copy is kept under it.
    folder : Path
        Folder beside the cache of embeddings, for converted copies. It may not exist yet.
    device : str
        Where torch computes. Other backends compute on the CPU.
    n_threads : int
        How many threads will call the backend at the same time.
    extras : dict
        What the model's pooling needs to know beside the tokens, such as the length of a prompt.
    quantized : tuple of str and ndarray of uint8, or None
        A backend that computes in eight bits, and the copy that was calibrated for it.
    """

    network: SentenceTransformer
    digest: str
    folder: Path
    device: str
    n_threads: int
    extras: Mapping[str, Any]
    quantized: tuple[str, npt.NDArray[np.uint8]] | None = None


@dataclass(frozen=True)
class _Entry:
    """A backend's module, whose ``load(model, dtype)`` makes it, the packages that it needs, and its precisions.

    A copy in eight bits is made with further packages, but used without them. It is taken by name alone.
    """

    module: str
    packages: tuple[str, ...]
    dtypes: tuple[str, ...]
    to_quantize: tuple[str, ...] = ()


_BACKENDS = {
    "torch": _Entry("_torch", (), ("float32", "bfloat16", "float16")),
    "openvino": _Entry("_openvino", ("openvino",), ("float32", "bfloat16")),
    "onnx": _Entry("_onnx", ("onnx", "onnxruntime"), ("float32",)),
    "openvino-int8": _Entry("quantized", ("openvino",), ("int8",), to_quantize=("nncf",)),
    "onnx-int8": _Entry("quantized", ("onnx", "onnxruntime"), ("int8",), to_quantize=("nncf",)),
}
BACKENDS = tuple(_BACKENDS)
"""The names of all backends, installed or not."""


def available_backends() -> list[str]:
    """Return the names of the backends that are installed, which ``PRMFeaturizer(backend=...)`` takes.

    Returns
    -------
    list of str
        ``"torch"`` first, which is always there.

    Examples
    --------
    >>> available_backends()[0]
    'torch'
    """
    return [name for name, entry in _BACKENDS.items() if all(map(find_spec, (*entry.packages, *entry.to_quantize)))]


def candidates(backend: str, dtype: str, device: str) -> list[tuple[str, str]]:
    """Return the pairs of backend and precision that a choice leaves open. ``"auto"`` leaves out what is not exact.

    An unknown name, a precision that a backend does not have, and a package that is not installed raise errors.
    """
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise ValueError(f"dtype is {dtype!r}, expected 'auto', 'float32', 'bfloat16' or 'float16'")
    if backend != "auto":
        entry = _entry(backend)
        if dtype not in ("auto", *entry.dtypes):
            raise ValueError(f"dtype is {dtype!r}, expected 'auto' or one of {entry.dtypes} with backend={backend!r}")
        if device != "cpu" and backend != "torch":
            raise ValueError(f"backend={backend!r} computes on the CPU: pass device='cpu', or backend='torch'")
    exact = [name for name in available_backends() if not _BACKENDS[name].to_quantize]
    named = exact if backend == "auto" else [backend]
    return [
        (name, one)
        for name in named
        if name == "torch" or device == "cpu"
        for one in _BACKENDS[name].dtypes
        # float16 overflows in some models, so it is taken by name alone.
        if dtype == one or (dtype == "auto" and one != "float16")
    ]


def load_backend(name: str, dtype: str, model: EncoderModel) -> Backend:
    """Make a backend. One that is not installed raises ImportError, which names its packages."""
    entry = _entry(name)
    backend: Backend = import_module(f"{__package__}.{entry.module}").load(model, dtype)
    return backend


def require(name: str, to_quantize: bool = False) -> None:
    """Raise ImportError, which names it, if a package is missing that a backend needs."""
    entry = _BACKENDS[name]
    packages = (*entry.packages, *(entry.to_quantize if to_quantize else ()))
    if missing := [package for package in packages if not find_spec(package)]:
        raise missing_package(" ".join(missing), f"backend={name!r}")


def _entry(name: str) -> _Entry:
    entry = _BACKENDS.get(name)
    if entry is None:
        raise ValueError(f"backend is {name!r}, expected 'auto' or one of {list(_BACKENDS)}")
    require(name)
    return entry


def pooled(
    model: EncoderModel, tokens: Mapping[str, torch.Tensor], embeddings: torch.Tensor
) -> npt.NDArray[np.float32]:
    """Return the vectors that the modules after the first one make of token embeddings. For converted models."""
    import torch

    features: Any = {**tokens, **model.extras, "token_embeddings": embeddings}
    with torch.inference_mode():
        for module in list(model.network)[1:]:
            features = module(features)
        return as_vectors(model.network, features["sentence_embedding"])


def as_vectors(network: SentenceTransformer, embeddings: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return sentence embeddings as ``encode`` gives them: on the CPU, in float32, cut to the model's dimension."""
    vectors: npt.NDArray[np.float32] = embeddings[..., : network.truncate_dim].float().cpu().numpy()
    return vectors
