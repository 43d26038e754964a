"""A running average of the weights, which generalises better than the last ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fmnist_aug.training.sgd import copy_values


class WeightAverage:
    """Exponential moving average of weights and batch norm statistics (Polyak averaging).

    The decay rises to its full value as (1 + step) / (10 + step), so that the first, random weights
    are soon forgotten, as in TensorFlow's ``ExponentialMovingAverage``.

    Args:
        model: the network that is trained.
        decay: share of the average that a step keeps, 0–1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._newest = _floats(model)  # the tensors themselves: training changes them in place
        self.values = {name: value.clone() for name, value in self._newest.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step ``step``, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, newest = list(self.values.values()), list(self._newest.values())
        torch._foreach_lerp_(averages, newest, 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the average in the place of the network's own weights."""
        for name, value in _floats(model).items():
            value.copy_(self.values[name])

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        """Go on from kept values.

        Raises:
            ValueError: they are not of this network.
        """
        copy_values(self.values, values)


def _floats(model: nn.Module) -> dict[str, Tensor]:
    """All that can be averaged: not batch norm's count of batches."""
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
