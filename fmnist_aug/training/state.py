"""What changes from step to step, kept at epoch boundaries so that a killed training goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fmnist_aug.classifier import read_tensors, write_tensors
from fmnist_aug.errors import CheckpointError
from fmnist_aug.training.curve import LearningCurve
from fmnist_aug.training.selection import HardExamples


@dataclass
class TrainingState:
    """What changes from step to step."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    hard: HardExamples
    curve: LearningCurve
    step: int = 0
    seconds: float = 0.0


def save_state(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Write weights, optimisers and position, with what they belong to."""
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors["hard.losses"] = state.hard.losses
    tensors["hard.visits"] = state.hard.visits
    for position, optimizer in enumerate(state.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimizer.{position}.{index}.{name}"] = value
    header = {
        "identity": identity,
        "step": state.step,
        "seconds": state.seconds,
        "curve": state.curve.state_dict(),
    }
    write_tensors(path, tensors, "training-state", header)


def load_state(path: Path | None, state: TrainingState, identity: dict[str, Any]) -> None:
    """Go on from a kept state; a state of another training or a damaged one is not used."""
    if path is None or not path.exists():
        return
    try:
        tensors, kind, header = read_tensors(path)
    except CheckpointError:
        return
    # compared as JSON, in which tuples have become lists
    if (
        kind != "training-state"
        or "curve" not in header
        or header["identity"] != _as_json(identity)
    ):
        return
    state.model.load_state_dict(
        {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
    )
    state.hard.losses.copy_(tensors["hard.losses"])
    state.hard.visits.copy_(tensors["hard.visits"])
    for position, optimizer in enumerate(state.optimizers):
        content = optimizer.state_dict()
        content["state"] = {}
        for key, value in tensors.items():
            part = key.split(".")
            if part[0] == "optimizer" and int(part[1]) == position:
                content["state"].setdefault(int(part[2]), {})[part[3]] = value
        optimizer.load_state_dict(content)
    state.curve.load_state_dict(header["curve"])
    state.step, state.seconds = header["step"], header["seconds"]


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
