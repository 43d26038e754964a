"""Targeted augmentation in Lightning.

Run: python examples/lightning_training.py            (needs: pip install lightning)
Lightning calls the sampler's `set_epoch` by itself. For several processes take
`DistributedAugmentationSampler`; Lightning leaves that as it is.
"""

import lightning
import torch
from shared import RecordedDataset, data_and_plan, prove_order
from torch import nn
from torch.utils.data import DataLoader

from fmnist_aug import AugmentationSampler, create_model

EPOCHS = 2


class Network(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = create_model("fast-cnn", num_classes=10)

    def training_step(self, batch, _):
        images, labels = batch
        return nn.functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main() -> None:
    train_set, plan = data_and_plan()
    sampler = AugmentationSampler(train_set, plan, seed=0)
    data = RecordedDataset(train_set, plan, base="flip")  # AugmentedDataset, and keeps a record

    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Network(), DataLoader(data, batch_size=50, sampler=sampler))

    prove_order(data, sampler, EPOCHS)


if __name__ == "__main__":
    main()
