"""Settings of all tests: no network, few threads, the same Hypothesis examples in every run."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from reformer_ops import library_path
from reformer_ops.core.errors import NativeLibraryError

if TYPE_CHECKING:
    from .tools.model_fixtures import Fixtures

# Torch makes millions of objects that live as long as the process: collect less often.
gc.set_threshold(100_000, 50, 50)

# Read when torch and huggingface_hub are first imported, here and in the processes tests start.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# The suite is made for two cores, which the workers of pytest-xdist share.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ["OMP_NUM_THREADS"] = str(max(1, 2 // _WORKERS))

# A commit must pass or fail on every machine alike. The time of an example does not matter.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")

# Without native operators, their tests are left out. `make` sets REFORMER_NATIVE=1 if there is a
# compiler: then the tests run, and fail if the operators are missing.
try:
    library_path("ort")
except NativeLibraryError:
    if os.environ.get("REFORMER_NATIVE") != "1":
        collect_ignore_glob = ["*/test_native_*.py", "cuda/test_*.py"]


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Fixtures:
    """Checkpoints and artifacts for tests, each made at its first use."""
    from .tools.model_fixtures import Fixtures  # imports torch, after the settings above

    return Fixtures(tmp_path_factory.mktemp("fixtures"))
