"""The one writer: every file appears whole or not at all, and one process owns a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmnist_aug.errors import RunFolderError

LOCK_NAME = ".lock"


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new, never a part.

    A temporary file in the same folder is written, flushed to the disk and renamed over ``path``.

    Raises:
        RunFolderError: the file can't be written; what was there before is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o666 & ~_umask())  # mkstemp makes 0600; honour the user's mask
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFolderError(
            f"cannot write {path}: {reason}; free some space or choose a folder that you may "
            "write to (--out)"
        ) from error


def write_text(path: Path, content: str) -> None:
    """Write ``content`` as UTF-8, as `write_bytes` does."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON without NaN, as `write_bytes` does."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that this package wrote.

    Raises:
        RunFolderError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RunFolderError(
            f"{path} is not valid JSON ({error}); remove it and run the same command again"
        ) from error


def check_writable(path: Path) -> None:
    """Fail before a long work whose result goes to ``path``, not after it.

    Raises:
        RunFolderError: ``path`` is a folder, or its folder is missing or can't be written to.
    """
    folder = path.parent
    if path.is_dir():
        raise RunFolderError(f"{path} is a folder; name a file (--out)")
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is no folder; make it or choose another --out")
    if not os.access(folder, os.W_OK):
        raise RunFolderError(f"cannot write into {folder}; choose another --out")


@contextlib.contextmanager
def owned_folder(folder: Path) -> Iterator[Path]:
    """Make ``folder`` if needed and own it until the block ends; the kernel frees a dead owner's.

    Raises:
        RunFolderError: the folder can't be made or written, or another process owns it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFolderError(
            f"cannot use {folder} as the output folder: {reason}; choose a folder that you may "
            "write to (--out)"
        ) from error
    try:
        if not _lock(descriptor):
            raise RunFolderError(
                f"{folder} is in use by another fmnist-aug; wait for it or choose another --out"
            )
        yield folder
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl; its own lock is freed with the process as well
        return _lock_windows(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_windows(descriptor: int) -> bool:  # pragma: no cover
    import msvcrt

    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut where the system can open folders (not on Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
