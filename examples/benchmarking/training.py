"""Images a second of training: our engine against the loop that people write."""

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarking.plain_loop import make_model, torchvision_images, train_plainly
from benchmarking.timing import Options, compared, in_turns
from fmnist_aug import ConfusionPlan, create_model, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.training import PRESETS, TrainSettings, choose_hardware, train_model

POLICY = "flip"
STEPS = {"baseline-cnn": 12, "fast-cnn": 60}
SIDE = 2048
PRODUCTS = 8


def measure(options: Options) -> dict[str, Any]:
    return {
        "comparisons": dict(_compare(name, options) for name in ("original", "fast")),
        "notes": [
            f"engine: {choose_hardware().precision}, channels-last, augmented in batches; plain "
            "loop: fp32, contiguous, albumentations in a DataLoader with 2 workers, Adam; both on "
            f"{options.threads} threads, the first batches not counted",
            "draws: as the preset trains, with smaller images at first if it has them, on the "
            "harder half of the draws by each image's last loss; those that it skips are counted "
            "too",
            "multiplications alone: if nothing took time but those of the layers and their "
            f"gradients, as fast as a product of matrices of {SIDE} × {SIDE} in the engine's "
            "precision; to be faster takes fewer, as baseline-cnn has by Winograd's algorithm",
        ],
    }


def _compare(preset: str, options: Options) -> tuple[str, dict[str, Any]]:
    settings = options.shortened(PRESETS[preset].settings)
    # the plain loop trains on all draws, and on whole images only
    alike = dataclasses.replace(settings, progressive_resizing=0.0, whitening=False)
    draws = f"preset {preset}, draws"
    figures = in_turns(
        {
            "engine": lambda: engine(alike, 1, options),
            draws: lambda: engine(settings, PRESETS[preset].keep, options),
            "plain loop": lambda: plain(settings, options),
            "multiplications alone": lambda: multiplications(settings.model, options),
        },
        options.repeats,
    )
    comparison = compared(figures, "engine", "images/s")
    both = {name: figures[name] for name in (draws, "plain loop")}
    comparison["ratios"] |= compared(both, draws, "images/s")["ratios"]
    return f"{settings.model}, {POLICY}, batches of {settings.batch_size}", comparison


def steps_of(settings: TrainSettings, options: Options) -> int:
    return 2 if options.quick else STEPS[settings.model]


def engine(settings: TrainSettings, keep: float, options: Options) -> float:
    steps, batch = steps_of(settings, options), settings.batch_size
    data = load_dataset().subset(np.arange(8 * batch))
    trained = train_model(
        data,
        dataclasses.replace(settings, epochs=steps * batch / len(data)),
        base=get_policy(POLICY),
        plan=ConfusionPlan.empty(data.class_names, keep=keep),
    )
    return trained.images_seen / keep / trained.seconds


def plain(settings: TrainSettings, options: Options) -> float:
    steps, batch = steps_of(settings, options), settings.batch_size
    data = torchvision_images(True, get_policy(POLICY), None)
    # what the workers had loaded while nothing was trained yet would flatter it
    skipped, began, ended = (1 if options.quick else 5) * batch, 0.0, 0.0

    def on_batch(seen: int) -> bool:
        nonlocal began, ended
        ended = time.perf_counter()
        if seen == skipped:
            began = ended
        return seen < skipped + steps * batch

    train_plainly(make_model(settings.model), data, batch_size=batch, on_batch=on_batch)
    return steps * batch / (ended - began)


def multiplications(model: str, options: Options) -> float:
    hardware = choose_hardware()
    side = 64 if options.quick else SIDE
    matrix = torch.randn(
        side, side, device=hardware.device, dtype=hardware.autocast_dtype or torch.float32
    )
    matrix @ matrix  # the first one plans
    started = time.perf_counter()
    for _ in range(PRODUCTS):
        product = matrix @ matrix
    product[0, 0].item()  # waits for a GPU
    seconds = time.perf_counter() - started
    with FlopCounterMode(display=False) as counter:
        # so few images that all convolutions are plain
        create_model(model)(torch.zeros(2, 1, 28, 28)).sum().backward()
    return PRODUCTS * 2 * side**3 / seconds / (counter.get_total_flops() / 2)
