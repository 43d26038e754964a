"""A short training."""

from fmnist_aug.training import Hardware, TrainSettings

SHORT = TrainSettings(model="fast-cnn", epochs=2, batch_size=50, optimizer="muon")
CPU = Hardware("cpu", "fp32")
