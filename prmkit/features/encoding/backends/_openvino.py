"""The model in OpenVINO, converted by ``openvino`` itself."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.features.encoding.backends import converted
from prmkit.features.encoding.backends.backend import EncoderModel, Tokens

PACKAGES = ("openvino",)
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
# The description of the graph stands before its weights, after its length.
_LENGTH_BYTES = 8


class OpenVINOBackend:
    """Runs a converted model, one request per Python thread, each on one core."""

    name = "openvino"

    def __init__(self, model: EncoderModel, dtype: str, content: bytes) -> None:
        self.dtype = dtype
        self._model, self._content = model, content
        self._compile()

    def _compile(self) -> None:
        import openvino

        self._process = os.getpid()
        core = openvino.Core()
        # The threads are those of Python. Bound to cores, they would wait for whatever else runs there.
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.dtype],
            "INFERENCE_NUM_THREADS": self._model.n_threads,
            "NUM_STREAMS": self._model.n_threads,
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(unpacked(self._content), "CPU", settings)
        self._names = [port.any_name for port in self._compiled.inputs]
        self._requests = local()

    def __call__(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Return one vector per row of tokens."""
        if os.getpid() != self._process:
            self._compile()  # a fork does not copy OpenVINO's threads
        return converted.run_and_pool(self._model, tokens, self._infer)

    def _infer(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        request = getattr(self._requests, "one", None)
        if request is None:
            request = self._requests.one = self._compiled.create_infer_request()
        # The output is read before this thread's next request writes there.
        found = request.infer({name: tokens[name] for name in self._names}, share_inputs=True, share_outputs=True)
        vectors: npt.NDArray[np.float32] = found[0]
        return vectors


def load(model: EncoderModel, dtype: str, content: bytes | None = None) -> OpenVINOBackend:
    """Convert the model, or read the copy that is kept, or take one that is given."""
    return OpenVINOBackend(model, dtype, float_model(model) if content is None else content)


def float_model(model: EncoderModel) -> bytes:
    """Return the model, converted in float32. Both precisions share it."""
    return converted.kept(model, "openvino", PACKAGES, lambda: _convert(model))


def _convert(model: EncoderModel) -> bytes:
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    names = converted.input_names(model)
    # These are the steps of openvino.convert_model, which also tells its makers of every use.
    trace: Any = torch.jit.trace
    with torch.no_grad():
        traced = trace(converted.token_module(model, names), converted.example(model, names), check_trace=False)
    # Each of these has to outlive what is made from it.
    manager, decoder = FrontEndManager(), TorchScriptPythonDecoder(traced)
    frontend = manager.load_by_framework("pytorch")
    graph = frontend.convert(frontend.load(decoder))
    for port, name in zip(graph.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_element_type(openvino.Type.i64)
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))  # the trace saw one shape
    graph.validate_nodes_and_infer_types()
    content = packed(graph)
    converted.check_conversion(model, OpenVINOBackend(model, "float32", content))
    return content


def quantized(content: bytes, nncf: Any, samples: Sequence[Tokens]) -> bytes:
    """Return a model in eight bits, whose activations have the ranges of some samples."""
    graph = unpacked(content)
    names = [port.any_name for port in graph.inputs]
    dataset = nncf.Dataset(samples, lambda tokens: {name: tokens[name] for name in names})
    kind = nncf.ModelType.TRANSFORMER
    return packed(nncf.quantize(graph, dataset, model_type=kind, subset_size=len(samples)))


def packed(graph: Any) -> bytes:
    """Return a graph of OpenVINO as bytes."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.xml")
        openvino.save_model(graph, file, compress_to_fp16=False)
        description, weights = file.read_bytes(), file.with_suffix(".bin").read_bytes()
    return len(description).to_bytes(_LENGTH_BYTES, "little") + description + weights


def unpacked(content: bytes) -> Any:
    """Return the graph that ``packed`` wrote."""
    import openvino

    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    weights = np.frombuffer(content, dtype=np.uint8, offset=end)
    return openvino.Core().read_model(content[_LENGTH_BYTES:end], openvino.Tensor(weights.copy()))
