"""What a result must say about where it came from."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fmnist_aug.training import Hardware

PACKAGES = ("fmnist-aug", "torch", "numpy", "albumentations", "scikit-learn")
OF_RUN = ("python", *(name.replace("-", "_") for name in PACKAGES), "threads", "commit")
"""What a run's figures depend on besides configuration, seed and processor."""


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


def differing(environments: Iterable[dict[str, Any] | None]) -> dict[str, list[Any]]:
    """In what the environments of runs differ: name → the values, each once, in order.

    Args:
        environments: plain values by name; None of a run that was kept without any.
    """
    known = [environment or {} for environment in environments]
    names = {name: None for environment in known for name in environment}
    values = {name: list({environment.get(name): None for environment in known}) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


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
