"""A training step that a GPU replays as one CUDA graph instead of being told kernel by kernel.

A step of a small network is some hundred kernels of a few microseconds each, and launching one from
Python takes longer than computing it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

_WARM_UP = 3
"""Steps before the recording, in which libraries choose their algorithms and take their memory, as
https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture asks."""

Step = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Takes a step's draws and, if images are streamed, their images; gives loss and hits."""


class ReplayedStep:
    """Does the first few steps as they are, records the next one, and replays it from then on.

    What changes from step to step must lie in tensors on the GPU that stay where they are: the
    learning rates too. What is returned is overwritten by the next step.

    Args:
        step: must not wait for the GPU, and is given no streamed images.
        version: of what the step does; when it changes, or the shape of the draws, a step is
            recorded anew.
        device: the GPU.
    """

    def __init__(self, step: Step, version: Callable[[], Hashable], device: torch.device) -> None:
        self._step = step
        self._version = version
        self._device = device
        self._recorded: Hashable = None
        self._left = _WARM_UP
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, draws: Tensor, decoded: Tensor | None) -> tuple[Tensor, Tensor]:
        """Do one step."""
        wanted = draws.shape, self._version()
        if self._recorded != wanted:
            self._recorded, self._left, self._graph = wanted, _WARM_UP, None
        if self._left:
            self._left -= 1
            return self._beside(draws, decoded)
        if self._graph is None:
            self._draws = draws.to(self._device, copy=True)
            graph = torch.cuda.CUDAGraph()
            # other threads, such as one that shows progress, may go on using the GPU
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._outputs = self._step(self._draws, decoded)
            self._graph = graph
        else:
            self._draws.copy_(draws, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def _beside(self, draws: Tensor, decoded: Tensor | None) -> tuple[Tensor, Tensor]:
        """The step on a stream of its own: after one on the default stream none is recorded."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        default = torch.cuda.current_stream()
        stream.wait_stream(default)
        with torch.cuda.stream(stream):
            outputs = self._step(draws, decoded)
        default.wait_stream(stream)
        return outputs
