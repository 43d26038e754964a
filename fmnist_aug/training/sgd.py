"""Stochastic gradient descent, and what it shares with `Muon`.

torch's own optimisers would do, but making the first of them imports torch's compiler and triton:
seconds, and more than a hundred megabytes in every process that trains.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Optimizer:
    """Groups of weights, each weight with a momentum; `SGD` and `Muon` say how they move.

    Args:
        groups: each with its weights under ``params`` and settings of its own.
        lr: learning rate of all groups.
        momentum: of the running sum of gradients.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float) -> None:
        self.momentum = momentum
        self.param_groups: list[dict[str, Any]] = [{**group, "lr": lr} for group in groups]
        self.buffers: list[list[Tensor]] = [
            [torch.zeros_like(weight) for weight in group["params"]] for group in self.param_groups
        ]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None

    def step(self) -> None:
        """Move the weights by their gradients."""
        raise NotImplementedError

    def nesterov(
        self, gradients: list[Tensor] | tuple[Tensor, ...], buffers: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Take gradients into their momenta, and give where both together point."""
        torch._foreach_mul_(buffers, self.momentum)
        torch._foreach_add_(buffers, gradients)
        return torch._foreach_add(gradients, buffers, alpha=self.momentum)

    def move(self, group: dict[str, Any], directions: list[Tensor] | tuple[Tensor, ...]) -> None:
        """Move a group's weights against the directions (overwritten), at its learning rate."""
        if isinstance(group["lr"], Tensor):
            torch._foreach_mul_(directions, group["lr"])
            torch._foreach_sub_(group["params"], directions)
        else:
            torch._foreach_add_(group["params"], directions, alpha=-group["lr"])

    def state_dict(self) -> dict[str, Tensor]:
        """The momenta, by the number of their weight."""
        flat = [buffer for buffers in self.buffers for buffer in buffers]
        return {f"{index}.momentum": buffer for index, buffer in enumerate(flat)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: the momenta are not those of these weights.
        """
        copy_values(self.state_dict(), state)


def copy_values(into: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Copy tensors of the same names and shapes, or none.

    Raises:
        ValueError: other names or shapes.
    """
    shapes, expected = (
        {name: value.shape for name, value in each.items()} for each in (values, into)
    )
    if shapes != expected:
        raise ValueError("values that are of other weights")
    for name, value in values.items():
        into[name].copy_(value)


class SGD(Optimizer):
    """Stochastic gradient descent with Nesterov momentum, as ``torch.optim.SGD`` computes it.

    Each group has its ``weight_decay``.
    """

    @torch.no_grad()
    def step(self) -> None:
        """Do one step with the gradients that are there."""
        for group, buffers in zip(self.param_groups, self.buffers, strict=True):
            weights = group["params"]
            gradients = torch._foreach_add(
                [weight.grad for weight in weights], weights, alpha=group["weight_decay"]
            )
            self.move(group, self.nesterov(gradients, buffers))
