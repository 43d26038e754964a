"""Targeted augmentation on the hardest draws, in the Trainer of Hugging Face transformers.

Run: python examples/huggingface_training.py            (needs: pip install transformers accelerate)
The Trainer calls the sampler's `set_epoch` by itself. This is for one process: over several the
Trainer would divide what is divided already. To train on all draws override `_get_train_sampler`
alone, to return the sampler; then the Trainer shards its batches over several processes, for which
the plain `AugmentationSampler` is the right one.
"""

import tempfile

import torch
from shared import RecordedDataset, data_and_plan, prove_draws
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from fmnist_aug import AugmentationSampler, HardExampleBatchSampler, create_model

EPOCHS = 2


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = create_model("fast-cnn", num_classes=10)

    def forward(self, images, labels=None):
        return {"logits": self.model(images)}


class TargetedTrainer(Trainer):
    def __init__(self, *arguments, batches, **options):
        super().__init__(*arguments, **options)
        self.batches = batches

    def get_train_dataloader(self):
        loader = DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator
        )
        return self.accelerator.prepare(loader)  # which hands set_epoch on

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        losses = nn.functional.cross_entropy(outputs["logits"], inputs["labels"], reduction="none")
        if model.training:
            self.batches.record(losses)
        return (losses.mean(), outputs) if return_outputs else losses.mean()


def collate(items):
    images, labels = zip(*items, strict=True)
    return {"images": torch.stack(images), "labels": torch.tensor(labels)}


def main() -> None:
    train_set, plan = data_and_plan()
    sampler = AugmentationSampler(train_set, plan, seed=0)
    batches = HardExampleBatchSampler(sampler, batch_size=50)
    data = RecordedDataset(train_set, plan, base="flip")  # AugmentedDataset, and keeps a record

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=EPOCHS,
            learning_rate=3e-3,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = TargetedTrainer(
            Network(), arguments, train_dataset=data, data_collator=collate, batches=batches
        )
        trainer.train()

    prove_draws(data, batches, EPOCHS)


if __name__ == "__main__":
    main()
