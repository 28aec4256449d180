"""Which backend computes a model: measured on this machine, and kept beside the cache until something changes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np

from prmkit.features.encoding.backends.backend import Backend, EncoderModel, Tokens, load_backend
from prmkit.features.encoding.backends.converted import cosines
from prmkit.utils.environment import in_threads, installed_version, sharing_threads
from prmkit.utils.files import locked, replacing

Pair = tuple[str, str]
"""A backend and a precision."""

_log = logging.getLogger("prmkit.features")
_SECONDS, _ROUNDS = 1.6, 5
# Seconds to wait for another process that measures, and perhaps converts the model.
_MOST_WAIT = 60.0
# A more exact pair wins if it is nearly as fast as the fastest one. So noise does not decide between equals.
_NEARLY = 0.95
# The least cosine to float32 in torch of vectors that count as the model's.
_LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.999}
# Converting a model takes seconds and writes a copy of it. Above this size it is not done only to try.
_MOST_BYTES = 600 * 1024**2
_PACKAGES = ("prmkit", "torch", "transformers", "sentence-transformers", "openvino", "onnxruntime")


@dataclass(frozen=True)
class Choice:
    """What was chosen. ``rates`` holds the tokens per second of each pair that was tried, such as ``torch-float32``."""

    name: str
    dtype: str
    rates: dict[str, float]
    reason: str


@dataclass(frozen=True)
class Measured:
    """Tokens per second of each pair, and why others failed."""

    rates: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def covers(self, pairs: Sequence[Pair]) -> bool:
        """Whether each pair was tried."""
        return all(joined(pair) in self.rates or joined(pair) in self.failed for pair in pairs)

    def with_others(self, new: Measured) -> Measured:
        """Return both, the new one where they differ."""
        return Measured(self.rates | new.rates, self.failed | new.failed)


_known: dict[str, Measured] = {}
_turn = Lock()


def _renew_turn() -> None:
    global _turn
    _turn = Lock()  # the thread that held the old one is not in a forked process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_turn)


def joined(pair: Pair) -> str:
    """Return the name of a pair, such as ``torch-float32``."""
    return "-".join(pair)


def choose(
    pairs: Sequence[Pair], folder: Path, digest: str, name: str, measure: Callable[[Sequence[Pair]], Measured]
) -> Choice:
    """Return the fastest of some pairs, measured now if this machine has not measured them for this model before.

    ``folder`` keeps what was measured, under a key of processor, threads, versions and the model's ``digest``.
    ``name`` is the model's, for people.
    """
    if len(pairs) == 1:
        return Choice(*pairs[0], {}, "it is the only one that is left open here")
    key = {
        "processor": _processor(),
        "threads": sharing_threads(),
        "versions": {package: installed_version(package) for package in _PACKAGES},
        "model": digest,
    }
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=12).hexdigest()
    file = folder / "backends" / f"{digest}.json"
    with _turn:
        known = _known.get(digest) or _read(file)
        if not known.covers(pairs):
            with _alone(file):
                known = known.with_others(_read(file))
                if not known.covers(pairs):
                    new = measure(pairs)
                    known = known.with_others(new)
                    _write(file, known, key)
                    _warn(new, name)
                    chosen = _fastest(pairs, known, name)
                    rates = ", ".join(f"{pair} {rate:,.0f}" for pair, rate in known.rates.items())
                    said = (name, chosen.name, chosen.dtype, rates)
                    _log.info("%s is computed by %s in %s (tokens per second: %s)", *said)
        _known[digest] = known
    return _fastest(pairs, known, name)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Wait until no other process measures for the same file.

    Workers of a cross-validation start together. They would disturb each other, and might choose differently.
    """
    deadline = time.monotonic() + _MOST_WAIT
    with ExitStack() as held:
        while True:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(file.with_suffix(".lock"), f"another process measures for {file}"))
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
            except OSError:  # nothing can be written there
                pass
            break
        yield


def measure_pairs(model: EncoderModel, batches: Sequence[Tokens], pairs: Sequence[Pair]) -> Measured:
    """Time the pairs on some batches, the smallest first, on as many threads as are in force.

    Loading and converting come first and are not timed. A pair fails if it raises, or if its vectors are not those
    of torch in float32.
    """
    reference = load_backend("torch", "float32", model)
    expected = reference(batches[0])
    failed: dict[str, str] = {}
    loaded: dict[str, Backend] = {}
    seconds = {}
    small = _bytes(model) <= _MOST_BYTES
    for pair in pairs:
        if pair[0] != "torch" and not small:
            failed[joined(pair)] = ""  # as it was not tried
            continue
        try:
            backend = reference if pair == ("torch", "float32") else load_backend(*pair, model)
            _check_vectors(backend(batches[0]), expected, pair[1])
            start = time.perf_counter()
            backend(batches[0])
            seconds[joined(pair)] = time.perf_counter() - start
            loaded[joined(pair)] = backend
        except Exception as error:
            failed[joined(pair)] = _said(error)
    # A large model is timed on the smallest batch alone.
    growth = sum(batch["input_ids"].size for batch in batches) / batches[0]["input_ids"].size
    if sum(seconds.values()) * growth > _SECONDS / 2:
        batches = batches[:1]
    rates = _rates(loaded, batches, failed)
    return Measured(rates, failed)


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]:.200}"


def _rates(loaded: dict[str, Backend], batches: Sequence[Tokens], failed: dict[str, str]) -> dict[str, float]:
    """Return tokens per second, by the best of some rounds. The pairs take turns, so a busy moment hits them all."""
    n_threads, deadline = sharing_threads(), time.monotonic() + _SECONDS
    late = [False]

    def note_time() -> None:
        late[0] = time.monotonic() > deadline

    together = Barrier(n_threads, action=note_time)
    plan = [(i, name) for _ in range(_ROUNDS) for i in range(len(batches)) for name in loaded]

    def run(_thread: int) -> list[float]:
        times: list[float] = []
        for i, name in plan:
            together.wait()
            # The first batch of each is computed in any case.
            if late[0] and len(times) >= len(loaded):
                break
            start = time.perf_counter()
            try:
                loaded[name](batches[i])
            except Exception as error:  # in its own thread, as it would fail later
                failed[name] = _said(error)
            times.append(time.perf_counter() - start)
        return times

    slowest = np.max(list(in_threads(run, range(n_threads))), axis=0)
    best: dict[tuple[int, str], float] = {}
    for step, spent in zip(plan, slowest, strict=False):
        best[step] = min(spent, best.get(step, np.inf))
    # Only batches that all have computed are compared.
    common = [i for i in range(len(batches)) if all((i, name) in best for name in loaded)]
    n_tokens = n_threads * sum(batches[i]["input_ids"].size for i in common)
    spent = {name: float(sum(best[i, name] for i in common)) for name in loaded if name not in failed}
    return {name: round(n_tokens / seconds, 1) for name, seconds in spent.items()}


def _fastest(pairs: Sequence[Pair], known: Measured, name: str) -> Choice:
    rates = {pair: known.rates[joined(pair)] for pair in pairs if joined(pair) in known.rates}
    if not rates:
        why = "; ".join(f"{joined(pair)}: {known.failed.get(joined(pair)) or 'not tried'}" for pair in pairs)
        raise RuntimeError(f"no backend that is left open computes {name} ({why}): pass backend='torch'")
    most = max(rates.values())
    near = [pair for pair, rate in rates.items() if rate >= _NEARLY * most]
    # Pairs stand in the order of backends, torch first.
    best = min(near, key=lambda pair: pair[1] != "float32")
    reason = "the fastest of those tried" if rates[best] == most else "nearly the fastest, and the more exact one"
    return Choice(*best, dict(known.rates), reason)


def _check_vectors(found: np.ndarray, expected: np.ndarray, dtype: str) -> None:
    cosine = float(cosines(found, expected).min())
    if not cosine >= _LEAST_COSINE[dtype]:
        raise ValueError(f"the cosine of its vectors to those of torch in float32 is {cosine:.4f}")


def _warn(measured: Measured, name: str) -> None:
    told = {pair: why for pair, why in measured.failed.items() if why}
    if told:
        reasons = "; ".join(f"{pair} ({why})" for pair, why in told.items())
        warnings.warn(
            f"these backends do not compute {name}, so others are used: {reasons}. To agree, pass backend='torch'.",
            stacklevel=2,
        )


def _bytes(model: EncoderModel) -> int:
    return sum(value.numel() * value.element_size() for value in model.network.parameters())


@lru_cache(maxsize=1)
def _processor() -> str:
    """Return the processor's name and a hash of its features, which a virtual machine may hide."""
    lines: set[str] = set()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.partition(":")[0].strip() in ("model name", "flags", "Features"):
                lines.add(line)
    except OSError:
        pass
    features = hashlib.blake2b("\n".join(sorted(lines)).encode(), digest_size=4).hexdigest()
    return f"{platform.machine()} {platform.processor()} {features}"


def _read(file: Path) -> Measured:
    """Read what was measured. A damaged file is measured again."""
    try:
        kept = json.loads(file.read_text("utf-8"))
        rates = {str(pair): float(rate) for pair, rate in kept["rates"].items()}
        if not np.isfinite(list(rates.values())).all():
            return Measured()
        return Measured(rates, {str(pair): str(why) for pair, why in kept["failed"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Measured()


def _write(file: Path, measured: Measured, key: dict[str, Any]) -> None:
    """Write beside the place and rename. Where nothing can be written, this process alone remembers."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as unfinished:
            unfinished.write_text(json.dumps(asdict(measured) | {"key": key}, indent=1), encoding="utf-8")
    except OSError:
        pass
