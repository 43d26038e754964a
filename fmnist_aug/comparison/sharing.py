"""Images that a process shares with those that it starts: they need no copy of their own."""

from __future__ import annotations

import dataclasses
import io
import mmap
import os
import weakref
from math import prod
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data import ImageDataset, StreamedImages


class _Memory(mmap.mmap):
    """Memory with a descriptor by which another process maps it too."""

    descriptor: int


def share_images(dataset: ImageDataset) -> ImageDataset:
    """The same data set with its images where other processes can map them.

    Streamed images stay on the disk. Only Linux knows such memory (``memfd_create``); elsewhere
    the data set comes back as it is, and its images are copied to each process.
    """
    images = dataset.images
    if isinstance(images, StreamedImages) or not hasattr(os, "memfd_create"):
        return dataset
    descriptor = os.memfd_create("images")
    os.ftruncate(descriptor, images.nbytes)
    memory = _Memory(descriptor, images.nbytes)
    memory.descriptor = descriptor
    weakref.finalize(memory, os.close, descriptor)
    shared = np.frombuffer(memory, np.uint8).reshape(images.shape)
    shared[...] = images
    return dataclasses.replace(dataset, images=shared)


def dump(value: Any) -> tuple[bytes, list[int]]:
    """Pickle for a process that is about to be started.

    Returns:
        The pickle, and the descriptors that the process must inherit to load it.
    """
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(value)
    return stream.getvalue(), pickler.descriptors


class _Pickler(ForkingPickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.descriptors: list[int] = []

    def reducer_override(self, value: Any) -> Any:
        memory: Any = value if isinstance(value, np.ndarray) else None
        while isinstance(memory, np.ndarray | memoryview):
            memory = memory.base if isinstance(memory, np.ndarray) else memory.obj
        whole = isinstance(memory, _Memory) and value.nbytes == len(memory)
        if not whole or not value.flags.c_contiguous:
            return NotImplemented
        if memory.descriptor not in self.descriptors:
            self.descriptors.append(memory.descriptor)
        return _attach, (memory.descriptor, value.shape)


def _attach(descriptor: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(mmap.mmap(descriptor, prod(shape)), np.uint8).reshape(shape)
