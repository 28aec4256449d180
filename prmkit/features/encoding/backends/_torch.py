"""The model in torch, as sentence-transformers computes it."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.features.encoding.backends.backend import EncoderModel, Tokens, as_vectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

# Rows for which oneDNN chooses the order of packed weights.
_PACKED_FOR = 256


class TorchBackend:
    """Runs the modules of a sentence-transformers model."""

    name = "torch"

    def __init__(self, model: EncoderModel, dtype: str) -> None:
        self.dtype = dtype
        self._device, self._extras = model.device, model.extras
        self._network = (
            model.network
            if dtype == "float32"
            else _with_cast_weights(model.network, dtype, pack=dtype == "bfloat16" and model.device == "cpu")
        )

    def __call__(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Return one vector per row of tokens."""
        import torch

        with self._ready(), torch.inference_mode():
            features: Any = {name: torch.from_numpy(table).to(self._device) for name, table in tokens.items()}
            found = self._network({**features, **self._extras})["sentence_embedding"]
            return as_vectors(self._network, found)

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return one vector per text, for models without tokens in rows."""
        with self._ready():
            found = self._network.encode(texts, batch_size=len(texts), device=self._device, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)

    def rest(self) -> None:
        """Bring the weights back to the CPU."""
        self._network.to("cpu")

    def _ready(self) -> contextlib.AbstractContextManager[Any]:
        """Bring the weights to their device. Return the context of the precision."""
        import torch

        device = torch.device(self._device)
        if device.type != "cpu":
            self._network.to(device)
        half = self.dtype != "float32"
        return torch.autocast(device.type, getattr(torch, self.dtype)) if half else contextlib.nullcontext()


def _with_cast_weights(network: SentenceTransformer, dtype: str, pack: bool) -> SentenceTransformer:
    """Return a copy whose linear layers have their weights in ``dtype``. It shares all other weights.

    Autocast would cast them for every batch, to the same numbers, which takes longer than the products. To ``pack``
    means to bring them into the order in which oneDNN multiplies, too, which it would do for every batch.
    """
    import torch

    shared: dict[int, Any] = {id(value): value for value in (*network.parameters(), *network.buffers())}
    shared[id(network.tokenizer)] = network.tokenizer
    cast = copy.deepcopy(network, shared)
    for module in cast.modules():
        if isinstance(module, torch.nn.Linear):
            for name, value in list(module.named_parameters(recurse=False)):
                kept = torch.nn.Parameter(value.detach().to(getattr(torch, dtype)), requires_grad=False)
                setattr(module, name, kept)
            if pack and type(module) is torch.nn.Linear:
                _pack(module)
    return cast


def _pack(layer: torch.nn.Linear) -> None:
    """Make a layer multiply by packed weights, if this torch can and gives the same bits."""
    import torch

    pack, multiply = (getattr(torch.ops.mkldnn, name, None) for name in ("_reorder_linear_weight", "_linear_pointwise"))
    weight = layer.weight.detach()
    bias = None if layer.bias is None else layer.bias.detach()
    try:
        packed = pack(weight, _PACKED_FOR)  # type: ignore[misc]

        def forward(x: torch.Tensor) -> torch.Tensor:
            product: torch.Tensor = multiply(x.to(weight.dtype), packed, bias, "none", [], "")  # type: ignore[misc]
            return product

        probe = torch.linspace(-1, 1, _PACKED_FOR * layer.in_features, dtype=weight.dtype)
        probe = probe.reshape(_PACKED_FOR, layer.in_features)
        same = torch.equal(forward(probe), torch.nn.functional.linear(probe, weight, bias))
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return  # the operators are torch's own, for its compiler, and not in every build
    if same:
        layer.forward = forward  # type: ignore[method-assign, assignment]


def load(model: EncoderModel, dtype: str) -> TorchBackend:
    """Make the backend. Nothing is computed yet."""
    return TorchBackend(model, dtype)
