"""What the machine offers an encoder: a device, a fast precision, cores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_WORTH_SHARING = 10_000


def threads_for(n_rows: int) -> AbstractContextManager[Any]:
    """Keep OpenMP to one thread below ten thousand rows; on a busy machine this saves most of the time."""
    if n_rows >= _WORTH_SHARING:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="openmp")


def best_device() -> str:
    """``"cuda"``, ``"mps"`` or ``"cpu"``, the first there is."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_bfloat16(device: str) -> bool:
    """Whether the hardware multiplies bfloat16 at full speed; emulation is slower than float32."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device != "cpu":
        return False
    # Private, but the only way to ask; absent in other versions or builds, which then use float32.
    probes = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(probe is not None and probe() for probe in probes)


@contextlib.contextmanager
def no_more_threads_than_cores() -> Iterator[None]:
    import joblib
    import torch

    before = torch.get_num_threads()
    cores = joblib.cpu_count()  # knows about affinity and container quotas
    if before <= cores:
        yield
        return
    torch.set_num_threads(cores)
    try:
        yield
    finally:
        torch.set_num_threads(before)
