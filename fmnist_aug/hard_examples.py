"""Training on the hardest of more candidates: easy images are skipped until they turn hard."""

from __future__ import annotations

import torch
from torch import Tensor


class HardExamples:
    """Keeps those draws of a batch of candidates on which the network did worst when last seen.

    A small proxy network does the choosing in Keller Jordan's ``airbench96_faster.py``
    (https://github.com/KellerJordan/cifar10-airbench); here the loss of an image's last draw does,
    which costs nothing. An image that was not trained on yet counts as hard.

    Args:
        images: number of training images.
        device: where they are.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self.losses = torch.full((images,), torch.inf, device=device)
        self.visits = torch.zeros(images, dtype=torch.int64, device=device)
        """How often each image was trained on. Its augmentations alternate by that: an image that
        is skipped every other epoch would else be mirrored always or never."""

    def choose(self, indices: Tensor, size: int) -> Tensor:
        """Positions int64 (size,), ascending, of the hardest of some draws.

        Args:
            indices: int64 (N,), each draw's index in the data set; N ≥ ``size``.
            size: how many to keep.
        """
        # stable, so that equal losses are the same choice on every machine
        order = self.losses[indices].argsort(descending=True, stable=True)
        return order[:size].sort().values

    def record(self, indices: Tensor, losses: Tensor) -> None:
        """Remember the losses (N,) of draws that were trained on.

        Args:
            indices: int64 (N,), each draw's index in the data set.
            losses: float (N,); −∞ of a draw that tells nothing.
        """
        before = self.losses[indices]
        # an image that was drawn twice keeps its larger loss, whatever the order of the draws
        self.losses.scatter_reduce_(0, indices, losses, "amax", include_self=False)
        after = self.losses[indices]
        self.losses[indices] = torch.where(after == -torch.inf, before, after)
        self.visits[indices] += 1
