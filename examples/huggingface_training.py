"""Targeted augmentation in the Trainer of Hugging Face transformers.

Run: python examples/huggingface_training.py            (needs: pip install transformers accelerate)
The Trainer calls the sampler's `set_epoch` by itself, and shards its batches over several
processes, for which the plain `AugmentationSampler` is the right one.
"""

import tempfile

import torch
from shared import RecordedDataset, data_and_plan, prove_order
from torch import nn
from transformers import Trainer, TrainingArguments

from fmnist_aug import AugmentationSampler, create_model

EPOCHS = 2


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = create_model("fast-cnn", num_classes=10)

    def forward(self, images, labels=None):
        logits = self.model(images)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


class TargetedTrainer(Trainer):
    def __init__(self, *arguments, sampler, **options):
        super().__init__(*arguments, **options)
        self.sampler = sampler

    def _get_train_sampler(self, train_dataset=None):
        return self.sampler


def collate(items):
    images, labels = zip(*items, strict=True)
    return {"images": torch.stack(images), "labels": torch.tensor(labels)}


def main() -> None:
    train_set, plan = data_and_plan()
    sampler = AugmentationSampler(train_set, plan, seed=0)
    data = RecordedDataset(train_set, plan, base="flip")  # AugmentedDataset, and keeps a record

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=50,
            learning_rate=3e-3,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = TargetedTrainer(
            Network(), arguments, train_dataset=data, data_collator=collate, sampler=sampler
        )
        trainer.train()

    prove_order(data, sampler, EPOCHS)


if __name__ == "__main__":
    main()
