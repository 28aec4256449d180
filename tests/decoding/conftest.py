"""The toy policy, which the benchmarks use too."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toy_policy():
    """The class ``ToyPolicy``: word problems, and a generator that solves them with errors at known rates."""
    spec = importlib.util.spec_from_file_location("toy_policy", Path(__file__).with_name("toy_policy.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ToyPolicy
