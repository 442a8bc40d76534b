"""Times the C++ runtime beside Python. Both really run, but exact times are not checked here."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks import cpp
from reformer_export.host.cpp_program import VARIABLE

from ..runtimes.programs import built
from ..tools.model_fixtures import TINY, Fixtures


@pytest.mark.slow
def test_both_are_timed(fixtures: Fixtures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(built() / "reformer-run"))
    monkeypatch.setattr(cpp, "_BUSY", 0.05)
    artifact = fixtures.artifact("text-generation", TINY)
    rows = list(cpp.compare(artifact.path, 5, threads=1, rounds=1))
    assert [row[:2] for row in rows] == [
        ("5", what)
        for what in ("a run", "opening the model", "the whole process", "peak memory, MB")
    ]
    for row in rows:
        python, program, ratio = map(float, row[2:5])
        assert program / python == pytest.approx(ratio, rel=0.01)
    # Python imports NumPy and ONNX Runtime's bindings; the margin is wide even on a busy machine.
    assert float(rows[2][4]) < 1
    assert float(rows[3][4]) < 1


def test_without_the_program(fixtures: Fixtures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere")
    artifact = fixtures.artifact("text-generation", TINY)
    ran = CliRunner().invoke(cpp.main, [str(artifact.path)])
    assert ran.exit_code == 1
    assert ran.output.startswith("error: no reformer-run that runs onnxruntime is here: ")
