"""Muon for convolutions: each step moves along the nearest orthogonal matrix of the momentum.

Keller Jordan's optimiser, with the normalised weights and the three Newton–Schulz iterations of
``airbench94_muon.py`` in https://github.com/KellerJordan/cifar10-airbench (94 % on CIFAR-10 in 8
instead of 9.9 epochs). torch has a Muon of its own, but only for two-dimensional weights.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fmnist_aug.training.sgd import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 3


class Muon(Optimizer):
    """Orthogonalised momentum for convolution weights (out, in, height, width).

    Each weight is scaled to the norm sqrt(out) before the step, so the learning rate is a share
    of the weight and no weight decay is needed. Meant for convolutions followed by a norm.

    Args:
        params: weights with at least 2 dimensions.
        lr: learning rate.
        momentum: of the running sum of gradients, Nesterov style.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.05, momentum: float = 0.6
    ) -> None:
        super().__init__([{"params": list(params)}], lr, momentum)

    @torch.no_grad()
    def step(self) -> None:
        """Do one step with the gradients that are there."""
        for group, buffers in zip(self.param_groups, self.buffers, strict=True):
            for weight, buffer in zip(group["params"], buffers, strict=True):
                buffer.mul_(self.momentum).add_(weight.grad)
                direction = weight.grad.add(buffer, alpha=self.momentum)
                weight.mul_(len(weight) ** 0.5 / (weight.norm() + 1e-7))
                update = orthogonalise(direction.reshape(len(weight), -1))
                if isinstance(group["lr"], Tensor):
                    weight.sub_(update.view_as(weight) * group["lr"])
                else:
                    weight.add_(update.view_as(weight), alpha=-group["lr"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """Approximately the nearest matrix with orthonormal rows (or columns), by Newton–Schulz."""
    a, b, c = _COEFFICIENTS
    dtype = matrix.dtype
    if matrix.is_cuda and dtype == torch.float32:
        matrix = matrix.bfloat16()  # as its author does: enough for a direction
    tall = matrix.shape[0] > matrix.shape[1]
    result: Tensor = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = result @ result.T
        result = a * result + (b * gram + c * gram @ gram) @ result
    return (result.T if tall else result).to(dtype)
