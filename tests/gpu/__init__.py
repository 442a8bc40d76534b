"""Checks of all that needs a GPU: see check.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = [str(ROOT / name) for name in (".", "custom_ops", "models")]
"""Where this checkout's packages lie."""

# Nothing of ours need be installed where the GPU is; and what is may be of another version.
sys.path[:0] = [folder for folder in PACKAGES if folder not in sys.path]
