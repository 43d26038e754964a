"""3×3 convolutions with fewer multiplications, for CPUs.

Winograd's minimal filtering F(4×4, 3×3): an output tile of 4 × 4 takes 36 multiplications per pair
of channels instead of 144 (Lavin and Gray, arXiv 1509.09308). Tiles are transformed, multiplied as
36 matrix products over the channels, and transformed back; so are the gradients. The
transformations cost memory traffic, so it pays only with many channels: ``examples/benchmark.py
--only convolution`` measures where.

The matrices below are those of the points 0, 1, -1, 1/2, -2 and infinity. In bf16, which has room
for all their entries and the entries' products, results and gradients err by about 2 % of their
norm; with the usual points 0, 1, -1, 2, -2 and infinity they would by 3 %.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fmnist_aug.computing import computed_type, has_vector_bf16, on_threads

FEWEST_CHANNELS = 128
"""Of both sides of a convolution; with fewer the transformations cost more than they save."""
FEWEST_TILES = {torch.float32: 100, torch.bfloat16: 1500}
"""For each thread; with fewer it costs too much to transform the kernels."""
LEAST_WORK = 230
"""Multiplications of the plain convolution for each value that is transformed."""
_BUFFER_VALUES = 1 << 20
"""In a thread's largest buffer: more don't stay in cache, with fewer the products are too small."""
_PARTS_TOGETHER = 4
"""Parts of a batch whose kernels' gradients are added up in the images' type, before fp32."""

_INPUT = torch.tensor(
    [
        [1, -1.5, -2, 1.5, 1, 0],
        [0, -1, 0.5, 2.5, 1, 0],
        [0, 1, -2.5, 0.5, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 0.5, -1, -0.5, 1, 0],
        [0, 1, -1.5, -2, 1.5, 1],
    ],
    dtype=torch.float64,
)
_KERNEL = torch.tensor(
    [
        [1, 0, 0],
        [1 / 3, 1 / 3, 1 / 3],
        [-1 / 3, 1 / 3, -1 / 3],
        [-16 / 15, -8 / 15, -4 / 15],
        [1 / 15, -2 / 15, 4 / 15],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 0.5, -2, 0], [0, 1, 1, 0.25, 4, 0], [0, 1, -1, 0.125, -8, 1]],
    dtype=torch.float64,
)
_CONSTANT = 7
"""Place among the 36 (1 along both axes) whose value is added to all outputs of a tile."""


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution that keeps the size; by Winograd's algorithm where that is faster.

    Its parameters and its ``state_dict`` are those of ``nn.Conv2d``. By Winograd's algorithm there
    are gradients of first order only, and no ``torch.vmap``. In fp32 its results differ from the
    plain convolution's in the last digits (about 1e-5 of the largest value), in bf16 by 2 % of
    their norm (the plain ones err by 0.2 %), for which reason only training takes it there.

    Args:
        in_channels: of the images.
        out_channels: number of filters.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, out_channels, H, W) of float images (N, in_channels, H, W)."""
        if not self.pays(images):
            return super().forward(images)
        assert self.bias is not None
        images = images.to(computed_type(images, self.weight))
        # autocast would round the kernels before they are transformed
        with torch.autocast("cpu", enabled=False):
            return winograd_conv2d(images, self.weight, self.bias)

    def pays(self, images: Tensor) -> bool:
        """Whether these images are convolved faster by Winograd's algorithm.

        Measured in fp32 on CPUs with AVX2 and nothing wider, and in bf16 on CPUs with AVX512-BF16,
        so it is used on no others.
        """
        dtype = computed_type(images, self.weight)
        if (
            dtype not in FEWEST_TILES
            or min(self.in_channels, self.out_channels) < FEWEST_CHANNELS
            or not self._has_work(images, FEWEST_TILES[dtype])
        ):
            return False
        if dtype == torch.bfloat16:
            return torch.is_grad_enabled() and has_vector_bf16()
        return torch.backends.cpu.get_cpu_capability() == "AVX2"

    def _has_work(self, images: Tensor, fewest_tiles: int) -> bool:
        number, _, height, width = images.shape
        tiles = _tiles(height) * _tiles(width)
        multiplications = 9 * height * width * self.in_channels * self.out_channels
        transformed = 36 * tiles * (self.in_channels + self.out_channels)
        return (
            number * tiles >= fewest_tiles * torch.get_num_threads()
            and multiplications >= LEAST_WORK * transformed
        )


def winograd_conv2d(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv2d`` with padding 1 by F(4×4, 3×3).

    Args:
        images: (N, C, H, W) on the CPU, float32, float64 or bfloat16; channels-last costs no copy.
        weight: (K, C, 3, 3) of the images' type, or float32 beside bfloat16.
        bias: (K,) of the weight's type.

    Returns:
        (N, K, H, W) of the images' type, channels-last. Gradients of first order only.
    """
    result: Tensor = _WinogradConv2d.apply(images, weight, bias)
    return result


class _WinogradConv2d(torch.autograd.Function):
    @staticmethod
    def forward(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        convolutions = _Convolutions(images, _transform_kernels(weight, images.dtype), bias)
        _do([convolutions])
        return convolutions.result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        convolutions = correlations = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1)
            convolutions = _Convolutions(gradient, _transform_kernels(turned, images.dtype))
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            correlations = _Correlations(images, gradient)
        _do([job for job in (convolutions, correlations) if job is not None])
        return (
            None if convolutions is None else convolutions.result,
            *((None, None) if correlations is None else correlations.sums(weight.dtype)),
        )


def _transform_kernels(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(36, C, K) of (K, C, 3, 3)."""
    filters, channels = weight.shape[:2]
    exact = torch.promote_types(weight.dtype, torch.float32)
    both = torch.kron(_KERNEL, _KERNEL).to(exact)
    kernels = both @ weight.permute(2, 3, 1, 0).reshape(9, -1).to(exact)
    return kernels.view(36, channels, filters).to(dtype)


class _Convolutions:
    """The convolution of a batch with transformed kernels (36, C, K), part by part.

    Attributes:
        result: (N, K, H, W), filled by the tasks.
        tasks: of one part each: its images and where their result goes.
    """

    def __init__(self, images: Tensor, kernels: Tensor, bias: Tensor | None = None) -> None:
        number, _, height, width = images.shape
        self.result = torch.empty(
            number,
            kernels.shape[2],
            height,
            width,
            dtype=images.dtype,
            memory_format=torch.channels_last,
        )
        self.tasks = [[part] for part in _parts(images, self.result)]
        self._others = kernels, bias

    def make(self, images: Tensor, _: Tensor) -> _Convolution:
        """For parts of the shape of this one."""
        return _Convolution(images, *self._others)


class _Correlations:
    """What a batch and its gradients say about the kernels and the biases, part by part.

    Attributes:
        tasks: of a few parts each, whose sums are rounded to the images' type.
    """

    def __init__(self, images: Tensor, gradient: Tensor) -> None:
        channels, self._filters = images.shape[1], gradient.shape[1]
        parts = _parts(images, gradient)
        groups = [
            parts[first : first + _PARTS_TOGETHER]
            for first in range(0, len(parts), _PARTS_TOGETHER)
        ]
        self._exact = torch.promote_types(images.dtype, torch.float32)
        self._weights = images.new_zeros(len(groups), 36, channels, self._filters)
        self._biases = images.new_zeros(len(groups), self._filters, dtype=self._exact)
        self.tasks = [
            [(*part, *sums) for part in group]
            for group, *sums in zip(groups, self._weights, self._biases, strict=True)
        ]

    def make(self, images: Tensor, gradient: Tensor, *_: Tensor) -> _Correlation:
        """For parts of the shape of this one."""
        return _Correlation(images, gradient)

    def sums(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The gradients of the weights (K, C, 3, 3) and of the biases (K,), of that type."""
        both = torch.kron(_KERNEL, _KERNEL).T.to(self._exact)
        of_weight = both @ self._weights.sum(0, dtype=self._exact).view(36, -1)
        of_weight = of_weight.view(3, 3, -1, self._filters).permute(3, 2, 0, 1)
        return of_weight.to(dtype), self._biases.sum(0).to(dtype)


def _parts(images: Tensor, others: Tensor) -> list[tuple[Tensor, ...]]:
    """Both, as (N, H, W, channels), in parts whose transformed tiles stay in cache."""
    _, _, height, width = images.shape
    channels = max(images.shape[1], others.shape[1])
    values = 36 * _tiles(height) * _tiles(width) * channels
    at_once = max(1, _BUFFER_VALUES // values)
    split = (torch.split(batch.permute(0, 2, 3, 1), at_once) for batch in (images, others))
    return list(zip(*split, strict=True))


def _do(jobs: Sequence[_Convolutions | _Correlations]) -> None:
    """Do all their tasks, on as many threads as torch uses, each with workers of its own."""
    pending = deque((job, task) for job in jobs for task in job.tasks)
    # one worker for all parts of a length, which all parts of a job have, but for the last
    examples = {(job, len(part[0])): part for job, task in pending for part in task}
    # made here: memory that other threads ask for is not kept when they end
    workers: list[dict[tuple[Any, int], Callable[..., None]]] = [
        {(job, length): job.make(*part) for (job, length), part in examples.items()}
        for _ in range(min(torch.get_num_threads(), len(pending)))
    ]

    def work(of_thread: dict[tuple[Any, int], Callable[..., None]]) -> None:
        while pending:
            try:
                job, task = pending.popleft()
            except IndexError:  # another thread took it
                return
            for part in task:
                of_thread[job, len(part[0])](*part)

    on_threads(work, workers)


def _tiles(side: int) -> int:
    return -(-side // 4)


# What follows has its memory and all views of it from the start: making them anew for each part
# took a tenth of a training. Images, gradients and results are (N, H, W, channels); tiles lie as
# (6, 6, N, rows, columns, channels), or with 4 instead of 6.


class _AlongBoth:
    """Applies a matrix (B, A) along two axes of tiles (A, A, ...).

    Attributes:
        tiles: to be filled before each call.
        result: (B, B, ...), filled by a call.
    """

    def __init__(self, matrix: Tensor, tiles: Tensor) -> None:
        to, of = matrix.shape
        matrix = matrix.to(tiles.dtype)
        self.tiles = tiles
        self.result = tiles.new_empty(to, to, *tiles.shape[2:])
        if tiles.dtype == torch.bfloat16:
            # along both at once: one after the other would round twice, and take longer here
            both = torch.kron(matrix, matrix)[None]
            result = self.result.view(1, to * to, -1)
            self._products = [(both, tiles.view(1, of * of, -1), result)]
        else:
            half = tiles.new_empty(to, of, *tiles.shape[2:])
            self._products = [
                (matrix[None], tiles.view(1, of, -1), half.view(1, to, -1)),
                (matrix.repeat(to, 1, 1), half.view(to, of, -1), self.result.view(to, to, -1)),
            ]

    def __call__(self) -> None:
        for left, right, result in self._products:
            torch.bmm(left, right, out=result)


class _InputTiles:
    """Transforms the overlapping tiles of images of one shape.

    Attributes:
        result: (36, tiles, C), filled by a call.
    """

    def __init__(self, images: Tensor) -> None:
        number, height, width, channels = images.shape
        rows, columns = _tiles(height), _tiles(width)
        padded = images.new_zeros(number, 4 * rows + 2, 4 * columns + 2, channels)
        self._inner = padded[:, 1 : height + 1, 1 : width + 1]
        overlapping = padded.unfold(1, 6, 4).unfold(2, 6, 4)
        self._overlapping = overlapping.permute(4, 5, 0, 1, 2, 3)
        self._transform = _AlongBoth(_INPUT, images.new_empty(self._overlapping.shape))
        self.result = self._transform.result.view(36, -1, channels)

    def __call__(self, images: Tensor) -> None:
        self._inner.copy_(images)
        self._transform.tiles.copy_(self._overlapping)
        self._transform()


class _Convolution:
    """Convolves images of one shape with transformed kernels (36, C, K)."""

    def __init__(self, images: Tensor, kernels: Tensor, bias: Tensor | None) -> None:
        number, self._height, self._width, _ = images.shape
        filters = kernels.shape[2]
        self._kernels = kernels
        self._bias = bias
        self._input = _InputTiles(images)
        products = images.new_empty(
            6, 6, number, _tiles(self._height), _tiles(self._width), filters
        )
        self._transform = _AlongBoth(_OUTPUT, products)
        self._products = products.view(36, -1, filters)
        self._constants = self._products[_CONSTANT]
        self._outputs = _by_image(self._transform.result)

    def __call__(self, images: Tensor, target: Tensor) -> None:
        self._input(images)
        torch.bmm(self._input.result, self._kernels, out=self._products)
        if self._bias is not None:
            self._constants += self._bias
        self._transform()
        if self._height % 4 or self._width % 4:  # the last tiles reach beyond the image
            joined = self._outputs.flatten(3, 4).flatten(1, 2)
            target.copy_(joined[:, : self._height, : self._width])
        else:
            _in_tiles(target).copy_(self._outputs)


class _Correlation:
    """Adds up what images and gradients of one shape say about the kernels."""

    def __init__(self, images: Tensor, gradient: Tensor) -> None:
        number, height, width, filters = gradient.shape
        rows, columns = _tiles(height), _tiles(width)
        self._input = _InputTiles(images)
        self._tiles = self._input.result.transpose(1, 2)
        outputs = gradient.new_empty(4, 4, number, rows, columns, filters)
        self._transform = _AlongBoth(_OUTPUT.T, outputs)
        self._products = self._transform.result.view(36, -1, filters)
        self._constants = self._products[_CONSTANT]
        self._outputs = _by_image(outputs)
        self._whole: Tensor | None = None
        if height % 4 or width % 4:
            self._whole = gradient.new_zeros(number, 4 * rows, 4 * columns, filters)
            self._inner = self._whole[:, :height, :width]

    def __call__(
        self, images: Tensor, gradient: Tensor, of_weights: Tensor, of_biases: Tensor
    ) -> None:
        """Add to those of the transformed kernels (36, C, K) and of the biases (K,)."""
        self._input(images)
        if self._whole is not None:
            self._inner.copy_(gradient)
            gradient = self._whole
        self._outputs.copy_(_in_tiles(gradient))
        self._transform()
        of_weights.baddbmm_(self._tiles, self._products)
        of_biases += self._constants.sum(0)


def _by_image(tiles: Tensor) -> Tensor:
    """(N, rows, 4, columns, 4, C) of (4, 4, N, rows, columns, C)."""
    return tiles.permute(2, 3, 0, 4, 1, 5)


def _in_tiles(images: Tensor) -> Tensor:
    """(N, rows, 4, columns, 4, C) of (N, 4 rows, 4 columns, C)."""
    number, height, width, channels = images.shape
    return images.view(number, height // 4, 4, width // 4, 4, channels)
