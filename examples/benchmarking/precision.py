"""What backs the rule of ``--precision auto``: steps a second in each precision and layout."""

import time
from typing import Any

import torch
from torch.nn import functional as F

from benchmarking.timing import Options, compared, in_turns
from fmnist_aug import create_model
from fmnist_aug.training import PRESETS, Hardware, choose_hardware
from fmnist_aug.training.hardware import candidates

STEPS = {"baseline-cnn": 4, "fast-cnn": 20}


def measure(options: Options) -> dict[str, Any]:
    chosen = choose_hardware()
    ours = f"{chosen.precision} channels-last"
    comparisons = {}
    for preset in (PRESETS["original"], PRESETS["fast"]):
        settings = options.shortened(preset.settings)
        contenders = {
            f"{precision} {layout}": lambda precision=precision, layout=layout, settings=settings: (
                steps_per_second(
                    settings.model,
                    settings.batch_size,
                    Hardware(chosen.device, precision),
                    layout == "channels-last",
                    2 if options.quick else STEPS[settings.model],
                )
            )
            for precision in candidates(chosen.device)
            for layout in ("contiguous", "channels-last")
            # where bf16 is emulated it takes several times as long; once is enough to see that
            if precision == "fp32" or layout == "channels-last"
        }
        comparisons[f"{settings.model}, batches of {settings.batch_size}"] = compared(
            in_turns(contenders, options.repeats), ours=ours, unit="steps/s"
        )
    return {
        "comparisons": comparisons,
        "notes": [f"auto takes {ours} on this machine ({torch.cpu.get_capabilities()})"],
    }


def steps_per_second(
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
    return steps / (time.perf_counter() - started)
