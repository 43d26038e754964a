"""Which device, and which precision pays on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fmnist_aug.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    device: str
    precision: str

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The type for automatic mixed precision; None for plain float32."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)


def choose_hardware(device: str = "auto", precision: str = "auto") -> Hardware:
    """The device and precision to use; the same machine always decides alike.

    By itself: a CUDA GPU if there is one, with bf16; else the CPU, with bf16 only if it has
    AVX512-BF16 or AMX instructions (without them bf16 is slower than fp32).

    Raises:
        UsageError: a device that is not there, or an unknown name.
    """
    if device not in DEVICES or precision not in PRECISIONS:
        raise UsageError(
            f"device must be one of {', '.join(DEVICES)} and precision one of "
            f"{', '.join(PRECISIONS)}, not {device!r} and {precision!r}"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    missing = (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UsageError(f"no {device} device on this machine; use --device auto or cpu")
    if precision == "auto":
        precision = "bf16" if device == "cuda" or (device == "cpu" and cpu_has_bf16()) else "fp32"
    if device == "cpu" and precision == "fp16":
        raise UsageError("fp16 is for GPUs; use --precision auto, fp32 or bf16 on the CPU")
    return Hardware(device, precision)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AVX512-BF16 or AMX)."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
