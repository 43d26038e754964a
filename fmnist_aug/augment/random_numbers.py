"""Random numbers that belong to a draw, not to a stream.

A counter-based generator: each number is a hash of (seed, epoch, index, copy, purpose), so the
augmentation of an image doesn't depend on the batch, the worker or the device that it falls to,
and no global state is touched. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood,
OOPSLA 2014), computed in wrapping int64 since torch has no full uint64 arithmetic.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SEEDS_APART = 0x632BE59BD9B4E019
_COPIES_APART = 0xD1B54A32D192ED03
_EPOCHS_APART = 0xABC98388FB8FAC03
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
# arrays without axes, which numpy takes faster than its scalars
_GOLDEN_U, _FIRST_U, _SECOND_U = (
    np.array(value % (1 << 64), np.uint64) for value in (_GOLDEN, _FIRST, _SECOND)
)
_LAST_PLACE = np.array(2.0**-24, np.float32)
_27, _30, _31, _40 = (np.array(bits, np.uint64) for bits in (27, 30, 31, 40))

Numbers = TypeVar("Numbers", NDArray[Any], Tensor)
"""A few numbers a draw: an array on the CPU, where for so few a call of numpy takes a quarter of
the time of one of torch's, else a tensor on the device."""


def draw_keys(seed: int, epochs: Tensor | int, indices: Tensor, copies: Tensor | int) -> Tensor:
    """One key a draw, int64 (N,), from seed, epoch, index and copy number."""
    keys, fixed = _numbers(indices), seed * _SEEDS_APART
    # odd factors keep draws apart in 64 bits, and mixing makes them unrelated
    for values, factor in ((copies, _COPIES_APART), (epochs, _EPOCHS_APART)):
        if isinstance(values, Tensor):
            keys = keys + _numbers(values) * _wrap(factor)
        else:
            fixed += values * factor
    return as_tensor(_mix(keys + _wrap(fixed)))


def image_keys(seed: int, indices: Tensor) -> Tensor:
    """One key an image, int64 (N,), the same in all epochs and copies.

    Not mixed, since `uniforms` does that once more, and a coin needs no more than once.
    """
    return as_tensor(_numbers(indices) + _wrap(seed * _SEEDS_APART))


def coins(seed: int, indices: Tensor, purpose: int) -> NDArray[np.bool_] | Tensor:
    """Whether what `uniforms` gives for the images' keys is below a half, bool (N,).

    Half of its steps do for that, since it is the first bit alone that decides.
    """
    start = seed * _SEEDS_APART + (purpose + 1) * _GOLDEN
    if indices.device.type != "cpu":
        return _mix_tensor(indices + _wrap(start)) >= 0
    keys = indices.numpy() + _wrap(start + _GOLDEN)
    heads: NDArray[np.bool_] = _mix_first_bits(keys.view(np.uint64)).view(np.int64) >= 0
    return heads


def uniforms(keys: Tensor, purpose: int, count: int) -> NDArray[np.float32] | Tensor:
    """Uniform numbers in [0, 1), float32 (count, N): one a key, for each purpose from this one on.

    Together, since for the few numbers of a batch a call takes longer than what it computes.
    """
    steps = _steps(purpose, count)
    if keys.device.type != "cpu":
        if not count:
            return keys.new_empty((0, len(keys)), dtype=torch.float32)
        mixed = _mix_tensor(torch.stack([keys + _wrap(int(step)) for step in steps[:, 0]]))
        return _logical_shift(mixed, 40).float() * 2.0**-24
    bits = _mix_array(keys.numpy().view(np.uint64) + steps)
    bits >>= _40
    numbers = bits.astype(np.float32)
    numbers *= _LAST_PLACE
    return numbers


@cache
def _steps(purpose: int, count: int) -> NDArray[np.uint64]:
    """What tells the purposes apart, (count, 1)."""
    steps = [(number + 1) * _GOLDEN % (1 << 64) for number in range(purpose, purpose + count)]
    return np.array(steps, np.uint64).reshape(count, 1)


def uniform(keys: Tensor, purpose: int) -> Tensor:
    """Uniform numbers in [0, 1), float32 (N,), one a key and different for each purpose."""
    return as_tensor(uniforms(keys, purpose, 1)[0])


def between(numbers: Numbers, low: float, high: float) -> Numbers:
    """Uniform numbers in [0, 1) moved to [low, high)."""
    return low + (high - low) * numbers


def integers(numbers: Numbers, low: int, high: Numbers | int) -> Numbers:
    """Uniform numbers in [0, 1) as whole numbers in low … high, both included, int64.

    Args:
        numbers: float32 (N,).
        low: the smallest.
        high: the largest: one for all, or int64 (N,), of the same kind as ``numbers``.
    """
    if isinstance(numbers, Tensor):
        return low + (numbers * (high - low + 1)).long()
    return low + (numbers * np.float32(high - low + 1)).astype(np.int64)


def arange(stop: int, like: NDArray[Any] | Tensor) -> Any:
    """0 … stop − 1, int64 (stop,), of the same kind as other numbers and where they are."""
    if isinstance(like, Tensor):
        return torch.arange(stop, device=like.device)
    return np.arange(stop)


def as_tensor(numbers: NDArray[Any] | Tensor) -> Tensor:
    """Numbers of either kind as a tensor, without a copy."""
    return numbers if isinstance(numbers, Tensor) else torch.from_numpy(numbers)


def uniform_between(keys: Tensor, purpose: int, low: float, high: float) -> Tensor:
    """Uniform numbers in [low, high), float32 (N,)."""
    return between(uniform(keys, purpose), low, high)


def integers_between(keys: Tensor, purpose: int, low: int, high: Tensor | int) -> Tensor:
    """Whole numbers in low … high, both included, int64 (N,)."""
    return integers(uniform(keys, purpose), low, high)


def _numbers(values: Tensor) -> Any:
    """Whole numbers, int64, as they are computed with: an array on the CPU."""
    return values.numpy() if values.device.type == "cpu" else values


def _mix(values: Any) -> Any:
    """Unrelated numbers, int64, of unequal ones."""
    if isinstance(values, Tensor):
        return _mix_tensor(values)
    return _mix_array(values.view(np.uint64)).view(np.int64)


# SplitMix64's finaliser, bit for bit the same on every device; on the CPU in numpy, which takes a
# quarter of torch's time for the few numbers of a batch


def _mix_array(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = _mix_first_bits(values + _GOLDEN_U)
    mixed ^= mixed >> _31
    return mixed


def _mix_first_bits(mixed: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """All steps but the first and the last, which leaves 31 bits as they are; in place."""
    shifted = mixed >> _30  # one array for both: to allocate one takes as long as to shift
    mixed ^= shifted
    mixed *= _FIRST_U
    np.right_shift(mixed, _27, shifted)
    mixed ^= shifted
    mixed *= _SECOND_U
    return mixed


def _mix_tensor(values: Tensor) -> Tensor:
    values = values + _GOLDEN
    values = (values ^ _logical_shift(values, 30)) * _FIRST
    values = (values ^ _logical_shift(values, 27)) * _SECOND
    return values ^ _logical_shift(values, 31)


def _logical_shift(values: Tensor, bits: int) -> Tensor:
    return torch.bitwise_right_shift(values, bits) & ((1 << (64 - bits)) - 1)


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
