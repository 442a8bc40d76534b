"""The output folder appears complete or not at all, even if writing it fails."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reformer_export.artifact import Artifact
from reformer_export.artifact.staging import atomic_file, stage
from reformer_export.errors import ExportError, ReformerError, UsageError

from ..tools.artifact_fixtures import environment, make_artifact, snapshot


def fill(folder: Path, size: int = 10) -> None:
    (folder / "model.onnx").write_bytes(b"x" * size)


def nothing(folder: Path) -> None:
    """Writes no further file: for tests about the folder itself."""


def fail(error: BaseException) -> None:
    raise error


def write(out: Path, then: Callable[[Path], object] = nothing, *, force: bool = False) -> None:
    """Stage a file, then call `then` with the staging folder."""
    with stage(out, force=force) as folder:
        fill(folder)
        then(folder)


def test_the_folder_appears_at_the_end_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    with stage(out) as folder:
        fill(folder)
        assert not out.exists()
        assert folder.parent == out.parent
    assert snapshot(tmp_path) == {"deep/er/out/model.onnx": b"x" * 10}
    assert os.listdir(out.parent) == ["out"]


def test_the_folder_has_the_permissions_that_mkdir_gives(tmp_path: Path) -> None:
    with stage(tmp_path / "out"):
        pass
    (tmp_path / "plain").mkdir()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


def test_a_relative_path_stays_where_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with stage("out") as folder:
        fill(folder)
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert (tmp_path / "out" / "model.onnx").exists()


@pytest.mark.parametrize("error", [ValueError, ReformerError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write(tmp_path / "new" / "out", lambda _: fail(error()))
    assert os.listdir(tmp_path) == []


def test_a_parent_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="x"):
        write(tmp_path / "old" / "new" / "out", lambda _: fail(ValueError("x")))
    assert os.listdir(tmp_path) == ["old"]
    assert os.listdir(tmp_path / "old") == []


@pytest.mark.parametrize("force", [False, True])
def test_a_file_is_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="is not a folder"), stage(tmp_path / "out", force=force):
        pass
    assert snapshot(tmp_path) == {"out": b"mine"}


@pytest.mark.parametrize("empty", [False, True])
def test_an_existing_folder_needs_force(tmp_path: Path, empty: bool) -> None:
    out = tmp_path / "out"
    out.mkdir() if empty else make_artifact(out)
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match="exists: choose another folder, or --force") as caught:
        write(out)
    assert caught.value.exit_code == 2
    assert snapshot(tmp_path) == before


def test_force_replaces_an_artifact_and_an_empty_folder(tmp_path: Path) -> None:
    make_artifact(tmp_path / "artifact")
    (tmp_path / "empty").mkdir()
    for name in ("artifact", "empty"):
        with stage(tmp_path / name, force=True) as folder:
            fill(folder)
        assert os.listdir(tmp_path / name) == ["model.onnx"]
    assert sorted(os.listdir(tmp_path)) == ["artifact", "empty"]


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
@pytest.mark.parametrize("content", ["{}", '{"files": {}}', "[1]", "{", '{"schema_version": "1"}'])
def test_force_keeps_a_folder_that_is_no_artifact(tmp_path: Path, name: str, content: str) -> None:
    """This protects a checkpoint above all: users easily confuse OUT with the model's folder."""
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(content)
    with pytest.raises(UsageError, match="is not an artifact"), stage(out, force=True):
        pass
    assert snapshot(out) == {name: content.encode()}


def test_force_keeps_a_file_that_somebody_put_into_an_artifact(tmp_path: Path) -> None:
    out = make_artifact(tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'notes\.txt'"), stage(out, force=True):
        pass
    assert (out / "notes.txt").read_text() == "mine"


def test_force_looks_again_before_it_replaces(tmp_path: Path) -> None:
    out = make_artifact(tmp_path / "out")
    with pytest.raises(UsageError, match="notes"):
        write(out, lambda _: (out / "notes.txt").write_text("mine"), force=True)
    assert (out / "notes.txt").exists()
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists"):
        write(tmp_path / "out", lambda _: make_artifact(tmp_path / "out"))
    assert Artifact.open(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


def test_a_failed_replacement_leaves_the_former_artifact(tmp_path: Path) -> None:
    out = make_artifact(tmp_path / "out")
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match="x"):
        write(out, lambda _: fail(ValueError("x")), force=True)
    assert snapshot(tmp_path) == before
    assert os.listdir(tmp_path) == ["out"]


def test_a_link_keeps_pointing_at_the_folder(tmp_path: Path) -> None:
    """OUT may be a link to a larger disk; the hidden staging folder is then on that disk too."""
    disk = tmp_path / "disk"
    make_artifact(disk / "out")
    link = tmp_path / "link"
    link.symlink_to(disk / "out")
    with stage(link, force=True) as folder:
        assert folder.parent == disk
        fill(folder)
    assert link.is_symlink()
    assert os.listdir(disk / "out") == ["model.onnx"]


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot"), stage(tmp_path / "file" / "deep" / "out"):
        pass
    assert snapshot(tmp_path) == {"file": b"mine"}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Acts as an unprivileged user if the user is root: permissions do not limit root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; only their owner can reach pytest's folders."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["out", "deep/out"])
@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_an_unwritable_parent(open_folder: Path, name: str, mode: int) -> None:
    open_folder.chmod(mode)
    with as_nobody(), pytest.raises(UsageError, match=r"cannot .*: Permission denied; choose"):
        write(open_folder / name)
    open_folder.chmod(0o755)
    assert os.listdir(open_folder) == []


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing beyond `size` really fails with EFBIG, for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_finds_no_room(tmp_path: Path) -> None:
    source = make_artifact(tmp_path / "source")
    before = snapshot(tmp_path)

    def copy_and_grow(folder: Path) -> None:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        fill(folder, 2**21)

    no_room = pytest.raises(ExportError, match=r"no room to write .*free some space")
    with no_room as caught, file_size_limit(2**20):
        write(tmp_path / "out", copy_and_grow)
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == before
    assert os.listdir(tmp_path) == ["source"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    libc = ctypes.CDLL(None, use_errno=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    if libc.mount(b"none", os.fsencode(disk), b"tmpfs", 0, b"size=256k"):
        reason = os.strerror(ctypes.get_errno())
        pytest.skip(f"mounting a small file system needs a privilege: {reason}")
    yield disk
    libc.umount(os.fsencode(disk))


@pytest.mark.parametrize("replacing", [False, True])
def test_a_full_disk(small_disk: Path, replacing: bool) -> None:
    out = small_disk / "out"
    if replacing:
        make_artifact(out, vocab_size=64)
    before = snapshot(small_disk)
    with pytest.raises(ExportError, match="No space left on device"):
        write(out, lambda folder: fill(folder, 2**20), force=replacing)
    assert snapshot(small_disk) == before
    assert os.listdir(small_disk) == (["out"] if replacing else [])


def test_another_os_error_names_the_file_it_is_about(tmp_path: Path) -> None:
    missing = tmp_path / "weights.bin"
    with pytest.raises(ExportError, match=r"No such file or directory: .*weights\.bin"):
        write(tmp_path / "out", lambda _: missing.read_bytes())
    with pytest.raises(ExportError) as caught:
        write(tmp_path / "out", lambda folder: (folder / "x").read_bytes())
    assert str(caught.value) == f"could not make {tmp_path / 'out'}: No such file or directory"


INTERRUPTED = """
import signal, sys, time
from reformer_export.cli.main import terminable
from reformer_export.artifact.staging import stage
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start us without
with terminable(), stage(sys.argv[1]) as folder:
    (folder / "model.onnx").write_bytes(b"x")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_process_that_is_stopped_cleans_up(tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "new" / "out"
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(os.listdir(tmp_path / "new")) == 1
        process.send_signal(number)
        assert process.wait(30) == code
    assert os.listdir(tmp_path) == []


def replace(path: Path, data: bytes, error: BaseException | None = None) -> None:
    with atomic_file(path) as file:
        file.write(data)
        if error:
            raise error


def test_an_atomic_file_replaces_or_leaves(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        replace(path, b"half", KeyboardInterrupt())
    assert snapshot(tmp_path) == {"file": b"old"}
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert snapshot(tmp_path) == {"file": b"new"}


def test_an_atomic_file_that_finds_no_room(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too large") as caught, file_size_limit(2**20):
        replace(tmp_path / "file", b"x" * 2**21)
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == []


def test_the_second_of_two_finds_out_at_once(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with stage(out) as first:
        (first / "file").write_text("first")
        said = f"another process is writing {out}: wait"
        with pytest.raises(UsageError, match=said), stage(out):
            pytest.fail("it must not get this far")
        with stage(tmp_path / "new" / "another") as second:
            (second / "file").write_text("second")
    assert snapshot(tmp_path) == {"new/out/file": b"first", "new/another/file": b"second"}


def test_what_a_killed_process_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path;"
        "from reformer_export.artifact.staging import stage\n"
        f"with stage({str(tmp_path / 'out')!r}) as folder:\n"
        "    (folder / 'half').write_text('x'); (folder / 'sub').mkdir()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert (left / "half").exists()
    with stage(tmp_path / "out") as folder:
        (folder / "file").write_text("whole")
    assert snapshot(tmp_path) == {"out/file": b"whole"}


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with stage(tmp_path / "out") as folder:
        (folder / "file").write_text("whole")
    assert snapshot(tmp_path) == {"out/file": b"whole"}
