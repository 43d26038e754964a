"""Targeted augmentation in skorch.

Run: python examples/skorch_training.py            (needs: pip install skorch)
skorch hands `iterator_train__…` on to its `DataLoader`; a callback of three lines tells the
sampler which epoch it is.
"""

import torch
from shared import RecordedDataset, data_and_plan, prove_order
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from fmnist_aug import AugmentationSampler, create_model

EPOCHS = 2


class SetEpoch(Callback):
    def on_epoch_begin(self, net, **_):
        # skorch counts the epoch that begins, from 1
        net.iterator_train__sampler.set_epoch(len(net.history) - 1)


def main() -> None:
    train_set, plan = data_and_plan()
    sampler = AugmentationSampler(train_set, plan, seed=0)
    data = RecordedDataset(train_set, plan, base="flip")  # AugmentedDataset, and keeps a record

    net = NeuralNetClassifier(
        create_model("fast-cnn", num_classes=10),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=3e-3,
        batch_size=50,
        max_epochs=EPOCHS,
        train_split=None,  # skorch would cut a part off, and the sampler's indices were wrong
        iterator_train__sampler=sampler,
        callbacks=[SetEpoch()],
        classes=list(range(10)),
    )
    net.fit(data, y=None)

    prove_order(data, sampler, EPOCHS)


if __name__ == "__main__":
    main()
