"""What backs the rule of ``--precision auto``: images a second in each precision and layout."""

import time
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from benchmarking.timing import Options, compared, in_turns
from fmnist_aug import create_model
from fmnist_aug.training import PRESETS, Hardware, choose_hardware
from fmnist_aug.training.hardware import candidates, cpu_has_bf16

STEPS = {"baseline-cnn": 4, "fast-cnn": 20}
EMULATED_BATCH = 8
"""Where a CPU lacks bf16, a whole batch of the larger network takes minutes in it."""


def measure(options: Options) -> dict[str, Any]:
    chosen = choose_hardware()
    ours = f"{chosen.precision} channels-last"
    comparisons = {}
    for preset in (PRESETS["original"], PRESETS["light"]):
        settings = options.shortened(preset.settings)
        contenders = {
            f"{hardware.precision} {layout}": partial(
                images_per_second,
                settings.model,
                EMULATED_BATCH if is_emulated(hardware) else settings.batch_size,
                hardware,
                layout == "channels-last",
                2 if options.quick else STEPS[settings.model],
            )
            for hardware in (Hardware(chosen.device, each) for each in candidates(chosen.device))
            for layout in ("contiguous", "channels-last")
            # where bf16 is emulated once is enough to see that it takes many times as long
            if hardware.precision == "fp32" or layout == "channels-last"
        }
        comparisons[f"{settings.model}, batches of {settings.batch_size}"] = compared(
            in_turns(contenders, options.repeats), ours=ours, unit="images/s"
        )
    vectors = [
        name
        for name, has in torch.cpu.get_capabilities().items()
        if has is True and name.startswith(("avx", "amx", "neon", "sve"))
    ]
    return {
        "comparisons": comparisons,
        "notes": [
            f"auto takes {ours} on this machine ({', '.join(sorted(vectors))})",
            f"bf16 where the CPU lacks it: batches of {EMULATED_BATCH}",
        ],
    }


def is_emulated(hardware: Hardware) -> bool:
    return hardware == Hardware("cpu", "bf16") and not cpu_has_bf16()


def images_per_second(
    model: str, batch_size: int, hardware: Hardware, channels_last: bool, steps: int
) -> float:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    device = torch.device(hardware.device)
    network = create_model(model).to(device, memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    images = torch.randn(batch_size, 1, 28, 28, device=device).contiguous(memory_format=layout)
    labels = torch.arange(batch_size, device=device) % 10
    dtype = hardware.autocast_dtype
    started = 0.0
    for step in range(steps + 1):
        with torch.autocast(hardware.device, dtype, enabled=dtype is not None):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (0, steps) and device.type == "cuda":
            torch.cuda.synchronize()
        if step == 0:  # the first one plans the convolutions
            started = time.perf_counter()
    return batch_size * steps / (time.perf_counter() - started)
