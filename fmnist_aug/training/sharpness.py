"""Sharpness-aware minimisation: gradients not where the weights are, but a little uphill of there.

What is low all around generalises better than a narrow valley (Foret et al., arXiv 2010.01412).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

UPHILL_SHARE = 0.25
"""Of a batch, whose gradient says where uphill is: a whole batch's would double a step's time."""


class Uphill:
    """Moves a network's weights uphill for as long as a gradient takes.

    Args:
        model: the network that is trained; its matrices and kernels are moved, not the rest.
        radius: how far, as the Euclidean norm over all of them.
    """

    def __init__(self, model: nn.Module, radius: float) -> None:
        self.radius = radius
        self._weights: list[Tensor] = [weight for weight in model.parameters() if weight.ndim > 1]
        self._norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]

    @contextmanager
    def of(self, loss: Tensor) -> Iterator[None]:
        """Within this the weights are uphill of this loss, after it exactly where they were.

        Batch norm's running statistics stay as they are meanwhile: they are for the weights that
        predict.
        """
        gradients = torch.autograd.grad(loss, self._weights)
        length = torch.stack(torch._foreach_norm(gradients)).norm()
        steps = torch._foreach_mul(gradients, self.radius / (length + 1e-12))
        before = [weight.detach().clone() for weight in self._weights]
        momenta = [module.momentum for module in self._norms]
        with torch.no_grad():
            torch._foreach_add_(self._weights, list(steps))
        for module in self._norms:
            module.momentum = 0.0
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, before)
            for module, momentum in zip(self._norms, momenta, strict=True):
                module.momentum = momentum
