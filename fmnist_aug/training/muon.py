"""Muon, for convolutions too: each step moves along the nearest orthogonal matrix of the momentum.

Keller Jordan's optimiser, with the normalised weights and the three Newton–Schulz iterations of
``airbench94_muon.py`` in https://github.com/KellerJordan/cifar10-airbench (94 % on CIFAR-10 in 8
instead of 9.9 epochs). torch has a Muon of its own, but only for two-dimensional weights.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fmnist_aug.training.hardware import cpu_has_bf16
from fmnist_aug.training.sgd import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 3
_FEWEST_ROWS = 128
"""Of a matrix that a CPU multiplies in bf16, where it can: on two cores with AVX512-BF16 192 × 1728
took 2.1 instead of 3.1 ms, 48 × 432 longer than in fp32."""


class Muon(Optimizer):
    """Orthogonalised momentum for weights (out, in) or (out, in, height, width).

    Each weight is scaled to the norm sqrt(out) before the step, so the learning rate is a share
    of the weight and no weight decay is needed. Meant for layers followed by a norm.

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
            # for all weights at once: on a GPU the calls are what takes time
            weights = group["params"]
            gradients = [weight.grad for weight in weights]
            directions = self.nesterov(gradients, buffers)
            scales = torch._foreach_norm(weights)
            torch._foreach_add_(scales, 1e-7)
            torch._foreach_reciprocal_(scales)
            torch._foreach_mul_(scales, [len(weight) ** 0.5 for weight in weights])
            torch._foreach_mul_(weights, scales)
            self.move(group, [_orthogonal_direction(direction) for direction in directions])


def _orthogonal_direction(direction: Tensor) -> Tensor:
    """The nearest orthogonal matrix in place of a momentum (out, in, …)."""
    # the order of the columns makes no difference; channels-last weights need no copy in this one
    rows = direction.movedim(1, -1)
    return orthogonalise(rows.reshape(len(rows), -1)).view_as(rows).movedim(-1, 1)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Approximately the nearest matrix with orthonormal rows (or columns), by Newton–Schulz.

    Each iteration multiplies the matrix by a polynomial of its Gram matrix, and these all commute.
    So the iterations go on in the small Gram matrix, and their product meets the matrix once.
    """
    dtype = matrix.dtype
    if dtype == torch.float32 and (
        matrix.is_cuda
        or (matrix.device.type == "cpu" and min(matrix.shape) >= _FEWEST_ROWS and cpu_has_bf16())
    ):
        matrix = matrix.bfloat16()  # as its author does: enough for a direction
    tall = matrix.shape[0] > matrix.shape[1]
    rows = matrix.T if tall else matrix
    gram = (rows @ rows.T).to(dtype)
    norm = gram.trace() + 1e-14
    gram = gram / norm
    product = _polynomial(gram)
    polynomial = product
    for _ in range(_ITERATIONS - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram)
        product = product @ polynomial
    result = (product * norm.rsqrt()).to(rows.dtype) @ rows
    return (result.T if tall else result).to(dtype)


def _polynomial(gram: Tensor) -> Tensor:
    """What an iteration multiplies the matrix by."""
    a, b, c = _COEFFICIENTS
    result = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal().add_(a)
    return result
