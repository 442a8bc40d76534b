"""`python -m reformer_export`, for use when the console script is not on the PATH."""

from __future__ import annotations

import sys

from reformer_export.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
