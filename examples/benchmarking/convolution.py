"""What backs the rules of `WinogradConv2d` and `SmallMapConv2d`: each against torch's own way."""

import time
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarking.timing import Options, compared, in_turns
from fmnist_aug.small_maps import MOST_PIXELS, small_map_conv2d
from fmnist_aug.training import PRESETS
from fmnist_aug.training.hardware import cpu_has_bf16
from fmnist_aug.training.memory import keep_freed_memory
from fmnist_aug.winograd import FEWEST_CHANNELS, FEWEST_TILES, LEAST_WORK, winograd_conv2d

CHANNELS = ((32, 32), (64, 64), (96, 96), (128, 128), (128, 256))
SIDES = (28, 14, 7)
BATCH_SIZE = PRESETS["original"].settings.batch_size
SMALL_CHANNELS = ((16, 16), (48, 48), (48, 96), (96, 96), (192, 192))
SMALL_SIDES = (7, 5, 3, 2, 1)


def measure(options: Options) -> dict[str, Any]:
    keep_freed_memory()  # as the engine does
    number = 2 if options.quick else BATCH_SIZE
    has_bf16 = cpu_has_bf16()
    types = [("", torch.float32)]
    if has_bf16:  # others emulate it, which takes hours
        types.append((", bf16 by Winograd", torch.bfloat16))
    comparisons = {}
    for channels, filters in CHANNELS:
        for side, (name, dtype) in product(SIDES, types):
            inputs = drawn(number, channels, filters, side, dtype)
            bias = torch.randn(filters, dtype=dtype, requires_grad=True)
            case = f"{channels} to {filters} channels, {side} × {side}{name}"
            comparisons[case] = against_direct(
                "Winograd", winograd_conv2d, (*inputs, bias), options
            )
    for channels, filters in SMALL_CHANNELS if has_bf16 else ():
        for side in SMALL_SIDES:
            inputs = drawn(number, channels, filters, side, torch.bfloat16)
            case = f"{channels} to {filters} channels, {side} × {side}, bf16"
            comparisons[case] = against_direct("one product", small_map_conv2d, inputs, options)
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "comparisons": comparisons,
        "notes": [
            f"forward and backward, batches of {number}, channels-last, fp32 if nothing is said; "
            f"Winograd is used from {FEWEST_CHANNELS} channels and {LEAST_WORK} multiplications a "
            f"transformed value on; in fp32 where the CPU's widest instructions are AVX2 (here "
            f"{capability}), from {FEWEST_TILES[torch.float32]} tiles of 4 × 4 pixels a thread on; "
            f"in bf16 where it has AVX512-BF16, from {FEWEST_TILES[torch.bfloat16]} tiles on; "
            f"there one product makes the weights' gradient in maps of at most {MOST_PIXELS} pixels"
            + ("" if has_bf16 else "; bf16 is left out, for this CPU only emulates it")
        ],
    }


def drawn(
    number: int, channels: int, filters: int, side: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    images = torch.randn(number, channels, side, side, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(filters, channels, 3, 3, dtype=dtype)
    return images, weight.contiguous(memory_format=torch.channels_last).requires_grad_()


def against_direct(
    name: str, convolve: Callable[..., Tensor], inputs: tuple[Tensor, ...], options: Options
) -> dict[str, Any]:
    contenders = {
        way: lambda convolve=convolve: len(inputs[0]) / seconds(convolve, *inputs)
        for way, convolve in ((name, convolve), ("direct", direct))
    }
    return compared(in_turns(contenders, options.repeats), ours=name, unit="images/s")


def direct(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(images, weight, bias, padding=1)


def seconds(convolve: Callable[..., Tensor], *inputs: Tensor) -> float:
    started = time.perf_counter()
    result = convolve(*inputs)
    torch.autograd.grad(result, inputs, torch.ones_like(result))
    return time.perf_counter() - started
