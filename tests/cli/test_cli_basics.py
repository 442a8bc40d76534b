"""The command line: help, usage errors, exit codes; every error is one line or one document."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reformer_export.cli.main import main
from reformer_export.inference.running import top_predictions
from reformer_export.inference.text import ByteCodec

from ..tools.artifact_fixtures import edit_manifest, environment, make_artifact, snapshot
from .invocation import child, error_line

VERBS = (
    "to-onnx",
    "to-tensorrt",
    "to-web",
    "serve-web",
    "import",
    "verify",
    "run",
    "serve",
    "map",
    "to-triton",
    "bench",
    "inspect",
    "add-kernels",
    "build-kernels",
    "doctor",
)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifact")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert main([flag]) == 0
    printed = capsys.readouterr()
    assert all(f"  {verb} " in printed.out for verb in VERBS)
    assert printed.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"Usage: reformer-export {verb} ")
    assert "--json" in printed
    assert "-v, --verbose" in printed


def test_no_verb_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "to-onnx" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import reformer_export

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"reformer-export {reformer_export.__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from reformer_export.cli.main import main;"
        f"[main([verb, '--help']) for verb in {VERBS}];"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'transformers', 'numpy', 'rich'};"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["transmogrify"], "No such command 'transmogrify'"),
        (["--jsn"], "No such option"),
        (["to-onnx", "out"], "Missing option '-m' / '--model'"),
        (["to-onnx", "-m", "x"], "Missing argument 'OUT'"),
        (["to-onnx", "-m", "x", "out", "--task", "poetry"], "'poetry' is not one of"),
        (["to-onnx", "-m", "x", "out", "--dtype", "int3"], "'int3' is not one of"),
        (["to-onnx", "-m", "x", "out", "--num-buckets", "64,x"], "'64,x' is not a list"),
        (["to-onnx", "-m", "x", "out", "--num-buckets", "64,1"], "1 is below 2"),
        (["to-onnx", "-m", "x", "out", "--max-length", "0"], "0 is not in the range"),
        (["to-onnx", "-m", "x", "out", "--hash-seed", "-1"], "-1 is not in the range"),
        (["verify"], "Missing argument 'ARTIFACT...'"),
        (["verify", "a", "--lengths", "1,,2"], "'1,,2' is not a list"),
        (["verify", "a", "--batch", "0"], "0 is below 1"),
        (["run", "a"], "exactly one of --input-ids, --text, --text-file and --series"),
        (["run", "a", "--text", "x", "--text-file", "y"], "exactly one of"),
        (["run", "a", "--text", "x", "--attention-mask", "y"], "goes with --input-ids"),
        (["run", "a", "--text", "x", "--output", "y.npy"], "name a .npz file"),
        (["run", "a", "--text", "x", "--output", "no/such/y.npz"], "its folder does not exist"),
        (["inspect", "a", "b"], "unexpected extra argument (b)"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_usage_errors(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str, as_json: bool
) -> None:
    assert main([*arguments, *(["--json"] if as_json else [])]) == 2
    if not as_json:
        assert said in error_line(capsys)
        return
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert said in document["error"]


def test_a_failure_is_one_line_and_code_1(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (artifact / "config.json").write_text("[]\n")
    assert main(["inspect", str(artifact)]) == 1
    assert "config.json has sha256" in error_line(capsys)
    assert main(["inspect", str(artifact / "absent")]) == 1
    assert "there is no artifact at" in error_line(capsys)
    edit_manifest(artifact, schema_version=9)
    assert main(["inspect", str(artifact)]) == 1
    assert "pip install --upgrade reformer-export" in error_line(capsys)


def test_a_failure_with_json_is_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--json", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["exit_code"] == 1
    assert printed.err == f"error: {document['error']}\n"


def test_verbose_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "-v", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert printed.splitlines()[-1].startswith("error: ")


def test_a_hostile_name_cannot_speak_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path / "a\x1b[2Jb\nerror: c")]) == 1
    line = error_line(capsys)
    assert "\x1b" not in line
    assert "\\x1b[2J" in line


def test_inspect(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(artifact)
    assert main(["inspect", str(artifact)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for expected in (
        "ReformerModelWithLMHead, text-generation, fp32",
        "input_ids: int64 [batch, sequence]",
        "logits: float32 [batch, sequence, 256]",
        "1 to 64 tokens",
        "2 rounds, buckets 4 x 8, seed 7, 1 layers",
        "a note",
        "1  reformer.Hide",
        "reformer.Hide, 4 nodes",
        "not verified",
    ):
        assert expected in printed.out
    assert snapshot(artifact) == before


def test_inspect_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_artifact(tmp_path / "artifact", external=True)
    assert main(["inspect", "--json", str(folder)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["hashes_checked"] is True
    assert document["manifest"] == json.loads((folder / "manifest.json").read_text())
    assert document["graph"] == {
        "ops": {"Gather": 1, "reformer.Hide": 1},
        "functions": {"reformer.Hide": 4},
        "opsets": {"ai.onnx": 18, "reformer": 1},
        "parameters": 256 * 256,
        "external_data": ["model.onnx_data"],
    }


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    facts = {fact["name"]: fact for fact in document["facts"]}
    assert document["healthy"] is True
    assert facts["onnxruntime"]["status"] == "ok"
    assert facts["onnxruntime"]["detail"].startswith(onnxruntime.__version__)
    assert "CPUExecutionProvider" in facts["onnxruntime"]["detail"]
    assert facts["numpy"]["detail"] == np.__version__
    for fact in facts.values():
        assert fact["status"] in ("ok", "missing", "broken", "info")
        assert fact["detail"]


def test_doctor_survives_a_broken_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even one that aborts the process that imports it."""
    (tmp_path / "onnxruntime.py").write_text("import os; os.abort()")
    (tmp_path / "openvino.py").write_text("raise ImportError('libopenvino.so: not found')")
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.99: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "crashed with signal 6" in printed
    assert "libcudart.so.99: not found: pip install --force-reinstall torch" in printed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.array([[1, 300]]), "is 300, outside the vocabulary 0..255"),
        (np.zeros((1, 65), int), "a sequence of 65 tokens; the model takes 1 to 64"),
        (np.zeros((1, 0), int), "an empty sequence"),
        (np.zeros((0, 5), int), "an empty batch"),
        (np.zeros((1, 2, 3), int), "must be [length] or [batch, length]"),
        (np.array([0.5]), "must be integers, found float64"),
        (np.array([{}]), "does not hold an array of numbers"),
        (b"\x93NUMPY\x01\x00\x08\x00{'descr'", "does not hold an array of numbers"),
        (b"PK\x03\x04", "is not a .npy file"),
        (b"", "is not a .npy file"),
        (None, "No such file or directory"),
    ],
)
def test_run_refuses_token_ids_the_model_does_not_take(
    artifact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: np.ndarray | bytes | None,
    said: str,
) -> None:
    path = tmp_path / "ids.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    before = snapshot(tmp_path)
    out = tmp_path / "out.npz"
    assert main(["run", str(artifact), "--input-ids", str(path), "--output", str(out)]) == 1
    assert said in error_line(capsys)
    assert snapshot(tmp_path) == before


def test_a_header_that_claims_more_than_the_file_holds_allocates_nothing(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ids.npy"
    with path.open("wb") as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (2**40,)}
        np.lib.format.write_array_header_1_0(file, header)
    assert main(["run", str(artifact), "--input-ids", str(path)]) == 1
    assert "greater than file size" in error_line(capsys)


def test_run_refuses_a_mask_of_another_shape(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, mask = tmp_path / "ids.npy", tmp_path / "mask.npy"
    np.save(ids, np.arange(5))
    np.save(mask, np.ones(4, int))
    arguments = ["run", str(artifact), "--input-ids", str(ids), "--attention-mask", str(mask)]
    assert main(arguments) == 1
    assert "attention_mask has shape [1, 4] and input_ids [1, 5]" in error_line(capsys)


def test_run_refuses_an_empty_text(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(artifact), "--text", ""]) == 1
    assert "an empty sequence" in error_line(capsys)


def test_the_top_prediction_is_that_of_the_last_token() -> None:
    logits = np.zeros((2, 3, 256), np.float16)
    logits[0, 2, 97] = 2
    logits[1, 0, 98] = 3
    mask = np.array([[1, 1, 1], [1, 0, 0]])
    found = list(top_predictions({"logits": logits}, mask, ByteCodec()))
    assert [(p.row, p.position, p.index, p.score, p.text) for p in found] == [
        (0, 2, 97, 2.0, "'a'"),
        (1, 0, 98, 3.0, "'b'"),
    ]
    (classified,) = top_predictions({"logits": np.array([[0.5, 1.5]])}, mask[:1], ByteCodec())
    assert (classified.position, classified.index, classified.text) == (None, 1, None)
    assert list(top_predictions({"last_hidden_state": logits}, mask)) == []


def test_an_unexpected_error_is_one_line_too(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ValueError('first line\\nsecond line')")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    done = child("inspect", artifact, "--json", capture_output=True, env={"PYTHONPATH": path})
    said = "unexpected ValueError: first line (a bug? -v shows the traceback)"
    assert (done.returncode, done.stderr) == (1, f"error: {said}\n")
    assert json.loads(done.stdout) == {"error": said, "exit_code": 1}


def test_an_interrupt_is_code_130() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "reformer_export", "doctor"],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # the shell may ignore it
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "looking at packages and runtimes\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.strip()) == (130, "", "error: interrupted")


def test_a_reader_that_leaves_early_is_no_error(artifact: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stdout:
        done = child("inspect", artifact, stdout=stdout, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_full_disk_under_stdout_is_an_error(artifact: Path, flags: list[str]) -> None:
    with open("/dev/full", "w") as stdout:
        done = child("inspect", artifact, *flags, stdout=stdout, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")
