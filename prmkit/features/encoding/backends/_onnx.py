"""The model in ONNX Runtime, converted by torch's exporter."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.features.encoding.backends import converted
from prmkit.features.encoding.backends.backend import EncoderModel, Tokens

PACKAGES = ("onnx",)
_OPSET = 17


class OnnxBackend:
    """Runs a converted model. A session may be called from several threads, each of them computes by itself."""

    name = "onnx"

    def __init__(self, model: EncoderModel, dtype: str, content: bytes) -> None:
        self.dtype = dtype
        self._model, self._content = model, content
        self._start()

    def _start(self) -> None:
        import onnxruntime

        self._process = os.getpid()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Return one vector per row of tokens."""
        if os.getpid() != self._process:
            self._start()
        return converted.run_and_pool(self._model, tokens, self._infer)

    def _infer(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        found: Any = self._session.run(None, {name: tokens[name] for name in self._names})
        vectors: npt.NDArray[np.float32] = found[0]
        return vectors


def load(model: EncoderModel, dtype: str, content: bytes | None = None) -> OnnxBackend:
    """Convert the model, or read the copy that is kept, or take one that is given."""
    return OnnxBackend(model, dtype, float_model(model) if content is None else content)


def float_model(model: EncoderModel) -> bytes:
    """Return the model, converted in float32."""
    return converted.kept(model, "onnx", PACKAGES, lambda: _convert(model))


def _convert(model: EncoderModel) -> bytes:
    import torch

    names = converted.input_names(model)
    file: Any = BytesIO()  # the type of the argument knows paths alone
    with torch.no_grad():
        torch.onnx.export(
            converted.token_module(model, names),
            converted.example(model, names),
            file,
            input_names=names,
            output_names=["token_embeddings"],
            dynamic_axes={name: {0: "rows", 1: "width"} for name in (*names, "token_embeddings")},
            opset_version=_OPSET,
            # The exporter that traces needs nothing beside onnx. The newer one needs onnxscript.
            dynamo=False,
        )
    content: bytes = file.getvalue()
    converted.check_conversion(model, OnnxBackend(model, "float32", content))
    return content


def quantized(content: bytes, nncf: Any, samples: Sequence[Tokens]) -> bytes:
    """Return a model in eight bits, whose activations have the ranges of some samples.

    Ranges that a batch sets for itself (dynamic quantisation) would make a vector depend on the other texts.
    """
    import onnx

    graph = onnx.load_from_string(content)
    names = [one.name for one in graph.graph.input]
    dataset = nncf.Dataset(samples, lambda tokens: {name: tokens[name] for name in names})
    kind = nncf.ModelType.TRANSFORMER
    found: bytes = nncf.quantize(graph, dataset, model_type=kind, subset_size=len(samples)).SerializeToString()
    return found
