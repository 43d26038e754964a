"""Targeted augmentation on the hardest draws, in skorch.

Run: python examples/skorch_training.py            (needs: pip install skorch)
skorch hands `iterator_train__…` on to its `DataLoader`; a callback of three lines tells which epoch
it is, and `get_loss` tells the losses. To train on all draws give `iterator_train__sampler` and
`batch_size`, and leave `get_loss` as it is.
"""

import torch
from shared import RecordedDataset, data_and_plan, prove_draws
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from fmnist_aug import AugmentationSampler, HardExampleBatchSampler, create_model

EPOCHS = 2


class SetEpoch(Callback):
    def on_epoch_begin(self, net, **_):
        # skorch counts the epoch that begins, from 1
        net.iterator_train__batch_sampler.set_epoch(len(net.history) - 1)


class Classifier(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        losses = super().get_loss(y_pred, y_true, X, training)
        if training:
            self.iterator_train__batch_sampler.record(losses)
        return losses.mean()


def main() -> None:
    train_set, plan = data_and_plan()
    sampler = AugmentationSampler(train_set, plan, seed=0)
    batches = HardExampleBatchSampler(sampler, batch_size=50)
    data = RecordedDataset(train_set, plan, base="flip")  # AugmentedDataset, and keeps a record

    net = Classifier(
        create_model("fast-cnn", num_classes=10),
        criterion=nn.CrossEntropyLoss,
        criterion__reduction="none",
        optimizer=torch.optim.Adam,
        lr=3e-3,
        max_epochs=EPOCHS,
        train_split=None,  # skorch would cut a part off, and the sampler's indices were wrong
        iterator_train__batch_sampler=batches,
        iterator_train__batch_size=1,  # torch's own default, since the batches have theirs
        callbacks=[SetEpoch()],
        classes=list(range(10)),
    )
    net.fit(data, y=None)

    prove_draws(data, batches, EPOCHS)


if __name__ == "__main__":
    main()
