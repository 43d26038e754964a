"""Random numbers that belong to a draw, not to a stream.

A counter-based generator: each number is a hash of (seed, epoch, index, copy, purpose), so the
augmentation of an image doesn't depend on the batch, the worker or the device that it falls to,
and no global state is touched. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood,
OOPSLA 2014), computed in wrapping int64 since torch has no full uint64 arithmetic.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def draw_keys(seed: int, epochs: Tensor | int, indices: Tensor, copies: Tensor) -> Tensor:
    """One key a draw, int64 (N,), from seed, epoch, index and copy number."""
    keys = _mix(indices + _wrap(seed * 0x632BE59BD9B4E019))
    keys = _mix(keys + copies)
    return _mix(keys + epochs)


def uniform(keys: Tensor, purpose: int) -> Tensor:
    """Uniform numbers in [0, 1), float32 (N,), one a key and different for each purpose."""
    return _logical_shift(_mix(keys + _wrap((purpose + 1) * _GOLDEN)), 40).float() * 2.0**-24


def uniform_between(keys: Tensor, purpose: int, low: float, high: float) -> Tensor:
    """Uniform numbers in [low, high), float32 (N,)."""
    return low + (high - low) * uniform(keys, purpose)


def integers_between(keys: Tensor, purpose: int, low: int, high: Tensor | int) -> Tensor:
    """Whole numbers in low … high, both included, int64 (N,)."""
    return low + (uniform(keys, purpose) * (high - low + 1)).long()


def _mix(values: Tensor) -> Tensor:
    """SplitMix64's finaliser, int64 to int64; bit for bit the same on every device."""
    # numpy takes a quarter of the time for the few numbers of a batch
    return _mix_with_numpy(values) if values.device.type == "cpu" else _mix_with_torch(values)


def _mix_with_numpy(values: Tensor) -> Tensor:
    mixed = values.numpy().view(np.uint64) + np.uint64(_GOLDEN % (1 << 64))
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(_FIRST % (1 << 64))
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_SECOND % (1 << 64))
    mixed ^= mixed >> np.uint64(31)
    return torch.from_numpy(mixed.view(np.int64))


def _mix_with_torch(values: Tensor) -> Tensor:
    values = values + _GOLDEN
    values = (values ^ _logical_shift(values, 30)) * _FIRST
    values = (values ^ _logical_shift(values, 27)) * _SECOND
    return values ^ _logical_shift(values, 31)


def _logical_shift(values: Tensor, bits: int) -> Tensor:
    return torch.bitwise_right_shift(values, bits) & ((1 << (64 - bits)) - 1)


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
