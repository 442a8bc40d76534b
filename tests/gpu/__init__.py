"""Checks of everything that needs a GPU: see check.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = [str(ROOT / name) for name in (".", "custom_ops", "models")]
"""The folders of this checkout's packages."""

# Our packages may be missing on the machine with the GPU, or have another version there.
sys.path[:0] = [folder for folder in PACKAGES if folder not in sys.path]
