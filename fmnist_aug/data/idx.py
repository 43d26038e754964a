"""A strict reader of IDX files, the format of MNIST and Fashion-MNIST.

Silent corruption is the worst outcome, so every number in a file is checked and nothing is
guessed. The format: two zero bytes, a type byte (8: uint8), the number of dimensions, that many
big-endian 32-bit sizes, then the values (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.errors import DataError

FILE_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MAX_BYTES = 1 << 32
"""No file may hold more (4 GiB): a forged header must not fill the memory."""
MAX_GROWTH = 100
"""How many times a large compressed file may grow; MNIST's grow 5 times, bombs 1,000 times."""
_BOMB_BYTES = 1 << 26
_CHUNK = 1 << 20


def read_idx(
    path: Path, dimensions: int, sha256: str | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Read one IDX file of uint8 values, compressed (``.gz``) or not.

    Args:
        path: the file.
        dimensions: how many dimensions it must have: 1 for labels, 3 for images.
        sha256: the hex digest that the decompressed bytes must have, if it is known.

    Returns:
        The values, uint8, with the sizes of the header, and the SHA-256 (hex) of the
        decompressed bytes.

    Raises:
        DataError: the file can't be read, or anything in it is not as it should be.
    """
    magic = bytes([0, 0, 8, dimensions])
    try:
        with _open(path) as stream:
            header = stream.read(4 + 4 * dimensions)
            _check_header(path, header, magic)
            sizes = [int.from_bytes(header[4 + 4 * i : 8 + 4 * i]) for i in range(dimensions)]
            expected = prod(sizes)
            if 0 in sizes or expected > MAX_BYTES:
                raise DataError(f"{path}: the header asks for {_shape(sizes)} values; {_FIX}")
            _check_growth(path, expected)
            payload = _read_exactly(path, stream, expected, sizes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip data is cut or corrupt ({error}); {_FIX}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    hashed = hashlib.sha256(header)
    hashed.update(payload)
    digest = hashed.hexdigest()
    if sha256 is not None and digest != sha256:
        raise DataError(
            f"{path}: the content is not the official one (SHA-256 {digest[:12]}… instead of "
            f"{sha256[:12]}…), perhaps another data set under this name; {_FIX}"
        )
    return np.frombuffer(payload, np.uint8).reshape(sizes), digest


def read_idx_pair(
    images_path: Path, labels_path: Path, sha256: tuple[str, str] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, str]]:
    """Read images and their labels and check that they belong together.

    Returns:
        Images uint8 (N, H, W), labels int64 (N,), and the two files' SHA-256.

    Raises:
        DataError: as `read_idx`, or there are not as many labels as images.
    """
    images, images_digest = read_idx(images_path, 3, sha256[0] if sha256 else None)
    labels, labels_digest = read_idx(labels_path, 1, sha256[1] if sha256 else None)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images but {labels_path} holds {len(labels)} "
            "labels; they must be as many"
        )
    return images, labels.astype(np.int64), (images_digest, labels_digest)


def find_idx_files(folder: Path, split: str) -> tuple[Path, Path] | None:
    """Paths of the images and the labels of ``split`` in ``folder`` or ``folder/raw``.

    Returns:
        None if neither file is there.

    Raises:
        DataError: only one of the two is there.
    """
    for base in (folder, folder / "raw"):
        found = [_existing(base, stem) for stem in FILE_STEMS[split]]
        if all(found):
            return found[0], found[1]  # type: ignore[return-value]
        if any(found):
            missing = FILE_STEMS[split][found.index(None)]
            raise DataError(
                f"{base} holds {next(path for path in found if path).name} but not {missing}[.gz]; "
                "images and labels are both needed"
            )
    return None


_FIX = "get the file again from its publisher"


def _existing(folder: Path, stem: str) -> Path | None:
    for name in (stem + ".gz", stem):
        if (folder / name).is_file():
            return folder / name
    return None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _check_header(path: Path, header: bytes, magic: bytes) -> None:
    if len(header) < 4 or header[:4] != magic:
        found = header[:4].hex() or "an empty file"
        raise DataError(
            f"{path}: not an IDX file of {magic[3]} dimension(s): it begins with {found} instead "
            f"of {magic.hex()}; are images and labels swapped, or is it another file?"
        )
    if len(header) < 4 + 4 * magic[3]:
        raise DataError(f"{path}: the header is cut after {len(header)} bytes; {_FIX}")


def _check_growth(path: Path, expected: int) -> None:
    """Refuse a small file that would fill the memory."""
    size = path.stat().st_size
    if path.suffix == ".gz" and expected > max(_BOMB_BYTES, MAX_GROWTH * size):
        raise DataError(
            f"{path}: {size} bytes would grow to {expected}, as no images do; {_FIX}, or unpack it"
        )


def _read_exactly(path: Path, stream: BinaryIO, expected: int, sizes: list[int]) -> bytearray:
    """Read in pieces, so that memory grows with what is there, not with what the header claims."""
    payload = bytearray()
    while len(payload) <= expected and (
        piece := stream.read(min(_CHUNK, expected + 1 - len(payload)))
    ):
        payload += piece
    if len(payload) != expected:
        found = f"only {len(payload)}" if len(payload) < expected else "more"
        raise DataError(
            f"{path}: the header promises {_shape(sizes)} = {expected} values but the file holds "
            f"{found}; {_FIX}"
        )
    return payload


def _shape(sizes: list[int]) -> str:
    return " × ".join(map(str, sizes))
