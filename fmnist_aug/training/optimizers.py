"""Which optimiser moves which weights, and how fast at each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fmnist_aug.training.muon import Muon
from fmnist_aug.training.settings import TrainSettings
from fmnist_aug.training.sgd import SGD, Optimizer


def make_optimizers(model: nn.Module, settings: TrainSettings) -> list[Optimizer]:
    """SGD for all weights, or Muon for the inner ones beside it, as the settings say."""
    parameters = list(model.parameters())
    inner: list[nn.Parameter] = []
    if settings.optimizer == "muon":
        inner = [weight for weight in parameters if weight.ndim == 4 and weight.shape[1] > 3]
        if settings.muon_linear:
            inner += [weight for weight in parameters if weight.ndim == 2][:-1]
    taken = set(map(id, inner))
    weights = [weight for weight in parameters if weight.ndim > 1 and id(weight) not in taken]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    optimizers: list[Optimizer] = [
        SGD(
            [
                {"params": weights, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            momentum=settings.momentum,
        )
    ]
    if inner:
        optimizers.append(Muon(inner, settings.muon_learning_rate, settings.muon_momentum))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def set_learning_rates(optimizers: list[Optimizer], done: float, warmup: float) -> None:
    """The triangular schedule: from 0 up to the peak over ``warmup``, then down to 0."""
    factor = done / warmup if done < warmup else (1 - done) / (1 - warmup)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate = group["peak"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def keep_rates_on(device: torch.device, optimizers: list[Optimizer]) -> None:
    """Hold the learning rates in tensors on the device, where a recorded step reads them."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], device=device)
