"""What a result must say about where it came from."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fmnist_aug.training import Hardware

PACKAGES = ("fmnist-aug", "torch", "numpy", "albumentations", "scikit-learn")
OF_RUN = (
    "python",
    *(name.replace("-", "_") for name in PACKAGES),
    "device_name",
    "threads",
    "commit",
)
"""What a run's figures depend on besides configuration and seed."""


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


def describe_run(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The part of it that a run's record keeps."""
    return {name: environment[name] for name in OF_RUN}


def values_of_runs(environments: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What the environments of runs say: for each name the values, each once, in order.

    Args:
        environments: as `describe_run` makes them; an empty one of a run that was kept without.
    """
    known = list(environments)
    return {name: list({environment.get(name): None for environment in known}) for name in OF_RUN}


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
    """The commit of a source checkout, and whether its package was changed since; else None."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(package), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "."))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit} and changes" if changes else commit
