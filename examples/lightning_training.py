"""Targeted augmentation on the hardest draws, in Lightning.

Run: python examples/lightning_training.py            (needs: pip install lightning)
Lightning calls the sampler's `set_epoch` by itself. For several processes make the batches in the
module's `train_dataloader`, and give the Trainer `use_distributed_sampler=False`. To train on all
draws give the `DataLoader` the sampler instead of the batches, and leave out `record`; for several
processes that is a `DistributedAugmentationSampler`, which Lightning leaves as it is.
"""

import lightning
import torch
from shared import RecordedDataset, data_and_plan, prove_draws
from torch import nn
from torch.utils.data import DataLoader

from fmnist_aug import AugmentationSampler, HardExampleBatchSampler, create_model

EPOCHS = 2


class Network(lightning.LightningModule):
    def __init__(self, batches):
        super().__init__()
        self.model = create_model("fast-cnn", num_classes=10)
        self.batches = batches

    def training_step(self, batch, _):
        images, labels = batch
        losses = nn.functional.cross_entropy(self.model(images), labels, reduction="none")
        self.batches.record(losses)
        return losses.mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main() -> None:
    train_set, plan = data_and_plan()
    sampler = AugmentationSampler(train_set, plan, seed=0)
    batches = HardExampleBatchSampler(sampler, batch_size=50)
    data = RecordedDataset(train_set, plan, base="flip")  # AugmentedDataset, and keeps a record

    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Network(batches), DataLoader(data, batch_sampler=batches))

    prove_draws(data, batches, EPOCHS)


if __name__ == "__main__":
    main()
