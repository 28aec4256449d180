"""Copies of a model in eight-bit integers, calibrated on texts of the user. They are part of what is fitted."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.features.encoding.backends import converted
from prmkit.features.encoding.backends.backend import Backend, EncoderModel, require
from prmkit.features.encoding.text_tokens import TextTokens

LEAST_COSINE = 0.99
"""A quantised copy is refused if the mean cosine of its vectors to those in float32 is below this."""

# Texts that set the ranges of the activations, and texts that measure what came of it. They are not the same.
_N_CALIBRATE, _N_MEASURE = 300, 100
# Where the copy begins: the hash of the model's files says whose copy it is.
_DIGEST_BYTES = 12


def is_quantized(backend: str) -> bool:
    """Whether a backend computes in eight-bit integers."""
    return backend.endswith("-int8")


def quantize(model: EncoderModel, backend: str, texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], float]:
    """Return a copy of the model for a backend, as bytes, and the mean cosine of its vectors to those in float32.

    Ranges are fixed by some of the texts, so a vector does not depend on its batch. The cosine is that of other texts.
    Raise ValueError if it is below ``LEAST_COSINE``.
    """
    module = _module(backend)
    distinct = list(dict.fromkeys(texts))
    chosen = [distinct[i] for i in np.unique(np.linspace(0, len(distinct) - 1, _N_CALIBRATE + _N_MEASURE).astype(int))]
    held_out = chosen[::4] if len(chosen) > 1 else chosen
    calibrating = [text for i, text in enumerate(chosen) if i % 4] or chosen
    seen = hashlib.blake2b("\0".join(calibrating).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()

    def make() -> bytes:
        require(backend, to_quantize=True)
        with _nncf() as nncf:
            samples = list(_one_by_one(model, calibrating))
            quantized: bytes = module.quantized(module.float_model(model), nncf, samples)
            return quantized

    content = converted.kept(model, backend, ("nncf", *module.PACKAGES), make, seen)
    exact, coarse = module.load(model, "float32"), module.load(model, "int8", content)
    found = [converted.cosines(coarse(tokens), exact(tokens))[0] for tokens in _one_by_one(model, held_out)]
    cosine = float(np.mean(found))
    if not cosine >= LEAST_COSINE:
        raise ValueError(
            f"backend={backend!r} gives vectors with a mean cosine of {cosine:.4f} to those in float32, on "
            f"{len(found)} of your texts, expected at least {LEAST_COSINE}: this model loses too much in eight bits. "
            "Pass backend='auto'"
        )
    return np.frombuffer(_head(model.digest) + content, dtype=np.uint8), cosine


def belongs_to(copy: npt.NDArray[np.uint8], digest: str) -> bool:
    """Whether a copy was made from the model with this hash of its files."""
    return copy[:_DIGEST_BYTES].tobytes() == _head(digest)


def load(model: EncoderModel, dtype: str) -> Backend:
    """Make the backend from the copy that is part of the fitted featurizer."""
    if model.quantized is None:
        raise ValueError("there is no copy in eight bits yet: it is made from texts of the user")
    backend, copy = model.quantized
    made: Backend = _module(backend).load(model, dtype, copy[_DIGEST_BYTES:].tobytes())
    made.name = backend
    return made


def _head(digest: str) -> bytes:
    return hashlib.blake2b(digest.encode(), digest_size=_DIGEST_BYTES).digest()


def _module(backend: str) -> Any:
    return import_module(f"{__package__}._{backend.removesuffix('-int8')}")


def _one_by_one(model: EncoderModel, texts: Sequence[str]) -> Iterator[dict[str, npt.NDArray[np.int64]]]:
    tokens = TextTokens.of(model.network, texts, model.network.max_seq_length)
    if tokens is None:
        raise converted.CannotConvertError("the model has no tokens in rows")
    for i, length in enumerate(tokens.lengths.tolist()):
        yield tokens.batch(np.array([i]), 1, max(1, length))


@contextmanager
def _nncf() -> Iterator[Any]:
    """Import nncf as its own tests do: without a message to its makers. It talks a lot, too."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    log = logging.getLogger("nncf")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield nncf
    finally:
        log.setLevel(level)
