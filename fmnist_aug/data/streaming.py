"""Pictures that stay on the disk and are decoded when they are drawn."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.folders import read_images
from fmnist_aug.errors import DataError

SHARE_OF_MEMORY = 1 / 3
"""Of the free memory that decoded pictures may take. A comparison holds them up to three times:
read, in the process that starts the runs, and the probe's part."""
_BLOCK_BYTES = 4 << 20


class StreamedImages:
    """Pictures on the disk that answer like an array uint8 (N, H, W, C).

    Indexing decodes the pictures that are asked for and keeps none; `select` decodes nothing.

    Args:
        paths: of the pictures.
        form: height, width and channels to which they are brought, as for `read_images`.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[str | Path], form: tuple[int, int, int]) -> None:
        self.paths = [os.fspath(path) for path in paths]  # a third of a Path's memory
        self.form = form
        self.shape = (len(paths), *form)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """One picture (H, W, C) for a number; (n, H, W, C) for a slice or an array.

        Raises:
            DataError: a file is no picture any more, or is cut.
        """
        if isinstance(index, (int, np.integer)):
            image: NDArray[np.uint8] = self._decode([self.paths[index]])[0]
            return image
        return self._decode(self.select(index).paths)

    def select(self, index: slice | NDArray[Any]) -> StreamedImages:
        """The pictures at ``index``, still on the disk."""
        return StreamedImages(
            [self.paths[place] for place in np.arange(len(self))[index]], self.form
        )

    def batches(self, indices: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        """Decode one batch after the other, a few ahead, in as many processes as torch has threads.

        Args:
            indices: of each batch.

        Raises:
            DataError: a file is no picture any more, or a process was killed.
        """
        import joblib
        import torch
        from torch.utils.data import DataLoader

        loader: Any = DataLoader(
            _Decoding(self),  # type: ignore[arg-type]
            batch_size=None,  # an "index" is a whole batch of them
            sampler=indices,
            num_workers=min(torch.get_num_threads(), joblib.cpu_count()),
            # as arrays, which go through a pipe: a container's shared memory is soon full
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else it would draw from the global one
        )
        try:
            for images in loader:
                if isinstance(images, DataError):
                    raise images
                yield images
        except RuntimeError as error:  # torch's word for it
            raise DataError(
                "a process that decodes pictures was killed, perhaps since memory ran out; what is "
                "finished is kept: try the same command with fewer --jobs"
            ) from error

    def _decode(self, paths: Sequence[str]) -> NDArray[np.uint8]:
        return read_images([Path(path) for path in paths], self.form)


Images = NDArray[np.uint8] | StreamedImages


class _Decoding:
    """What a worker does: its errors travel as values, for torch would wrap them in a traceback."""

    def __init__(self, images: StreamedImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.uint8] | DataError:
        try:
            return self.images[indices]
        except DataError as error:
            return error


def blocks(images: Images, size: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """All images in order, at most ``size`` or 4 MB at a time; streamed ones are decoded ahead."""
    size = size or max(1, _BLOCK_BYTES // max(1, math.prod(images.shape[1:])))
    starts = range(0, len(images), size)
    if isinstance(images, StreamedImages):
        places = np.arange(len(images))
        yield from images.batches([places[start : start + size] for start in starts])
    else:
        for start in starts:
            yield images[start : start + size]


def needs_streaming(decoded_bytes: int) -> bool:
    """Whether so many bytes are more than `SHARE_OF_MEMORY` of what is free for this process.

    The processes that ``torchrun`` starts on a machine share its memory.
    """
    free = free_memory()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return free is not None and decoded_bytes > free / processes * SHARE_OF_MEMORY


def free_memory() -> int | None:
    """Bytes that may still be taken, also inside a container; None where the system won't say.

    On Linux what the kernel calls available; elsewhere all memory that there is.
    """
    found: list[int] = []
    with contextlib.suppress(OSError, LookupError, ValueError):
        found.append(1024 * _numbers(Path("/proc/meminfo"))["MemAvailable:"])
    with contextlib.suppress(OSError, LookupError, ValueError):  # "max": no limit
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text())
        cached = _numbers(group / "memory.stat")["inactive_file"]
        found.append(int((group / "memory.max").read_text()) - used + cached)
    if not found:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def _numbers(path: Path) -> dict[str, int]:
    """The first number after each word that begins a line."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines}


def _as_it_is(images: Any) -> Any:
    return images
