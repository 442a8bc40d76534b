"""Tests of the GPU check: whatever a part does, the report is written and says what happened."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reformer_models.config import ReformerConfig

from . import ROOT, check, machine, needs
from .parts import PARTS, Part, grouped, shares
from .report import JSON, PAGE

NO_GPU = machine.Gpu("none", 0, "it is switched off")
GPU = machine.Gpu("made up", 90, "")


def part(name: str = "made-up", **changes: Any) -> Part:
    given: dict[str, Any] = {
        "module": "tests.gpu.made_up",
        "needs": (),
        "processes": 1,
        "limit": 60,
    }
    return Part(name, "nothing", **{**given, **changes})


def run(
    out: Path, *arguments: str, parts: tuple[Part, ...], gpu: machine.Gpu = GPU
) -> tuple[int, dict[str, Any], str]:
    """Exit code, document and page of a check with these parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "find_gpu", lambda: gpu)
        code = check.main(["--out", str(out), *arguments], parts)
    return code, json.loads((out / JSON).read_text()), (out / PAGE).read_text()


def cases_of(document: dict[str, Any], number: int = 0) -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in document["parts"][number]["cases"]}


def test_without_a_gpu_every_part_is_skipped_and_says_why(tmp_path: Path) -> None:
    code, document, page = run(tmp_path, parts=PARTS, gpu=NO_GPU)
    assert code == 0
    assert document["finished"]
    assert not document["wrong"]
    assert [found["name"] for found in document["parts"]] == [known.name for known in PARTS]
    for found in document["parts"]:
        assert found["state"] == "skipped"
        assert found["why"] == "no GPU: it is switched off"
        assert found["counts"] == {"not run": len(found["cases"])}
        assert found["cases"]
        assert f"| {found['name']} | skipped |" in page


def test_as_a_command_it_needs_nothing_installed_and_no_path(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # -S: without site-packages, where this project may be installed.
    where = "import tests.gpu, importlib.util as u; print(u.find_spec('reformer_ops').origin)"
    printed = subprocess.run(
        [sys.executable, "-S", "-c", where],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(printed.stdout.strip()).is_relative_to(ROOT)
    command = [sys.executable, "-m", "tests.gpu.check", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--only", "tensorrt"],
        cwd=ROOT,
        env={**environment, "CUDA_VISIBLE_DEVICES": "-1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "| tensorrt | skipped |" in done.stdout
    assert "no GPU: " in done.stdout


def test_make_gpu_check_runs_it_without_the_virtual_environment(tmp_path: Path) -> None:
    arguments = ["make", "--dry-run", "gpu-check", "OUT=a", "WHEELS=b", "PYTHON3=my-python"]
    printed = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert 'my-python -m tests.gpu.check --out "a" --wheels "b"' in " ".join(printed.split())
    assert ".venv" not in printed
    without = subprocess.run(
        ["make", "gpu-check"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert without.returncode != 0
    assert "name a folder" in without.stderr


def test_what_is_right_is_reported_with_its_figures(tmp_path: Path) -> None:
    code, document, page = run(tmp_path, "--cases", "right", parts=(part(),))
    assert code == 0
    assert document["parts"][0]["counts"] == {"passed": 2}
    assert document["parts"][0]["concluded"]
    assert document["machine"]["ran on"] == "cuda"
    assert document["machine"]["GPU"] == "made up (sm_90)"
    assert "| made-up | right | 2 |" in page
    assert "| right | 2 | 0.01 |" in page  # the largest error of the group
    assert "| a row | 12.3 | 12.3 |" in page


def test_what_is_wrong_gives_exit_code_1_and_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document, page = run(tmp_path, "--cases", "one", parts=(part(limit=3),))
    assert code == 1
    assert document["wrong"]
    found = cases_of(document)
    assert found["right: one"]["status"] == "passed"
    assert found["skipped: one"]["why"] == "it is switched off"
    assert found["wrong: one"]["why"] == "ValueError: seven is not eight"
    # The process aborts in the next case, so the last case does not run.
    assert "SIGABRT" in found["crashes: one"]["why"]
    assert found["crashes: one"]["status"] == "failed"
    assert found["hangs: one"]["status"] == "not run"
    assert "- `wrong: one`: ValueError: seven is not eight" in page
    assert "- 1 cases: it is switched off" in page
    log = (tmp_path / "gpu-check.log").read_text()
    assert "raise ValueError" in log
    assert "about to end" in log
    assert "seven is not eight" in capsys.readouterr().out


def test_what_hangs_is_stopped_by_its_limit_and_the_others_run(tmp_path: Path) -> None:
    begun = time.monotonic()
    code, document, page = run(
        tmp_path, "--cases", "hangs", parts=(part("a", limit=1.5), part("b", limit=1, alone=True))
    )
    assert time.monotonic() - begun < 20
    assert code == 1
    for number in range(2):
        why = cases_of(document, number)["hangs: one"]["why"]
        assert why.startswith("stopped after ")
        assert why in page


def test_at_the_deadline_all_ends_and_the_rest_is_said_not_to_have_run(tmp_path: Path) -> None:
    parts = (part("a", alone=True), part("b", alone=True))
    begun = time.monotonic()
    code, document, page = run(tmp_path, "--cases", "hangs", "--budget", "2", parts=parts)
    assert time.monotonic() - begun < 20
    assert code == 1
    assert "stopped after" in cases_of(document)["hangs: one"]["why"]
    assert document["parts"][1]["state"] == "skipped"
    assert document["parts"][1]["why"] == "no time was left"
    assert "no time was left" in page


def test_a_part_that_does_not_load_is_wrong(tmp_path: Path) -> None:
    parts = (part("a", module="tests.gpu.nowhere"), part("b"))
    code, document, page = run(tmp_path, "--cases", "right", parts=parts)
    assert code == 1
    assert [found["state"] for found in document["parts"]] == ["wrong", "right"]
    assert "tests.gpu.nowhere does not load: ModuleNotFoundError" in page


def test_a_need_that_is_missing_skips_the_part_with_its_reason(tmp_path: Path) -> None:
    reason = needs.first_missing(["gpu"])
    if reason is None:
        pytest.skip("this machine has a GPU: nothing is missing")
    code, document, _ = run(tmp_path, "--cases", "right", parts=(part(needs=("gpu",)),))
    assert code == 0
    assert document["parts"][0]["state"] == "skipped"
    assert document["parts"][0]["why"] == reason


def test_the_versions_are_those_that_ran(tmp_path: Path) -> None:
    brought = tmp_path / "brought/onnx"
    brought.mkdir(parents=True)
    (brought / "__init__.py").write_text("__version__ = '77.7'\n")
    parts = (part(needs=("onnx",)),)
    for other in ("onnx_ir", "onnxscript"):
        (tmp_path / f"brought/{other}.py").touch()
    arguments = ("--cases", "right", "--unpacked", str(tmp_path / "brought"))
    code, document, page = run(tmp_path / "out", *arguments, parts=parts)
    assert code == 0, page
    assert document["machine"]["onnx"] == "77.7"
    assert "| onnx | 77.7 |" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nothing"], "--only nothing: choose one of a, b"),
        (["--wheels", "/no/such/folder"], "/no/such/folder is no folder"),
        (["--budget", "0"], "--budget 0: it takes some seconds"),
    ],
)
def test_a_wrong_command_ends_with_2_and_says_why(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check.main(["--out", str(tmp_path / "out"), *arguments], (part("a"), part("b")))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_parts_are_whole_and_what_measures_comes_last() -> None:
    assert len({known.name for known in PARTS}) == len(PARTS)
    alone = [known.alone for known in PARTS]
    assert alone == sorted(alone)
    for known in PARTS:
        assert set(known.needs) <= set(needs.NEEDS)
        cases = known.load().cases()
        assert len(set(cases)) == len(cases) > 0
        dealt = shares(cases, known.processes, scattered=known.scattered)
        assert sorted(case for share in dealt for case in share) == sorted(cases)
        if not known.scattered:
            for group in grouped(cases).values():
                assert sum(bool(set(group) & set(share)) for share in dealt) == 1


def test_operators_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    arguments = ("--rehearse", "--only", "operators", "--cases", "fp32")
    code, document, page = run(tmp_path, *arguments, parts=PARTS, gpu=NO_GPU)
    assert code == 0, page
    assert document["rehearsal"]
    assert "a rehearsal on the CPU" in page
    counts = document["parts"][0]["counts"]
    assert set(counts) == {"passed"}
    assert counts["passed"] >= 6


def test_models_take_every_length_that_they_are_checked_at() -> None:
    fixtures = importlib.import_module("tests.gpu.fixtures")
    listed = [known.load().cases() for known in PARTS if known.name in ("models", "onnxruntime")]
    assert len(listed) == 2
    for cases in listed:
        for case in cases:
            model, _, what = case.partition(": ")
            name = model.rpartition(" ")[0]
            found = re.search(r"(\d+) tokens", what)
            if found is not None:
                _, config = fixtures.MODELS[name]
                longest = ReformerConfig.from_hf({"model_type": "reformer", **config}).max_length
                assert int(found[1]) <= longest, case
