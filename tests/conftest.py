"""What every test runs under: no network, few threads, the same examples every time."""

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
# pytest-xdist's workers share the two cores that the suite is made for.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ["OMP_NUM_THREADS"] = str(max(1, 2 // _WORKERS))

# A commit passes or fails for everybody alike; how long an example takes says nothing.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")

# Without native operators there is nothing to test of them; `make` says so by REFORMER_NATIVE=1
# where there is a compiler, and then their absence is a failure.
try:
    library_path("ort")
except NativeLibraryError:
    if os.environ.get("REFORMER_NATIVE") != "1":
        collect_ignore_glob = ["*/test_native_*.py", "cuda/test_*.py"]


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Fixtures:
    """Checkpoints and artifacts to look at, made when first asked for."""
    from .tools.model_fixtures import Fixtures  # imports torch, after the settings above

    return Fixtures(tmp_path_factory.mktemp("fixtures"))
