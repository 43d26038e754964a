"""How far a training is, told about twice a second without waiting for the device in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class TrainProgress:
    """How far a training is.

    Attributes:
        step: optimisation steps done.
        steps: steps in all.
        epoch: passes over the original images, done.
        epochs: passes in all.
        accuracy: on the training images of the last report interval, augmented as they were.
        loss: mean over the same images.
        images_per_second: since the training began or went on.
        seconds_left: estimate.
        share: of the work, done: steps on smaller images are less of it.
    """

    step: int
    steps: int
    epoch: float
    epochs: float
    accuracy: float
    loss: float
    images_per_second: float
    seconds_left: float
    share: float


class ProgressReporter:
    """Sums loss and hits on the device and asks for them about twice a second only.

    Args:
        callback: is told.
        first: steps that were done before.
        steps: steps in all.
        batch_size: images a step.
        images: original images.
        device: where losses and hits are.
        work: the share of the work that is done after so many steps.
    """

    def __init__(
        self,
        callback: Callable[[TrainProgress], None] | None,
        first: int,
        steps: int,
        batch_size: int,
        images: int,
        device: torch.device,
        work: Callable[[int], float],
    ) -> None:
        self.callback = callback
        self.first = self.step = first
        self.steps = steps
        self.batch_size = batch_size
        self.images = images
        self.device = device
        self.work = work
        self.total_loss = torch.zeros((), device=device)
        self.started = self.reported = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self.loss = torch.zeros((), device=self.device)
        self.correct = torch.zeros((), device=self.device)
        self.batches = 0

    def add(self, loss: Tensor, correct: Tensor) -> None:
        """Count a step: its mean loss and its number of hits, scalars on the device."""
        self.loss += loss
        self.correct += correct
        self.total_loss += loss
        self.batches += 1
        self.step += 1
        now = time.perf_counter()
        due = now - self.reported > _REPORT_SECONDS or self.step == self.steps
        if self.callback is None or not due:
            return
        self.reported = now
        taken = now - self.started
        share = self.work(self.step)
        self.callback(
            TrainProgress(
                step=self.step,
                steps=self.steps,
                epoch=self.step * self.batch_size / self.images,
                epochs=self.steps * self.batch_size / self.images,
                accuracy=float(self.correct) / (self.batches * self.batch_size),
                loss=float(self.loss) / self.batches,
                images_per_second=self.batch_size * (self.step - self.first) / taken,
                seconds_left=taken * (1 - share) / (share - self.work(self.first)),
                share=share,
            )
        )
        self._reset()
