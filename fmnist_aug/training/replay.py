"""A training step that a GPU replays as one CUDA graph instead of being told kernel by kernel.

A step of a small network is some hundred kernels of a few microseconds each, and launching one from
Python takes longer than computing it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WARM_UP = 3
"""Steps before the recording, in which libraries choose their algorithms and take their memory, as
https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture asks."""

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class ReplayedStep:
    """Does the first few steps as they are, records the next one, and replays it from then on.

    What changes from step to step must lie in tensors on the GPU that stay where they are: the
    learning rates too. What is returned is overwritten by the next step.

    Args:
        step: takes inputs and targets, of the same shapes and types each time, and returns two
            tensors; must not wait for the GPU.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._warm_up = _WARM_UP
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Do one step with these inputs and targets."""
        if self._warm_up:
            self._warm_up -= 1
            return self._beside(inputs, targets)
        if self._graph is None:
            self._inputs, self._targets = inputs.clone(), targets.clone()
            graph = torch.cuda.CUDAGraph()
            # other threads, such as one that shows progress, may go on using the GPU
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._outputs = self._step(self._inputs, self._targets)
            self._graph = graph
        else:
            self._inputs.copy_(inputs)
            self._targets.copy_(targets)
        self._graph.replay()
        return self._outputs

    def _beside(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The step on a stream of its own: on the default one nothing can be recorded later."""
        stream, default = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(default)
        with torch.cuda.stream(stream):
            outputs = self._step(inputs, targets)
        default.wait_stream(stream)
        return outputs
