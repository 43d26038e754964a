"""What backs the rule of `WinogradConv2d`: both algorithms by number of channels and side."""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarking.timing import Options, compared, in_turns
from fmnist_aug.training.memory import keep_freed_memory
from fmnist_aug.winograd import FEWEST_CHANNELS, winograd_conv2d

CHANNELS = ((32, 32), (64, 64), (96, 96), (128, 128), (128, 256))
SIDES = (28, 14, 7)


def measure(options: Options) -> dict[str, Any]:
    keep_freed_memory()  # as the engine does
    comparisons = {}
    batch_size = 2 if options.quick else 64
    for channels, filters in CHANNELS:
        for side in SIDES:
            images = torch.randn(batch_size, channels, side, side)
            images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
            weight = torch.randn(filters, channels, 3, 3, requires_grad=True)
            bias = torch.randn(filters, requires_grad=True)
            contenders = {
                name: lambda convolve=convolve, inputs=(images, weight, bias): (
                    batch_size / seconds(convolve, *inputs)
                )
                for name, convolve in (("Winograd", winograd_conv2d), ("direct", direct))
            }
            comparisons[f"{channels} to {filters} channels, {side} × {side}"] = compared(
                in_turns(contenders, options.repeats), ours="Winograd", unit="images/s"
            )
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "comparisons": comparisons,
        "notes": [
            "forward and backward, fp32, channels-last; Winograd is used from "
            f"{FEWEST_CHANNELS} channels on where the CPU's widest instructions are AVX2 "
            f"(here {capability})"
        ],
    }


def direct(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(images, weight, bias, padding=1)


def seconds(convolve: Callable[..., Tensor], *inputs: Tensor) -> float:
    started = time.perf_counter()
    result = convolve(*inputs)
    torch.autograd.grad(result, inputs, torch.ones_like(result))
    return time.perf_counter() - started
