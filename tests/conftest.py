"""Fixtures shared by all tests: where the real data lies, and a cache of its own for every run."""

import os
from pathlib import Path

import pytest

# The tests run in several processes: threads on top of them would wait for each other. Read when the libraries load.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of step-labelled data beside the project; tests skip, visibly, where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PRMKIT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no step-labelled data at {folder}: set PRMKIT_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Keep the user's embedding cache out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRMKIT_CACHE_DIR", str(folder))
        yield folder
