"""What a result must say about where it came from."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fmnist_aug.training import Hardware

PACKAGES = ("fmnist-aug", "torch", "numpy", "albumentations", "scikit-learn")


def describe_environment(hardware: Hardware, command: str | None = None) -> dict[str, Any]:
    """Versions, device, precision, threads, commit and command, as plain values."""
    return {
        "python": platform.python_version(),
        **{name.replace("-", "_"): _version(name) for name in PACKAGES},
        "device": hardware.device,
        "device_name": device_name(hardware.device),
        "precision": hardware.precision,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "system": platform.system(),
        "commit": _commit(),
        "command": command,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def device_name(device: str) -> str:
    """The GPU's or the processor's name."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    name = torch.cpu.get_capabilities().get("cpu_name")
    return f"{name or platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"


def _commit() -> str | None:
    """The commit of a source checkout; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
