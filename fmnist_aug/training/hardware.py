"""Which device, and which precision pays on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fmnist_aug.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "measure", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``measure`` until that is settled.
    """

    device: str
    precision: str

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The type for automatic mixed precision; None for plain float32."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)


def choose_hardware(device: str = "auto", precision: str = "auto") -> Hardware:
    """The device and precision to use; the same machine always decides alike.

    By itself: a CUDA GPU if there is one, else the CPU, and the precision of `rule`.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``; or ``measure``, which stays in the
            answer until `measure_precision` has settled it.

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
        precision = rule(device)
    if device == "cpu" and precision == "fp16":
        raise UsageError("fp16 is for GPUs; use --precision auto, fp32 or bf16 on the CPU")
    return Hardware(device, precision)


def rule(device: str) -> str:
    """The precision that pays on a device, from what it can do, so that it always decides alike.

    A CPU computes bf16 only with AVX512-BF16 or AMX instructions (without them it is slower than
    fp32); a CUDA GPU bf16 from compute capability 8 on, fp16 from 7 on (tensor cores); fp32 else.
    """
    if device == "cuda":
        major, _ = torch.cuda.get_device_capability()
        return "bf16" if major >= 8 else "fp16" if major >= 7 else "fp32"
    return "bf16" if device == "cpu" and cpu_has_bf16() else "fp32"


def candidates(device: str) -> tuple[str, ...]:
    """The precisions that a device knows, fast or not."""
    return ("fp32", "bf16", "fp16") if device == "cuda" else ("fp32", "bf16")


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AVX512-BF16 or AMX)."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
