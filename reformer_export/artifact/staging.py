"""Writes a folder or a file so that it appears completely or not at all.

The contents are written into a hidden sibling on the same file system. When it is complete and
flushed, one rename gives it its real name. An error, Ctrl-C or a full disk removes it instead.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from reformer_export.errors import ExportError, UsageError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


@contextmanager
def stage(out: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a hidden folder beside `out` that becomes `out` when the block ends without an error.

    A missing parent is created. An existing `out` is refused; with `force` it is replaced if it is
    an empty folder, or an artifact or engine with only the files of its manifest or record, so no
    other file is ever deleted. UsageError: `out` cannot be used, or another process is writing it.
    ExportError: the disk is full, or another OSError in the block. After any failure, no new file
    remains and an existing artifact is unchanged.
    """
    target = Path(os.path.realpath(out))  # a link to a folder on a larger disk keeps working
    _check_target(target, force=force)
    created = _make_parents(target.parent)
    temporary = _working_folder(target)
    try:
        with _reserved(temporary, target):
            try:
                yield temporary
                _flush(temporary)
                _check_target(target, force=force)  # it may have appeared or changed meanwhile
                _take_place(temporary, target)
            except BaseException as error:
                shutil.rmtree(temporary, ignore_errors=True)
                if isinstance(error, OSError):
                    raise ExportError(_explain(error, target, temporary)) from error
                raise
    except BaseException:
        _remove_empty(created)
        raise


@contextmanager
def _reserved(folder: Path, target: Path) -> Iterator[None]:
    """Create the working folder of `target`, and lock it against other processes.

    Files that remain from a process that died are removed; its lock ended with it. UsageError:
    another process has the lock, or the folder cannot be created.
    """
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(
            f"cannot write in {folder.parent}: {error.strerror}; choose another folder"
        ) from error
    try:
        try:
            _lock(descriptor)
            still_there = os.path.samestat(os.fstat(descriptor), folder.stat())
        except (BlockingIOError, FileNotFoundError):
            still_there = False
        if not still_there:
            raise UsageError(
                f"another process is writing {target}: wait for it, or choose another folder"
            )
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock an open folder; BlockingIOError if another process has the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # a file system without locks: the last export wins
            raise


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` (replacing it) when the block ends without an error.

    After an error, the hidden file is removed. OSErrors are raised unchanged.
    """
    target = Path(os.path.realpath(path))
    temporary = _hidden_sibling(target)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            _sync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_target(target: Path, *, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UsageError(f"{target} exists and is not a folder: choose another one")
    if not force:
        raise UsageError(f"{target} exists: choose another folder, or --force to replace it")
    try:
        present = {entry.name for entry in os.scandir(target)}
    except OSError as error:
        raise UsageError(f"cannot read {target}: {error.strerror}") from error
    if not present:
        return
    ours = _listed_files(target)
    if ours is None:
        raise UsageError(
            f"{target} is not an artifact of reformer-export, so --force will not replace it: "
            "choose another folder"
        )
    foreign = sorted(present - ours)
    if foreign:
        raise UsageError(
            f"{target} holds {foreign[0]!r}, which its manifest does not list "
            f"({len(foreign)} such), so --force will not replace it: move that away"
        )


def _listed_files(folder: Path) -> set[str] | None:
    """The files that an artifact's manifest or an engine's record lists; None without either.

    Few fields are checked on purpose: an artifact of a newer schema, or a damaged one, may be
    replaced.
    """
    names = ("manifest.json", "engine.json")
    manifest = next((folder / name for name in names if (folder / name).exists()), folder)
    try:
        raw = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("schema_version"), int):
        return None
    files = raw.get("files")
    return {manifest.name, *files} if isinstance(files, dict) else None


def _make_parents(folder: Path) -> list[Path]:
    """Create missing folders; returns the created ones, deepest first."""
    parent, missing = folder, []
    created: list[Path] = []
    try:
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            created.insert(0, parent)
    except OSError as error:
        _remove_empty(created)
        raise UsageError(
            f"cannot create the folder {folder}: {error.strerror}; choose another one"
        ) from error
    return created


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty: another process uses the folder now
            folder.rmdir()


def _working_folder(target: Path) -> Path:
    """The hidden folder that becomes `target`; all processes that write `target` use this name."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    return target.parent / f".reformer-export-{digest}"


def _hidden_sibling(target: Path) -> Path:
    return target.parent / f".reformer-export-{secrets.token_hex(6)}"


def _take_place(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`; the former folder is kept until the rename succeeds."""
    if not target.exists() or not any(target.iterdir()):
        temporary.rename(target)  # POSIX replaces an empty folder in one step
        return
    former = _hidden_sibling(target)
    try:
        target.rename(former)
        temporary.rename(target)
    except BaseException:
        if former.exists() and not target.exists():
            former.rename(target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(former, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Flush the contents to the disk: some file systems report only now that it is full."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no fsync
            raise


def _explain(error: OSError, target: Path, temporary: Path) -> str:
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return (
            f"no room to write {target} ({reason}): free some space or choose another disk; "
            "nothing was written"
        )
    place = str(error.filename) if error.filename is not None else ""
    inside = place.startswith(str(temporary))  # a name that the user does not know
    return f"could not make {target}: {reason}{f': {place}' if place and not inside else ''}"
