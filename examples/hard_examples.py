"""What choosing hard examples does in a training loop of one's own, in plain PyTorch.

Run: python examples/hard_examples.py [--runs 3] [--epochs 4] [--images 50000]
Trains a small network on training images of Fashion-MNIST on all draws and on the hardest half of
them, with the same seeds and as many steps, and tests it on the 10,000 other training images. The
test set is not read.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from fmnist_aug import (
    AugmentationSampler,
    AugmentedDataset,
    ConfusionPlan,
    HardExampleBatchSampler,
    create_model,
    load_dataset,
)
from fmnist_aug.augment.dataset import to_float_tensor
from fmnist_aug.data import ImageDataset, held_out_split

BATCH_SIZE = 128


def train(data: ImageDataset, keep: float, steps: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = create_model("fast-cnn", num_classes=10)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    plan = ConfusionPlan.empty(data.class_names, keep=keep)  # no class is targeted
    batches = HardExampleBatchSampler(AugmentationSampler(data, plan, seed=seed), BATCH_SIZE)
    loader = DataLoader(AugmentedDataset(data, plan, base="flip"), batch_sampler=batches)
    step = epoch = 0
    while step < steps:
        batches.set_epoch(epoch)
        for images, labels in loader:
            losses = nn.functional.cross_entropy(model(images), labels, reduction="none")
            batches.record(losses)
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step == steps:
                break
        epoch += 1
    return model


@torch.inference_mode()
def accuracy(model: nn.Module, data: ImageDataset) -> float:
    inputs = torch.stack([to_float_tensor(image) for image in data.images])
    predicted = torch.cat([model.eval()(part).argmax(dim=1) for part in inputs.split(1000)])
    return float((predicted.numpy() == data.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="All draws, or the hardest half of them?")
    parser.add_argument("--runs", type=int, default=3, help="of each")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--epochs", type=float, default=4.0, help="of the run on all draws")
    parser.add_argument("--images", type=int, default=50_000, help="to train on, at most 50,000")
    options = parser.parse_args()
    whole = load_dataset("fashion-mnist", "train")
    fit, rest = held_out_split(whole, 1 / 6)
    data, held_out = whole.subset(fit[: options.images]), whole.subset(rest)
    steps = max(2, round(options.epochs * len(data) / BATCH_SIZE))
    print(f"{len(data)} images, {steps} steps, right of {len(held_out)} held-out images:")
    for name, keep in (("all draws", 1.0), ("hardest half", 0.5)):
        found = [
            accuracy(train(data, keep, steps, seed), held_out)
            for seed in range(options.seed, options.seed + options.runs)
        ]
        runs = ", ".join(f"{100 * value:.2f}" for value in found)
        print(f"{name}: {100 * np.mean(found):.2f} % ({runs})", flush=True)


if __name__ == "__main__":
    main()
