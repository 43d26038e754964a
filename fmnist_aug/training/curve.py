"""The learning curve of a training, at fixed steps: the same however long they took."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOST_POINTS = 50


class LearningCurve:
    """Sums loss and hits on the device; nothing waits for it until the points are asked for.

    Args:
        steps: steps of the training in all.
        batch_size: images a step.
        images: original images of the data set.
        device: of the training.
    """

    def __init__(self, steps: int, batch_size: int, images: int, device: torch.device) -> None:
        count = min(MOST_POINTS, steps)
        self.ends = {round((point + 1) * steps / count) for point in range(count)}
        self.batch_size = batch_size
        self.images = images
        self._points: list[list[float]] = []
        self._on_device: list[tuple[int, int, Tensor, Tensor]] = []
        self.loss = torch.zeros((), device=device)
        self.correct = torch.zeros((), device=device)
        self.batches = 0

    def add(self, step: int, loss: Tensor, correct: Tensor) -> None:
        """Count a step, ``step`` with it: its mean loss and its number of hits, on the device."""
        self.loss += loss
        self.correct += correct
        self.batches += 1
        if step in self.ends:
            sums = self.correct.clone(), self.loss.clone()
            self._on_device.append((step, self.batches, *sums))
            self.loss.zero_()
            self.correct.zero_()
            self.batches = 0

    @property
    def points(self) -> list[list[float]]:
        """Epochs done, accuracy and mean loss since the point before."""
        for step, batches, correct, loss in self._on_device:
            self._points.append(
                [
                    round(step * self.batch_size / self.images, 4),
                    round(float(correct) / (batches * self.batch_size), 6),
                    round(float(loss) / batches, 6),
                ]
            )
        self._on_device.clear()
        return self._points

    def state_dict(self) -> dict[str, Any]:
        """Plain values, from which `load_state_dict` goes on to the same curve."""
        return {
            "points": self.points,
            "loss": float(self.loss),
            "correct": float(self.correct),
            "batches": self.batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._points = [list(point) for point in state["points"]]
        self._on_device.clear()
        self.loss.fill_(state["loss"])
        self.correct.fill_(state["correct"])
        self.batches = state["batches"]
