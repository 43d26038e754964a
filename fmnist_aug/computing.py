"""How a CPU computes a layer, for those that have a faster way of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

_Share = TypeVar("_Share")


def is_recorded() -> bool:
    """Whether the network is being compiled, exported or traced: then it must be the plain one."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def computed_type(images: Tensor, weight: Tensor) -> torch.dtype | None:
    """The type in which the CPU computes a convolution of these images, autocast considered.

    None where a way of our own has no place: while the network is recorded, on other devices,
    without a batch, and for types that don't fit.
    """
    # first: who records a network must not meet questions about its images
    if is_recorded() or images.device.type != "cpu" or images.ndim != 4 or len(images) == 0:
        return None
    types = {images.dtype, weight.dtype}
    if torch.is_autocast_enabled("cpu"):
        return None if torch.float64 in types else torch.get_autocast_dtype("cpu")
    return images.dtype if len(types) == 1 else None


def has_vector_bf16() -> bool:
    """Whether the CPU multiplies bf16 in vectors (AVX512-BF16), not in matrices (AMX)."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16")) and not capabilities.get("amx_bf16")


def order_gradient(maps: Tensor) -> None:
    """Let the gradient of channels-last maps (N, C, H, W) be channels-last too.

    Flattening leaves it in another order, in which a CPU's max-pooling takes three times as long.
    """
    last = torch.channels_last
    if not is_recorded() and maps.requires_grad and maps.is_contiguous(memory_format=last):
        hook = partial(Tensor.contiguous, memory_format=last)
        maps.register_hook(hook)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads in this block, also on threads that begin in it.

    These take the number with their first operation that torch could split.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_threads(work: Callable[[_Share], object], shares: Sequence[_Share]) -> None:
    """Do the shares at the same time, each on one thread, the first on this one; without gradients.

    The threads on which torch does an operation wait for each other at its end. These wait once,
    for many small operations, which matters most where the cores have other work too.
    """
    # tensors that were made in inference mode may be changed in it only
    mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad

    def do(share: _Share) -> None:
        with mode():
            work(share)

    if len(shares) == 1:
        do(shares[0])
        return
    # a new thread takes torch's number with its first large operation only: until then MKL would
    # split small products, and their last digits would depend on which share a thread takes first
    initializer = partial(torch.set_num_threads, 1)
    with use_threads(1), ThreadPoolExecutor(len(shares) - 1, initializer=initializer) as executor:
        others = executor.map(do, shares[1:])
        do(shares[0])
        for _ in others:  # what one of them raised is raised here
            pass
