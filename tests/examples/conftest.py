"""Programs of `examples` as modules: they import each other as scripts beside each other do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
