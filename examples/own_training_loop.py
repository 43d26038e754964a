"""Targeted augmentation in a training loop of one's own, in plain PyTorch.

Run: python examples/own_training_loop.py
It trains a small network twice on a slice of Fashion-MNIST: once to find out what it confuses (on
images that it was not trained on), once with the confused classes drawn and augmented more.
"""

import numpy as np
import torch
from shared import RecordedDataset, prove_order
from torch import nn
from torch.utils.data import DataLoader

from fmnist_aug import (
    AugmentationSampler,
    AugmentedDataset,
    ConfusionPlan,
    ConfusionReport,
    create_model,
    load_dataset,
)
from fmnist_aug.augment.dataset import to_float_tensor
from fmnist_aug.data import held_out_split, stratified_slice

EPOCHS = 2


def train(data: AugmentedDataset, sampler: AugmentationSampler, workers: int = 2) -> nn.Module:
    torch.manual_seed(0)
    model = create_model("fast-cnn", num_classes=10)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loader = DataLoader(data, batch_size=64, sampler=sampler, num_workers=workers)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)  # another order and other augmentations in each epoch
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@torch.inference_mode()
def predict(model: nn.Module, images: np.ndarray) -> np.ndarray:
    inputs = torch.stack([to_float_tensor(image) for image in images])
    return model.eval()(inputs).numpy()


def main() -> None:
    whole = stratified_slice(load_dataset("fashion-mnist", "train"), 6000)
    fitted, held_out = (whole.subset(part) for part in held_out_split(whole, 0.2))

    # 1. what does it confuse, on images that it was not trained on?
    no_plan = ConfusionPlan.empty(whole.class_names)
    model = train(AugmentedDataset(fitted), AugmentationSampler(fitted, no_plan))
    report = ConfusionReport.from_predictions(
        held_out.labels, predict(model, held_out.images), whole.class_names
    )

    # 2. the plan: which classes get extra draws, and how these are augmented
    plan = ConfusionPlan.from_report(report, policy="buttons")
    print(plan.to_table())

    # 3. train on everything with the plan
    sampler = AugmentationSampler(whole, plan, seed=0)
    data = RecordedDataset(whole, plan, base="flip")  # AugmentedDataset, and keeps a record
    model = train(data, sampler, workers=0)  # in this process, where the record is
    prove_order(data, sampler, EPOCHS)

    test = stratified_slice(load_dataset("fashion-mnist", "test"), 2000)
    accuracy = (predict(model, test.images).argmax(axis=1) == test.labels).mean()
    print(f"test accuracy on {len(test)} images: {accuracy:.1%}")


if __name__ == "__main__":
    main()
