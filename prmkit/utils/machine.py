"""The machine and the versions that decide how fast prmkit is: the stamp of a measurement."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from prmkit.utils.environment import installed_version

_PACKAGES = ("prmkit", "numpy", "scikit-learn", "torch", "transformers", "sentence-transformers", "datasets")
_OPTIONAL = ("openvino", "onnxruntime", "ray")


def machine() -> dict[str, Any]:
    """Return processor, cores, the threads in use, memory, GPU, and how busy the machine is."""
    import joblib
    import torch

    from prmkit.utils.environment import fast_bfloat16

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": joblib.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "bfloat16": fast_bfloat16("cpu"),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that decide the numbers, optional ones if they are there."""
    found = {package: installed_version(package) for package in (*_PACKAGES, *_OPTIONAL)}
    return {"python": platform.python_version()} | {
        name: version for name, version in found.items() if version is not None or name in _PACKAGES
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
