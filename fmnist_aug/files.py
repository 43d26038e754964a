"""The one writer: every file appears whole or not at all, and one process owns a run folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmnist_aug.errors import RunFolderError

LOCK_NAME = ".lock"
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.partial")
_SEALED, _SEAL = "sealed", "sha256"


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new, never a part.

    A temporary file in the same folder is written, flushed to the disk and renamed over ``path``;
    a link is replaced, and the file that it links to stays.

    Raises:
        RunFolderError: the file can't be written, or is a device or a pipe; what was there before
            is untouched.
    """
    _refuse_special(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(".partial", f".{path.name[:40]}.", path.parent)
        try:
            with _closing(descriptor):
                _write_all(descriptor, content)
                os.fsync(descriptor)
            Path(name).chmod(0o666 & ~_umask())  # mkstemp makes 0600; honour the user's mask
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # what went wrong first is what is told
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
    """Write ``content`` as UTF-8, as `write_bytes` does.

    Bytes of a file name that are not UTF-8 are written as JSON escapes them.
    """
    write_bytes(path, content.encode(errors="backslashreplace"))


def encode_json(value: Any) -> bytes:
    """Indented JSON without NaN, in UTF-8."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as `encode_json` encodes it, as `write_bytes` does."""
    write_bytes(path, encode_json(value))


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` as `write_json` does, with a checksum that `read_sealed` compares."""
    write_json(path, {**value, _SEALED: True, _SEAL: _digest(value)})


def read_bytes(path: Path) -> bytes:
    """Read a file that this package wrote.

    Raises:
        RunFolderError: the file is missing or can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path, advice: str = "remove it and run the same command again") -> Any:
    """Read a JSON file that this package wrote.

    Args:
        path: the file.
        advice: what to do if it isn't valid.

    Raises:
        RunFolderError: the file is missing or is not JSON.
    """
    content = read_bytes(path)
    try:
        text = content.decode("utf-8")
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is not valid JSON ({error}); {advice}") from error


def _refuse_special(path: Path) -> None:
    try:
        special = path.exists() and not path.is_file() and not path.is_dir()
    except OSError as error:  # a name that is too long
        raise RunFolderError(f"cannot write {path}: {error.strerror or error}") from error
    if special:
        raise RunFolderError(f"{path} is a device or a pipe; name a file (--out)")


def check_writable(path: Path) -> None:
    """Fail before a long work whose result goes to ``path``, not after it.

    Raises:
        RunFolderError: ``path`` is a folder, a device or a pipe, its name is too long, or its
            folder is missing or can't be written to.
    """
    folder = path.parent
    _refuse_special(path)
    if path.is_dir():
        raise RunFolderError(f"{path} is a folder; name a file (--out)")
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is no folder; make it or choose another --out")
    if not os.access(folder, os.W_OK):
        raise RunFolderError(f"cannot write into {folder}; choose another --out")


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without its checksum; what `write_json` wrote is believed.

    Raises:
        RunFolderError: the file is missing, is not a JSON object, or was changed.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise RunFolderError(f"{path} holds no JSON object; remove it and run the command again")
    sealed, seal = value.pop(_SEALED, False), value.pop(_SEAL, None)
    if sealed is not (seal is not None) or (sealed and seal != _digest(value)):
        raise RunFolderError(
            f"{path} was changed or damaged after it was written; remove it and run the same "
            "command again, which makes it anew"
        )
    return value


def remove_temporaries(folder: Path) -> None:
    """Remove what writes that were killed left in ``folder``; only its owner may do that."""
    with contextlib.suppress(OSError):  # they harm nobody if they stay
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) and path.is_file():
                path.unlink()


@contextlib.contextmanager
def owned_folder(folder: Path) -> Iterator[Path]:
    """Make ``folder`` if needed and own it until the block ends; the kernel frees a dead owner's.

    Raises:
        RunFolderError: the folder can't be made or written, or another process owns it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
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
    except OSError as error:  # some network file systems have no locks
        raise RunFolderError(
            f"cannot lock the output folder: {error.strerror or error}; choose one on a local "
            "disk (--out)"
        ) from error
    return True


def _lock_windows(descriptor: int) -> bool:  # pragma: no cover
    import msvcrt

    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    os.close(descriptor)  # some file systems tell only now that the disk is full


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _finite(text: str) -> float:
    """JSON has no NaN, and 1e999 would become infinite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


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
