"""The forecast of carbon dioxide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from time_series import ARGUMENTS, main, windows

from reformer_export.artifact import Artifact


def test_windows_are_all_pieces_of_a_series() -> None:
    pieces = windows(np.arange(5, dtype=np.float32), 3)
    assert pieces[..., 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


@pytest.mark.slow
def test_the_exported_model_forecasts_better_than_simple_rules(tmp_path: Path) -> None:
    pytest.importorskip("statsmodels", reason="statsmodels, which ships the series, is missing")
    done = CliRunner().invoke(main, [str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    errors = json.loads((tmp_path / "results.json").read_text())
    assert errors["model"] < 0.6 * errors["the last year again"]
    assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")
    artifact = Artifact.open(tmp_path / "artifact")
    assert artifact.signature.outputs[0].axes == ("batch", ARGUMENTS.pred_len, 1)
